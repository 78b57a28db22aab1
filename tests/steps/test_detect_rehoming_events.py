"""Encoder glitches against moves of the stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from soct.formats.tables import (
    CleanShiftRow,
    read_table,
)
from tests.steps.chain import Made

Damage = Callable[[Any], Any]


def test_an_encoder_glitch_is_found_at_its_slice_and_taken_out(faulty: Made) -> None:
    result = faulty.chain.run("detect_rehoming_events")[()].result
    assert [(d.slice_id, d.column) for d in result.decisions] == [(4, "rehomed")]
    (event,) = faulty.chain.document("detect_rehoming_events", "events")["events"]
    assert (event["kind"], event["slice_id"]) == ("glitch", 4)
    rows = read_table(faulty.chain.path("detect_rehoming_events", "shifts_clean"), CleanShiftRow)
    longest = max(np.hypot(r.y_shift_mm, r.x_shift_mm) for r in rows)
    raw = max(np.hypot(float(r.extra["raw_y_mm"]), float(r.extra["raw_x_mm"])) for r in rows)
    assert raw > 2.3
    assert longest < 0.5
