"""A slice that is missing is made from the surfaces that face each other across the gap, and marked everywhere.

Where one slice was not acquired, or was excluded, the slices above and below end at surfaces that show the same
anatomy a cut apart. ``zmorph`` registers them with an affine transform and lets one turn into the other on the way
down; ``weighted`` fades one into the other where it lies; ``average`` is the mean of both at any depth. An affine
transform that adds little to how well the surfaces agree is not believed: then it is the fade.

Only single slices are made up: of a wider gap nothing is known in its middle. If the surfaces do not agree, or show
too little tissue, the gap stays open, with the reason in the ledger. And where slices image so deep that their
neighbours reach across the missing one, there is no gap to fill.

An interpolated slice enters the volume with a pose of its own after all poses are solved: it holds no neighbour in
place. It is marked in the ledger, in the volume's metadata and in the report.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Cost,
    Decision,
    Input,
    Metric,
    Need,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)
from soct.steps.slice_ends import SliceEnd, Window, footprint_window, read_slice_end
from soct.steps.slice_planes import open_side

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition
    from soct.registration.slice_interpolation import Morph, MorphPlan, Surface

    BoolArray = NDArray[np.bool_]

_LEAST_SHARE = 0.01
"""A gap on a smaller share of the A-lines is no gap."""
_MARGIN = 2
"""Planes that are written beyond the gap on both sides. The stack takes a made slice only where no imaged one holds
data, and what those hold at their ragged ends it rounds for itself: without a margin, single voxels stay empty."""
_FIGURE_PX = 360


class InterpolateMissingSliceParams(Params):
    """Parameters of `interpolate_missing_slice`."""

    enabled: bool = parameter(True, "Fill the gaps that single missing slices leave.")
    method: Literal["zmorph", "weighted", "average"] = parameter(
        "zmorph",
        "How: structures move along while one side fades into the other, or it fades alone, or the mean of both.",
    )
    search_planes: int = parameter(
        5,
        "How far from the gap the planes that face each other best are looked for.",
        unit="px",
        ge=0,
        le=50,
    )
    slab_planes: int = parameter(
        3, "Planes that are averaged on each side.", unit="px", ge=1, le=20
    )
    min_overlap_ncc: float = parameter(
        0.3, "The two sides must correlate at least so much, or the gap stays open.", ge=-1, le=1
    )
    min_improvement: float = parameter(
        0.05, "An affine transform that adds less to the correlation is not believed.", ge=0, le=1
    )
    min_foreground: float = parameter(
        0.1, "Share of the common area that must be tissue on both sides.", ge=0, le=1
    )
    max_translation_um: float = parameter(
        300.0, "Farthest that structures move across a gap.", unit="um", gt=0, le=20_000
    )
    max_rotation_deg: float = parameter(
        5.0, "Most that structures turn across a gap.", unit="deg", ge=0, le=90
    )


@dataclass(frozen=True)
class _Gap:
    """Used slices on both sides of ids of which none is stacked."""

    before: int
    after: int

    @property
    def absent(self) -> list[int]:
        return list(range(self.before + 1, self.after))


@dataclass(frozen=True)
class _Made:
    """What came of a gap: an entry of `interpolation.json`, or the reason why there is none."""

    slice_id: int
    entry: dict[str, Any] | None = None
    failure: str = ""
    no_gap: bool = False
    warning: str = ""
    views: tuple[Any, ...] = ()


def _find_gaps(poses: dict[str, Any], levels: dict[str, Any]) -> list[_Gap]:
    used = sorted(
        int(i)
        for i, row in poses["slices"].items()
        if row["stacked"] and levels[i]["cap"] > 0 and not levels[i]["empty"]
    )
    return [_Gap(a, b) for a, b in itertools.pairwise(used) if b - a > 1]


class _Filler:
    """Fills one gap after the other."""

    def __init__(self, context: Context, params: InterpolateMissingSliceParams) -> None:
        from soct.formats.documents import read_document
        from soct.space import Voxel

        self.context, self.params = context, params
        self.poses = read_document(context.run("estimate_slice_poses", "poses"))
        self.levels = read_document(context.run("normalize", "normalization"))["slices"]
        self.voxel = Voxel(*self.poses["voxel_um"])
        self.gaps = _find_gaps(self.poses, self.levels)

    def fill(self, gap: _Gap) -> list[_Made]:
        """Return what comes of each absent slice."""
        ends = self._ends(gap)
        if ends is None:
            reason = "the slices on both sides do not overlap in the plane"
            return [_Made(i, failure=reason) for i in gap.absent]
        window, above, below = ends
        first, stop, inside = _open_planes(above, below)
        open_share = float(((stop > first) & inside).sum() / max(inside.sum(), 1))
        if open_share < _LEAST_SHARE:
            return [_Made(i, no_gap=True) for i in gap.absent]
        if len(gap.absent) > 1:
            reason = f"{len(gap.absent)} slices in a row are missing: nothing is known of the middle of such a gap"
            return [_Made(i, failure=reason) for i in gap.absent]
        return [self._make(gap, window, above, below)]

    def _ends(self, gap: _Gap) -> tuple[Window, SliceEnd, SliceEnd] | None:
        rows = self.poses["slices"][str(gap.before)], self.poses["slices"][str(gap.after)]
        window = footprint_window(rows)
        if window is None:
            return None
        above, below = (
            read_slice_end(
                open_side(self.context, i),
                row,
                self.levels[str(i)],
                window,
                bottom=bottom,
                slab_planes=self.params.slab_planes,
                count=self.params.search_planes + 1,
            )
            for i, row, bottom in ((gap.before, rows[0], True), (gap.after, rows[1], False))
        )
        return window, above, below

    def _plan(self, above: SliceEnd, below: SliceEnd) -> tuple[int, int, MorphPlan]:
        from soct.registration.slice_interpolation import (
            MorphGates,
            find_facing_surfaces,
            plan_morph,
        )

        p = self.params
        i, j, _ = find_facing_surfaces(above.surfaces, below.surfaces)
        gates = MorphGates(
            min_overlap_ncc=p.min_overlap_ncc,
            # Without a morph there is no transform whose gain could be judged.
            min_improvement=p.min_improvement if p.method == "zmorph" else 2.0,
            min_foreground=p.min_foreground,
            max_translation_px=p.max_translation_um / self.voxel.x,
            max_rotation_deg=p.max_rotation_deg,
        )
        return i, j, plan_morph(above.surfaces[i], below.surfaces[j], gates)

    def _make(self, gap: _Gap, window: Window, above: SliceEnd, below: SliceEnd) -> _Made:
        from soct.registration.slice_interpolation import Morph

        (slice_id,) = gap.absent
        i, j, plan = self._plan(above, below)
        if plan.failure:
            return _Made(slice_id, failure=plan.failure)
        method = plan.method if self.params.method == "zmorph" else self.params.method
        note = plan.note if self.params.method == "zmorph" else ""
        morph = Morph(above.surfaces[i], below.surfaces[j], method, plan.matrix)
        half = (self.params.slab_planes - 1) / 2
        faces = above.depth - (1 + half + i), below.depth + (half + j)
        z0, planes, middle = self._write(slice_id, window, (above, below), morph, faces)
        entry = {
            "path": _name(slice_id),
            "before": gap.before,
            "after": gap.after,
            "method": method,
            "note": note,
            "z_px": z0 - _MARGIN,
            "margin": _MARGIN,
            "y_px": window.y0,
            "x_px": window.x0,
            "shape": [planes + 2 * _MARGIN, *window.shape],
            "planes_from_gap": [i, j],
            "ncc_before": plan.ncc_before,
            "ncc": plan.ncc_after,
            "foreground": plan.foreground,
            "matrix": [list(map(float, row)) for row in plan.matrix],
        }
        warning = ""
        if morph.is_dubious:
            warning = (
                f"slice {slice_id}: the transform across the gap has no real half-way (imaginary part "
                f"{morph.imaginary:.2g}); its real part is used"
            )
        views = (above.surfaces[i].image, middle.image, below.surfaces[j].image)
        return _Made(slice_id, entry, warning=warning, views=tuple(map(_small, views)))

    def _write(
        self,
        slice_id: int,
        window: Window,
        ends: tuple[SliceEnd, SliceEnd],
        morph: Morph,
        faces: tuple[Any, Any],
    ) -> tuple[int, int, Surface]:
        """Write the planes between the two ends; return where they begin, how many, and the middle one."""
        import numpy as np

        from soct.formats.ome_zarr import create_volume
        from soct.registration.slice_interpolation import Morph, Surface

        first, stop, inside = _open_planes(*ends)
        inside &= stop > first
        z0, z1 = int(first[inside].min()), int(stop[inside].max())
        plain = Morph(morph.before, morph.after, "weighted")
        chunks = (1, min(window.shape[0], 512), min(window.shape[1], 512))
        shards = (1, *(-(-n // c) * c for n, c in zip(window.shape, chunks[1:], strict=True)))
        middle = None
        with create_volume(
            self.context.output("slices") / _name(slice_id),
            (z1 - z0 + 2 * _MARGIN, *window.shape),
            self.voxel,
            chunks=chunks,
            shards=shards,
            codec="zstd",
            attributes={"slice_id": slice_id, "interpolated": True, "method": morph.method},
            threads=self.context.threads,
        ) as writer:
            span = np.maximum(faces[1] - faces[0], 1e-3)
            begin = z0 - _MARGIN
            for z in range(begin, z1 + _MARGIN):
                share = np.clip((z - faces[0]) / span, 0, 1).astype(np.float32)
                plane = morph.plane(_flattened(share, inside))
                # At the border the warp may leave an image that the fade still has.
                if (inside & ~plane.valid).any():
                    filled = plain.plane(share)
                    plane = Surface(
                        np.where(plane.valid, plane.image, filled.image), plane.valid | filled.valid
                    )
                here = inside & (first - _MARGIN <= z) & (z < stop + _MARGIN)
                writer.write(
                    (z - begin, 0, 0), np.where(here, plane.image, 0).astype(np.float32)[None]
                )
                if z == (z0 + z1) // 2:
                    middle = plane
            valid = np.zeros((2, *window.shape), np.int16)
            valid[0][inside] = (first - _MARGIN - begin)[inside]
            valid[1][inside] = (stop + _MARGIN - begin)[inside]
            writer.write_valid(valid)
        assert middle is not None
        return z0, z1 - z0, middle


def _open_planes(above: SliceEnd, below: SliceEnd) -> tuple[Any, Any, BoolArray]:
    """First canvas plane that neither slice holds, one past the last, and where both slices are."""
    import numpy as np

    # A slice holds a plane that lies at most half a plane beyond its own last one.
    first = np.floor(above.depth - 0.5).astype(np.int32) + 1
    stop = np.ceil(below.depth - 0.5).astype(np.int32)
    return first, stop, above.valid & below.valid


def _flattened(share: Any, inside: BoolArray) -> Any:
    """Return one number where all A-lines agree: a single warp is faster than one per A-line."""
    seen = share[inside]
    return float(seen.mean()) if float(seen.max() - seen.min()) < 1e-3 else share


def _small(image: Any) -> Any:
    step = max(1, -(-max(image.shape) // _FIGURE_PX))
    return image[::step, ::step]


def _name(slice_id: int) -> str:
    return f"slice_z{slice_id:02d}_interpolated.ome.zarr"


def run(context: Context, params: InterpolateMissingSliceParams) -> Result:
    """Fill the gaps, and say what became of each."""
    from soct.formats.documents import write_document

    filler = _Filler(context, params)
    made: list[_Made] = []
    for done, gap in enumerate(filler.gaps):
        made += filler.fill(gap)
        context.progress((done + 1) / len(filler.gaps))
    write_document(
        context.output("interpolation"),
        {
            "slices": {str(m.slice_id): m.entry for m in made if m.entry is not None},
            "failed": {str(m.slice_id): m.failure for m in made if m.failure},
            "not_needed": [m.slice_id for m in made if m.no_gap],
        },
    )
    _write_figures(context, made, filler.voxel.x)
    filled = [m for m in made if m.entry is not None]
    failed = [m for m in made if m.failure]
    planes = sum(m.entry["shape"][0] - 2 * _MARGIN for m in filled if m.entry is not None)
    acquired = set(context.slice_ids)
    return Result(
        metrics=(
            Metric("slices_interpolated", len(filled), "", "slices made from their neighbours"),
            Metric("interpolation_failed", len(failed), "", "absent slices whose gap stays open"),
            Metric(
                "interpolation_not_needed",
                sum(m.no_gap for m in made),
                "",
                "absent slices whose neighbours reach across: no depth is missing",
            ),
            Metric("planes_interpolated", planes, "", "planes of the volume made so"),
        ),
        warnings=(
            *(f"slice {m.slice_id} is interpolated ({_said(m)})" for m in filled),
            *(f"slice {m.slice_id} is not interpolated: {m.failure}" for m in failed),
            *(m.warning for m in made if m.warning),
        ),
        decisions=tuple(d for m in made for d in _decisions(m, acquired=m.slice_id in acquired)),
    )


def _said(made: _Made) -> str:
    assert made.entry is not None
    e = made.entry
    text = f"{e['method']} between slices {e['before']} and {e['after']}, which correlate {e['ncc']:.2f}"
    return f"{text}; {e['note']}" if e["note"] else text


def _decisions(made: _Made, *, acquired: bool) -> list[Decision]:
    """Return what the ledger is to say of one absent slice."""
    i = made.slice_id
    found = [] if acquired else [Decision(i, "use", False, "it was not acquired")]
    if made.entry is not None:
        found += [
            Decision(i, "interpolated", True, _said(made)),
            Decision(i, "interpolation_method_used", made.entry["method"], _said(made)),
        ]
        if made.entry["note"]:
            found.append(
                Decision(i, "interpolation_fallback_reason", made.entry["note"], "see above")
            )
    elif made.failure:
        found += [
            Decision(i, "interpolation_failed", True, made.failure),
            Decision(i, "interpolation_fallback_reason", made.failure, "the gap stays open"),
        ]
    return found


def _write_figures(context: Context, made: list[_Made], pixel_um: float) -> None:
    import numpy as np

    seen = [m for m in made if m.views]
    arrays: dict[str, Any] = {"slice_ids": np.array([m.slice_id for m in seen], np.int64)}
    if seen:
        arrays["width_um"] = np.array([m.entry["shape"][2] * pixel_um for m in seen if m.entry])
    for m in seen:
        for name, image in zip(("before", "middle", "after"), m.views, strict=True):
            arrays[f"{name}_{m.slice_id}"] = image
    write_npz(context.output("figures"), **arrays)


def read_interpolated(context: Context) -> dict[int, tuple[Path, dict[str, Any]]]:
    """Return path and entry of every interpolated slice, for the step that stacks them."""
    from soct.formats.documents import read_document

    if not context.has("interpolate_missing_slice", "interpolation"):
        return {}
    rows = read_document(context.run("interpolate_missing_slice", "interpolation"))["slices"]
    if not rows:
        return {}
    folder = context.run("interpolate_missing_slice", "slices")
    return {int(i): (folder / row["path"], row) for i, row in rows.items()}


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory for both sides of one gap."""
    from soct.steps.sizes import FLOAT, measure_slices

    sizes = measure_slices(acquisition, slices, params)
    ids = sorted(slices)
    if not sizes or not ids:
        return Need()
    own = params["interpolate_missing_slice"]
    plane = max(size.plane for size in sizes)
    count = own.slab_planes + 2 * own.search_planes + 2
    missing = ids[-1] - ids[0] + 1 - len(ids)
    cut = 1000 * params["bring_to_common_space"].slicing_interval_mm
    planes = 2 * cut / min(size.voxel_z_um for size in sizes)
    return Need(
        int(missing * planes * plane * FLOAT) + (64 << 10), (2 * count + 24) * FLOAT * plane
    )


STEP = Step(
    id="interpolate_missing_slice",
    version=5,
    scope=Scope.RUN,
    params=InterpolateMissingSliceParams,
    run=run,
    cost=Cost(slice=0.001),
    estimate=estimate,
    summary="Fill the gap of a single missing slice from the slices above and below, marked as made up.",
    inputs=(
        Input("estimate_slice_poses"),
        Input("compensate_attenuation"),
        Input("normalize"),
    ),
    outputs=(
        Output("slices", "slices", optional=True),
        Output("interpolation", "interpolation.json"),
        Output("figures", "figures.npz", optional=True),
    ),
)
