"""Runs made up from nothing: a `RunView` with metrics and figure arrays of any size, with planted faults."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage as ndi

from soct.quality.limits import QualityLimits, metric_status
from soct.report.model import (
    AcquisitionView,
    DecisionView,
    FailureView,
    InvocationView,
    LedgerRow,
    MetadataView,
    MetricView,
    OutputView,
    ParameterView,
    RunView,
    SliceAcquisition,
    StepView,
    TileProblem,
    UnitView,
    VolumeLevel,
    VolumeView,
)

LIMITS = QualityLimits()
VOXEL = (10.0, 25.0, 25.0)


def metric(name: str, value: float | int | str | None, unit: str = "") -> MetricView:
    """A metric judged by the default limits."""
    return MetricView(name, value, unit, f"{name}.", metric_status(name, value, LIMITS).value)


def brain(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """Something that looks like a speckled section of tissue in agarose."""
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : cols * 1j]
    noise = ndi.zoom(rng.normal(size=(rows // 12 + 2, cols // 12 + 2)), 12, order=3)[:rows, :cols]
    inside = np.hypot(y / 0.82, x / 0.88) + 0.06 * noise < 1
    tissue = 55 + 22 * np.sin(9 * np.hypot(y, 0.7 * x)) + 12 * noise
    speckle = rng.gamma(14.0, 1 / 14.0, (rows, cols))
    return (np.where(inside, tissue, 9.0) * speckle).astype(np.float32)


def complete_run(
    folder: Path,
    slices: int = 12,
    side: int = 4,
    *,
    seed: int = 0,
    figures: bool = True,
    faults: bool = True,
    image: int = 200,
) -> RunView:
    """Return a finished run of `slices` slices of `side` x `side` tiles.

    Parameters
    ----------
    folder : Path
        Where the figure arrays go.
    faults : bool
        Plant a bad pair, a missing slice, a truncated tile, an excluded slice and some warnings.
    image : int
        Side of the projections in pixels.
    """
    rng = np.random.default_rng(seed)
    skipped = {slices // 2} if faults and slices > 3 else set()
    ids = [i for i in range(slices + len(skipped)) if i not in skipped]
    excluded = ids[-2] if faults and slices > 4 else None
    bad = ids[len(ids) // 3] if faults and slices > 2 else None
    paths: dict[tuple[str, str], Path] = {}

    def save(step: str, unit: str, **arrays: np.ndarray) -> None:
        if figures:
            path = folder / f"{step}_{unit}.npz"
            np.savez(path, **arrays)
            paths[step, unit] = path

    picture = brain(rng, image, image)
    clock = _Clock()
    steps = [
        _grids(ids, side, clock, rng),
        _illumination(clock, save, picture),
        _stitching(ids, side, clock, rng, save, picture, bad),
        *_depth_steps(ids, clock, rng, save),
        _gains(ids, clock, rng, save),
        _pairs(ids, clock, rng, bad),
        _poses(ids, clock, rng, save, bad),
        _stack(ids, clock, save, picture, rng),
    ]
    ledger = [
        LedgerRow(
            i,
            used=i not in skipped and i != excluded,
            reason="no raw data" if i in skipped else "torn in cutting" if i == excluded else "",
            decided_by="user" if i == excluded else "",
            missing=i in skipped,
        )
        for i in sorted({*ids, *skipped})
    ]
    return RunView(
        subject="sub-fabricated",
        state="complete",
        profile="default",
        soct_version="0.1.0",
        invocations=(
            InvocationView("soct run raw out", "2024-03-01T09:00:00+00:00", "2024-03-01T09:07:10+00:00",
                           "SIGTERM", "bench", 2, 8 << 30, 20, 0),
            InvocationView("soct run raw out", "2024-03-01T10:00:00+00:00", "2024-03-01T10:21:40+00:00",
                           "complete", "bench", 2, 8 << 30, 60, 20),
        ),
        steps=tuple(steps),
        ledger=tuple(ledger),
        acquisition=_acquisition(ids, side, skipped, bad if faults else None),
        parameters=(
            ParameterView("register_pairwise.max_rotation_deg", "5.0", "deg", "default", "Largest rotation."),
            ParameterView("register_pairwise.max_translation_um", "500.0", "um", "my.yaml:7", "Largest shift."),
            ParameterView("fix_illumination.method", "basic", "", "default", "How the flat field is found."),
            ParameterView("stack.blend_depth_um", "60.0", "um", "default", "Length of the ramp."),
        ),
        packages=(("python", "3.11.9"), ("numpy", "2.1.0"), ("soct", "0.1.0")),
        volume=VolumeView(
            "stack/run.ome.zarr",
            (
                VolumeLevel("0", (20 * len(ids), 900, 900), (10.0, 10.0, 10.0)),
                VolumeLevel("1", (8 * len(ids), 360, 360), (25.0, 25.0, 25.0)),
            ),
            "float32", "zstd", 123_456_789, "", "ok",
        ),
        figures=paths,
        cpus=2,
        memory_budget_bytes=8 << 30,
        peak_memory_bytes=3 << 30,
        wall_seconds=clock.now,
        run_folder="out",
    )  # fmt: skip


def empty_run() -> RunView:
    """A run of which nothing is known yet."""
    return RunView(subject="sub-empty", state="running")


def failed_run(folder: Path) -> RunView:
    """A run whose registration failed for one pair, so that what follows is blocked."""
    view = complete_run(folder, slices=6)
    failure = FailureView(
        "StepError", "the pair holds no common tissue", "/data/lab/secret/z03.ome.zarr",
        "at least 5 % of common tissue", "0.1 %", "exclude the slice in slice_config.csv",
        'Traceback (most recent call last):\n  File "/home/somebody/soct/x.py", line 3, in run',
    )  # fmt: skip
    steps = []
    for step in view.steps:
        if step.id == "register_pairwise":
            first, *rest = step.units
            broken = replace(first, state="failed", failure=failure, metrics=(), outputs=())
            step = replace(step, units=(broken, *rest))
        elif step.id in ("estimate_slice_poses", "stack"):
            units = tuple(
                UnitView(u.step, u.slices, "blocked", "register_pairwise failed")
                for u in step.units
            )
            step = replace(step, units=units)
        steps.append(step)
    kept = {k: v for k, v in view.figures.items() if k[0] not in ("estimate_slice_poses", "stack")}
    return replace(view, state="failed", steps=tuple(steps), figures=kept, volume=None)


def running_run(folder: Path) -> RunView:
    """A run that is stitching."""
    view = complete_run(folder, slices=6)
    steps = []
    for i, step in enumerate(view.steps):
        states = ["done"] * len(step.units)
        if i > 2:
            states = ["pending"] * len(step.units)
        elif i == 2:
            states[-1] = "running"
        units = tuple(
            u if s == "done" else UnitView(u.step, u.slices, s)  # type: ignore[arg-type]
            for u, s in zip(step.units, states, strict=True)
        )
        steps.append(replace(step, units=units))
    kept = {k: v for k, v in view.figures.items() if k[0] in [s.id for s in view.steps[:3]]}
    return replace(view, state="running", steps=tuple(steps), figures=kept, volume=None)


class _Clock:
    """Hands out start times on two workers."""

    def __init__(self) -> None:
        self.free = [0.0, 0.0]

    @property
    def now(self) -> float:
        return max(self.free)

    def take(self, seconds: float) -> float:
        worker = int(np.argmin(self.free))
        start = self.free[worker]
        self.free[worker] += seconds
        return start

    def wait(self) -> None:
        self.free = [self.now] * 2


def _unit(
    step: str, slices: tuple[int, ...], clock: _Clock, seconds: float, **more: object
) -> UnitView:
    name = "_".join(f"z{s:02d}" for s in slices) or "run"
    return UnitView(
        step, slices, "done", started_s=clock.take(seconds), seconds=seconds,
        peak_memory_bytes=int(4e8 + 1e6 * seconds), bytes_read=int(2e8), backend="cpu",
        outputs=(OutputView("data", f"{step}/{name}.ome.zarr", 12_345_678, "0123456789abcdef" * 4),),
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def _grids(ids: list[int], side: int, clock: _Clock, rng: np.random.Generator) -> StepView:
    units = tuple(
        _unit("create_mosaic_grid", (i,), clock, 4.0 + rng.random(), metrics=(
            metric("tiles_expected", side * side), metric("tiles_found", side * side),
            metric("galvo_confidence", float(0.9 + 0.05 * rng.random())), metric("galvo_shift", 61, "px"),
            metric("galvo_decision", "rolled and cropped")))
        for i in ids
    )  # fmt: skip
    clock.wait()
    return StepView("create_mosaic_grid", "Raw tiles to a mosaic grid.", 1, "slice", units)


def _illumination(clock: _Clock, save, picture: np.ndarray) -> StepView:
    y, x = np.mgrid[-1:1:80j, -1:1:80j]
    flat = (1.15 - 0.3 * (x**2 + y**2)).astype(np.float32)
    small = picture[::2, ::2]
    waffle = small * (0.8 + 0.2 * np.abs(np.sin(np.arange(small.shape[1]) / 14)))
    save("fix_illumination", "run", flat=flat, dark=0 * flat, before=waffle, after=small)
    unit = _unit("fix_illumination", (), clock, 21.0, metrics=(metric("background_std", 0.04),))
    clock.wait()
    return StepView("fix_illumination", "Flat field over all tiles.", 1, "run", (unit,))


def _stitching(ids, side, clock, rng, save, picture, bad) -> StepView:
    units = []
    tile, step = 100, 80
    for i in ids:
        grid = np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2)
        nominal = grid * step * 1.0
        positions = nominal @ np.array([[1.0, 0.01], [-0.01, 1.0]]) + rng.normal(
            0, 1, nominal.shape
        )
        index = np.arange(side * side).reshape(side, side)
        pairs = np.concatenate(
            [np.stack([index[:, :-1].ravel(), index[:, 1:].ravel()], 1),
             np.stack([index[:-1].ravel(), index[1:].ravel()], 1)]
        )  # fmt: skip
        residual = rng.gamma(2.0, 0.15, len(pairs))
        accepted = np.ones(len(pairs), bool)
        if len(pairs) and (i == bad or rng.random() < 0.3):
            residual[0], accepted[0] = 9.0, False
        if i == bad:
            residual[: len(pairs) // 4] += 2.5
        used = residual[accepted] if accepted.any() else np.zeros(1)
        before = np.roll(picture, int(rng.integers(0, 5)), 1).copy()
        before[:, ::150] *= 0.6
        save(
            "stitch_3d_with_refinement", f"z{i:02d}", before=before, after=picture, nominal_px=nominal,
            positions_px=positions, tile_confidence=np.ones(len(grid)), grid_index=grid, pairs=pairs,
            pair_residual_px=residual, pair_accepted=accepted, pair_confidence=np.ones(len(pairs)),
            pair_reason=np.where(accepted, "", "disagrees"), tile_shape=np.array([tile, tile]), voxel_um=np.array(VOXEL),
        )  # fmt: skip
        units.append(
            _unit("stitch_3d_with_refinement", (i,), clock, 8 + 2 * rng.random(), metrics=(
                metric("tile_residual_p95_um", float(25 * np.percentile(used, 95)), "um"),
                metric("tile_residual_rms_um", float(25 * np.sqrt((used**2).mean())), "um"),
                metric("pairs_accepted", int(accepted.sum())), metric("pairs_total", int(accepted.size)),
                metric("seam_step_percent", float(1.5 + rng.random()), "%"),
                metric("seam_l1_before", 0.09), metric("seam_l1", 0.06),
                metric("seam_pearson_before", 0.7), metric("seam_pearson", float(0.86 + 0.05 * rng.random()))),
                warnings=("3 tiles hold no tissue and follow the grid model",) if i % 5 == 0 else ())
        )  # fmt: skip
    clock.wait()
    return StepView("stitch_3d_with_refinement", "Tiles to one slice.", 1, "slice", tuple(units))


def _depth_steps(ids, clock, rng, save) -> list[StepView]:
    depth = np.arange(60) * 10.0
    before = np.exp(-((depth - 200) ** 2) / 9e4)
    save("beam_profile_correction", "run", depth_um=depth, profile=before, before=before,
         after=np.full(60, 0.8) + 0.02 * rng.normal(size=60))  # fmt: skip
    beam = _unit(
        "beam_profile_correction", (), clock, 5.0, metrics=(metric("agarose_coverage", 0.3),)
    )
    surfaces = []
    y, x = np.mgrid[:60, :60]
    for i in ids:
        if i in (ids[0], ids[len(ids) // 2], ids[-1]):
            save(
                "crop_interface",
                f"z{i:02d}",
                surface=120.0 + 0.3 * x + 0.1 * y + rng.normal(0, 1, x.shape),
            )
        surfaces.append(
            _unit(
                "crop_interface",
                (i,),
                clock,
                2.0,
                metrics=(metric("surface_median_um", 133.0, "um"),),
            )
        )
    clock.wait()
    return [
        StepView("beam_profile_correction", "Axial profile.", 1, "run", (beam,)),
        StepView("crop_interface", "Surface map.", 1, "slice", tuple(surfaces)),
    ]  # fmt: skip


def _gains(ids, clock, rng, save) -> StepView:
    level = 50 * (1 + 0.12 * rng.normal(size=len(ids)))
    save("normalize", "run", slice_ids=np.array(ids), gain=50 / level, floor=np.full(len(ids), 2.0),
         before=level, after=50 + rng.normal(0, 0.5, len(ids)), limited=np.arange(len(ids)) == 1,
         extremes_before=np.stack([0.4 * level, 2 * level], 1), empty=np.zeros(len(ids), bool),
         extremes_after=np.tile([20.0, 100.0], (len(ids), 1)))  # fmt: skip
    unit = _unit(
        "normalize",
        (),
        clock,
        9.0,
        metrics=(
            metric("gain_max", float((50 / level).max())),
            metric("gain_limited", min(1, len(ids) - 1)),
        ),
    )
    clock.wait()
    return StepView("normalize", "One smooth gain per slice.", 1, "run", (unit,))


def _pair_ids(ids: list[int]) -> list[tuple[int, int]]:
    return [*itertools.pairwise(ids), *zip(ids, ids[2:], strict=False)]


def _pairs(ids, clock, rng, bad) -> StepView:
    units = []
    for pair in sorted(_pair_ids(ids)):
        poor = pair[1] == bad
        units.append(
            _unit("register_pairwise", pair, clock, 3.0, metrics=(
                metric("ncc", float(0.34 if poor else 0.85 + 0.05 * rng.random())),
                metric("confidence", float(0.2 if poor else 0.8 + 0.1 * rng.random())),
                metric("translation_um", float(420.0 if poor else 40 * rng.random()), "um"),
                metric("rotation_deg", float(0.1 * rng.normal()), "deg")))
        )  # fmt: skip
    clock.wait()
    return StepView("register_pairwise", "Neighbouring slices.", 1, "pair", tuple(units))


def _poses(ids, clock, rng, save, bad) -> StepView:
    n = len(ids)
    pairs = np.array(_pair_ids(ids)).reshape(-1, 2)
    m = len(pairs)
    stage = np.stack([200.0 * np.array(ids), np.zeros(n), np.zeros(n)], 1)
    pose = stage + np.cumsum(rng.normal(0, [3, 12, 12], (n, 3)), axis=0)
    poor = pairs[:, 1] == bad if bad is not None else np.zeros(m, bool)
    save(
        "estimate_slice_poses", "run", slice_ids=np.array(ids), pose_um=pose, stage_um=stage,
        rotation_deg=np.cumsum(rng.normal(0, 0.05, n)), pairs=pairs,
        pair_shift_um=rng.normal(0, 15, (m, 2)) + 400 * poor[:, None],
        pair_rotation_deg=rng.normal(0, 0.1, m), pair_ncc=np.where(poor, 0.34, 0.88),
        pair_confidence=np.where(poor, 0.2, 0.85), pair_residual_um=rng.gamma(2, 4, m) + 300 * poor,
        pair_weight=np.where(poor, 0.02, 1.0),
    )  # fmt: skip
    unit = _unit("estimate_slice_poses", (), clock, 1.0, metrics=(
        metric("slice_shift_p95_um", 62.0, "um"), metric("slice_residual_p95_um", 14.0, "um"),
        metric("cumulative_drift_um", 180.0, "um"), metric("cumulative_rotation_deg", 0.4, "deg")),
        decisions=(DecisionView(ids[0], "rehomed", True, "step of 0.8 mm was taken back"),) if bad else ())  # fmt: skip
    clock.wait()
    return StepView("estimate_slice_poses", "All slices at once.", 1, "run", (unit,))


def _stack(ids, clock, save, picture, rng) -> StepView:
    nz = 20 * len(ids)
    reslice = brain(rng, max(nz // 2, 24), 600)
    motor = np.stack([np.roll(row, int(6 * np.sin(i // 6))) for i, row in enumerate(reslice)])
    median = 40 + 4 * np.sin(np.arange(nz) / 40) + 0.4 * np.cos(np.arange(nz) / 3.2)
    valid = np.full(nz, 0.93)
    valid[nz // 2 : nz // 2 + 8] = 0.4
    save(
        "stack", "run", ortho_z=picture, ortho_y=reslice, ortho_x=reslice[:, ::-1], motor_y=motor,
        motor_x=motor[:, ::-1], voxel_um=np.array([20.0, 15.0, 15.0]), slice_ids=np.array(ids), z_boundaries=np.arange(len(ids)) * 20,
        plane_median=median, plane_valid_fraction=valid,
    )  # fmt: skip
    unit = _unit("stack", (), clock, 44.0, metrics=(metric("banding_index", 0.012), metric("filled", 0.985)),
                 fallbacks=("GPU: none was found, computed on the CPU",))  # fmt: skip
    clock.wait()
    return StepView("stack", "One volume.", 1, "run", (unit,))


def _acquisition(ids, side, skipped, bad) -> AcquisitionView:
    slices = []
    everything = [(r, c) for r in range(side) for c in range(side)]
    for i in ids:
        found, problems = everything, ()
        if i == bad and side > 1:
            found = everything[1:]
            problems = (TileProblem(i, 0, 0, "truncated", "the last frames are missing",
                                    f"tile_x00_y00_z{i:02d}/image_00.bin", "2,359,296 bytes", "1,048,576 bytes"),)  # fmt: skip
        slices.append(SliceAcquisition(i, side, side, tuple(found), problems, 0.2 * i))
    return AcquisitionView(
        "raw", "raw", 3_000_000_000, tuple(slices), tuple(sorted(skipped)),
        (MetadataView("axial resolution", "10.0", "um", "info.txt: axial_resolution"),
         MetadataView("slice thickness", "0.2", "mm", "state.json")),
        ("Thumbs.db",), tuple((f"z{i:02d}", f"{i:064x}") for i in ids),
    )  # fmt: skip
