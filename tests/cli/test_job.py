"""`soct run`, `plan`, `status` and `report` on a small pipeline that works on text files."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode, ResourceError
from soct.pipeline import runner
from soct.pipeline.folder import run_folder
from soct.pipeline.folder.progress import Progress, ProgressFile, RunningUnit
from soct.pipeline.request import RunOutcome, RunRequest
from soct.pipeline.together import lock
from soct.pipeline.together.holder import myself
from soct.pipeline.together.members import Membership
from tests.pipeline.fake_pipeline import STEPS, fingerprint, make_input, open_fake

Soct = Callable[..., int]


@pytest.fixture
def soct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Soct:
    """Call the command line in this process, with the fake pipeline instead of the real one."""
    monkeypatch.chdir(tmp_path)
    for module in ("soct.pipeline.profiles.profile", "soct.pipeline.asked_run"):
        monkeypatch.setattr(f"{module}.load_steps", lambda: STEPS)
    for name in ("plan", "run"):
        real = getattr(runner, name)
        monkeypatch.setattr(runner, name, on_fake_input(real))
    monkeypatch.setattr("soct.cli.job_status.render", lambda folder, **_: folder / "report.html")

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["soct", *arguments])
        return run_guarded(lambda: run_app(list(arguments)), list(arguments))

    return call


def on_fake_input(work: Callable[..., Any]) -> Callable[..., Any]:
    def worker(request: RunRequest, *more: Any) -> Any:
        resources = replace(request.resources, preload=(), cpus=1)
        acquisition = open_fake(request.input)
        return work(
            replace(request, acquisition=acquisition, fingerprint=fingerprint, resources=resources),
            *more,
        )

    return worker


@pytest.fixture
def source(tmp_path: Path) -> str:
    return str(make_input(tmp_path / "in", (1, 2)))


def test_a_run_prints_where_the_results_are_and_words_go_to_stderr(
    soct: Soct, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soct("run", source, "out", "--subject", "S 1", "--set", "cut.amount=7") == ExitCode.OK
    told = capsys.readouterr()
    assert told.out.splitlines() == ["volume: out/stack/S 1.zarr", "report: out/report.html"]
    lines = told.err.splitlines()
    assert any("/6 steps] read: 2 of 2 slices, " in line for line in lines)
    assert "cut:z01: thin" in lines
    assert lines[-1].startswith("complete: 8 units computed, 0 reused")
    assert "\x1b" not in told.err
    document = run_folder.read_run(tmp_path / "out")
    assert document is not None
    assert (
        document.history[-1].command == f"soct run {source} out --subject 'S 1' --set cut.amount=7"
    )
    assert document.profile["origins"]["cut.amount"] == "command line --set cut.amount=7"

    assert soct("run", source, "out", "--subject", "S 1", "--set", "cut.amount=7") == ExitCode.OK
    assert "0 units computed, 8 reused" in capsys.readouterr().err

    assert soct("plan", source, "out", "--subject", "S 1") == ExitCode.OK
    planned = capsys.readouterr().out
    assert "cut " in planned
    assert "amount: 7 -> 1" in planned

    assert soct("plan", source, "out", "--json", "--subject", "S 1") == ExitCode.OK
    document_ = json.loads(capsys.readouterr().out)
    assert {u["unit"] for u in document_["units"] if u["action"] == "compute"} == {
        "cut:z01", "cut:z02", "register:z01_z02", "stack:run",
    }  # fmt: skip

    assert soct("status", "out") == ExitCode.OK
    assert capsys.readouterr().out.startswith("complete: S 1 in out\n")
    assert soct("status", "out", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["state"] == "complete"
    assert soct("status", "out", "--why", "cut:1") == ExitCode.OK
    assert capsys.readouterr().out == "cut:z01: it was never computed\n"
    assert soct("status", "out", "--why", "nope") == ExitCode.USAGE
    assert soct("report", "out") == ExitCode.OK
    assert capsys.readouterr().out == "out/S 1_quality_report.html\n"


def test_a_report_beside_another_run_needs_another_run(
    soct: Soct, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soct("run", source, "out") == ExitCode.OK
    shutil.copytree("out", "before")
    capsys.readouterr()
    assert soct("report", "out", "--compare", "before") == ExitCode.OK
    assert capsys.readouterr().out.startswith("out/")
    assert Path("out/report_data/comparison.tsv").exists()
    assert soct("report", "out", "--compare", source) == ExitCode.INPUT
    assert f"file:     {source}" in capsys.readouterr().err
    assert soct("report", "out", "--compare", "nowhere") == ExitCode.INPUT
    assert "nowhere" in capsys.readouterr().err
    (tmp_path / "link").symlink_to("out")
    assert soct("report", "out", "--compare", "link") == ExitCode.USAGE
    told = capsys.readouterr().err
    assert "cannot be compared with itself" in told
    assert "Traceback" not in told


def test_the_runs_of_a_lab_have_a_page_and_bad_folders_an_error(
    soct: Soct, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soct("run", source, "lab/one") == ExitCode.OK
    shutil.copytree("lab/one", "lab/two")
    capsys.readouterr()
    assert soct("report", "--cohort", "lab") == ExitCode.OK
    assert capsys.readouterr().out == "lab/cohort_report.html\n"
    first = Path("lab/cohort_report.html").read_bytes()
    assert b"Nothing can be said about places" in first
    assert soct("report", "--cohort", "lab", "--out", "page.html") == ExitCode.OK
    assert soct("report", "--cohort", "lab", "--out", "lab") == ExitCode.OK
    assert Path("lab/cohort_report.html").read_bytes() == first
    assert soct("report", "lab/one", "--cohort", "lab") == ExitCode.OK
    capsys.readouterr()
    for arguments, code, told in (
        (("--cohort", source), ExitCode.INPUT, "No run folder lies in this folder"),
        (("--cohort", "nowhere"), ExitCode.INPUT, "There is no folder of this name"),
        (("--cohort", "lab", "--out", "page.pdf"), ExitCode.USAGE, "ends in .html"),
        (("--cohort", "lab", "--compare", "lab/one"), ExitCode.USAGE, "no run to report on"),
        ((), ExitCode.USAGE, "no run to report on"),
    ):
        assert soct("report", *arguments) == code
        error = capsys.readouterr().err
        assert told in error
        assert error.startswith("error: ")
        assert error.count("error: ") == 1


def test_a_dry_run_writes_nothing(soct: Soct, source: str, tmp_path: Path) -> None:
    assert soct("run", source, "out", "--dry-run") == ExitCode.OK
    assert not (tmp_path / "out").exists()


def test_a_failed_unit_ends_with_5_and_says_what_to_do(
    soct: Soct, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = ["--set", "read.fail_slice=1", "--set", "read.fail_how=user"]
    assert soct("run", source, "out", *failing) == ExitCode.STEP_FAILED
    told = capsys.readouterr().err
    assert "failed: read:z01: A tile is bad" in told
    assert "  to do:    mend it" in told
    assert "units could not run because of that" in told
    assert soct("status", "out") == ExitCode.OK
    assert "FAILED read:z01: A tile is bad" in capsys.readouterr().out


@pytest.mark.parametrize("code", [5, 75, 130, 143])
def test_the_outcome_of_a_run_is_the_exit_code(
    soct: Soct, source: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(runner, "run", lambda *given: outcome(exit_code=ExitCode(code)))
    assert soct("run", source, "out") == code


def outcome(**more: Any) -> RunOutcome:
    values: dict[str, Any] = {
        "state": "complete",
        "exit_code": ExitCode.OK,
        "reason": "complete",
        "computed": (),
        "reused": 0,
        "failures": (),
        "blocked": (),
        "pending": 0,
        "seconds": 1.0,
        "peak_memory_bytes": 0,
        "worst_status": "ok",
    }
    return RunOutcome(**{**values, **more})


def test_a_metric_in_error_ends_with_6_only_when_asked(
    soct: Soct, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "run", lambda *given: outcome(worst_status="error"))
    assert soct("run", source, "out") == ExitCode.OK
    assert soct("run", source, "out", "--fail-on-quality") == ExitCode.QUALITY
    monkeypatch.setattr(runner, "run", lambda *given: outcome(worst_status="warning"))
    assert soct("run", source, "out", "--fail-on-quality") == ExitCode.OK


def test_two_runs_on_one_folder_end_with_7(soct: Soct, source: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with lock.hold(tmp_path / "out", "another"):
        assert soct("run", source, "out") == ExitCode.LOCKED


def test_joined_runs_share_a_folder_and_one_of_them_reports(
    soct: Soct, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    with lock.hold_together(tmp_path / "out"):
        assert soct("run", source, "out", "--join") == ExitCode.OK
        assert "report: " in capsys.readouterr().out
        (tmp_path / "out" / "sample_quality_report.html").touch()
        assert soct("run", source, "out", "--join") == ExitCode.OK
        told = capsys.readouterr()
        assert "report: " not in told.out
        assert "written by another process" in told.err
        assert soct("run", source, "out") == ExitCode.LOCKED


def test_status_names_all_who_work_together(
    soct: Soct, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert soct("run", source, "out", "--join") == ExitCode.OK
    (folder / "state" / "session.json").unlink()
    nodes = [replace(myself("soct run --join"), host=f"node{n}", slurm_job="12") for n in (1, 2)]
    at_work = Progress(3, 9, (RunningUnit("read", "z01", "now", 0.25),), 10**9, 0.0)
    ProgressFile(folder, nodes[1].id).write(at_work)
    with Membership(folder, nodes[0]), Membership(folder, nodes[1]):
        capsys.readouterr()
        assert soct("status", "out") == ExitCode.OK
        told = capsys.readouterr().out
        assert soct("status", "out", "--json") == ExitCode.OK
        document = json.loads(capsys.readouterr().out)
    assert "on node1 by" in told
    assert "Slurm job 12" in told
    assert "read:z01 (25%); 3 units so far, 1.0 GB of memory" in told
    assert [p["host"] for p in document["processes"]] == ["node1", "node2"]
    assert document["processes"][1]["running"][0]["unit"] == "z01"


def test_a_part_that_is_complete_is_no_complete_run(
    soct: Soct, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def document() -> dict[str, Any]:
        capsys.readouterr()
        assert soct("status", "out", "--json") == ExitCode.OK
        return json.loads(capsys.readouterr().out)

    given = ["run", source, "out", "--slices", "1,2", "--set", "cut.amount=7"]
    assert soct(*given, "--until", "cut") == ExitCode.OK
    partial = document()
    assert (partial["state"], partial["left"]) == ("partial", {"register": 1, "stack": 1})
    assert partial["continue"] == shlex.join(["soct", *given])
    assert soct("status", "out") == ExitCode.OK
    told = capsys.readouterr().out
    assert told.startswith("partial: ")
    assert told.endswith(f"2 units are left, in 2 steps. To continue:\n    {partial['continue']}\n")
    assert soct(*given, "--only=register", "--unit", "1,2") == ExitCode.OK
    assert (document()["state"], document()["left"]) == ("partial", {"stack": 1})
    assert document()["continue"] == partial["continue"]
    assert soct("clean", "out", "--yes") == ExitCode.USAGE
    assert soct(*shlex.split(partial["continue"])[1:]) == ExitCode.OK
    whole = document()
    assert (whole["state"], whole["left"], whole["continue"]) == ("complete", {}, None)


def test_state_of_a_newer_soct_ends_with_9(soct: Soct, source: str, tmp_path: Path) -> None:
    assert soct("run", source, "out") == ExitCode.OK
    path = tmp_path / "out" / "run.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "format": 99}))
    assert soct("run", source, "out") == ExitCode.NEWER_STATE
    assert soct("status", "out") == ExitCode.NEWER_STATE


def test_too_little_disk_ends_with_8_before_anything_starts(
    soct: Soct, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*given: Any) -> None:
        raise ResourceError("There is not enough disk.")

    monkeypatch.setattr(runner, "check_disk", refuse)
    assert soct("run", source, "out") == ExitCode.RESOURCES
    assert not (tmp_path / "out" / "read").exists()


def test_wrong_configuration_and_input_have_their_codes(soct: Soct, source: str) -> None:
    assert soct("run", source, "out", "--set", "cut.amuont=3") == ExitCode.CONFIGURATION
    assert soct("run", source, "out", "--profile", "nope") == ExitCode.CONFIGURATION
    assert soct("run", source, "out", "--only", "nope") == ExitCode.USAGE
    assert soct("run", source, "out", "--slices", "99") == ExitCode.USAGE
    assert soct("run", source, f"{source}/out") == ExitCode.INPUT
    assert soct("status", source) == ExitCode.INPUT


def test_a_report_that_cannot_be_written_hides_nothing(
    soct: Soct, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path) -> Path:
        raise ZeroDivisionError("figure")

    monkeypatch.setattr("soct.cli.job_status.render", fail)
    assert soct("run", source, "out") == ExitCode.OK
    told = capsys.readouterr().err
    assert "The report could not be written: figure" in told
    assert "complete: 8 units computed" in told


def test_the_part_of_the_graph_that_is_asked_for_runs(
    soct: Soct, source: str, tmp_path: Path
) -> None:
    assert soct("run", source, "out", "--until", "read", "--slices", "2") == ExitCode.OK
    assert sorted(p.name for p in (tmp_path / "out" / "read").glob("*.zarr")) == ["grid_z02.zarr"]
    assert not (tmp_path / "out" / "cut").exists()
