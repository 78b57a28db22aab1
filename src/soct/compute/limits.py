"""What this process may take of the machine: by its control group, and by the Slurm job it runs in.

A container or a batch job sees the whole machine and may use a part of it. Control groups of both versions are
read, from the process's own upwards: the tightest limit counts. Every reader takes the root of the file system,
so that tests can lay one out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 1 << 60
"""Version 1 says "no limit" with a number near 2^63."""


@dataclass(frozen=True)
class MemoryLimit:
    """A limit of a control group, in bytes."""

    limit: int
    used: int

    @property
    def left(self) -> int:
        """What may still be taken."""
        return max(0, self.limit - self.used)


def read_memory_limit(root: Path = Path("/")) -> MemoryLimit | None:
    """Return the limit of memory that leaves least, None where there is none."""
    names = {
        2: ("memory.max", "memory.current"),
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    }
    found = []
    for version, folder in _groups(root, "memory"):
        limit, used = (_number(folder / name) for name in names[version])
        if limit is not None and limit < _NO_LIMIT:
            # Files that were read long ago count as used, and give way when memory is asked for.
            idle = _statistic(folder / "memory.stat", ("inactive_file", "total_inactive_file"))
            found.append(MemoryLimit(limit, max(0, (used or 0) - idle)))
    return min(found, key=lambda group: group.left, default=None)


def read_cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many processors' time the control group grants, None without a limit."""
    found = []
    for version, folder in _groups(root, "cpu"):
        if version == 2:
            quota, period = (*_words(folder / "cpu.max"), "", "")[:2]
        else:
            quota = "".join(_words(folder / "cpu.cfs_quota_us"))
            period = "".join(_words(folder / "cpu.cfs_period_us"))
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def slurm_cpus(environment: Mapping[str, str] | None = None) -> int | None:
    """Return the processors of this task of a Slurm job; None outside of one, or where it does not say."""
    variables = os.environ if environment is None else environment
    return _positive(variables.get("SLURM_CPUS_PER_TASK")) if "SLURM_JOB_ID" in variables else None


def slurm_memory(environment: Mapping[str, str] | None = None) -> int | None:
    """Return the memory in bytes of a Slurm job on this node; None outside of one, or where it has all."""
    variables = os.environ if environment is None else environment
    if "SLURM_JOB_ID" not in variables:
        return None
    whole = _positive(variables.get("SLURM_MEM_PER_NODE"))
    if whole is not None:
        return whole << 20
    each = _positive(variables.get("SLURM_MEM_PER_CPU"))
    count = _positive(variables.get("SLURM_CPUS_ON_NODE")) or slurm_cpus(variables) or 1
    return None if each is None else each * count << 20


def _positive(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and int(text) > 0 else None


def _groups(root: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Yield version and folder of the control groups that hold this process, from its own upwards."""
    base = root / "sys/fs/cgroup"
    for version, tree, name in _memberships(root, controller):
        top = base / tree
        path = top / name.strip("/")
        # Inside a container the name may be that of the host, of which nothing is to be seen.
        path = path if path.is_dir() and ".." not in name else top
        while True:
            yield version, path
            if path == top:
                break
            path = path.parent


def _memberships(root: Path, controller: str) -> Iterator[tuple[int, str, str]]:
    """Yield ``(version, tree below /sys/fs/cgroup, group)``; the top of both where the process is not told."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/", f"1:{controller}:/"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if not controllers:
            yield 2, "", name
        elif controller in controllers.split(","):
            yield 1, controller, name


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else None


def _statistic(path: Path, names: tuple[str, ...]) -> int:
    words = _words(path)
    pairs = dict(zip(words[::2], words[1::2], strict=False))
    return max((int(pairs[name]) for name in names if pairs.get(name, "").isdigit()), default=0)
