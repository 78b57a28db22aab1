"""What one instruction set for all machines costs, and whether its results differ from the processor's own.

    python benchmarks/instruction_set.py INPUT [--profile conservative] [--cpus 2] [--repeats 3] [--folder DIR]

`soct run INPUT`, with kernels for x86-64-v3 (as soct does by itself) and for the processor that it runs on, in
turns, each in a fresh run folder. A first run of each fills a cache of its own. CPU seconds are those of all
processes of a run; the least of the repeats counts, because other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from soct.compute import instruction_set

_PR_SET_CHILD_SUBREAPER = 36
_TOLD_OF_THE_RUN = {"state", "report_data", "metrics"}
"""Folders whose files hold times and hosts."""


def own_variables() -> dict[str, str]:
    """Return what makes numba, numpy and OpenBLAS take all that this processor has."""
    import llvmlite.binding as llvm

    return {
        "NUMBA_CPU_NAME": llvm.get_host_cpu_name(),
        "NUMBA_CPU_FEATURES": llvm.get_host_cpu_features().flatten(),
        # Set and empty, so that soct sets nothing.
        "OPENBLAS_CORETYPE": "",
        "NPY_DISABLE_CPU_FEATURES": "",
    }


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run a command; return wall seconds and the CPU seconds of it and of all its descendants."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    # The process that workers are forked from ends a moment after the run, and is this one's child then.
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def digests(run_folder: Path) -> dict[str, str]:
    """Return the checksum of every file that holds results."""
    found = {}
    for path in sorted(run_folder.glob("*/**/*")):
        inside = path.relative_to(run_folder)
        if path.is_file() and not _TOLD_OF_THE_RUN & set(inside.parts):
            found[str(inside)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, nargs="?", help="raw tiles; simulated without")
    parser.add_argument("--profile", default="conservative")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for run folders and caches; kept")
    asked = parser.parse_args(arguments)
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="soct-instructions-"))
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    variants = {instruction_set.LEVEL: dict(instruction_set.choose()), "own": own_variables()}
    if not variants[instruction_set.LEVEL]:
        raise SystemExit(f"this processor lacks {instruction_set.LEVEL}")
    raw = asked.input
    if raw is None:
        soct_run("simulate", str(folder / "made"), "--preset", "demo")
        raw = folder / "made" / "raw"
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    results = {}
    for number in range(asked.repeats + 1):
        for name, variables in variants.items():
            target = folder / f"run-{name}"
            shutil.rmtree(target, ignore_errors=True)
            environment = os.environ | variables | {"SOCT_CACHE_DIR": str(folder / f"cache-{name}")}
            command = soct_command("run", str(raw), str(target), "--profile", asked.profile)
            taken = timed([*command, "--cpus", str(asked.cpus)], environment)
            if number:
                seconds[name].append(taken)
            results[name] = digests(target)
    tell(variants["own"]["NUMBA_CPU_NAME"], seconds, results)
    if asked.folder is None:
        shutil.rmtree(folder)


def tell(
    processor: str,
    seconds: dict[str, list[tuple[float, float]]],
    results: dict[str, dict[str, str]],
) -> None:
    print(f"{'compiled for':<28}{'CPU s (least)':>14}{'CPU s (all)':>28}{'wall s (least)':>16}")
    for name, taken in seconds.items():
        label = f"{name} ({processor})" if name == "own" else name
        every = " ".join(f"{cpu:.1f}" for _, cpu in taken)
        least = min(cpu for _, cpu in taken)
        print(f"{label:<28}{least:>14.1f}{every:>28}{min(wall for wall, _ in taken):>16.1f}")
    level, own = (min(cpu for _, cpu in taken) for taken in seconds.values())
    print(f"{instruction_set.LEVEL} takes {level / own:.3f} of the CPU time")
    one, other = results.values()
    differing = sorted(
        name for name in one.keys() | other.keys() if one.get(name) != other.get(name)
    )
    print(f"{len(one)} files of results, {len(differing)} differ")
    for name in differing[:20]:
        print(f"  {name}")


def soct_command(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("soct")), *words]


def soct_run(*words: str) -> None:
    subprocess.run(soct_command(*words), check=True, capture_output=True)


if __name__ == "__main__":
    main()
