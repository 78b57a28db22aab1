"""Subcommands that are generated from models, and the tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from soct.cli.app import run_app
from soct.cli.command_index import read_step_index, read_tool_index
from soct.cli.main import run_guarded
from soct.errors import ExitCode
from soct.steps.registry import load_steps
from tests.pipeline.fake_pipeline import STEPS, make_input, open_fake
from tests.pipeline.profile_fakes import STEPS as TYPED

Soct = Callable[..., int]


@pytest.fixture
def soct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Soct:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        return run_guarded(lambda: run_app(list(arguments)), list(arguments))

    return call


def test_the_list_of_commands_is_that_of_the_declarations() -> None:
    index = read_step_index()
    assert {entry.id: (entry.command, entry.summary) for entry in index.values()} == {
        step.id: (step.command, step.summary) for step in load_steps().values()
    }


@pytest.mark.parametrize("tool", sorted(read_tool_index()))
def test_the_help_of_a_tool_begins_as_the_list_of_commands_says(
    soct: Soct, tool: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 400)
    assert soct(*tool.split(" "), "--help") == ExitCode.OK
    page = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert (summary := read_tool_index()[tool].summary)
    assert summary in page


@pytest.mark.parametrize("command", sorted(read_step_index()))
def test_the_help_of_a_step_lists_every_parameter_with_its_range_and_files(
    soct: Soct, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 160)
    assert soct(command, "--help") == ExitCode.OK
    page = " ".join(capsys.readouterr().out.replace("│", " ").split())
    step = load_steps()[read_step_index()[command].id]
    assert step.summary in page
    for key in step.params.model_fields:
        assert f"-{key.replace('_', '-')} " in page
    for output in step.outputs:
        assert output.template in page
    assert ("--raw" in page) == step.reads_raw
    assert ("--from-run" in page) == bool(step.inputs)


@pytest.fixture
def fake_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`soct resample` and `soct stack` become steps of the fake pipeline."""
    names = {
        "resample_mosaic_grid": STEPS["read"],
        "stack": STEPS["cut"],
        "normalize": TYPED["register_pairwise"],
    }
    monkeypatch.setattr(
        "soct.cli.step_command.load_step", lambda name: names.get(name) or STEPS[name]
    )
    monkeypatch.setattr("soct.cli.step_command.STEP_IDS", (*names, *STEPS))
    monkeypatch.setattr("soct.formats.acquisition.open_acquisition", open_fake)
    return make_input(tmp_path / "in", (1, 2))


def test_a_step_runs_by_itself_on_named_inputs(
    soct: Soct, fake_steps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = ["resample", "--raw", str(fake_steps), "--out", "grids", "--gain", "2.5"]
    assert soct(*read) == ExitCode.OK
    told = capsys.readouterr()
    assert told.out.splitlines() == ["grids/grid_z01.zarr", "grids/grid_z02.zarr"]
    assert "read:z01" in told.err
    assert json.loads((tmp_path / "grids/grid_z01.zarr/zarr.json").read_text()) == {"gain": 2.5}

    (tmp_path / "shifts.csv").write_text("1")
    cut = ["stack", "--in", "read.grid=grids", "--in", "shifts.table=shifts.csv", "--out", "cut"]
    assert soct(*cut, "--unit", "2", "--amount", "9") == ExitCode.OK
    told = capsys.readouterr()
    assert told.out == "cut/slice_z02.txt\n"
    assert "  warning: thin" in told.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["stack", "--out", "o"], 2, "no output of it was given"),
        (["stack", "--out", "o", "--in", "nonsense"], 2, "STEP.OUTPUT=PATH"),
        (["stack", "--out", "o", "--in", "a.b=c"], 2, "does not read"),
        (["stack", "--out", "o", "--in", "read.grid=absent"], 4, "no read.grid here"),
        (["stack", "--out", "o", "--from-run", "."], 4, "not a run folder"),
        (["stack", "--out", "o", "--amount", "many"], 2, "allowed: a whole number"),
        (["stack", "--out", "o", "--unit", "x"], 2, "not a unit"),
        (["stack"], 2, "--out"),
        (["resample", "--out", "o"], 2, "--raw"),
        (["resample", "--out", "o", "--profile", "nope"], 3, "no profile named"),
        (["normalize", "--out", "o", "--max-rotation-deg", "999"], 2, "from 0 to 180 deg"),
        (["normalize", "--out", "o", "--transform", "eular"], 2, "did you mean euler?"),
    ],
)  # fmt: skip
def test_what_a_step_cannot_do_is_told(
    soct: Soct, fake_steps: Path, arguments: list[str], code: int, words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert soct(*arguments) == code
    assert words in capsys.readouterr().err


def test_profiles_are_listed_shown_checked_and_described(
    soct: Soct, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soct("profiles", "list") == ExitCode.OK
    listed = capsys.readouterr().out
    assert "profile  conservative" in listed
    assert "site     cluster" in listed

    assert soct("profiles", "show", "--origin", "--set", "stack.blend_depth_um=42") == ExitCode.OK
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if "blend_depth_um" in line]
    assert line.split() == ["blend_depth_um:", "42.0", "#", "command", "line", "--set", "stack.blend_depth_um=42"]  # fmt: skip

    (tmp_path / "mine.yaml").write_text(shown)
    assert soct("profiles", "validate", "mine.yaml") == ExitCode.OK
    assert capsys.readouterr().err == "mine.yaml: valid\n"
    (tmp_path / "bad.yaml").write_text("stack:\n  a: 1\nb: 2\n")
    assert soct("profiles", "validate", "bad.yaml") == ExitCode.CONFIGURATION
    told = capsys.readouterr().err
    assert "bad.yaml:2: stack.a" in told
    assert "bad.yaml:3: b" in told

    for more in ([], ["--site"]):
        assert soct("profiles", "schema", *more) == ExitCode.OK
        assert json.loads(capsys.readouterr().out)["type"] == "object"


@pytest.mark.slow
def test_simulate_writes_what_its_options_say(
    soct: Soct, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--preset", "tiny", "--slices", "2", "--rows", "1", "--cols", "2"]
    faults = [
        "--perfect",
        "--n-repeat",
        "2",
        "--missing-tiles",
        "[[0, 0, 1]]",
        "--session-metadata",
    ]
    assert soct("simulate", "sim", *size, *faults) == ExitCode.OK
    told = capsys.readouterr()
    assert told.out == "sim/raw\n"
    assert "2 slices, 3 tiles" in told.err
    truth = json.loads((tmp_path / "sim" / "truth.json").read_text())
    assert json.dumps(truth).count('"n_repeat": 2') >= 1
    assert soct("simulate", "sim", *size, *faults) == ExitCode.OK
    assert "was there already" in capsys.readouterr().err
    assert soct("simulate", "sim", *size) == ExitCode.USAGE
