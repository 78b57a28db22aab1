"""The runs of a lab beside each other: the bad one is first, with the number that makes it stand out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from soct.quality.verdict import Grade
from soct.report.cohort import Cohort, Member, Unreadable, make_cohort, make_member
from soct.report.cohort.page import render_cohort, write_cohort
from soct.report.cohort.places import FARTHEST_Z, threshold
from soct.report.cohort.texts import standing_out
from soct.report.model import RunView
from soct.report.rendering import examine, render_html, render_report
from soct.report.reportlets.cohort import REPORTLET
from tests.report.fabricated import complete_run, empty_run, failed_run, metric, running_run
from tests.report.test_comparison import with_metric
from tests.report.test_report import HOSTILE, _Page


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    return complete_run(tmp_path_factory.mktemp("brain"), slices=6, side=2, faults=False, figures=False)  # fmt: skip


def with_drift(view: RunView, drift: float) -> RunView:
    return with_metric(view, "estimate_slice_poses", "run", metric("cumulative_drift_um", drift))


def five(brain: RunView, **values: float) -> list[Member]:
    """Five brains that differ a little, one of them (s3) with planted numbers."""
    members = []
    for i in range(5):
        view = replace(brain, subject=f"s{i}")
        for name, step in (("cumulative_drift_um", "estimate_slice_poses"), ("banding_index", "stack")):  # fmt: skip
            before = next(view.units(step)).number(name)
            assert before is not None
            value = values[name] if i == 3 and name in values else before * (1 + 0.04 * i)
            view = with_metric(view, step, "run", metric(name, value))
        members.append(make_member(view, f"lab/s{i}", f"lab/s{i}/s{i}_quality_report.html"))
    return members


@pytest.mark.parametrize(
    ("name", "value"), [("cumulative_drift_um", 2900.0), ("banding_index", 0.07)]
)
def test_the_bad_one_of_five_is_first_with_its_number(brain, name, value):
    cohort = make_cohort(five(brain, **{name: value}))
    first = cohort.runs[0]
    assert first.member.subject == "s3"
    assert [p.name for p in first.outliers] == [name]
    assert first.outliers[0].z > 0
    assert (first.outliers[0].rank, first.outliers[0].count) == (5, 5)
    assert all(not run.outliers for run in cohort.runs[1:])
    label = first.outliers[0].label
    assert standing_out(first, cohort).startswith(f"{label}: ")
    text = render_cohort(cohort)
    cards = text[text.index('id="outliers"') : text.index('id="places"')]
    assert cards.count("<article") == 1
    assert "1. s3" in cards
    assert label in cards


def test_of_two_bad_ones_the_farther_is_first(brain):
    members = five(brain)
    worse = [make_member(replace(with_drift(brain, d), subject=f"d{d:g}"), f"x/{d:g}") for d in (1900.0, 2800.0)]  # fmt: skip
    cohort = make_cohort([*members, *worse])
    assert [run.member.subject for run in cohort.runs[:2]] == ["d2800", "d1900"]
    assert all(run.outliers for run in cohort.runs[:2])
    assert not cohort.runs[2].outliers


@pytest.mark.parametrize(("drift", "out"), [(1300.0, True), (950.0, False)])
def test_in_a_small_cohort_a_limit_that_the_others_keep_tells_an_outlier(brain, drift, out):
    drifts = (150.0, 210.0, 300.0, 420.0, drift)
    cohort = make_cohort([make_member(with_drift(brain, d), f"d{d:g}") for d in drifts])
    [planted] = [run for run in cohort.runs if run.member.path == f"d{drift:g}"]
    place = planted.place("cumulative_drift_um")
    assert place is not None
    assert 3.5 < place.z < 18.9
    assert place.is_outlier == out


def test_equal_runs_and_differences_that_mean_nothing_never_stand_out(brain):
    members = [
        make_member(replace(with_drift(brain, 180.0 + 0.01 * (i == 4)), subject=f"s{i}"), f"s{i}")
        for i in range(5)
    ]
    cohort = make_cohort(members)
    assert cohort.can_tell
    assert all(not run.outliers for run in cohort.runs)
    assert "No run stands out." in render_cohort(cohort)


def test_a_run_that_is_better_than_all_is_marked_and_not_ranked_first(brain):
    members = [make_member(replace(with_drift(brain, d), subject=f"s{d:g}"), f"{d:g}") for d in (2000, 2010, 2020, 2030, 20)]  # fmt: skip
    cohort = make_cohort(members)
    [best] = [run for run in cohort.runs if run.member.subject == "s20"]
    assert best.outliers == ()
    place = best.place("cumulative_drift_um")
    assert place is not None
    assert place.is_better_than_all
    assert "◇ 20" in render_cohort(cohort)


def test_the_sign_of_a_rotation_is_no_difference(brain):
    members = [
        make_member(
            with_metric(brain, "estimate_slice_poses", "run", metric("cumulative_rotation_deg", v)),
            f"r{v}",
        )
        for v in (0.4, -0.4, 0.41, -0.41, 0.42)
    ]
    assert all(not run.outliers for run in make_cohort(members).runs)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_of_fewer_than_three_finished_runs_nothing_is_said(brain, count):
    members = five(brain, cumulative_drift_um=2900.0)[3 - count : 3]
    members += [make_member(replace(brain, state="partial"), "stopped")]
    cohort = make_cohort(members)
    assert not cohort.can_tell
    assert all(run.places == () for run in cohort.runs)
    text = render_cohort(cohort)
    assert "Nothing can be said about places" in text
    assert "<article" not in text


def test_runs_in_any_state_are_listed_and_only_finished_ones_set_the_measure(brain, tmp_path):
    far = replace(with_drift(brain, 9000.0), state="partial")
    others = [failed_run(tmp_path), running_run(tmp_path), empty_run(), far]
    members = [make_member(view, f"o{i}") for i, view in enumerate(others)]
    cohort = make_cohort([*five(brain), *members], [Unreadable("lost", "run.json is missing")])
    assert len(cohort.runs) == 9
    assert cohort.finished == 5
    spread = cohort.spread("cumulative_drift_um")
    assert spread is not None
    assert spread.count == 5
    assert cohort.runs[0].member.path == "o3"
    text = render_cohort(cohort)
    assert "could not be" not in text
    assert "run.json is missing" in text
    assert _Page(text).unbalanced == []


def test_runs_without_outliers_are_ranked_by_verdict(brain, tmp_path):
    members = [*five(brain), make_member(failed_run(tmp_path), "a")]
    cohort = make_cohort(members)
    assert cohort.runs[0].member.grade is Grade.FAIL


def test_a_single_run_is_told_its_place(brain):
    cohort = make_cohort(five(brain, cumulative_drift_um=2900.0))
    bad = with_drift(replace(brain, subject="s3"), 2900.0)
    text = render_html(examine(bad, cohort=cohort.seen_by("lab/s3")), (REPORTLET,))
    assert "stands out" in text
    assert "5 of 5" in text
    good = render_html(examine(brain, cohort=cohort.seen_by("lab/s0")), (REPORTLET,))
    assert "does not stand out" in good
    for page in (_Page(text), _Page(good)):
        assert page.unbalanced == []
        links = [a["href"] for t, a in page.tags if t == "a"]
        assert all(link is not None and link.startswith("#") for link in links)


def test_an_ordinary_report_has_no_section_about_a_cohort(brain, tmp_path):
    assert 'id="cohort"' not in render_html(examine(brain))
    cohort = make_cohort(five(brain)).seen_by("lab/s0")
    render_report(brain, tmp_path, cohort=cohort)
    lines = (tmp_path / "report_data/cohort.tsv").read_text(encoding="utf-8").splitlines()
    assert len({line.count("\t") for line in lines}) == 1
    assert sum("cumulative_drift_um" in line for line in lines) == 5
    render_report(brain, tmp_path)
    assert not (tmp_path / "report_data/cohort.tsv").exists()


def test_the_same_runs_give_the_same_bytes_in_any_order(brain, tmp_path):
    members = five(brain, cumulative_drift_um=2900.0)
    first = write_cohort(make_cohort(members), tmp_path / "a.html")
    second = write_cohort(make_cohort(members[::-1]), tmp_path / "b.html")
    assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_hostile_names_are_text_and_their_links_are_paths(brain):
    members = [
        Member(f"{HOSTILE}{i}", HOSTILE, "complete", Grade.PASS, m.headlines, HOSTILE, HOSTILE, HOSTILE, report)
        for i, (m, report) in enumerate(
            zip(five(brain, banding_index=0.07), ("javascript:alert(1)", "//host/x", "a b#?.html", "../é.html", ""), strict=True)
        )
    ]  # fmt: skip
    cohort = make_cohort(members, [Unreadable(HOSTILE, HOSTILE)])
    page = _Page(render_cohort(cohort))
    assert [a for t, a in page.tags if t == "script"] == [{}]
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    links = {a["href"] for t, a in page.tags if t == "a" and not (a["href"] or "").startswith("#")}
    assert links == {"./javascript%3Aalert%281%29", ".///host/x", "./a%20b%23%3F.html", "./../%C3%A9.html"}  # fmt: skip
    assert page.unbalanced == []
    assert _Page(render_html(examine(brain, cohort=cohort.seen_by(f"{HOSTILE}0")), (REPORTLET,))).unbalanced == []  # fmt: skip


def test_the_page_reaches_for_nothing_outside_but_its_links(brain):
    text = render_cohort(make_cohort(five(brain, banding_index=0.07)))
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    for _, attributes in _Page(text).tags:
        assert (attributes.get("src") or "data:").startswith("data:")
    for tag, attributes in _Page(text).tags:
        assert tag != "svg" or attributes.get("aria-label")


def test_in_a_hundred_cohorts_of_equals_about_one_has_an_outlier():
    rng = np.random.default_rng(5)
    for count in (3, 4, 5, 8, 20):
        values = rng.normal(size=(4000, count))
        middle = np.median(values, axis=1, keepdims=True)
        distance = np.abs(values - middle)
        z = distance.max(axis=1) / (1.4826 * np.median(distance, axis=1))
        limit = threshold(count)
        assert limit is not None
        assert 0.003 < np.mean(z > limit) < 0.02
    assert threshold(2) is None
    assert FARTHEST_Z > 114


def test_an_empty_cohort_is_a_page(tmp_path: Path):
    assert "none can be read" in render_cohort(Cohort((), (), (Unreadable("x", "y"),)))
