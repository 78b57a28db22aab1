"""Tiles of a slice at their true places in one volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.formats.ome_zarr import open_volume
from soct.formats.tables import TilePositionRow, read_table
from soct.steps.grid_tiles import choose_slabs
from tests.steps.chain import Chain, Made, copy_raw, read_whole, rewrite, tile_folder

STITCH = "stitch_3d_with_refinement"


def placement_errors(made: Made, chain: Chain, slice_id: int, *, nominal: bool = False) -> Any:
    """Distance of every tile from its true place after the mean offset, in pixels."""
    rows = read_table(chain.path(STITCH, "positions", slice_id), TilePositionRow)
    truth = made.tile_positions(slice_id)
    places = [(r.nominal_y_px, r.nominal_x_px) if nominal else (r.y_px, r.x_px) for r in rows]
    errors = np.array(places) - [truth[r.row, r.col] for r in rows]
    return np.hypot(*(errors - errors.mean(axis=0)).T)


@pytest.mark.parametrize("slice_id", [0, 1, 3, 4, 5])
def test_tiles_are_placed_within_a_fifth_of_a_pixel(faulty: Made, slice_id: int) -> None:
    """Overlaps are 11 pixels wide, the stage is wrong by 0.8 px (sd per axis), a tile is missing in slice 1."""
    rms = np.sqrt(np.mean(placement_errors(faulty, faulty.chain, slice_id) ** 2))
    stage = np.sqrt(np.mean(placement_errors(faulty, faulty.chain, slice_id, nominal=True) ** 2))
    assert rms < 0.2
    assert stage > 0.8


def test_motor_only_keeps_the_stage_positions(plain: Made, tmp_path: Path) -> None:
    chain = Chain(plain.simulation.raw, tmp_path, {STITCH: {"motor_only_stitch": True}})
    for row in read_table(chain.path(STITCH, "positions", 1), TilePositionRow):
        assert (row.y_px, row.x_px) == (row.nominal_y_px, row.nominal_x_px)


def test_placement_makes_the_seams_agree(faulty: Made) -> None:
    for slice_id in faulty.slice_ids:
        before = faulty.chain.metric(STITCH, "seam_pearson_before", slice_id)
        after = faulty.chain.metric(STITCH, "seam_pearson", slice_id)
        assert after > before


def test_a_missing_tile_is_a_hole_and_nothing_else_is(faulty: Made) -> None:
    valid = open_volume(faulty.chain.path(STITCH, "slice", 1)).read_valid()
    seen = valid[1] > valid[0]
    rows = read_table(faulty.chain.path(STITCH, "positions", 1), TilePositionRow)
    assert {(r.row, r.col) for r in rows} == {(0, 0), (0, 2), (1, 0), (1, 1), (1, 2)}
    middle = seen.shape[1] // 2
    assert not seen[5, middle]
    assert seen[-15, middle]
    whole = open_volume(faulty.chain.path(STITCH, "slice", 0)).read_valid()
    assert seen.mean() < (whole[1] > whole[0]).mean()


def test_a_slice_larger_than_its_picture_keeps_some_seams_with_every_pixel(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "seam_pairs" not in plain.chain.arrays(STITCH, "figures", 1)
    monkeypatch.setattr("soct.steps.stitch_3d_with_refinement.THUMBNAIL_PX", 40)
    saved = Chain(plain.simulation.raw, tmp_path).arrays(STITCH, "figures", 1)
    assert saved["after"].shape[0] <= 41
    pairs = {tuple(p) for p in saved["pairs"][saved["pair_accepted"]].tolist()}
    assert {tuple(p) for p in saved["seam_pairs"].tolist()} <= pairs
    assert len(saved["seam_pairs"]) == min(4, len(pairs))
    assert np.isfinite(saved["seam_after"]).any(axis=(1, 2)).all()


def test_a_single_tile_is_the_volume(single: Made) -> None:
    data = read_whole(single.chain.path(STITCH, "slice", 0))
    assert data.shape == (40, 44, 44)
    assert single.chain.metric(STITCH, "pairs_total", 0) == 0


def test_a_tile_that_shows_only_noise_is_left_out_at_its_place_in_the_grid_and_told(
    plain: Made, tmp_path: Path
) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    rng = np.random.default_rng(0)
    rewrite(tile_folder(raw, 1, 0, 1), lambda d: rng.gamma(1.5, 4.0, d.shape))
    chain = Chain(raw, tmp_path / "steps")
    told = "1 tiles without texture show only noise and are left out: (0, 1)"
    assert told in chain.warnings(STITCH)
    assert chain.metric(STITCH, "tiles_blank", 1) == 1
    assert placement_errors(plain, chain, 1).max() < 3.0
    valid = open_volume(chain.path(STITCH, "slice", 1)).read_valid()
    seen = valid[1] > valid[0]
    assert not seen[5, -5]
    assert seen[5, 5]
    assert seen[-5, -5]


def test_no_data_are_never_a_value(faulty: Made) -> None:
    volume = open_volume(faulty.chain.path(STITCH, "slice", 1))
    data, (first, stop) = volume.read(), volume.read_valid()
    z = np.arange(data.shape[0])[:, None, None]
    inside = (z >= first) & (z < stop)
    assert np.isfinite(data).all()
    assert not data[~inside].any()


def test_slabs_cover_the_depths_with_signal_and_no_more() -> None:
    profile = np.concatenate([np.full(10, 1.0), np.full(30, 100.0), np.full(20, 2.0)])
    assert choose_slabs(profile, 3) == [(10, 20), (20, 30), (30, 40)]
    assert choose_slabs(np.ones(7), 3) == [(0, 7)]
    assert choose_slabs(np.array([0.0, 5.0, 0.0]), 3) == [(1, 2)]
