"""Slices that are excluded after a look at their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.formats.tables import StackingRow, read_table
from tests.steps.chain import Chain, Made, copy_raw, rewrite
from tests.steps.conftest import make

ASSESS = {"auto_assess_quality": {"enabled": True}}


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Five slices; slice 2 shows noise alone."""
    folder = tmp_path_factory.mktemp("spoiled")
    made = make(folder, seed=6, slices=5, rows=2, cols=2, thickness_um=100.0)
    raw = copy_raw(made.simulation.raw, folder / "raw")
    rng = np.random.default_rng(0)
    for tile in sorted(raw.glob("*_z02")):
        rewrite(tile, lambda d: rng.gamma(2.0, float(np.median(d)) / 2, d.shape))
    made.chain = Chain(raw, folder / "steps", ASSESS)
    return made


def test_a_spoiled_slice_scores_low_and_is_excluded_with_its_reason(spoiled: Made) -> None:
    scores = spoiled.chain.document("auto_assess_quality", "scores")["slices"]
    assert scores["2"]["score"] < 0.3
    assert min(scores[i]["score"] for i in "0134") > 0.4
    result = spoiled.chain.run("auto_assess_quality")[()].result
    columns = {(d.slice_id, d.column): d.value for d in result.decisions}
    assert columns[2, "auto_excluded"] is True
    assert "below 0.3" in str(columns[2, "auto_exclude_reason"])
    assert [i for i, name in columns if name == "quality_score"] == [0, 1, 2, 3, 4]
    assert [i for i, name in columns if name == "auto_excluded"] == [2]
    assert (2, "placement") not in columns


def test_it_is_not_stacked_and_holds_no_neighbour(spoiled: Made) -> None:
    rows = read_table(spoiled.chain.path("stack", "decisions"), StackingRow)
    assert [r.slice_id for r in rows] == [0, 1, 3, 4]
    pairs = spoiled.chain.arrays("estimate_slice_poses", "figures")["pairs"]
    assert 2 not in pairs
    assert [1, 3] in pairs.tolist()


def test_or_it_is_stacked_where_the_stage_puts_it(spoiled: Made, tmp_path: Path) -> None:
    sets = {"auto_assess_quality": {"enabled": True, "treatment": "stage"}}
    chain = Chain(spoiled.chain.raw, tmp_path, sets)
    # What is upstream of the choice is the same.
    upstream = set(spoiled.chain.done) - {"auto_assess_quality", "estimate_slice_poses", "stack"}
    chain.done |= {name: spoiled.chain.done[name] for name in upstream}
    rows = {r.slice_id: r for r in read_table(chain.path("stack", "decisions"), StackingRow)}
    assert list(rows) == [0, 1, 2, 3, 4]
    assert rows[2].transform_source == "stage"
    assert "quality" in rows[2].reason


def test_sound_slices_stay(faulty: Made, tmp_path: Path) -> None:
    sets = {**ASSESS, "auto_exclude_slices": {"enabled": True}}
    chain = Chain(faulty.simulation.raw, tmp_path, sets)
    chain.done |= {
        n: d for n, d in faulty.chain.done.items() if n not in ("estimate_slice_poses", "stack")
    }
    assert chain.document("auto_assess_quality", "exclusions")["slices"] == {}
    assert chain.document("auto_exclude_slices", "exclusions")["slices"] == {}
    assert chain.metric("auto_assess_quality", "quality_score_lowest") > 0.4


def test_one_slice_has_no_score_and_is_not_excluded(single: Made, tmp_path: Path) -> None:
    chain = Chain(single.simulation.raw, tmp_path, ASSESS)
    assert chain.document("auto_assess_quality", "scores")["slices"] == {"0": None}
    assert chain.warnings("auto_assess_quality") == ""
