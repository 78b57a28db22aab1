"""Problems, ranked: what is told, how often, and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from soct.report.charts import svg
from soct.report.model import MetricView, ParameterView, RunView, StepView, UnitView
from soct.report.rendering import examine
from tests.report.fabricated import complete_run


def with_unit(view: RunView, unit: UnitView) -> RunView:
    return replace(view, steps=(StepView(unit.step, units=(unit,)), *view.steps))


def test_a_missing_slice_is_told_once_and_other_warnings_stay(tmp_path: Path) -> None:
    view = complete_run(tmp_path, slices=6, side=2, figures=False)
    unit = UnitView(
        "generate_slice_config", (), "done", warnings=("the stage table has no column z",)
    )
    page = examine(with_unit(view, unit))
    assert [p.what for p in page.problems if "issing" in p.what] == ["Missing slice"]
    assert any("no column z" in p.evidence for p in page.problems)


def test_a_metric_of_a_tile_is_told_with_the_tile(tmp_path: Path) -> None:
    view = complete_run(tmp_path, slices=3, side=3, faults=False, figures=False)
    worst = MetricView("saturated_percent", 4.2, "%", "", "error", (1, 2))
    unit = UnitView("create_mosaic_grid", (1,), "done", metrics=(worst,))
    problem = examine(with_unit(view, unit)).problems[0]
    assert problem.what.startswith("Saturated tiles")
    assert (problem.where, problem.tiles) == ("slice 1 tile (1, 2)", ((1, 1, 2),))


def test_a_number_of_the_whole_run_is_told_at_the_slices_it_comes_from(tmp_path: Path) -> None:
    view = complete_run(tmp_path, slices=6, side=2, figures=False)
    step = MetricView("slice_step", 0.9, "", "", "error", places=((1, 2), (2, 3)))
    unit = UnitView("normalize", (), "done", metrics=(step,))
    steps = tuple(s for s in view.steps if s.id != "normalize")
    page = examine(replace(view, steps=(StepView("normalize", units=(unit,)), *steps)))
    (told,) = [p for p in page.problems if p.metric == "slice_step"]
    assert told.where == "slice 2 (slices 1→2, 2→3)"
    assert told.units == ((1, 2), (2, 3))


def test_a_pair_beyond_the_bound_is_told_as_that_and_the_line_that_somebody_set_comes_first(
    tmp_path: Path,
) -> None:
    view = complete_run(tmp_path, slices=6, side=2, figures=False)
    metrics = (
        MetricView("confidence", 0.0, "", "", "error"),
        MetricView("registration", "translation beyond the bound of 20 px"),
    )
    text = "keep the stage's positions: translation beyond the bound of 20 px"
    units = tuple(
        UnitView("register_pairwise", p, "done", metrics=metrics, warnings=(f"slices {p} {text}",))
        for p in ((1, 2), (2, 3))
    )
    lines = (
        ParameterView("register_pairwise.max_translation_um", "500.0"),
        ParameterView("detect_rehoming_events.rehoming_max_shift_mm", "50", origin="--set"),
    )
    steps = tuple(s for s in view.steps if s.id != "register_pairwise")
    step = StepView("register_pairwise", units=units)
    page = examine(replace(view, steps=(step, *steps), parameters=lines))
    (told,) = [p for p in page.problems if p.step == "register_pairwise"]
    assert told.what == "Slice displaced further than the registration looks"
    assert told.where == "slice 2 (slices 1→2, 2→3)"
    assert text in told.evidence
    assert [key for key, _, _ in told.settings] == [line.key for line in reversed(lines)]


def test_numbers_of_two_steps_at_one_place_with_one_remedy_are_one_problem(tmp_path: Path) -> None:
    view = complete_run(tmp_path, slices=6, side=2, faults=False, figures=False)
    shift = MetricView("translation_um", 480.0, "um", "", "warning")
    pairs = tuple(
        UnitView("register_pairwise", p, "done", metrics=(shift,)) for p in ((1, 2), (2, 3))
    )
    whole = MetricView("slice_shift_p95_um", 470.0, "um", "", "warning", places=((1, 2), (2, 3)))
    run = UnitView("estimate_slice_poses", (), "done", metrics=(whole,))
    steps = (
        StepView("register_pairwise", units=pairs),
        StepView("estimate_slice_poses", units=(run,)),
    )
    lines = (ParameterView("detect_rehoming_events.rehoming_max_shift_mm", "50"),)
    (told,) = examine(replace(view, steps=steps, parameters=lines)).problems
    assert told.where == "slice 2 (slices 1→2, 2→3)"
    assert "translation" in told.evidence
    assert "slice shift p95" in told.evidence


def test_a_drawing_with_links_is_a_group_and_any_other_an_image() -> None:
    assert 'role="img"' in svg(10, 10, "x", Markup("<path/>"))
    assert 'role="group"' in svg(10, 10, "x", Markup('<a href="#s"><path/></a>'))
