from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Ended:
    """A process that is over."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def soct(tmp_path: object) -> Run:
    """Run `soct ARGUMENTS` in a process of its own, in an empty folder."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
        code = "from soct.cli.main import main; main()"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SOCT_SE")}
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=str(tmp_path),
            env={**clean, "COLUMNS": "100", **(env or {})},
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
