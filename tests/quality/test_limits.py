"""Limits: which value is how bad."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from soct.quality.limits import Limit, QualityLimits, Status, metric_status

LIMITS = QualityLimits()


@pytest.mark.parametrize(
    ("metric", "value", "expected"),
    [
        ("translation_um", 300, Status.OK),
        ("translation_um", 301, Status.WARNING),
        ("translation_um", -501, Status.ERROR),
        ("rotation_deg", -1.5, Status.WARNING),
        ("ncc", 0.7, Status.OK),
        ("ncc", 0.6, Status.WARNING),
        ("ncc", -0.9, Status.ERROR),
        ("agarose_coverage", 0.005, Status.ERROR),
        ("seam_l1", 0.13, Status.WARNING),
    ],
)
def test_a_value_is_judged_by_the_documented_limits(metric, value, expected):
    assert metric_status(metric, value, LIMITS) is expected


@pytest.mark.parametrize("value", [None, "0.1", True])
def test_what_is_not_a_number_is_information(value):
    assert metric_status("ncc", value, LIMITS) is Status.INFO


def test_a_metric_without_limit_is_information():
    assert metric_status("galvo_shift", 12.0, LIMITS) is Status.INFO


def test_not_a_number_is_never_ok():
    assert metric_status("ncc", math.nan, LIMITS) is Status.WARNING


def test_a_profile_may_change_one_side_of_a_limit():
    limits = QualityLimits.model_validate({"ncc": {"warning": 0.8}})
    assert (limits.ncc.warning, limits.ncc.error) == (0.8, 0.5)
    assert limits.ncc.higher_is_better
    assert limits.translation_um == LIMITS.translation_um


@pytest.mark.parametrize(
    "values",
    [{"ncc": {"warning": 0.4}}, {"translation_um": {"warning": 600}}, {"nc": {"warning": 1}},
     {"ncc": {"warn": 0.4}}, {"ncc": {"warning": math.nan}}],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(values):
    with pytest.raises(ValidationError):
        QualityLimits.model_validate(values)


def test_severity_is_zero_at_the_warning_and_one_at_the_error_limit():
    for name in QualityLimits.model_fields:
        limit = LIMITS.limit(name)
        assert limit is not None
        assert limit.severity(limit.warning) == pytest.approx(0)
        assert limit.severity(limit.error) == pytest.approx(1)


def test_every_limit_says_what_it_limits():
    for name in QualityLimits.model_fields:
        assert QualityLimits.description(name).endswith(".")
        if name.endswith("_um"):
            assert QualityLimits.unit(name) == "um"


def test_equal_limits_are_judged_without_a_warning_range():
    limit = Limit(warning=1, error=1)
    assert limit.status(1) is Status.OK
    assert limit.status(1.01) is Status.ERROR
    assert math.isfinite(limit.severity(2))
