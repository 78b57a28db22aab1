"""Stage tables: shifts, thickness, directions, calibration slices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from soct.errors import InputError
from soct.registration.stage import (
    StageSlice,
    detect_calibration_slices,
    estimate_xy_shifts,
    measure_cut_thickness,
    measure_stage_axes,
    place_by_index,
)

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "soct_sample"


def mosaic(
    slice_id: int,
    rows: int = 3,
    cols: int = 3,
    *,
    origin: tuple[float, float] = (13.0, 8.0),
    pitch: tuple[float, float] = (1.6, 1.6),
    z: float = float("nan"),
) -> StageSlice:
    r, c = (a.ravel() for a in np.mgrid[0:rows, 0:cols])
    return StageSlice(
        slice_id,
        r,
        c,
        origin[0] + r * pitch[0],
        origin[1] + c * pitch[1],
        np.full(r.shape, z),
        (2000.0, 2000.0),
        (25.0, 20.0),
    )


def read_info(path: Path) -> dict[str, str]:
    lines = path.read_text().splitlines()[1:]
    return {k.strip(): v.strip() for k, v in (line.split(":", 1) for line in lines)}


def sample_slices() -> dict[int, StageSlice]:
    found: dict[int, list[tuple[int, int, dict[str, str]]]] = {}
    for info in sorted(SAMPLE.glob("raw/tile_*/info.txt")):
        _, x, y, z = info.parent.name.split("_")
        found.setdefault(int(z[1:]), []).append((int(y[1:]), int(x[1:]), read_info(info)))
    return {
        i: StageSlice(
            i,
            [t[0] for t in tiles],
            [t[1] for t in tiles],
            [float(t[2]["stage_y_pos_mm"]) for t in tiles],
            [float(t[2]["stage_x_pos_mm"]) for t in tiles],
            [float(t[2]["stage_z_pos_mm"]) for t in tiles],
            (2000.0, 2000.0),
            (25.0, 25.0),
        )
        for i, tiles in found.items()
    }


def test_the_shift_is_the_fixed_boundary_minus_the_moving_one() -> None:
    (row,) = estimate_xy_shifts({4: mosaic(4), 7: mosaic(7, origin=(13.1, 7.75))})
    assert (row.fixed_id, row.moving_id, row.reliable) == (4, 7, True)
    assert row.shift_mm == pytest.approx((-0.1, 0.25))
    assert row.shift_px == pytest.approx((-4.0, 12.5))


@pytest.mark.parametrize("side", ["low", "high"])
def test_a_mosaic_that_grew_by_a_column_makes_no_jump_but_is_unreliable(side: str) -> None:
    start = 8.0 - (1.6 if side == "low" else 0.0)
    grown = mosaic(1, cols=4, origin=(13.0, start + 0.05))
    (row,) = estimate_xy_shifts({0: mosaic(0), 1: grown})
    assert row.shift_mm == pytest.approx((0.0, -0.05))
    assert not row.reliable
    assert row.edge[1] == ("high" if side == "low" else "low")


def test_a_missing_corner_tile_changes_neither_shift_nor_reliability() -> None:
    full = mosaic(1, origin=(13.1, 8.2))
    keep = np.arange(9) != 0
    cut = StageSlice(
        1, full.rows[keep], full.cols[keep], full.y_mm[keep], full.x_mm[keep], full.z_mm[keep],
        full.tile_um, full.pixel_um,
    )  # fmt: skip
    assert estimate_xy_shifts({0: mosaic(0), 1: cut}) == estimate_xy_shifts({0: mosaic(0), 1: full})


def test_one_misread_tile_moves_no_boundary() -> None:
    wrong = mosaic(1)
    wrong.x_mm[0] -= 5.0
    (row,) = estimate_xy_shifts({0: mosaic(0), 1: wrong})
    assert row.shift_mm == pytest.approx((0.0, 0.0))


def test_the_direction_of_index_against_stage_is_measured() -> None:
    axes = measure_stage_axes({0: mosaic(0, pitch=(1.6, -1.5)), 1: mosaic(1, pitch=(1.6, -1.5))})
    assert axes.direction == (1, -1)
    assert axes.pitch_mm == pytest.approx((1.6, 1.5))
    assert axes.measured == (True, True)
    assert not axes.swapped


def test_a_single_column_leaves_its_direction_unmeasured() -> None:
    axes = measure_stage_axes({0: mosaic(0, cols=1)})
    assert axes.measured == (True, False)
    assert axes.direction == (1, 1)


def test_tiles_whose_column_follows_stage_y_are_called_swapped() -> None:
    s = mosaic(0)
    assert measure_stage_axes(
        {0: StageSlice(0, s.cols, s.rows, s.y_mm, s.x_mm, s.z_mm, s.tile_um, s.pixel_um)}
    ).swapped


def test_nominal_positions_follow_index_and_overlap_and_are_unreliable() -> None:
    slices = {
        i: place_by_index(
            i, [0, 0, 1], [0, 1, 0], tile_um=(2000, 1000), pixel_um=(25, 25), overlap_fraction=0.2
        )
        for i in (0, 1)
    }
    assert slices[0].y_mm[2] == pytest.approx(1.6)
    assert slices[0].x_mm[1] == pytest.approx(0.8)
    (row,) = estimate_xy_shifts(slices)
    assert row.shift_px == (0.0, 0.0)
    assert not row.reliable


def test_a_position_that_is_not_a_number_is_an_input_error() -> None:
    with pytest.raises(InputError, match="slice 3"):
        mosaic(3, origin=(float("nan"), 0.0))


@pytest.mark.parametrize("sign", [1, -1])
def test_cut_thickness_comes_from_stage_z_whichever_way_it_grows(sign: int) -> None:
    z = {0: 5.0, 1: 5.0 + sign * 0.21, 3: 5.0 + sign * 0.6}
    cut = measure_cut_thickness({i: mosaic(i, z=v) for i, v in z.items()}, nominal_um=200)
    assert cut.direction == sign
    assert cut.thickness_um == pytest.approx({(0, 1): 210.0, (1, 3): 390.0})
    assert cut.depth_um == pytest.approx({0: 0.0, 1: 210.0, 3: 600.0})


def test_nominal_thickness_per_missing_cut_stands_in_where_z_is_absent_or_runs_backwards() -> None:
    cut = measure_cut_thickness(
        {0: mosaic(0, z=1.0), 1: mosaic(1, z=1.2), 2: mosaic(2, z=1.1), 5: mosaic(5)},
        nominal_um=180,
    )
    assert cut.thickness_um == pytest.approx({(0, 1): 200.0, (1, 2): 180.0, (2, 5): 540.0})
    assert set(cut.source.values()) == {"stage", "nominal"}


def test_only_leading_slices_that_are_much_deeper_are_calibration_slices() -> None:
    assert detect_calibration_slices({0: 700, 1: 400, 2: 400, 3: 400, 4: 900}) == (0,)
    assert detect_calibration_slices({0: 600, 1: 400, 2: 400, 3: 400}) == ()
    assert detect_calibration_slices({0: 700, 1: 400}) == ()


@pytest.mark.data
@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the shared sample acquisition is not here")
def test_the_sample_acquisition_gives_minus_the_true_moves_of_the_mosaic() -> None:
    truth = json.loads((SAMPLE / "truth.json").read_text())
    slices = sample_slices()
    roi = {int(k): np.array(v["roi_yx_px"]) for k, v in truth["slices"].items()}
    for row in estimate_xy_shifts(slices):
        moved = roi[row.moving_id] - roi[row.fixed_id]
        assert -np.array(row.shift_px) == pytest.approx(moved, abs=1e-6)
        assert row.reliable
    depth = measure_cut_thickness(slices, nominal_um=200).depth_um
    assert depth == pytest.approx({int(k): v["z_um"] for k, v in truth["slices"].items()}, abs=0.01)
    assert measure_stage_axes(slices).pitch_mm == pytest.approx((1.6, 1.6))
