"""A site file for this machine, as a start."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping

from soct.compute.backend import has_nvidia
from soct.compute.threads import available_cpus
from soct.pipeline.resources import free_memory

_SLURM = (
    "# Where `soct slurm` sends jobs (docs/cluster.md has all keys; `sinfo` lists partitions):",
    "# slurm:",
    "#   partition: NAME",
    "#   account: NAME",
    "#   time: 4h",
)


def suggest_site(environment: Mapping[str, str] | None = None) -> str:
    """Return the text of a site file that fits the machine, and the Slurm job, that this process is in."""
    variables = os.environ if environment is None else environment
    in_job = "SLURM_JOB_ID" in variables
    share = 0.9 if in_job else 0.75
    memory = max(1, int(free_memory() * share / 1e9))
    lines = [
        "# Machine settings never change a byte of any result. Adapt it, and give it with --site FILE.",
        f"name: {platform.node() or 'here'}",
        f"cpus: {available_cpus()}",
        f"memory: {memory}GB # {share:.0%} of what is free now",
        f"gpu: {'auto' if has_nvidia() else 'off'}",
    ]
    if scratch := variables.get("SLURM_TMPDIR") or variables.get("TMPDIR"):
        lines.append(f"scratch: {scratch}")
    if in_job:
        named = (
            ("partition", "SLURM_JOB_PARTITION"),
            ("account", "SLURM_JOB_ACCOUNT"),
            ("qos", "SLURM_JOB_QOS"),
        )
        told = [f"  {key}: {variables[name]}" for key, name in named if variables.get(name)]
        lines += ["slurm:", *told] if told else []
    elif shutil.which("sbatch"):
        lines += _SLURM
    return "\n".join(lines) + "\n"
