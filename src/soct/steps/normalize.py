"""Slices on one scale of brightness: floor, cap and gain of each, solved together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Cost,
    Decision,
    Input,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.intensity.slice_gains import OverlapRatio


class NormalizeParams(Params):
    """Parameters of `normalize`."""

    cap_percentile: float = parameter(
        99.9, "Values above this percentile of a slice are clipped.", gt=50, le=100
    )
    normalize_min_contrast: float = parameter(
        0.1,
        "A slice whose tissue level is below this share of its cap counts as empty and is left alone.",
        ge=0,
        le=1,
    )
    min_scale: float = parameter(0.25, "Least factor that a slice may get.", gt=0, le=1)
    max_scale: float = parameter(4.0, "Greatest factor that a slice may get.", ge=1, le=100)


def _registered_overlaps(
    context: Context, ids: list[int]
) -> tuple[NDArray[np.float64], list[OverlapRatio]]:
    """Return the expected depth of every slice, and the brightness ratios of accepted pairs."""
    import numpy as np

    from soct.formats.documents import read_document
    from soct.intensity.slice_gains import CutTissue, OverlapRatio

    expected = read_document(context.run("bring_to_common_space", "offsets"))["slices"]
    place = {i: k for k, i in enumerate(ids)}
    position = np.array([expected.get(str(i), {}).get("z_px", np.nan) for i in ids], np.float64)
    known = np.isfinite(position)
    if not known.any():
        return np.arange(len(ids), dtype=np.float64), []
    # Slices that are not used have no place; they take no part in any pair either.
    position = np.interp(np.arange(len(ids)), np.flatnonzero(known), position[known])
    ratios = []
    for (fixed, moving), path in sorted(context.all("register_pairwise", "pair").items()):
        found = read_document(path / "pairwise_registration_metrics.json").get("brightness")
        if found and fixed in place and moving in place:
            ratios.append(
                OverlapRatio(
                    place[fixed],
                    place[moving],
                    found["log_ratio"],
                    found["sigma"],
                    CutTissue(found["cut_level"], found["cut_px"], found["cut_decay"])
                    if found["cut_level"]
                    else None,
                )
            )
    return position, ratios


def _steps_left(
    ids: list[int], ratios: list[OverlapRatio], scale: NDArray[np.float64]
) -> dict[tuple[int, int], float]:
    """Return ``(upper, lower) -> log step`` between neighbours once each has its factor; a missing slice is no neighbour."""
    import numpy as np

    from soct.intensity.slice_gains import measure_level_steps

    near = [r for r in ratios if abs(r.first - r.second) == 1 and np.isfinite(r.log_ratio)]
    steps = measure_level_steps(near, np.log(scale))
    return {
        (ids[r.first], ids[r.second]): float(s) for r, s in zip(near, steps.tolist(), strict=True)
    }


def run(context: Context, params: NormalizeParams) -> Result:
    """Write each slice's floor, cap and scale."""
    import numpy as np

    from soct.formats.documents import write_document
    from soct.intensity.normalization import IntensityHistogram, measure_levels, split_tissue
    from soct.intensity.slice_gains import common_decay, refine_log_gains

    with np.load(context.run("beam_profile_correction", "profile")) as saved:
        at = saved["slice_ids"].tolist()
        log_gain = dict(zip(at, saved["log_gain"].tolist(), strict=True))
        agarose = dict(zip(at, saved["agarose_level"].tolist(), strict=True))
        agarose_sigma = dict(zip(at, saved["agarose_sigma"].tolist(), strict=True))
    ids, levels, extremes = [], [], []
    for (slice_id,), path in sorted(context.all("compensate_attenuation", "levels").items()):
        with np.load(path) as saved:
            histogram = IntensityHistogram.from_array(saved["histogram"])
        ids.append(slice_id)
        tissue_from = split_tissue(histogram)
        extremes.append([histogram.percentile(q, above=tissue_from) for q in (1.0, 99.0)])
        levels.append(
            measure_levels(
                histogram,
                cap_percentile=params.cap_percentile,
                min_contrast=params.normalize_min_contrast,
            )
        )
    start = np.array([log_gain.get(i, 0.0) for i in ids])
    position, ratios = _registered_overlaps(context, ids)
    level = np.array([agarose.get(i, np.nan) for i in ids])
    sigma = np.array([agarose_sigma.get(i, np.inf) for i in ids])
    refined = refine_log_gains(start, position, ratios, agarose=(level, sigma))
    gain = np.exp(-refined)
    empty = np.array([level.empty for level in levels])
    gain[empty] = 1.0
    limited = np.clip(gain, params.min_scale, params.max_scale)
    tissue = np.array([level.tissue for level in levels])
    after = tissue * limited
    # One factor for the run puts typical tissue at 1.
    common = (
        1.0 / float(np.median(after[~empty]))
        if (~empty).any() and np.median(after[~empty]) > 0
        else 1.0
    )
    scale = limited * common
    steps = _steps_left(ids, ratios, scale)
    caps = [level.cap for level in levels]
    write_document(
        context.output("normalization"),
        {
            "slices": {
                str(i): {"floor": 0.0, "cap": float(c), "scale": float(f), "empty": bool(e)}
                for i, c, f, e in zip(ids, caps, scale, empty, strict=True)
            },
            "steps": [
                {"fixed_id": a, "moving_id": b, "log_step": step} for (a, b), step in steps.items()
            ],
        },
    )
    write_npz(
        context.output("figures"),
        slice_ids=np.array(ids, np.int64),
        gain=limited,
        floor=np.zeros(len(ids)),
        before=tissue,
        after=after * common,
        extremes_before=np.array(extremes).reshape(-1, 2),
        extremes_after=np.minimum(np.array(extremes).reshape(-1, 2), np.array(caps)[:, None])
        * scale[:, None],
        limited=gain != limited,
        empty=empty,
        step_pairs=np.array(list(steps), np.int64).reshape(-1, 2),
        steps=np.array(list(steps.values()), np.float64),
    )
    held = [i for i, g, l in zip(ids, gain, limited, strict=True) if g != l]
    warnings = []
    if held:
        warnings.append(f"the gain of slices {held} reached its limit")
    if empty.any():
        warnings.append(
            f"slices {[i for i, e in zip(ids, empty, strict=True) if e]} hold too little signal to be normalised"
        )
    # Without a single value above 0 there is nothing that a volume could show.
    dark = [i for i, level in zip(ids, levels, strict=True) if level.cap <= 0]
    spread = float(np.std(np.log(gain[~empty]))) if (~empty).any() else 0.0
    worst = sorted(steps, key=lambda pair: -abs(steps[pair]))
    return Result(
        metrics=(
            Metric(
                "slice_step",
                abs(steps[worst[0]]) if worst else None,
                "",
                "greatest brightness step left between neighbouring slices, in tissue that both show",
                places=tuple(
                    pair for pair in worst[:3] if abs(steps[pair]) > abs(steps[worst[0]]) / 2
                ),
            ),
            Metric(
                "gain_spread", spread, "", "scatter of the slices' log gains before normalisation"
            ),
            Metric("gain_limited", len(held), "", "slices whose gain reached a limit"),
            Metric(
                "slices_by_agarose",
                int(np.isfinite(level).sum()),
                "",
                "slices whose own agarose tells their gain",
            ),
            Metric(
                "bright_tissue_decay",
                common_decay(ratios, start),
                "1/sample",
                "further loss of light per sample in tissue twice as bright as usual",
            ),
            Metric("slices_empty", int(empty.sum()), "", "slices with too little signal"),
        ),
        warnings=tuple(warnings),
        decisions=tuple(
            Decision(i, "auto_excluded", True, "the slice holds no signal") for i in dark
        ),
    )


STEP = Step(
    id="normalize",
    version=5,
    scope=Scope.RUN,
    params=NormalizeParams,
    run=run,
    cost=Cost(slice=0.012),
    summary="Bring all slices to one scale of brightness.",
    inputs=(
        Input("compensate_attenuation"),
        Input("beam_profile_correction"),
        Input("bring_to_common_space"),
        Input("register_pairwise"),
    ),
    outputs=(
        Output("normalization", "normalization.json"),
        Output("figures", "figures.npz", optional=True),
    ),
)
