"""What a run needs and what there is: disk and memory before it starts, memory and threads while it works."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from soct.compute.limits import read_memory_limit, slurm_memory
from soct.errors import ResourceError
from soct.pipeline.request import Resources

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition

MAIN_BYTES = 150 << 20
"""Resident memory of the main process: it plans and publishes, and imports no science."""
WORKER_BYTES = 300 << 20
"""Resident memory of a worker that has imported everything and holds no data."""
LEAST_UNIT_BYTES = 200 << 20
"""Below this no unit is worth starting."""
DISK_RESERVE = 64 << 20
"""Left free for records, metrics and the report."""


@dataclass(frozen=True)
class Budget:
    """How the processors and the memory of a run are shared out."""

    cpus: int
    workers: int
    memory_bytes: int
    """The promise: over all processes."""
    units_bytes: int
    """What is left of it for the data of the units that run at a time."""


def share_out(resources: Resources, largest_unit_bytes: int, units: int) -> Budget:
    """Decide how many workers there are, so that the promises hold.

    Parameters
    ----------
    resources : Resources
    largest_unit_bytes : int
        The least working memory of the unit that needs most.
    units : int
        How many units are to be computed.

    Raises
    ------
    ResourceError
        Not even one worker fits.
    """
    promised = resources.memory_bytes or free_memory() * 3 // 4
    least = max(LEAST_UNIT_BYTES, largest_unit_bytes)
    required = least_memory(largest_unit_bytes)
    if resources.memory_bytes is not None and promised < required:
        raise ResourceError(
            "The memory limit is too small for this run",
            expected=f"at least {shown(required)}",
            found=shown(promised),
            hint="Raise --memory.",
        )
    fitting = max(1, (promised - MAIN_BYTES) // (WORKER_BYTES + LEAST_UNIT_BYTES))
    workers = max(1, min(resources.cpus, fitting, units))
    left = max(promised - MAIN_BYTES - workers * WORKER_BYTES, least)
    return Budget(max(1, resources.cpus), workers, promised, left)


def least_memory(largest_unit_bytes: int) -> int:
    """Return the least ``--memory`` with which a run can work: one worker, and the unit that needs most."""
    return MAIN_BYTES + WORKER_BYTES + max(LEAST_UNIT_BYTES, largest_unit_bytes)


def free_memory() -> int:
    """Return the memory that this process may still take: of the machine, its control group, its Slurm job."""
    free = [int(psutil.virtual_memory().available)]
    group, job = read_memory_limit(), slurm_memory()
    if group is not None:
        free.append(group.left)
    if job is not None:
        free.append(job)
    return max(min(free), 0)


def check_disk(folder: Path, need_bytes: int) -> None:
    """Raise ResourceError where a folder's disk has less room than a run will take."""
    free = shutil.disk_usage(folder).free
    if need_bytes and free < need_bytes + DISK_RESERVE:
        raise ResourceError(
            "There is not enough disk space for this run",
            file=folder,
            expected=f"about {shown(need_bytes + DISK_RESERVE)} free",
            found=shown(free),
            hint="Make room, or choose a run folder on another disk; what is finished stays valid.",
        )


def check_gpu(wanted: str) -> None:
    """Raise ResourceError where a GPU is required and none can be used.

    A process of its own asks, for workers cannot be forked from one that has talked to a GPU.
    """
    from soct.compute.backend import gpu_missing

    if wanted != "require":
        return
    if importlib.util.find_spec("cupy") is None:
        raise gpu_missing("CuPy is not installed")
    ask = "from soct.compute.backend import find_gpu; print(find_gpu()[1])"
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, timeout=120, check=False
    )
    reason = done.stdout.strip() or (done.stderr.strip()[-200:] if done.returncode else "")
    if reason:
        raise gpu_missing(reason)


def raw_bytes(acquisition: Acquisition) -> int:
    """Return the size of all usable raw tiles, or of the files of the mosaic grids."""
    return sum(
        record.n_bytes
        if record.grid is None
        else sum(file.stat().st_size for file in record.grid.rglob("*") if file.is_file())
        for record in acquisition.slices.values()
    )


def shown(size: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit in ("B", "kB") else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"
