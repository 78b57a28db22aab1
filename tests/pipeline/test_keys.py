"""What is in a unit's key, and what is not."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from soct.errors import InputError
from soct.pipeline.graph import build_graph
from soct.pipeline.keys import KeyMaker, differences, keyed_values
from soct.steps.declaration import Params, Unit, parameter
from tests.pipeline.fake_pipeline import STEPS, make_params

RAW = {s: {f"raw_{s}": "abc"} for s in (1, 2, 4, 5)}


def keys_of(changes=None, *, steps=STEPS, subject="sub", raw=RAW, session=None):
    graph = build_graph(steps, make_params(changes), raw)
    maker = KeyMaker(graph, make_params(changes), subject, raw, session)
    keys = {}
    for unit in graph.upstream:
        keys[unit] = maker.key(unit, {u: keys[u].digest for u in graph.upstream[unit]})
    return keys


def changed_steps(before, after):
    return {u.step for u in before.keys() | after.keys() if before.get(u) != after.get(u)}


def test_equal_requests_have_equal_keys():
    assert keys_of() == keys_of()


def test_a_parameter_changes_its_step_and_those_that_read_it():
    assert changed_steps(keys_of(), keys_of({"cut.amount": 2})) == {"cut", "register", "stack"}


def test_a_parameter_that_changes_no_output_is_in_no_key():
    assert changed_steps(keys_of(), keys_of({"read.chatter": 9})) == set()


def test_one_changed_raw_file_changes_its_slice_and_what_reads_it():
    raw = {**RAW, 4: {"raw_4": "other"}}
    before, after = keys_of(), keys_of(raw=raw)
    changed = {u for u in before if before[u] != after[u]}
    assert {u.slices for u in changed if u.step == "read"} == {(4,)}
    assert Unit("shifts") in changed
    assert Unit("cut", (1,)) in changed
    assert Unit("generate_slice_config") not in changed


def test_a_new_version_of_a_step_changes_it():
    steps = {**STEPS, "register": replace(STEPS["register"], version=2)}
    assert changed_steps(keys_of(), keys_of(steps=steps)) == {"register", "stack"}


def test_the_subject_is_in_the_key_of_those_that_it_names():
    assert changed_steps(keys_of(), keys_of(subject="other")) == {"stack"}


def test_a_new_slice_changes_run_units_and_no_other_slice():
    before, after = keys_of(), keys_of(raw={**RAW, 6: {"raw_6": "abc"}})
    changed = {u for u in before if before[u] != after[u]}
    assert {u.step for u in changed} == {
        "shifts",
        "generate_slice_config",
        "cut",
        "register",
        "stack",
    }
    assert all(before[Unit("read", (s,))] == after[Unit("read", (s,))] for s in RAW)


def test_metadata_of_another_slice_is_in_no_slice_key():
    one = keys_of(session={"slices": {1: "a", 2: "b"}})
    other = keys_of(session={"slices": {1: "a", 2: "c"}})
    assert one[Unit("read", (1,))] == other[Unit("read", (1,))]
    assert one[Unit("read", (2,))] != other[Unit("read", (2,))]


def test_the_reason_is_the_difference_in_words():
    before, after = keys_of(), keys_of({"cut.amount": 2})
    unit = Unit("cut", (1,))
    assert differences(before[unit].components, after[unit].components) == ("amount: 1 -> 2",)
    unit = Unit("register", (1, 2))
    assert differences(before[unit].components, after[unit].components) == (
        "upstream cut changed (z01, z02)",
    )


def test_changed_new_and_lost_raw_files_are_named():
    unit = Unit("read", (1,))
    before = keys_of(raw={**RAW, 1: {"a": "1", "b": "1"}})[unit]
    after = keys_of(raw={**RAW, 1: {"a": "2", "c": "1"}})[unit]
    assert differences(before.components, after.components) == (
        "raw file a changed",
        "raw file c is new",
        "raw file b is gone",
    )


def test_twenty_thousand_units_get_their_keys_in_seconds():
    raw = {s: {f"raw_{s}": "abc"} for s in range(5000)}
    started = time.process_time()
    keys = keys_of(raw=raw)
    assert len(keys) > 19_000
    assert time.process_time() - started < 12


class WithFolder(Params):
    folder: str = parameter("", "A folder.", content=("slice_*/a.txt",))


def test_of_a_folder_the_content_counts_and_not_its_place(tmp_path):
    (tmp_path / "one/slice_1").mkdir(parents=True)
    (tmp_path / "one/slice_1/a.txt").write_text("x")
    before = keyed_values(WithFolder(folder=str(tmp_path / "one")))
    (tmp_path / "one/slice_1/b.txt").write_text("nobody reads this")
    (tmp_path / "one").rename(tmp_path / "two")
    assert keyed_values(WithFolder(folder=str(tmp_path / "two"))) == before
    (tmp_path / "two/slice_1/a.txt").write_text("y")
    assert keyed_values(WithFolder(folder=str(tmp_path / "two"))) != before
    assert keyed_values(WithFolder()) == {"folder": ""}


def test_a_folder_that_is_not_there_is_told_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match="not there"):
        keyed_values(WithFolder(folder=str(tmp_path / "none")))
