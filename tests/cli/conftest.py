from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.quick_soct import run_soct


@dataclass(frozen=True)
class Ended:
    """A process that is over."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def _environment(changes: Mapping[str, str] | None) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SOCT_SE")}
    return {**clean, "COLUMNS": "100", **(changes or {})}


@pytest.fixture
def soct(tmp_path: Path) -> Run:
    """Run `soct ARGUMENTS` in a process of its own, in an empty folder."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        done = run_soct(*arguments, cwd=tmp_path, env=_environment(env))
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def soct_from_the_start(tmp_path: Path) -> Run:
    """Run `soct ARGUMENTS` in a process that has imported nothing."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        code = "from soct.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            cwd=tmp_path,
            env=_environment(env),
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
