"""What optional steps add to a made-up run: atlas, interpolated slices, previews, bias field, diagnoses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from soct.report.model import RunView, StepView, UnitView
from tests.report.fabricated import brain, complete_run, metric

REGIONS = (("CH", "Cerebrum"), ("CTX", "Cerebral cortex"), ("CNU", "Cerebral nuclei"), ("CB", "Cerebellum"),
           ("BS", "Brain stem"), ("HB", "Hindbrain"))  # fmt: skip


def run_with_everything(
    folder: Path, slices: int = 12, side: int = 4, *, image: int = 200
) -> RunView:
    """Return a finished run with faults in which every optional step ran, so that no section is empty."""
    view = complete_run(folder, slices, side, image=image)
    rng = np.random.default_rng(1)
    paths = dict(view.figures)

    def save(step: str, unit: str, **arrays: object) -> None:
        paths[step, unit] = folder / f"{step}_{unit}.npz"
        np.savez(paths[step, unit], **arrays)  # type: ignore[arg-type]

    ids = [row.slice_id for row in view.ledger if not row.missing]
    save_preview(save, ids, rng)
    steps = (
        StepView("mosaic_preview", units=tuple(_unit("mosaic_preview", i) for i in ids)),
        _bias(save, view, rng),
        _atlas(save, rng),
        *_diagnoses(save, ids, rng),
        StepView("interpolate_missing_slice", units=(_unit("interpolate_missing_slice"),)),
    )
    absent = next(row.slice_id for row in view.ledger if row.missing)
    views = {f"{part}_{absent}": brain(rng, 150, 150) for part in ("before", "middle", "after")}
    save("interpolate_missing_slice", "run", slice_ids=np.array([absent]), **views)
    made_up = {
        "interpolated": "true",
        "interpolation_method_used": "registration",
        "notes": "NCC 0.82",
    }
    ledger = tuple(
        replace(row, interpolated=True, columns={**row.columns, **made_up}) if row.missing else row
        for row in view.ledger
    )
    return replace(view, steps=(*view.steps, *steps), ledger=ledger, figures=paths)


def run_of_noise(folder: Path, slices: int = 100, side: int = 10) -> RunView:
    """Return a finished run whose pictures are noise, which no PNG makes small: the largest report of its size."""
    view = complete_run(folder, slices, side, image=700)
    noise = np.random.default_rng(0).random((700, 700)).astype(np.float32)
    for (step, _), path in view.figures.items():
        if step in ("stitch_3d_with_refinement", "stack"):
            with np.load(path) as archive:
                arrays = dict(archive)
            big = {k: noise for k, v in arrays.items() if v.ndim == 2 and min(v.shape) > 200}
            np.savez(path, **{**arrays, **big})
    return view


def _unit(step: str, *slices: int, **more: object) -> UnitView:
    return UnitView(step, slices, "done", seconds=1.0, **more)  # type: ignore[arg-type]


def save_preview(save, ids, rng) -> None:
    for i in ids:
        save("mosaic_preview", f"z{i:02d}", picture=brain(rng, 90, 90))


def _bias(save, view: RunView, rng) -> StepView:
    planes = 20 * sum(not row.missing for row in view.ledger)
    before, reslice = brain(rng, 120, 120), brain(rng, 60, 120)
    field = 1 + 0.2 * np.mgrid[-1:1:120j, -1:1:120j][0]
    median = 40 + 4 * np.sin(np.arange(planes) / 40)
    save(
        "correct_bias_field", "run", before=before, after=before / field, reslice_before=reslice,
        reslice_after=reslice, field=field, plane_before=median, plane_after=0 * median + 40,
        z_boundaries=np.arange(0, planes, 20),
    )  # fmt: skip
    return StepView("correct_bias_field", units=(_unit("correct_bias_field"),))


def _atlas(save, rng) -> StepView:
    arrays: dict[str, object] = {}
    for name in ("coronal", "horizontal", "sagittal"):
        cut = brain(rng, 120, 160)
        outline = np.zeros(cut.shape, bool)
        outline[10:110, [12, 147]] = outline[[10, 109], 12:148] = True
        arrays |= {
            f"{name}_template": cut, f"{name}_brain": cut, f"{name}_before": np.roll(cut, 9, 1),
            f"{name}_outline": outline, f"{name}_letters": np.array(["S", "I", "L", "R"]),
            f"{name}_pixel_um": np.array([50.0, 50.0]),
        }  # fmt: skip
    count = len(REGIONS)
    arrays |= {
        "stage_names": np.array(["moments", "rigid", "affine"]), "stage_scores": np.array([0.2, 0.5, 0.61]),
        "stage_notes": np.array(["used", "used", "used"]), "region_id": np.arange(count),
        "region_acronym": np.array([a for a, _ in REGIONS]), "region_name": np.array([n for _, n in REGIONS]),
        "region_volume_mm3": np.linspace(200, 10, count), "region_volume_left_mm3": np.linspace(100, 5, count),
        "region_volume_right_mm3": np.linspace(100, 5, count), "region_mean_intensity": np.full(count, 51.0),
        "region_median_intensity": np.full(count, 50.0), "region_covered_fraction": np.full(count, 0.97),
    }  # fmt: skip
    save("align_to_ras", "run", **arrays)
    unit = _unit("align_to_ras", metrics=(
        metric("atlas_name", "made-up template"), metric("atlas_dice", 0.95), metric("atlas_edge_um", 80.0, "um"),
        metric("atlas_orientation", "SAR"), metric("atlas_orientation_margin", 0.4), metric("atlas_transform", "affine")))  # fmt: skip
    return StepView("align_to_ras", units=(unit,))


def _diagnoses(save, ids, rng) -> list[StepView]:
    n = len(ids)
    turn = rng.normal(0, 0.05, n)
    save("analyze_rotation_drift", "run", slice_ids=np.array(ids), cumulative_deg=np.cumsum(turn), step_deg=turn,
         solved_deg=0.5 * np.cumsum(turn), outliers=np.array(ids[1:2]))  # fmt: skip
    save("analyze_acquisition_rotation", "run", slice_ids=np.array(ids), rotation_deg=0.4 + turn,
         rotation_error_deg=np.full(n, 0.05))  # fmt: skip
    save("analyze_tile_dilation", "run", slice_ids=np.array(ids), scale=1 + rng.normal(0, 0.002, (n, 2)),
         ratio_y=1 + rng.normal(0, 0.002, (4, 4)), ratio_x=1 + rng.normal(0, 0.002, (4, 4)))  # fmt: skip
    save("motor_only_stitch", f"z{ids[0]:02d}", mean=brain(rng, 120, 120), voxel_um=np.array([10.0, 25.0, 25.0]))  # fmt: skip
    reslice = brain(rng, 60, 200)
    save("motor_only_stack", "run", ortho_y=reslice, ortho_x=reslice, voxel_um=np.array([20.0, 25.0, 25.0]))  # fmt: skip
    told = metric("rotation_drift_verdict", "The slices do not turn.")
    compared = tuple(
        _unit("compare_stitching", i, metrics=(
            metric("stitching_helped", "better" if i else "worse"), metric("overlap_ncc_motor", 0.7),
            metric("overlap_ncc", 0.85), metric("overlap_l1_motor", 0.1), metric("overlap_l1", 0.06),
            metric("overlap_step_percent", 2.0), metric("tile_move_max_um", 31.0, "um")))
        for i in ids
    )  # fmt: skip
    return [
        StepView("compare_stitching", units=compared),
        StepView("analyze_acquisition_rotation", units=(_unit("analyze_acquisition_rotation"),)),
        StepView("analyze_tile_dilation", units=(_unit("analyze_tile_dilation"),)),
        StepView(
            "analyze_rotation_drift", units=(_unit("analyze_rotation_drift", metrics=(told,)),)
        ),
        StepView("motor_only_stitch", units=(_unit("motor_only_stitch", ids[0]),)),
        StepView("motor_only_stack", units=(_unit("motor_only_stack"),)),
    ]
