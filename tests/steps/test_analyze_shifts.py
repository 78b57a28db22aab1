"""The drift report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.steps.chain import Made

Damage = Callable[[Any], Any]


def test_the_drift_report_adds_up_the_steps(plain: Made) -> None:
    report = plain.chain.document("analyze_shifts", "report")
    first, last = (np.array(plain.truth["slices"][i]["roi_yx_px"]) for i in ("0", "2"))
    drift_mm = (first - last) * plain.truth["px_um"] / 1000
    assert abs(report["y"]["total_mm"]) == pytest.approx(abs(drift_mm[0]), abs=1e-4)
    assert abs(report["x"]["total_mm"]) == pytest.approx(abs(drift_mm[1]), abs=1e-4)
