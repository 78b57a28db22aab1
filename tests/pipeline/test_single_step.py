"""A step by itself gives the pipeline's own bytes, and publishes all of them or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soct.errors import InputError, StepError, UsageError
from soct.pipeline.single_step import (
    SingleStep,
    inputs_from_paths,
    inputs_from_run,
    run_single_step,
)
from soct.steps.declaration import Output, Result
from tests.pipeline.fake_pipeline import STEPS, make_input, make_params, open_fake, run_fake


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    run_fake(make_input(folder / "in"), folder / "run")
    return folder / "run"


def ask(name: str, folder: Path, **more: Any) -> SingleStep:
    values = {
        "step": STEPS[name],
        "params": make_params()[name],
        "inputs": {},
        "folder": folder,
        "subject": "sub-01",
    }
    return SingleStep(**{**values, **more})


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "metrics" not in path.parts
    }


def test_every_step_alone_gives_the_bytes_of_the_pipeline(finished: Path, tmp_path: Path) -> None:
    for name, step in STEPS.items():
        if name == "generate_slice_config":
            continue  # knows its slices from the run alone
        acquisition = open_fake(finished.parent / "in") if step.reads_raw else None
        inputs = inputs_from_run(step, STEPS, finished)
        alone = tmp_path / "alone" / name
        done = list(run_single_step(ask(name, alone, inputs=inputs, acquisition=acquisition)))
        assert contents(alone) == contents(finished / name)
        assert all(path.exists() for unit in done for path in unit.outputs.values())


def test_a_folder_is_searched_by_the_outputs_template(finished: Path, tmp_path: Path) -> None:
    given = [
        ("read.grid", finished / "read"),
        ("shifts.table", finished / "shifts" / "shifts.csv"),
    ]
    inputs = inputs_from_paths(STEPS["cut"], STEPS, given)
    assert sorted(inputs["read", "grid"]) == [(1,), (2,), (4,), (5,)]
    asked = ask("cut", tmp_path / "out", inputs=inputs, units=((4,),))
    assert [str(done.unit) for done in run_single_step(asked)] == ["cut:z04"]
    assert contents(tmp_path / "out") == {
        "slice_z04.txt": (finished / "cut" / "slice_z04.txt").read_bytes()
    }


def test_a_table_of_the_run_may_have_any_name_and_a_pair_is_found_in_subfolders(
    finished: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "my table.txt"
    mine.write_text("x")
    found = inputs_from_paths(STEPS["cut"], STEPS, [("shifts.table", mine)])
    assert found == {("shifts", "table"): {(): mine}}
    found = inputs_from_paths(
        STEPS["stack"], STEPS, [("register.transform", finished / "register")]
    )
    assert set(found["register", "transform"]) == {(1, 2), (1, 4), (2, 4), (2, 5), (4, 5)}


def test_what_cannot_be_done_is_a_usage_or_input_error(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads raw tiles"):
        list(run_single_step(ask("read", tmp_path / "o")))
    with pytest.raises(UsageError, match="reads read, shifts"):
        list(run_single_step(ask("cut", tmp_path / "o")))
    with pytest.raises(UsageError, match=r"does not read 'cut\.volume'"):
        inputs_from_paths(STEPS["cut"], STEPS, [("cut.volume", tmp_path)])
    with pytest.raises(InputError, match=r"no read\.grid here"):
        inputs_from_paths(STEPS["cut"], STEPS, [("read.grid", tmp_path)])
    with pytest.raises(InputError, match="not a run folder"):
        inputs_from_run(STEPS["cut"], STEPS, tmp_path)
    inputs = inputs_from_run(STEPS["cut"], STEPS, finished)
    with pytest.raises(UsageError, match="no such unit"):
        list(run_single_step(ask("cut", tmp_path / "o", inputs=inputs, units=((3,),))))


def test_a_unit_without_its_own_input_is_named(finished: Path, tmp_path: Path) -> None:
    inputs = inputs_from_run(STEPS["cut"], STEPS, finished)
    del inputs["read", "grid"][(2,)]
    inputs["read", "note"] = {(2,): finished / "read"}
    del inputs["read", "note"]
    asked = ask("register", tmp_path / "o", inputs=inputs, units=((1, 4),))
    list(run_single_step(asked))
    inputs["cut", "volume"] = {(2,): finished / "cut" / "slice_z02.txt"}
    with pytest.raises(InputError, match="nothing of read for cut:z02"):
        list(run_single_step(ask("cut", tmp_path / "o", inputs=inputs, units=((2,),))))


def test_a_step_that_fails_or_forgets_an_output_publishes_nothing(tmp_path: Path) -> None:
    def half(context: Any, params: Any) -> Result:
        context.output("grid").mkdir()
        return Result()

    outputs = (Output("grid", "grid_z{slice:02d}.zarr"), Output("other", "o.txt"))
    step = replace(STEPS["read"], run=half, outputs=outputs)
    acquisition = open_fake(make_input(tmp_path / "in"))
    with pytest.raises(StepError, match="did not write its output other"):
        list(run_single_step(ask("read", tmp_path / "o", step=step, acquisition=acquisition)))
    assert list((tmp_path / "o").iterdir()) == []
