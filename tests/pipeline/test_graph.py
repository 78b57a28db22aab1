"""Which units there are, and what each one waits for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from soct.errors import ConfigurationError, UsageError
from soct.pipeline.graph import (
    build_graph,
    in_reading_order,
    slice_pairs,
    slices_left_out,
    step_named,
    unit_named,
)
from soct.pipeline.request import Selection
from soct.steps.declaration import Input, Unit
from tests.pipeline.fake_pipeline import N_UNITS, STEPS, make_input, make_params, open_fake


def graph_of(changes=None, slices=(1, 2, 4, 5), selection=None):
    return build_graph(STEPS, make_params(changes), slices, selection)


def test_pairs_bridge_a_missing_slice_and_no_number_shifts():
    assert slice_pairs((1, 2, 4, 5)) == ((1, 2), (1, 4), (2, 4), (2, 5), (4, 5))


@pytest.mark.parametrize(("slices", "pairs"), [((), ()), ((7,), ()), ((3, 9), ((3, 9),))])
def test_few_slices_make_few_pairs(slices, pairs):
    assert slice_pairs(slices) == pairs


def test_a_slice_that_a_step_leaves_out_has_no_units_and_is_bridged(tmp_path):
    steps = {
        **STEPS,
        "read": replace(STEPS["read"], leaves_out=lambda acquisition, params: {2: "torn"}),
    }
    left_out = slices_left_out(steps, make_params(), open_fake(make_input(tmp_path / "raw")))
    assert left_out == {2: "torn"}
    graph = build_graph(steps, make_params(), (1, 2, 4, 5), None, left_out)
    assert graph.slices == (1, 4, 5)
    assert Unit("register", (1, 4)) in graph.upstream
    with pytest.raises(UsageError, match="Slice 2 cannot be used: torn"):
        build_graph(steps, make_params(), (1, 2, 4), Selection(slices=(2,)), left_out)


def test_a_slice_unit_waits_for_its_slice_and_for_run_units():
    upstream = graph_of().upstream
    assert upstream[Unit("cut", (4,))] == (Unit("read", (4,)), Unit("shifts"))


def test_a_pair_unit_waits_for_both_slices():
    upstream = graph_of().upstream[Unit("register", (2, 4))]
    assert set(upstream) == {Unit(s, (n,)) for s in ("read", "cut") for n in (2, 4)}


def test_a_run_unit_waits_for_every_unit_that_it_reads():
    upstream = graph_of().upstream[Unit("stack")]
    assert len(upstream) == 5 + 4


def test_every_unit_follows_what_it_reads():
    seen = set()
    for unit, read in graph_of().upstream.items():
        assert set(read) <= seen
        seen.add(unit)
    assert len(seen) == N_UNITS


def test_an_optional_input_vanishes_with_its_step():
    graph = graph_of({"cut.enabled": False})
    assert "cut" not in graph.units
    assert set(graph.upstream[Unit("register", (1, 2))]) == {
        Unit("read", (1,)),
        Unit("read", (2,)),
    }


def test_a_needed_step_that_is_switched_off_is_refused():
    steps = {**STEPS, "stack": replace(STEPS["stack"], inputs=(Input("cut"),))}
    with pytest.raises(ConfigurationError, match="stack needs cut, which is switched off"):
        build_graph(steps, make_params({"cut.enabled": False}), (1, 2))


def test_a_run_of_one_slice_has_no_pairs_and_still_a_stack():
    graph = graph_of(slices=(3,))
    assert graph.units["register"] == ()
    assert graph.upstream[Unit("stack")] == (Unit("cut", (3,)),)


def test_from_and_until_select_steps_in_pipeline_order():
    graph = graph_of(selection=Selection(first="cut", last="register"))
    assert graph.selected == {"cut", "register"}


def test_only_a_unit_selects_that_unit():
    graph = graph_of(selection=Selection(only="register", unit=(2, 4)))
    assert [u for u in graph.upstream if graph.may_run(u)] == [Unit("register", (2, 4))]


def test_chosen_slices_are_the_slices_of_the_run():
    graph = graph_of(selection=Selection(slices=(1, 4, 5)))
    assert graph.slices == (1, 4, 5)
    assert graph.units["register"][0] == Unit("register", (1, 4))


@pytest.mark.parametrize(
    "selection",
    [
        Selection(first="sew"),
        Selection(first="stack", last="read"),
        Selection(only="read", unit=(3,)),
        Selection(unit=(1,)),
        Selection(slices=(1, 3)),
    ],
)
def test_a_selection_of_what_is_not_there_is_refused(selection):
    with pytest.raises(UsageError):
        graph_of(selection=selection)


def test_a_unit_that_a_person_names_wrong_is_a_usage_error():
    assert unit_named("read", "z03") == Unit("read", (3,))
    with pytest.raises(UsageError, match="not a unit"):
        unit_named("read", "three")


@pytest.mark.parametrize("text", ["register_pairwise", "register-pairwise", "reg", "register"])
def test_a_step_is_named_by_id_command_or_a_beginning_that_fits_one(text):
    known = ["resample_mosaic_grid", "register_pairwise", "stack"]
    assert step_named(text, known) == "register_pairwise"
    assert step_named("resample", known, {"resample": "resample_mosaic_grid"}) == known[0]


def test_a_misspelt_step_is_answered_with_the_nearest_one():
    with pytest.raises(UsageError) as told:
        step_named(
            "stich", ["stitch_3d_with_refinement", "stack"], {"stitch": "stitch_3d_with_refinement"}
        )
    assert told.value.hint == "Did you mean stitch?"
    with pytest.raises(UsageError, match="several steps begin"):
        step_named("s", ["stitch", "stack"])


def test_the_options_take_commands_as_well_as_ids():
    assert graph_of(selection=Selection(only="STACK".lower())).selected == {"stack"}
    with pytest.raises(UsageError, match="--until: there is no step"):
        graph_of(selection=Selection(last="nonsense"))


def test_steps_come_in_the_order_in_which_they_read_each_other():
    backwards = dict(reversed(STEPS.items()))
    assert list(in_reading_order(STEPS)) == list(STEPS)
    order = list(in_reading_order(backwards))
    assert order.index("read") < order.index("cut") < order.index("register")
    assert order[-1] == "stack"


def test_steps_that_read_each_other_in_a_circle_are_a_bug():
    steps = {**STEPS, "read": replace(STEPS["read"], inputs=(Input("stack"),))}
    with pytest.raises(ValueError, match="circle"):
        in_reading_order(steps)


def test_reading_a_step_that_is_not_there_is_a_bug():
    steps = {**STEPS, "stack": replace(STEPS["stack"], inputs=(Input("sew"),))}
    with pytest.raises(ValueError, match="sew, which is no step"):
        in_reading_order(steps)


def test_a_slice_step_cannot_read_pairs():
    steps = {**STEPS, "sew": replace(STEPS["cut"], id="sew", inputs=(Input("register"),))}
    with pytest.raises(ValueError, match="cannot read"):
        in_reading_order(steps)
