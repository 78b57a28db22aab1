"""One volume from all slices, scored against the anatomy that was imaged."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.errors import StepError
from soct.formats.ome_zarr import open_volume
from soct.formats.tables import StackingRow, ZMatchRow, read_table
from soct.formats.validation import validate_volume
from soct.simulate.evaluate import evaluate
from soct.steps import stack
from soct.steps.declaration import Context
from soct.steps.stack_renderer import StackRenderer
from tests.steps.chain import Chain, Made, copy_raw, rewrite


def test_the_volume_is_the_anatomy(faulty: Made) -> None:
    """Five slices of 2 x 3 tiles, one slice missing, one misread: speckle of three looks bounds the correlation."""
    score = evaluate(faulty.chain.path("stack", "volume"), faulty.simulation.path)
    assert score.ncc > 0.70
    assert score.xy_p95_um < 8
    assert score.rot_p95_deg < 0.25
    assert score.z_p95_um <= 20
    assert score.gain_cv < 0.06
    assert score.coverage > 0.80


def test_three_small_slices_make_the_volume_too(plain: Made) -> None:
    score = evaluate(plain.chain.path("stack", "volume"), plain.simulation.path)
    assert score.ncc > 0.70
    assert score.xy_p95_um < 8
    assert score.gain_cv < 0.15


def test_the_stage_alone_does_not_score(plain: Made, tmp_path: Path) -> None:
    sets = {
        "estimate_slice_poses": {"motor_only": True},
        "stitch_3d_with_refinement": {"motor_only_stitch": True},
    }
    chain = Chain(plain.simulation.raw, tmp_path, sets)
    here = evaluate(plain.chain.path("stack", "volume"), plain.simulation.path)
    stage = evaluate(chain.path("stack", "volume"), plain.simulation.path)
    assert stage.xy_p95_um > 3 * here.xy_p95_um
    assert stage.ncc < here.ncc - 0.1


def test_the_volume_is_valid_and_every_checksum_holds(faulty: Made) -> None:
    assert validate_volume(faulty.chain.path("stack", "volume"), samples=True) == ()


def test_little_memory_means_narrow_bands_and_the_same_volume(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights = []

    class Narrow(StackRenderer):
        def __init__(self, context: Context, *rest: Any) -> None:
            super().__init__(dataclasses.replace(context, memory_bytes=1), *rest)

        def _sums(self, band: Any, after: Any) -> Any:
            heights.append(band.y[1] - band.y[0])
            return super()._sums(band, after)

    plain.chain.run("stack")
    before = {step: units for step, units in plain.chain.done.items() if step != "stack"}
    monkeypatch.setattr(stack, "StackRenderer", Narrow)
    chain = Chain(plain.simulation.raw, tmp_path, done=before)
    for output in ("figures", "decisions"):
        assert (
            chain.path("stack", output).read_bytes()
            == plain.chain.path("stack", output).read_bytes()
        )
    volumes = [open_volume(c.path("stack", "volume")).read() for c in (chain, plain.chain)]
    np.testing.assert_array_equal(*volumes)
    assert len(heights) > 10
    assert max(heights) == 32


def test_an_excluded_slice_is_not_stacked_and_its_planes_are_told_empty(
    plain: Made, tmp_path: Path
) -> None:
    sets = {
        "generate_slice_config": {"exclude": (1,)},
        "interpolate_missing_slice": {"enabled": False},
    }
    chain = Chain(plain.simulation.raw, tmp_path, sets)
    rows = read_table(chain.path("stack", "decisions"), StackingRow)
    assert [r.slice_id for r in rows] == [0, 2]
    assert chain.metric("stack", "slices_stacked") == 2
    data = open_volume(chain.path("stack", "volume")).read()
    gap = ~data.any(axis=(1, 2))
    assert chain.metric("stack", "planes_empty") == gap.sum() > 5
    assert "planes of the volume hold no data" in chain.warnings("stack")


def test_an_empty_slice_darkens_nothing(plain: Made, tmp_path: Path) -> None:
    """It is left out like an excluded one: the volume begins with the first slice that shows something."""
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    for folder in raw.glob("*_z00"):
        rewrite(folder, np.zeros_like)
    chain = Chain(raw, tmp_path / "steps")
    assert chain.metric("stack", "slices_stacked") == 2
    data = open_volume(chain.path("stack", "volume")).read()
    # The plane of the cut itself and one that makes their number even hold nothing.
    filled = np.flatnonzero((data > 0).mean(axis=(1, 2)) > 0.5)
    assert len(filled) >= len(data) - 4
    assert np.array_equal(filled, np.arange(filled[0], filled[-1] + 1))
    assert np.median(data[filled], axis=(1, 2)).min() > 0.1


def test_no_signal_at_all_is_an_error_that_says_so(plain: Made, tmp_path: Path) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    for folder in raw.iterdir():
        rewrite(folder, np.zeros_like)
    with pytest.raises(StepError, match="no slice holds any signal"):
        Chain(raw, tmp_path / "steps").run("stack")


@pytest.mark.parametrize("change", [np.zeros_like, lambda d: d * np.nan], ids=["zero", "NaN"])
def test_a_tile_without_signal_costs_its_own_place_only(
    plain: Made, tmp_path: Path, change: object
) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    rewrite(raw / "tile_x01_y00_z01", change)
    chain = Chain(raw, tmp_path / "steps")
    volume = open_volume(chain.path("stack", "volume"))
    assert np.isfinite(volume.read()).all()
    score = evaluate(volume.path, plain.simulation.path)
    here = evaluate(plain.chain.path("stack", "volume"), plain.simulation.path)
    assert score.ncc > here.ncc - 0.05
    assert here.coverage - 0.10 < score.coverage < here.coverage


def test_one_tile_of_one_slice_is_a_volume(single: Made) -> None:
    volume = open_volume(single.chain.path("stack", "volume"))
    assert volume.shape[1:] == (44, 44)
    assert tuple(volume.voxel_um) == pytest.approx((10.0, 25.0, 25.0))
    score = evaluate(volume.path, single.simulation.path)
    assert score.ncc > 0.4
    assert read_table(single.chain.path("stack", "z_matches"), ZMatchRow) == ()


def test_overlaps_in_depth_are_listed_for_consecutive_slices(faulty: Made) -> None:
    rows = read_table(faulty.chain.path("stack", "z_matches"), ZMatchRow)
    assert [(r.fixed_id, r.moving_id) for r in rows] == [(0, 1), (1, 3), (3, 4), (4, 5)]
    assert all(r.overlap_voxels > 5 for r in rows)
    # Twice the thickness across the missing slice leaves less in common.
    assert rows[1].overlap_voxels < rows[0].overlap_voxels - 8
