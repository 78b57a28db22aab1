"""Verdicts: the rule on small cases."""

from __future__ import annotations

from soct.quality.limits import Status
from soct.quality.verdict import Check, Grade, judge_run

OK = Check("filled", Status.OK, headline=True)


def _pairs(bad: int, total: int, status: Status) -> list[Check]:
    return [Check("ncc", status if i < bad else Status.OK, where=f"z{i}") for i in range(total)]


def test_a_complete_run_within_its_limits_passes():
    assert judge_run("complete", [OK]).grade is Grade.PASS


def test_a_failed_unit_fails_the_run():
    verdict = judge_run("failed", [OK], failed_units=2)
    assert verdict.grade is Grade.FAIL
    assert "2 units" in verdict.reasons[0]


def test_one_headline_number_decides():
    bad = Check("banding_index", Status.ERROR, headline=True, label="banding")
    assert judge_run("complete", [OK, bad]).grade is Grade.FAIL
    weak = Check("banding_index", Status.WARNING, headline=True)
    assert judge_run("complete", [OK, weak]).grade is Grade.REVIEW


def test_an_unfinished_run_never_passes():
    assert judge_run("partial", [OK]).grade is Grade.REVIEW
    assert judge_run("running", [OK]).grade is Grade.REVIEW


def test_one_bad_pair_is_for_review_and_many_fail():
    assert judge_run("complete", [OK, *_pairs(1, 50, Status.ERROR)]).grade is Grade.REVIEW
    assert judge_run("complete", [OK, *_pairs(10, 50, Status.ERROR)]).grade is Grade.FAIL


def test_a_few_warnings_are_normal_and_many_are_not():
    assert judge_run("complete", [OK, *_pairs(2, 50, Status.WARNING)]).grade is Grade.PASS
    assert judge_run("complete", [OK, *_pairs(10, 50, Status.WARNING)]).grade is Grade.REVIEW


def test_a_run_of_which_nothing_was_measured_does_not_pass():
    assert judge_run("complete", []).grade is Grade.REVIEW


def test_the_bad_places_are_named():
    verdict = judge_run("complete", [OK, *_pairs(1, 50, Status.ERROR)])
    assert "z0" in verdict.reasons[0]
