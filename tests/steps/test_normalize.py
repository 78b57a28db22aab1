"""Slices on one scale of brightness."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from soct.steps.declaration import Metric
from tests.steps.chain import Chain, Made, copy_raw, rewrite


def test_gains_are_taken_out_within_three_percent(faulty: Made) -> None:
    levels = faulty.chain.document("normalize", "normalization")["slices"]
    gain = {i: s["gain"] for i, s in faulty.truth["slices"].items()}
    left = np.array([levels[i]["scale"] * gain[i] for i in gain])
    assert np.std(left) / np.mean(left) < 0.03
    assert np.std(list(gain.values())) / np.mean(list(gain.values())) > 0.05


def test_with_three_slices_gains_are_known_within_ten_percent(plain: Made) -> None:
    levels = plain.chain.document("normalize", "normalization")["slices"]
    gain = {i: s["gain"] for i, s in plain.truth["slices"].items()}
    left = np.array([levels[i]["scale"] * gain[i] for i in gain])
    assert np.std(left) / np.mean(left) < 0.10


def test_the_figures_hold_the_spread_of_tissue_before_and_after(plain: Made) -> None:
    saved = plain.chain.arrays("normalize", "figures")
    for level, extremes in (("before", "extremes_before"), ("after", "extremes_after")):
        assert (saved[extremes][:, 0] < saved[level]).all()
        assert (saved[level] < saved[extremes][:, 1]).all()
    assert not saved["limited"].any()


def test_an_empty_slice_is_set_aside_in_the_ledger(plain: Made, tmp_path: Path) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    for folder in raw.glob("*_z01"):
        rewrite(folder, np.zeros_like)
    chain = Chain(raw, tmp_path / "steps")
    assert "slices [1] hold too little signal" in chain.warnings("normalize")
    (decision,) = chain.run("normalize")[()].result.decisions
    assert (decision.slice_id, decision.column, decision.value) == (1, "auto_excluded", True)


def test_the_step_that_is_left_between_two_slices_is_told_with_its_place(
    faulty: Made, tmp_path: Path
) -> None:
    before = {k: v for k, v in faulty.chain.done.items() if k not in ("normalize", "stack")}
    sets = {"normalize": {"min_scale": 1.0, "max_scale": 1.0}}
    chain = Chain(faulty.simulation.raw, tmp_path, sets, dict(before))
    faulty.chain.run("normalize")
    gain = {int(i): s["gain"] for i, s in faulty.truth["slices"].items()}
    pairs = [tuple(p) for p in chain.arrays("normalize", "figures")["step_pairs"].tolist()]
    planted = {(a, b): abs(np.log(gain[a] / gain[b])) for a, b in pairs}
    left = _slice_step(chain)
    worst = max(planted, key=lambda pair: planted[pair])
    assert left.places[0] == worst
    assert abs(left.value - planted[worst]) < 0.05
    assert _slice_step(faulty.chain).value < 0.06 < planted[worst]
    between = chain.metric("stack", "banding_index")
    assert between > 2 * faulty.chain.metric("stack", "banding_index")


def _slice_step(chain: Chain) -> Metric:
    (done,) = chain.run("normalize").values()
    return next(m for m in done.result.metrics if m.name == "slice_step")
