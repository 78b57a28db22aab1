"""The gap of a missing slice, filled and marked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from soct.formats.ngff import parse_image
from soct.formats.ome_zarr import open_volume
from soct.formats.tables import StackingRow, ZMatchRow, read_table
from tests.steps.chain import Chain, Made

GAP: dict[str, Mapping[str, Any]] = {
    "generate_slice_config": {"exclude": (1,)},
    "interpolate_missing_slice": {"enabled": True},
}
UPSTREAM_OF_LEDGER = (
    "create_mosaic_grid",
    "estimate_xy_shifts",
    "resample_mosaic_grid",
    "fix_focal_curvature",
    "fix_illumination",
    "stitch_3d_with_refinement",
)


@pytest.fixture(scope="module")
def gap(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Three slices, the middle one excluded: a gap of some planes."""
    plain.chain.run("stitch_3d_with_refinement")
    chain = Chain(plain.simulation.raw, tmp_path_factory.mktemp("gap"), GAP)
    chain.done |= {n: d for n, d in plain.chain.done.items() if n in UPSTREAM_OF_LEDGER}
    chain.run("stack")
    return chain


def test_the_gap_is_filled_and_only_the_gap(gap: Chain, tmp_path: Path) -> None:
    sets = {**GAP, "interpolate_missing_slice": {"enabled": False}}
    left = Chain(gap.raw, tmp_path, sets)
    left.done |= {
        n: d for n, d in gap.done.items() if n not in ("interpolate_missing_slice", "stack")
    }
    before, after = (open_volume(c.path("stack", "volume")).read() for c in (left, gap))
    assert after.shape == before.shape
    held = before != 0
    assert after[held] == pytest.approx(before[held], abs=1e-6)
    assert left.metric("stack", "planes_empty") > 5
    assert gap.metric("stack", "planes_empty") == 0
    assert gap.metric("stack", "filled") == 1.0
    made = ~held & (after != 0)
    tissue = (before[held] > 0.3).mean()
    assert (after[made] > 0.3).mean() == pytest.approx(tissue, abs=0.25)


def test_it_is_marked_in_the_volume_the_tables_and_the_ledger(gap: Chain) -> None:
    (entry,) = gap.document("interpolate_missing_slice", "interpolation")["slices"].values()
    own = parse_image(gap.path("stack", "volume")).attributes
    assert own["slices"] == [0, 2]
    assert own["interpolated_slices"] == [{"slice_id": 1, "method": entry["method"]}]
    ((first, last),) = own["interpolated_planes"]
    assert (
        last - first + 1
        == entry["shape"][0] - 2 * entry["margin"]
        == gap.metric("interpolate_missing_slice", "planes_interpolated")
    )
    rows = {r.slice_id: r for r in read_table(gap.path("stack", "decisions"), StackingRow)}
    assert [rows[i].transform_source == "interpolated" for i in (0, 1, 2)] == [False, True, False]
    matches = read_table(gap.path("stack", "z_matches"), ZMatchRow)
    assert [(m.fixed_id, m.moving_id) for m in matches] == [(0, 2)]
    decided = {d.column: d.value for d in gap.run("interpolate_missing_slice")[()].result.decisions}
    assert decided["interpolated"] is True
    assert decided["interpolation_method_used"] == entry["method"]
    assert "use" not in decided
    assert gap.metric("stack", "slices_stacked") == 2
    assert gap.metric("stack", "slices_made_up") == 1


def test_its_neighbours_are_registered_across_it_and_not_by_it(gap: Chain) -> None:
    pairs = gap.arrays("estimate_slice_poses", "figures")["pairs"]
    assert pairs.tolist() == [[0, 2]]
    assert gap.metric("estimate_slice_poses", "slices_stage_only") == 0


def test_a_gate_that_fails_leaves_the_gap_open_with_its_reason(gap: Chain, tmp_path: Path) -> None:
    sets = {**GAP, "interpolate_missing_slice": {"enabled": True, "min_overlap_ncc": 0.999}}
    chain = Chain(gap.raw, tmp_path, sets)
    chain.done |= {
        n: d for n, d in gap.done.items() if n not in ("interpolate_missing_slice", "stack")
    }
    result = chain.run("interpolate_missing_slice")[()].result
    decided = {d.column: d.value for d in result.decisions}
    assert decided["interpolation_failed"] is True
    assert "less than 0.999" in str(decided["interpolation_fallback_reason"])
    assert chain.metric("stack", "planes_empty") > 5


def test_where_slices_reach_across_there_is_nothing_to_fill(faulty: Made, tmp_path: Path) -> None:
    chain = Chain(faulty.simulation.raw, tmp_path, {"interpolate_missing_slice": {"enabled": True}})
    faulty.chain.run("normalize")
    faulty.chain.run("estimate_slice_poses")
    chain.done |= {
        n: d
        for n, d in faulty.chain.done.items()
        if n not in ("interpolate_missing_slice", "stack")
    }
    result = chain.run("interpolate_missing_slice")[()].result
    assert chain.metric("interpolate_missing_slice", "interpolation_not_needed") == 1
    assert [(d.slice_id, d.column, d.value) for d in result.decisions] == [(2, "use", False)]
    assert chain.metric("interpolate_missing_slice", "planes_interpolated") == 0
