"""The crash file: what a developer needs after an internal error, without the user's home in it."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

import soct

_PACKAGES = ("numpy", "scipy", "numba", "zarr", "SimpleITK", "pydantic", "typer", "cupy")


def write_crash_file(error: BaseException, arguments: list[str]) -> Path | None:
    """Write a crash file where something may be written.

    Parameters
    ----------
    error : BaseException
        The bug, with its traceback.
    arguments : list of str
        The command line without the program.

    Returns
    -------
    Path or None
        The file; None where no folder can be written to.
    """
    text = redact(describe(error, arguments))
    name = f"soct-crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for find_folder in (Path.cwd, lambda: Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            path = find_folder() / name
            with path.open("x", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            return path
    return None


def describe(error: BaseException, arguments: list[str]) -> str:
    """Return command, versions, machine and traceback as text."""
    lines = [
        f"soct {soct.__version__} ended with an internal error.",
        "",
        f"command: soct {' '.join(arguments)}",
        f"python:  {sys.version.split()[0]} on {platform.platform()}",
        f"folder:  {_working_folder()}",
        *(f"{package}: {version}" for package, version in _versions().items()),
        "",
        *traceback.format_exception(error),
    ]
    return "\n".join(line.rstrip("\n") for line in lines) + "\n"


def _working_folder() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "(removed)"


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def redact(text: str) -> str:
    """Replace the home folder and the user's name in paths by ``~``."""
    home = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    if home in ("~", "/", ""):
        return text
    return text.replace(str(Path(home).resolve()), "~").replace(home, "~")
