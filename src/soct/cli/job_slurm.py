"""What ``soct slurm`` does: check as ``soct run`` would, share the plan out, print the batch script."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from soct.cli.job_container import by_path, find_outside, image_around, soct_commands
from soct.cli.job_run import Asked, load
from soct.cli.terminal import data, words
from soct.errors import ConfigurationError, ExitCode
from soct.pipeline.profiles.layers import SETTING_PREFIX, SITE_PREFIX
from soct.pipeline.profiles.quantities import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soct.pipeline.graph import Graph
    from soct.pipeline.planning.estimates import StepEstimate
    from soct.pipeline.planning.phases import Node, Phase, Wishes
    from soct.pipeline.planning.plan import Plan
    from soct.pipeline.profiles.profile import Profile
    from soct.pipeline.request import RunRequest
    from soct.pipeline.sites.site import Site
    from soct.pipeline.sites.slurm_settings import SlurmSite
    from soct.pipeline.slurm.cluster import ClusterNode
    from soct.pipeline.slurm.script import JobScript
    from soct.steps.declaration import Scope

_STOP_MARGIN_S = 120.0
"""A job is asked for so much more time than ``--max-runtime``, after which soct stops."""
_LOCAL = frozenset(("tmpfs", "ramfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "overlay"))
_ADDRESS = re.compile(r"[a-z]+://.+")


def print_script(asked: Asked, *, tasks: int | None = None, fail_on_quality: bool = False) -> int:
    """Print the script to stdout, and what it will ask for to stderr.

    Raises
    ------
    InputError, ConfigurationError, UsageError, ResourceError, NewerStateError
        As ``soct run`` does; and where the partition cannot run it.
    """
    from soct.pipeline.planning.phases import make_phases
    from soct.pipeline.resources import check_disk
    from soct.pipeline.runner import plan
    from soct.pipeline.slurm.cluster import ask_nodes
    from soct.pipeline.slurm.nodes import largest, select_nodes
    from soct.pipeline.slurm.script import told

    profile = load(asked)
    request = _request(asked, profile)
    planned = plan(request)
    check_disk(_nearest_existing(asked.output), planned.cost.disk_bytes)
    site = profile.site
    # Another cluster's nodes are not those that are told of here.
    nodes = () if _goes_elsewhere(site.slurm) else ask_nodes()
    _check_partitions(site.slurm, nodes)
    node = largest(select_nodes(nodes, site.slurm.partition))
    wishes = _wishes(asked, site, node, tasks)
    uses_gpu = site.gpu != "off" and (site.slurm.gpus is not None or site.gpu == "require")
    phases = make_phases(
        _selected_scopes(planned.graph),
        _estimates(planned, wishes, node),
        wishes,
        node,
        (name for name, step in planned.graph.steps.items() if step.uses_gpu and uses_gpu),
    )
    _check_time(phases, wishes.time_s or node.time_s)
    script = _script(asked, profile, request, phases, fail_on_quality=fail_on_quality)
    data(*script.text().splitlines())
    for phase in phases:
        words(told(phase))
    _warn_of_sizes(phases, site.slurm, nodes)
    _warn_of_binds(site.slurm)
    _warn(asked, planned.notices, nothing=not planned.to_compute)
    return ExitCode.OK


def _request(asked: Asked, profile: Profile) -> RunRequest:
    """Return the request without a look at this machine's GPU and caches: it will not do the work."""
    from soct.pipeline.asked_run import request_run
    from soct.pipeline.request import Selection

    selection = Selection(asked.first, asked.until, asked.only, asked.unit, asked.slices)
    return request_run(profile, asked.input, asked.output, selection=selection)


def _selected_scopes(graph: Graph) -> dict[str, Scope]:
    """Return the scopes of the steps that may run, in pipeline order."""
    selected = {chosen if isinstance(chosen, str) else chosen.step for chosen in graph.selected}
    return {name: step.scope for name, step in graph.steps.items() if name in selected}


def _wishes(asked: Asked, site: Site, node: Node, tasks: int | None) -> Wishes:
    """Return what is wanted of a task: the command line over the section ``slurm`` over the rest of the site."""
    from soct.pipeline.planning.phases import Wishes

    typed = asked.machine or {}
    time_s = site.slurm.time
    if site.max_runtime is not None and (typed.get("max_runtime") is not None or time_s is None):
        time_s = site.max_runtime + _STOP_MARGIN_S
    return Wishes(
        cpus=typed.get("cpus") or site.slurm.cpus or site.cpus,
        memory_bytes=typed.get("memory") or site.slurm.memory or site.memory,
        time_s=time_s,
        tasks=tasks or site.slurm.tasks,
    )


def _estimates(planned: Plan, wishes: Wishes, node: Node) -> list[StepEstimate]:
    """Return what the steps take on the nodes: as units of this run did, where some are finished."""
    from soct.pipeline.planning.estimates import estimate_steps
    from soct.pipeline.planning.pace import Pace, measure_pace
    from soct.pipeline.planning.phases import task_cpus
    from soct.steps.declaration import Scope

    pace = (measure_pace(planned.taken) or Pace({})).of(planned.graph.steps)
    whole = estimate_steps(planned, task_cpus(Scope.RUN, wishes, node), pace)
    shared = estimate_steps(planned, 1, pace)
    return [w if w.scope is Scope.RUN else s for w, s in zip(whole, shared, strict=True)]


