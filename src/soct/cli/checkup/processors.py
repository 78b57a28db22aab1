"""Processors, memory and the limits on them, as a run will see them."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping

import psutil

from soct.cli.checkup.finding import Finding
from soct.compute import instruction_set
from soct.compute.limits import read_cpu_quota, read_memory_limit, slurm_cpus, slurm_memory
from soct.compute.threads import affine_cpus, available_cpus
from soct.pipeline.profiles.quantities import format_size
from soct.pipeline.resources import free_memory

LITTLE_MEMORY = 4e9
FEW_FILES = 1024
FEW_PROCESSES = 256


def look_at_processors() -> Finding:
    """Say how many processors a run uses, and what keeps it from the others."""
    usable, there = available_cpus(), os.cpu_count() or 1
    quota, job = read_cpu_quota(), slurm_cpus()
    limits = {"affinity": affine_cpus(), "control group": quota, "Slurm": job}
    binding = [name for name, n in limits.items() if n is not None and max(1, int(n)) < there]
    text = f"{usable}" if usable == there else f"{usable} of {there}, by {' and '.join(binding)}"
    values = {"usable": usable, "there": there, "affinity": limits["affinity"]}
    return Finding(
        "processors", "ok", text, values={**values, "quota": quota, "slurm_cpus_per_task": job}
    )


def look_at_instructions() -> Finding:
    """Say what kernels are compiled for."""
    level, notice = instruction_set.describe()
    values = {"level": level}
    if notice:
        return Finding("instruction set", "warning", level, notice, values)
    return Finding("instruction set", "ok", level, values=values)


def look_at_memory() -> Finding:
    """Say how much memory a run may take."""
    memory = psutil.virtual_memory()
    group, job, free = read_memory_limit(), slurm_memory(), free_memory()
    parts = [
        f"{format_size(free)} to use: {format_size(memory.available)} free of {format_size(memory.total)}"
    ]
    if group is not None:
        parts.append(f"control group {format_size(group.limit)}, {format_size(group.left)} left")
    if job is not None:
        parts.append(f"Slurm job {format_size(job)}")
    values = {
        "usable": free,
        "free": memory.available,
        "total": memory.total,
        "control_group": None if group is None else group.limit,
        "slurm": job,
    }
    if free < LITTLE_MEMORY:
        hint = "less than 4 GB: a real acquisition needs more; `soct plan` says how much"
        return Finding("memory", "warning", ", ".join(parts), hint, values)
    return Finding("memory", "ok", ", ".join(parts), values=values)


def look_at_limits() -> Finding:
    """Look at the limits of open files and processes."""
    files, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    values = {"open_files": _limit(files), "processes": _limit(processes)}
    text = f"{_shown(files)} open files, {_shown(processes)} processes and threads"
    if 0 <= files < FEW_FILES:
        hint = f"raise it: ulimit -n {_shown(most_files) if most_files > files else FEW_FILES}"
        return Finding("limits", "warning", text, hint, values)
    if 0 <= processes < FEW_PROCESSES:
        hint = "workers and their threads may not start: raise ulimit -u, or give --cpus"
        return Finding("limits", "warning", text, hint, values)
    return Finding("limits", "ok", text, values=values)


def _limit(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value


def _shown(value: int) -> str:
    return "any number of" if value == resource.RLIM_INFINITY else str(value)


def look_at_slurm(environment: Mapping[str, str] | None = None) -> Finding:
    """Say in which Slurm job this is."""
    import shutil

    variables = os.environ if environment is None else environment
    values = {
        name.lower(): variables.get(f"SLURM_{name}")
        for name in ("JOB_ID", "JOB_PARTITION", "CPUS_PER_TASK", "MEM_PER_NODE", "JOB_END_TIME", "ARRAY_TASK_ID")
    }  # fmt: skip
    has_client = shutil.which("sbatch") is not None
    values["sbatch"] = str(has_client).lower()
    if values["job_id"] is None:
        text = (
            "not in a job; sbatch is here: `soct slurm` writes scripts for it"
            if has_client
            else "not here"
        )
        return Finding("slurm", "ok", text, values=values)
    told = [
        f"{name} {value}"
        for name, value in values.items()
        if value and name not in ("job_id", "sbatch")
    ]
    return Finding("slurm", "ok", f"job {values['job_id']}: {', '.join(told)}", values=values)
