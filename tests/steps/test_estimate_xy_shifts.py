"""Stage positions and the shifts between slices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.formats.tables import (
    ShiftRow,
    StagePositionRow,
    read_table,
)
from tests.steps.chain import Made
from tests.steps.conftest import make

Damage = Callable[[Any], Any]


def test_the_stage_table_holds_what_the_tiles_say(plain: Made) -> None:
    rows = read_table(plain.chain.path("estimate_xy_shifts", "stage_positions"), StagePositionRow)
    assert len(rows) == 12
    pixel_mm = plain.truth["px_um"] / 1000
    first = next(r for r in rows if (r.slice_id, r.tile_y, r.tile_x) == (0, 0, 0))
    for row in rows:
        name = f"tile_x{row.tile_x:02d}_y{row.tile_y:02d}_z{row.slice_id:02d}"
        y, x = plain.truth["tiles"][name]["nominal_yx_px"]
        assert row.y_mm - first.y_mm == pytest.approx(y * pixel_mm, abs=2e-5)
        assert row.x_mm - first.x_mm == pytest.approx(x * pixel_mm, abs=2e-5)


def test_shifts_between_slices_are_the_moves_of_the_mosaic(plain: Made) -> None:
    rows = read_table(plain.chain.path("estimate_xy_shifts", "shifts"), ShiftRow)
    assert [(r.fixed_id, r.moving_id) for r in rows] == [(0, 1), (1, 2)]
    for r in rows:
        fixed, moving = (
            np.array(plain.truth["slices"][str(i)]["roi_yx_px"]) for i in (r.fixed_id, r.moving_id)
        )
        assert np.allclose(np.subtract(fixed, moving), (r.y_shift, r.x_shift), atol=2e-3)
        assert r.reliable


def test_without_stage_positions_tiles_are_placed_by_index_and_that_is_told(tmp_path: Path) -> None:
    made = make(tmp_path, seed=1, slices=2, faults={"stage_xy_absent": True, "galvo_return_px": 9})
    assert "no stage positions in slices [0, 1]" in made.chain.warnings("estimate_xy_shifts")
    rows = read_table(made.chain.path("estimate_xy_shifts", "shifts"), ShiftRow)
    assert [(r.y_shift, r.x_shift) for r in rows] == [(0.0, 0.0)]
    overlap = made.chain.document("estimate_xy_shifts", "overlap")
    assert overlap["source"] == "images"
    assert overlap["overlap_fraction_yx"] == pytest.approx([0.25, 0.25], abs=0.03)
    stage = read_table(made.chain.path("estimate_xy_shifts", "stage_positions"), StagePositionRow)
    assert all(r.z_mm is not None for r in stage), "the recorded depth counts"
