"""What the tests of images share: a copy of the project to build from, the base image, sample data."""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.containers.recipes import ROOT, read_definition

BUILD_S = 1500
RUN_S = 1200


def copy_project(folder: Path) -> Path:
    """Copy what the recipes copy, and themselves, into a folder of its own."""
    for name in read_definition().copied:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "wheels"))
        else:
            shutil.copy2(source, target)
    shutil.copy2(ROOT / ".dockerignore", folder)
    return folder


def base_tree(shared: Path) -> Path:
    """Return a folder with a Debian that stands in for the image of a registry; skip where there is none."""
    named = os.environ.get("APPTAINER_BASE")
    if named is None:
        setup = shared / "tools" / "setup-apptainer.sh"
        if not setup.exists():
            pytest.skip("no base image ($APPTAINER_BASE names a folder that holds a Debian)")
        done = call([setup], timeout=BUILD_S)
        named = done.stdout.splitlines()[-1]
    if not (Path(named) / "usr" / "bin" / "dpkg").exists():
        pytest.skip(f"{named} holds no Debian")
    return Path(named)


def call(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    timeout: float = RUN_S,
    environment: dict[str, str] | None = None,
    code: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends with a code."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=None if environment is None else os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    shown = " ".join(str(word) for word in command)
    assert done.returncode == code, f"{shown}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def differing_results(one: Path, other: Path) -> list[str]:
    """Return the names of all results of two runs that are not in both with the same bytes."""
    names = {
        str(path.relative_to(top))
        for top in (one, other)
        for path in top.glob("*/**/*")
        if path.is_file()
    }
    # Records, reports and metrics hold times, hosts and paths.
    told = {"state", "report_data", "metrics"}
    results = sorted(name for name in names if not told & set(Path(name).parts))
    assert len(results) > 100
    return [name for name in results if not _same(one / name, other / name)]


def _same(one: Path, other: Path) -> bool:
    if not (one.is_file() and other.is_file()):
        return False
    return filecmp.cmp(one, other, shallow=False)
