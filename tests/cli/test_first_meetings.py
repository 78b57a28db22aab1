"""What somebody meets who mistypes, points at the wrong place, or may not write there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode

Soct = Callable[..., int]


@pytest.fixture
def soct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Soct:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> int:
        return run_guarded(lambda: run_app(list(arguments)), list(arguments))

    return call


def test_soct_alone_shows_its_help_as_words(soct: Soct, capsys: pytest.CaptureFixture[str]) -> None:
    assert soct() == ExitCode.USAGE
    told = capsys.readouterr()
    assert "The job:" in told.err
    assert told.out == ""


@pytest.mark.parametrize("arguments", [["simulate", "/proc/sim"], ["demo", "/proc/demo"]])
def test_a_folder_that_cannot_be_made_is_no_bug(
    soct: Soct, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert soct(*arguments) == ExitCode.INPUT
    told = capsys.readouterr().err
    assert "error: The output folder cannot be written to\n  file:     /proc/" in told
    assert "to do:" in told


def test_a_run_folder_that_cannot_be_made_is_no_bug(
    soct: Soct, capsys: pytest.CaptureFixture[str]
) -> None:
    assert soct("simulate", "made", "--preset", "tiny", "--slices", "1") == ExitCode.OK
    capsys.readouterr()
    assert soct("run", "made/raw", "/proc/run") == ExitCode.INPUT
    assert "error: The output folder cannot be written to" in capsys.readouterr().err


def test_a_required_gpu_is_refused_because_no_step_uses_one(
    soct: Soct, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert soct("run", str(tmp_path), "out", "--gpu", "require") == ExitCode.RESOURCES
    assert "A GPU is required" in capsys.readouterr().err


def test_a_profile_file_that_is_not_there_names_the_shipped_ones(
    soct: Soct, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert soct("plan", str(tmp_path), "out", "--profile", "x.yaml") == ExitCode.CONFIGURATION
    assert "conservative" in capsys.readouterr().err


def test_a_memory_limit_below_the_least_names_the_least(
    soct: Soct, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert soct("plan", str(tmp_path), "out", "--memory", "1MB") == ExitCode.CONFIGURATION
    assert "at least 64MiB" in capsys.readouterr().err