def _check_time(phases: Sequence[Phase], limit_s: float | None) -> None:
    """Raise ConfigurationError where a unit alone is estimated to take longer than a job may run."""
    if limit_s is None:
        return
    for phase in phases:
        if phase.longest_unit_s > limit_s:
            raise ConfigurationError(
                f"A job's time is too short for the longest unit of the phase {phase.name!r}: "
                "it would be begun again and again",
                expected=f"more than {format_duration(phase.longest_unit_s)} by the estimate",
                found=format_duration(limit_s),
                hint="Raise slurm.time in the site file (or --max-runtime), or choose another partition.",
            )
        if 2 * phase.longest_unit_s > limit_s:
            words(
                f"note: the longest unit of the phase {phase.name!r} is estimated to take "
                f"{format_duration(phase.longest_unit_s)}, and a job has {format_duration(limit_s)}"
            )


def _goes_elsewhere(site: SlurmSite) -> bool:
    return any(re.match(r"--clusters?[= ]|-M", option) for option in site.sbatch)


def _check_partitions(site: SlurmSite, nodes: Sequence[ClusterNode]) -> None:
    """Raise ConfigurationError where the site file names a partition that Slurm does not have."""
    from soct.pipeline.slurm.nodes import check_partition

    check_partition(nodes, site.partition, "partition")
    check_partition(nodes, site.gpu_partition, "gpu_partition")


def _warn_of_sizes(phases: Sequence[Phase], site: SlurmSite, nodes: Sequence[ClusterNode]) -> None:
    """Say what no node has: it is asked for all the same, because it was said explicitly."""
    from soct.pipeline.slurm.nodes import lacking, select_nodes

    if not select_nodes(nodes, site.partition):
        why = "Slurm names no default partition" if nodes else "sinfo tells of no nodes here"
        if _goes_elsewhere(site):
            why = "jobs go to another cluster"
        words(
            f"note: {why}: processors, memory and time could not be checked against the nodes "
            "(sinfo, on a login node, lists them)"
        )
    for lack in lacking(phases, nodes, site.partition, site.gpu_partition):
        words(f"note: {lack}; see cpus, memory, time in the site file, or --cpus, --memory")


def _warn_of_binds(site: SlurmSite) -> None:
    from soct.pipeline.slurm.image import missing_sources

    # Within a container the folders of the machine cannot be seen.
    missing = [] if image_around() else missing_sources(site.binds)
    if site.container is not None and missing:
        words(
            f"note: slurm.binds names what does not exist on this machine: {', '.join(missing)}; "
            "on a node without it the container does not start"
        )


def _script(
    asked: Asked,
    profile: Profile,
    request: RunRequest,
    phases: tuple[Phase, ...],
    *,
    fail_on_quality: bool,
) -> JobScript:
    from soct.pipeline.slurm.script import JobScript

    site = profile.site
    outside = find_outside(site.slurm)
    plain, on_gpu = soct_commands(asked, site, request, outside)
    slurm = site.slurm
    if site.gpu == "require" and slurm.gpus is None:
        slurm = slurm.model_copy(update={"gpus": "1"})
    prefixes = (SETTING_PREFIX, SITE_PREFIX, "SOCT_CACHE_DIR")
    return JobScript(
        subject=profile.subject,
        folder=outside.path(asked.output.absolute()),
        here=outside.path(Path.cwd()),
        arguments=_arguments(asked, site, fail_on_quality=fail_on_quality),
        phases=phases,
        site=slurm,
        soct=plain,
        soct_on_gpu=on_gpu,
        gpu=site.gpu,
        until=asked.until,
        environment={k: v for k, v in os.environ.items() if k.startswith(prefixes)},
    )


def _arguments(asked: Asked, site: Site, *, fail_on_quality: bool) -> tuple[str, ...]:
    """Return the arguments of ``soct run`` that every task is given, with absolute paths."""
    typed = asked.machine or {}
    given: list[tuple[str, str | None]] = [
        ("profile", by_path(asked.profile)),
        *(("set", text) for text in asked.sets),
        ("subject", asked.subject),
        ("from", asked.first),
        ("only", asked.only),
        ("unit", _numbers(asked.unit, "run")),
        ("slices", _numbers(asked.slices)),
        ("site", None if asked.site is None else by_path(asked.site)),
        ("max-runtime", f"{typed['max_runtime']:.0f}s" if typed.get("max_runtime") else None),
    ]
    # With "=", so that a value that begins with a dash is no option.
    options = [f"--{name}={text}" for name, text in given if text is not None]
    flags = ["--fail-on-quality"] if fail_on_quality else []
    return (str(asked.input.absolute()), str(asked.output.absolute()), *options, *flags)


def _numbers(numbers: tuple[int, ...] | None, nothing: str | None = None) -> str | None:
    if numbers is None:
        return None
    return ",".join(map(str, numbers)) or nothing


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _warn(asked: Asked, notices: Sequence[str], *, nothing: bool) -> None:
    for notice in notices:
        words(f"note: {notice}")
    if nothing:
        words("note: nothing is left to compute")
    kind = _file_system(_nearest_existing(asked.output.absolute()))
    if kind in _LOCAL:
        words(
            f"note: {asked.output} lies on a disk of this machine ({kind}); on a cluster of more than "
            "one node it must lie on a file system that all of them share"
        )


def _file_system(folder: Path) -> str:
    """Return the kind of file system that a folder lies on."""
    import psutil

    place = folder.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if place.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""
