"""Section Intensity says whether and where the detector was at its ceiling."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soct.quality.limits import metric_status
from soct.report.model import MetricView, RunView
from soct.report.rendering import examine, render_html
from soct.report.reportlet import load_reportlets
from tests.report.fabricated import LIMITS, complete_run


def with_saturation(folder: Path, share: NDArray[np.float64], slice_id: int) -> RunView:
    """A clean run of which one slice has clipped samples; `share` by row and column of its tiles."""
    view = complete_run(folder, slices=4, side=share.shape[0], faults=False)
    figures = dict(view.figures)
    steps = []
    for step in view.steps:
        units = []
        for unit in step.units:
            if step.id == "create_mosaic_grid":
                mine = share if unit.slices == (slice_id,) else np.zeros_like(share)
                worst = 100 * float(np.nanmax(mine))
                row, col = np.unravel_index(np.nanargmax(mine), mine.shape)
                status = metric_status("saturated_percent", worst, LIMITS).value
                metric = MetricView(
                    "saturated_percent", worst, "%", "", status, (int(row), int(col)) if worst else None
                )  # fmt: skip
                path = folder / f"grid-{unit.name}.npz"
                np.savez(path, saturated=mine)
                figures[step.id, unit.name] = path
                unit = replace(unit, metrics=(*unit.metrics, metric))
            units.append(unit)
        steps.append(replace(step, units=tuple(units)))
    return replace(view, steps=tuple(steps), figures=figures)


def intensity(view: RunView) -> str:
    chosen = tuple(r for r in load_reportlets() if r.id == "intensity")
    return re.sub(r"<[^>]+>", " ", render_html(examine(view), chosen))


def test_a_saturated_tile_is_named_in_problems_and_in_the_map(tmp_path: Path) -> None:
    share = np.zeros((3, 3))
    share[1, 2], share[0, 0] = 0.03, np.nan
    view = with_saturation(tmp_path, share, 2)
    first = examine(view).problems[0]
    assert (first.what[:15], first.where) == ("Saturated tiles", "slice 2 tile (1, 2)")
    text = intensity(view)
    assert "most in slice 2 (3\u202f%)" in text
    assert "Most: (1, 2) 3\u202f%." in text
    assert "could not be drawn" not in text


def test_a_clean_run_says_in_one_line_that_nothing_is_clipped(tmp_path: Path) -> None:
    view = with_saturation(tmp_path, np.zeros((2, 2)), 0)
    assert "No sample of any tile was clipped" in intensity(view)
    assert not [p for p in examine(view).problems if "aturated" in p.what]
