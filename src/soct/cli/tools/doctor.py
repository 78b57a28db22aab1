"""Check this machine: processors, memory, disk, caches, compiled kernels, GPU, file locks."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

import soct
from soct.cli import options
from soct.cli.terminal import data, data_json
from soct.errors import ExitCode
from soct.pipeline.quantities import format_size

_LITTLE_DISK = 20e9
_LITTLE_MEMORY = 4e9


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    status: Literal["ok", "warning", "error"]
    found: str
    hint: str = ""


def command(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Check disk and locks here.")
    ] = Path(),
    as_json: options.Json = False,
) -> int:
    """Check this machine: processors, memory, disk, caches, compiled kernels, GPU, file locks."""
    return tell_health(folder, as_json=as_json)


def tell_health(folder: Path, *, as_json: bool) -> int:
    """Print all findings.

    Returns
    -------
    int
        0 unless a finding is an error, then that of missing resources.
    """
    checks = examine(folder)
    if as_json:
        data_json([asdict(check) for check in checks])
    else:
        for check in checks:
            data(f"{check.status:<8} {check.name:<15} {check.found}")
            if check.hint:
                data(f"{'':<24} {check.hint}")
    bad = any(check.status == "error" for check in checks)
    return ExitCode.RESOURCES if bad else ExitCode.OK


def examine(folder: Path) -> list[Check]:
    """Run every check; one that fails to run is a finding itself."""
    looks: list[tuple[str, Callable[[], Check]]] = [
        ("soct", _versions),
        ("processors", _processors),
        ("memory", _memory),
        ("memory limit", _cgroup),
        ("disk", lambda: _disk(folder)),
        ("temporary files", lambda: _temporary()),
        ("file locks", lambda: _locks(folder)),
        ("cache", _cache),
        ("numba", _numba),
        ("gpu", _gpu),
        ("cupy", _cupy),
    ]
    return [_guarded(name, look) for name, look in looks]


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - the other checks must run
        return Check(name, "error", f"{type(error).__name__}: {error}")


def _versions() -> Check:
    text = f"{soct.__version__}, python {platform.python_version()} on {platform.platform()}"
    supported = (3, 11) <= sys.version_info[:2] < (3, 15)
    hint = "" if supported else "soct is tested with python 3.11 to 3.14"
    return Check("soct", "ok" if supported else "warning", text, hint)


def _processors() -> Check:
    from soct.compute.threads import available_cpus

    usable, there = available_cpus(), os.cpu_count() or 1
    text = f"{usable}" if usable == there else f"{usable} of {there}: this process may not use all"
    return Check("processors", "ok", text)


def _memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    text = f"{format_size(memory.available)} free of {format_size(memory.total)}"
    little = memory.available < _LITTLE_MEMORY
    hint = "less than 4 GB: a real acquisition needs more" if little else ""
    return Check("memory", "warning" if little else "ok", text, hint)


def _cgroup() -> Check:
    limit = read_cgroup_limit()
    return Check("memory limit", "ok", "none" if limit is None else format_size(limit))


def read_cgroup_limit(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the memory limit of a container or batch job in bytes, None where there is none."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = (root / name).read_text().strip()
        except OSError:
            continue
        # Version 1 says "no limit" with a number near 2^63.
        if text.isdigit() and int(text) < 1 << 60:
            return int(text)
    return None


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    little = free < _LITTLE_DISK
    hint = "an acquisition takes about twice its raw size" if little else ""
    return Check(
        "disk", "warning" if little else "ok", f"{format_size(free)} free in {folder}", hint
    )


def _temporary() -> Check:
    folder = tempfile.gettempdir()
    with tempfile.TemporaryFile():
        free = shutil.disk_usage(folder).free
    return Check("temporary files", "ok", f"{format_size(free)} free in {folder}")


def _locks(folder: Path) -> Check:
    import fcntl

    with tempfile.NamedTemporaryFile(dir=folder, prefix=".soct-doctor-") as first:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with Path(first.name).open("rb") as second:
            try:
                fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Check("file locks", "ok", f"work in {folder}")
    hint = "keep run folders elsewhere: two runs on one folder would not notice each other"
    return Check("file locks", "error", f"do not work in {folder}", hint)


def _cache() -> Check:
    from soct.compute.caches import cache_folder

    path = cache_folder()
    if path is None:
        hint = "set SOCT_CACHE_DIR; until then every process compiles anew"
        return Check("cache", "warning", "no writable folder", hint)
    return Check("cache", "ok", str(path))


def _numba() -> Check:
    from soct.compute import caches

    caches.prepare()
    import numba

    layer = f"numba {numba.__version__}, {numba.config.NUMBA_NUM_THREADS} threads"
    compiled = numba.njit(lambda x: x + 1)(1)
    return Check("numba", "ok" if compiled == 2 else "error", layer)


def _gpu() -> Check:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check("gpu", "ok", "none found (no nvidia-smi); not needed")
    done = subprocess.run(
        [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    if done.returncode != 0:
        return Check("gpu", "warning", f"nvidia-smi fails: {done.stderr.strip()[:200]}")
    return Check("gpu", "ok", "; ".join(done.stdout.split("\n")).strip("; "))


def _cupy() -> Check:
    if importlib.util.find_spec("cupy") is None:
        return Check(
            "cupy",
            "ok",
            "not installed; not needed, a GPU only speeds up rendering and bias fields",
        )
    ask = "from soct.compute.backend import find_gpu; g, r = find_gpu(); print(g.name if g else r)"
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, timeout=120, check=False
    )
    return Check("cupy", "ok" if done.returncode == 0 else "warning", done.stdout.strip())
