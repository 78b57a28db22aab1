"""Problems, ranked: what is told, how often, and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from soct.report.charts import svg
from soct.report.model import StepView, UnitView
from soct.report.rendering import examine
from tests.report.fabricated import complete_run


def test_a_missing_slice_is_told_once(tmp_path: Path) -> None:
    view = complete_run(tmp_path, slices=6, side=2, figures=False)
    (gap,) = view.acquisition.missing_slices
    warnings = (f"Slice {gap} is missing", "the stage table has no column z")
    unit = UnitView("generate_slice_config", (), "done", warnings=warnings)
    page = examine(
        replace(view, steps=(StepView("generate_slice_config", units=(unit,)), *view.steps))
    )
    told = [p for p in page.problems if f"{gap} is missing" in p.evidence or "issing" in p.what]
    assert [p.what for p in told] == ["Missing slice"]
    assert any("no column z" in p.evidence for p in page.problems)


def test_a_drawing_with_links_is_a_group_and_any_other_an_image() -> None:
    assert 'role="img"' in svg(10, 10, "x", Markup("<path/>"))
    assert 'role="group"' in svg(10, 10, "x", Markup('<a href="#s"><path/></a>'))
