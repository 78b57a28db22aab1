"""Whether a cluster's nodes can give what a script asks for: a job that none of them can run waits for ever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from soct.errors import ConfigurationError
from soct.pipeline.planning.phases import Node, Phase
from soct.pipeline.slurm.cluster import ClusterNode
from soct.pipeline.slurm.script import slurm_time

_GIB = 1 << 30


def select_nodes(nodes: Iterable[ClusterNode], partition: str | None) -> tuple[ClusterNode, ...]:
    """Return the nodes of a partition, or of several with commas; None: of the default one."""
    if partition is None:
        return tuple(node for node in nodes if node.is_default)
    wanted = set(partition.split(","))
    return tuple(node for node in nodes if node.partition in wanted)


def largest(nodes: Sequence[ClusterNode]) -> Node:
    """Return the most that a job can have of each, as far as it is known."""
    return Node(
        cpus=max((n.cpus for n in nodes if n.cpus is not None), default=None),
        memory_bytes=max(
            (n.memory_bytes for n in nodes if n.memory_bytes is not None), default=None
        ),
        time_s=max((n.time_s for n in nodes if n.time_s is not None), default=None),
    )


def check_partition(nodes: Sequence[ClusterNode], partition: str | None, key: str) -> None:
    """Raise ConfigurationError where Slurm has no partition of this name.

    Parameters
    ----------
    nodes : sequence of ClusterNode
        All that Slurm tells of; none: nothing is checked.
    partition : str or None
        One name, or several with commas.
    key : str
        Where it was given, in the section ``slurm``.
    """
    known = sorted({node.partition for node in nodes})
    missing = [n for n in (partition or "").split(",") if n and n not in known]
    if known and missing:
        raise ConfigurationError(
            f"Slurm has no partition {', '.join(map(repr, missing))}",
            expected=f"one of: {', '.join(known)}",
            found=f"slurm.{key}: {partition}",
            hint=f"Correct slurm.{key} in the site file; sinfo lists the partitions.",
        )


def lacking(
    phases: Iterable[Phase],
    nodes: Sequence[ClusterNode],
    partition: str | None,
    gpu_partition: str | None = None,
) -> list[str]:
    """Return what phases ask for and no node of their partition has, a sentence each.

    Parameters
    ----------
    phases : iterable of Phase
    nodes : sequence of ClusterNode
        All that Slurm tells of.
    partition, gpu_partition : str or None
        Where phases go, and those with a GPU, as the site file has them.
    """
    found: dict[str, list[str]] = {}
    for phase in phases:
        name = gpu_partition if phase.gpu and gpu_partition is not None else partition
        for lack in _lacks_of(phase, select_nodes(nodes, name), name):
            found.setdefault(lack, []).append(phase.name)
    return [
        f"{lack}. Tasks of {', '.join(names)} would wait for ever" for lack, names in found.items()
    ]


def _lacks_of(phase: Phase, nodes: Sequence[ClusterNode], name: str | None) -> list[str]:
    if not nodes:
        return []
    place = f"partition {name}" if name else f"the default partition {nodes[0].partition}"
    most = largest(nodes)
    lacks = []
    if most.cpus is not None and phase.cpus > most.cpus:
        lacks.append(f"no node of {place} has {phase.cpus} cpus; the largest has {most.cpus}")
    if most.memory_bytes is not None and phase.memory_bytes > most.memory_bytes:
        lacks.append(
            f"no node of {place} has {_gib(phase.memory_bytes)} of memory; the largest has {_gib(most.memory_bytes)}"
        )
    if not lacks and not any(_fits(phase, node) for node in nodes):
        lacks.append(
            f"no node of {place} has both {phase.cpus} cpus and {_gib(phase.memory_bytes)} of memory"
        )
    limits = [node.time_s for node in nodes if node.time_s is not None]
    # One without a limit takes any job.
    if len(limits) == len(nodes) and phase.time_s > max(limits):
        lacks.append(
            f"a job in {place} may take {slurm_time(max(limits))}, and {slurm_time(phase.time_s)} is asked for"
        )
    return lacks


def _fits(phase: Phase, node: ClusterNode) -> bool:
    has_cpus = node.cpus is None or phase.cpus <= node.cpus
    return has_cpus and (node.memory_bytes is None or phase.memory_bytes <= node.memory_bytes)


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
