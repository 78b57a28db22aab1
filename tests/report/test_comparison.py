"""Two runs beside each other: what was planted comes out, with its sign and its place, and nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from soct.report.comparison import Comparison, compare
from soct.report.comparison.places import place_volumes
from soct.report.comparison.planes import centred, common_grid
from soct.report.model import LedgerRow, MetricView, OutputView, ParameterView, RunView, UnitView
from soct.report.plain_text import summarise_as_text
from soct.report.rendering import examine, render_html, render_report
from soct.report.reportlets.comparison import REPORTLET
from tests.report.fabricated import complete_run, empty_run, failed_run, metric, running_run
from tests.report.test_report import HOSTILE, _hostile, _Page


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    folder = tmp_path_factory.mktemp("plain")
    return complete_run(folder, slices=6, side=2, image=80, faults=False)


def compared(view: RunView, other: RunView) -> Comparison:
    page = examine(view, other)
    assert page.other is not None
    return compare(page, page.other)


def section(view: RunView, other: RunView) -> str:
    """The page with this one section."""
    return render_html(examine(view, other), (REPORTLET,))


def with_units(view: RunView, step: str, change: Callable[[UnitView], UnitView]) -> RunView:
    steps = tuple(
        replace(s, units=tuple(change(u) for u in s.units)) if s.id == step else s
        for s in view.steps
    )
    return replace(view, steps=steps)


def with_metric(view: RunView, step: str, unit: str, new: MetricView) -> RunView:
    def change(found: UnitView) -> UnitView:
        if found.name != unit:
            return found
        kept = tuple(m for m in found.metrics if m.name != new.name)
        return replace(found, metrics=(*kept, new))

    return with_units(view, step, change)


def with_figure(view: RunView, key: tuple[str, str], path: Path, **arrays: np.ndarray) -> RunView:
    with np.load(view.figures[key]) as archive:
        np.savez(path, **{**archive, **arrays})
    return replace(view, figures={**view.figures, key: path})


def test_equal_runs_show_no_difference(plain):
    found = compared(plain, plain)
    assert found.input.relation == "same"
    assert found.volume.answer == "yes"
    assert found.parted_at is None
    assert (found.parameters, found.steps, found.metrics, found.texts) == ((), (), (), ())
    assert found.slices.slices == ()
    assert found.slices.compared == 6
    assert found.problems == ()
    assert {h.change.judgement for h in found.headlines} == {"same"}
    text = section(plain, plain)
    assert "No headline number differs." in text
    assert "No metric differs." in text


def test_an_ordinary_report_has_no_section_about_other_runs(plain, tmp_path):
    assert 'id="comparison"' not in render_html(examine(plain))
    render_report(plain, tmp_path, other=plain)
    assert (tmp_path / "report_data/comparison.tsv").exists()
    render_report(plain, tmp_path)
    assert not (tmp_path / "report_data/comparison.tsv").exists()


def test_parameters_and_limits_of_other_value_are_listed_with_their_origin(plain):
    changed = ParameterView("stack.blend_depth_um", "80.0", "um", "--set stack.blend_depth_um=80")
    kept = tuple(p for p in plain.parameters if p.key != changed.key)
    ncc = plain.limits.ncc.model_copy(update={"warning": 0.8})
    limits = plain.limits.model_copy(update={"ncc": ncc})
    found = compared(
        replace(
            plain,
            parameters=(*kept, changed),
            limits=limits,
            limit_origins=(("ncc.warning", "file lab.yaml:9"), ("seam_l1", "shipped")),
        ),
        plain,
    )
    told = {p.key: (p.this, p.other, p.this_origin, p.other_origin) for p in found.parameters}
    assert told == {
        "stack.blend_depth_um": ("80.0", "60.0", "--set stack.blend_depth_um=80", "default"),
        "quality.ncc.warning": ("0.8", "0.7", "file lab.yaml:9", "default"),
    }


@pytest.mark.parametrize(
    ("name", "step", "unit", "value", "judgement"),
    [
        ("ncc", "register_pairwise", "z02_z03", 0.3, "worse"),
        ("ncc", "register_pairwise", "z02_z03", 0.999, "better"),
        ("rotation_deg", "register_pairwise", "z02_z03", -3.0, "worse"),
        ("banding_index", "stack", "run", 0.06, "worse"),
        ("banding_index", "stack", "run", 0.001, "better"),
        ("banding_index", "stack", "run", 0.0121, "alike"),
        ("gain_max", "normalize", "run", 9.0, ""),
    ],
)  # fmt: skip
def test_a_planted_number_comes_out_with_sign_place_and_judgement(
    plain, name, step, unit, value, judgement
):
    before = next(u for u in plain.units(step) if u.name == unit).number(name)
    assert before is not None
    found = compared(with_metric(plain, step, unit, metric(name, value)), plain)
    assert [(m.step, m.name) for m in found.metrics] == [(step, name)]
    largest = found.metrics[0].largest
    assert largest.difference == pytest.approx(value - before)
    assert largest.judgement == judgement
    place = "whole run" if unit == "run" else "slices 2→3"
    assert largest.this_place == place
    if judgement == "worse":
        assert found.metrics[0].worst.this_place == place
        assert found.metrics[0].worst.judgement == "worse"
    mirrored = compared(plain, with_metric(plain, step, unit, metric(name, value)))
    opposite = {"worse": "better", "better": "worse"}.get(judgement, judgement)
    assert mirrored.metrics[0].largest.difference == pytest.approx(before - value)
    assert mirrored.metrics[0].largest.judgement == opposite


def test_headline_numbers_are_judged_by_the_limits_of_this_run(plain):
    lost = replace(plain, ledger=(*plain.ledger[:-1], replace(plain.ledger[-1], used=False)))
    found = {h.known.id: h.change for h in compared(lost, plain).headlines}
    assert found["slices_used"].difference == pytest.approx(-1 / 6)
    assert found["slices_used"].judgement == "worse"
    assert "−16.7\u202f%" in section(lost, plain)


def test_words_that_differ_are_counted_and_placed(plain):
    other = with_metric(plain, "create_mosaic_grid", "z02", metric("galvo_decision", "left alone"))
    [text] = compared(plain, other).texts
    assert (text.name, text.place, text.differing, text.units) == ("galvo_decision", "slice 2", 1, 6)  # fmt: skip
    assert (text.this, text.other) == ("rolled and cropped", "left alone")


def test_the_slice_that_moved_is_first_and_a_shift_of_all_is_none(plain, tmp_path):
    with np.load(plain.figures["estimate_slice_poses", "run"]) as archive:
        pose, turn = archive["pose_um"].copy(), archive["rotation_deg"].copy()
    pose += (50.0, -300.0, 700.0)  # another frame: not a difference
    turn += 2.0
    pose[4] += (0.0, 30.0, -40.0)
    turn[1] -= 0.2
    moved = with_figure(
        plain, ("estimate_slice_poses", "run"), tmp_path / "p.npz", pose_um=pose, rotation_deg=turn
    )
    found = compared(moved, plain).slices
    assert [s.slice_id for s in found.slices[:2]] == [4, 1]
    assert found.slices[0].shift_um == pytest.approx((0.0, 30.0, -40.0))
    assert found.slices[0].in_plane_um == pytest.approx(50.0)
    assert found.slices[1].rotation_deg == pytest.approx(-0.2)
    assert len(found.slices) == 2


def test_a_slice_that_one_run_excludes_outranks_any_that_moved_a_little(plain, tmp_path):
    with np.load(plain.figures["estimate_slice_poses", "run"]) as archive:
        pose = archive["pose_um"].copy()
    pose[0, 1] += 100.0
    moved = with_figure(plain, ("estimate_slice_poses", "run"), tmp_path / "p.npz", pose_um=pose)
    ledger = tuple(
        LedgerRow(5, used=False, reason="torn", decided_by="user") if r.slice_id == 5 else r
        for r in moved.ledger
    )
    first = compared(replace(moved, ledger=ledger), plain).slices.slices[0]
    assert first.slice_id == 5
    assert first.decisions == (("used", "no (torn)", "yes"),)
    assert "used: no (torn) (other run: yes)" in section(replace(moved, ledger=ledger), plain)


def test_problems_of_one_run_only_are_told_with_their_owner(plain):
    bad = with_metric(plain, "register_pairwise", "z02_z03", metric("ncc", 0.3))
    [problem] = [p for p in compared(bad, plain).problems if "ncc" in p.problem.evidence.lower()]
    assert problem.who == "this"
    assert "slices 2→3" in problem.problem.where
    [mirrored] = [p for p in compared(plain, bad).problems if "ncc" in p.problem.evidence.lower()]
    assert mirrored.who == "other"


@pytest.mark.parametrize(
    ("this", "other", "answer"),
    [
        ({"pixels": "1", "layout": "l"}, {"pixels": "1", "layout": "l", "checksum": "b"}, "yes"),
        ({"pixels": "1", "layout": "l"}, {"pixels": "2", "layout": "l", "checksum": "b"}, "no"),
        ({"pixels": "1", "layout": "l"}, {"pixels": "2", "layout": "m", "checksum": "b"}, "unknown"),
        ({}, {"checksum": "b"}, "unknown"),
        ({}, {"checksum": ""}, "unknown"),
        ({}, {}, "yes"),
    ],
)  # fmt: skip
def test_pixels_are_compared_by_recorded_hashes_alone(plain, this, other, answer):
    def stored(hashes: dict[str, str]) -> RunView:
        output = OutputView("volume", "stack/run.ome.zarr", 9, **{"checksum": "a", **hashes})
        return with_units(plain, "stack", lambda u: replace(u, outputs=(output,)))

    found = compared(stored(this), stored(other))
    assert found.volume.answer == answer
    assert (found.parted_at is not None) == (answer == "no")


def test_volumes_of_other_sizes_are_not_identical_whatever_their_hashes(plain):
    assert plain.volume is not None
    level = replace(plain.volume.levels[0], shape=(120, 901, 900))
    other = replace(plain, volume=replace(plain.volume, levels=(level,)))
    found = compared(plain, other).volume
    assert found.answer == "no"
    assert "901" in found.text


def test_the_first_output_that_differs_is_named(plain):
    def change(unit: UnitView) -> UnitView:
        if unit.slices not in ((3,), (4,)):
            return unit
        return replace(unit, outputs=tuple(replace(o, path="x.csv", checksum="c") for o in unit.outputs))  # fmt: skip

    found = compared(with_units(plain, "crop_interface", change), plain)
    assert found.parted_at is not None
    assert (found.parted_at.step, found.parted_at.first) == ("crop_interface", "slice 3")
    assert (found.parted_at.same, found.parted_at.different) == (4, 2)


@pytest.mark.parametrize(
    ("subject", "digests", "relation"),
    [("sub-fabricated", "all", "same"), ("sub-fabricated", "some", "partly"),
     ("sub-fabricated", "none", "subject"), ("sub-b", "none", "different"),
     ("sub-b", "absent", "different"), ("sub-fabricated", "absent", "unknown")],
)  # fmt: skip
def test_other_subjects_and_acquisitions_are_said_and_are_no_error(
    plain, subject, digests, relation
):
    prints = plain.acquisition.fingerprints
    changed = {
        "all": prints,
        "some": (*prints[:3], *((name, "x") for name, _ in prints[3:])),
        "none": tuple((name, "x") for name, _ in prints),
        "absent": (),
    }[digests]
    acquisition = replace(plain.acquisition, fingerprints=changed)
    other = replace(plain, subject=subject, acquisition=acquisition)
    assert compared(plain, other).input.relation == relation
    assert "could not be" not in section(plain, other)


def test_pictures_of_other_sizes_are_laid_over_each_other_by_micrometres():
    ramp = np.add.outer(np.arange(40.0), np.arange(60.0)).astype(np.float32)
    fine = centred(np.repeat(np.repeat(ramp, 2, 0), 2, 1), (5.0, 5.0))
    this, other, pixel = common_grid(fine, centred(ramp[5:35], (10.0, 10.0)))
    assert pixel == (5.0, 5.0)
    assert this.shape == other.shape == (80, 120)
    known = np.isfinite(other)
    np.testing.assert_array_equal(known.all(axis=1), np.arange(80) // 2 % 40 == np.clip(np.arange(80) // 2, 5, 34))  # fmt: skip
    np.testing.assert_array_equal(this[known], other[known])


def test_views_of_other_runs_flicker_in_one_shape(plain, tmp_path):
    with np.load(plain.figures["stack", "run"]) as archive:
        smaller = archive["ortho_z"][4:-4, 10:-10]
    other = with_figure(plain, ("stack", "run"), tmp_path / "s.npz", ortho_z=smaller)
    text = section(plain, other)
    page = _Page(text)
    sizes = [(a["width"], a["height"]) for t, a in page.tags if t == "img"]
    assert len(sizes) == 6
    assert sizes[0::2] == sizes[1::2]
    assert "pale grey is outside" in text


def test_volumes_of_other_sizes_are_laid_tissue_on_tissue(plain, tmp_path):
    """The other volume lacks the first rows and columns, and its run counts from another place."""
    with np.load(plain.figures["stack", "run"]) as archive:
        views = {name: archive[name] for name in ("ortho_z", "ortho_y", "ortho_x")}
        voxel = archive["voxel_um"]
    origin = np.array([0.0, -45.0, 60.0])
    this = with_figure(plain, ("stack", "run"), tmp_path / "a.npz", origin_um=origin)
    frame = np.array([0.0, 300.0, -120.0])
    cut = {
        "ortho_z": views["ortho_z"][6:, 10:],
        "ortho_y": views["ortho_y"][:, 10:],
        "ortho_x": views["ortho_x"][:, 6:],
    }
    its_origin = origin + voxel * (0, 6, 10) + frame
    other = with_figure(plain, ("stack", "run"), tmp_path / "b.npz", origin_um=its_origin, **cut)
    with np.load(plain.figures["estimate_slice_poses", "run"]) as archive:
        pose = archive["pose_um"] + frame
    other = with_figure(other, ("estimate_slice_poses", "run"), tmp_path / "p.npz", pose_um=pose)
    placed = place_volumes(examine(this), examine(other))
    assert placed is not None
    assert placed.this == pytest.approx(tuple(origin))
    assert placed.other == pytest.approx(tuple(origin + voxel * (0, 6, 10)))
    text = section(this, other)
    assert "matched by the poses of 6 slices" in text
    assert "centre on centre" not in text
    middles = (voxel * (0, 3, 5)).tolist()
    assert f"{middles[1]:g}\u202fµm along y, {middles[2]:g}\u202fµm along x apart" in text
    # Without the place of one volume, the report says that it went by the centres.
    assert "centre on centre" in section(this, with_figure(other, ("stack", "run"), tmp_path / "c.npz", origin_um=np.zeros(0)))  # fmt: skip


@pytest.mark.parametrize("make", [empty_run, failed_run, running_run])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_run_in_any_state_can_be_compared(plain, tmp_path, make, swapped):
    other = make() if make is empty_run else make(tmp_path)
    pair = (other, plain) if swapped else (plain, other)
    text = section(*pair)
    assert 'id="comparison"' in text
    assert "could not be" not in text
    assert _Page(text).unbalanced == []


def test_a_comparison_has_the_same_bytes_twice_and_its_numbers_beside_it(plain, tmp_path):
    bad = with_metric(plain, "register_pairwise", "z02_z03", metric("ncc", 0.3))
    pages = [render_report(bad, tmp_path / name, other=plain) for name in "ab"]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    tables = [p.parent / "report_data/comparison.tsv" for p in pages]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    lines = tables[0].read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(lines, delimiter="\t"))
    [largest] = [r for r in rows if r["kind"] == "metric_largest"]
    assert (largest["name"], largest["where"]) == ("register_pairwise.ncc", "slices 2→3")
    assert float(largest["difference"]) < -0.5
    assert largest["this_run_is"] == "worse"
    summary = json.loads((tmp_path / "a/report_data/summary.json").read_text())
    assert summary["comparison"]["same_input"] == "same"
    assert "no slice differs" in summarise_as_text(examine(bad, plain))


def test_hostile_names_of_the_other_run_are_text(plain):
    page = _Page(section(plain, _hostile(plain)))
    assert [a for t, a in page.tags if t == "script"] == [{}]
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    assert page.unbalanced == []
    assert HOSTILE[2:10] not in [t for t, _ in page.tags]
