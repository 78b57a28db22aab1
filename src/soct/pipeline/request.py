"""What a caller asks of a run, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from soct.compute.threads import available_cpus
from soct.errors import ExitCode
from soct.pipeline.events import Failure
from soct.steps.declaration import Metric, Params, Step, Unit

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition, SliceRecord

Status: TypeAlias = Literal["ok", "warning", "error", "info"]
Assess: TypeAlias = Callable[[str, Metric], Status]
"""``(step id, metric) -> status`` by the profile's quality limits; ``info`` where there is no limit."""
Fingerprint: TypeAlias = "Callable[[SliceRecord], Mapping[str, str]]"
ExecutorFactory: TypeAlias = Callable[[int], Executor]
"""``number of workers -> executor``; called again with fewer workers after one broke."""


DASK_WAIT_S = 300.0
"""How long a run waits for a Dask worker where nobody says otherwise."""


def without_limits(step: str, metric: Metric) -> Status:
    """Every metric is information only: the assessment when no quality limits are given."""
    return "info"


@dataclass(frozen=True)
class Selection:
    """Which part of the graph may run. What lies outside is read as it is on disk, never computed."""

    first: str | None = None
    """``--from``: nothing before this step, in pipeline order, runs."""
    last: str | None = None
    """``--until``: nothing after this step runs."""
    only: str | None = None
    """``--only``: nothing but this step runs."""
    unit: tuple[int, ...] | None = None
    """``--unit``: with `only`, the slices of the one unit that runs; ``()`` is the run unit."""
    slices: tuple[int, ...] | None = None
    """``--slices``: the run is made of these slices alone."""


@dataclass(frozen=True)
class Resources:
    """What a run may take. None of this changes a byte of any output."""

    cpus: int = field(default_factory=available_cpus)
    memory_bytes: int | None = None
    """A promise over all processes of the run; None: three quarters of what is free at the start."""
    gpu: Literal["auto", "off", "require"] = "off"
    max_runtime_s: float | None = None
    executor: ExecutorFactory | None = None
    """None: processes on this machine, or what `dask` says."""
    dask: str | None = None
    """``local``, an address or the path of a scheduler file: Dask workers compute (`soct.pipeline.workers.pools`)."""
    dask_wait_s: float = DASK_WAIT_S
    """How long a run waits while no Dask worker can take a unit."""
    preload: tuple[str, ...] = ("numba",)
    """Modules that every worker process imports before its first unit."""


@dataclass(frozen=True)
class RunRequest:
    """Everything `soct.pipeline.runner.run` needs; nothing else is read from the surroundings.

    `soct.pipeline.asked_run.request_run` builds one from a loaded profile.
    """

    input: Path
    folder: Path
    """The run folder; made if absent."""
    subject: str
    params: Mapping[str, Params]
    """Parameters of every step of the graph."""
    steps: Mapping[str, Step[Any]]
    """Declarations in pipeline order (`soct.steps.registry.load_steps`)."""
    selection: Selection = field(default_factory=Selection)
    resources: Resources = field(default_factory=Resources)
    profile: Mapping[str, Any] = field(default_factory=dict)
    """The resolved profile with the origin of its values, JSON-able: kept in run.json, read by nobody here."""
    assess: Assess = without_limits
    assess_digest: str = ""
    """Changes whenever `assess` would judge otherwise; then stored verdicts are written again."""
    command: str = ""
    """The command line, for the history and for whoever finds the folder locked."""
    acquisition: Acquisition | None = None
    """The opened input; None: `soct.formats.acquisition.open_acquisition` is called."""
    join: bool = False
    """Whether other processes may work in the run folder at the same time, as this one does."""
    write_report: Callable[[], object] | None = None
    """With `join`, called by the one process that is to write the report, before it leaves the others."""
    fingerprint: Fingerprint | None = None
    """None: `soct.formats.acquisition.fingerprint_slice`."""


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended. `soct.pipeline.runner.run` returns one also after failures and stops."""

    state: Literal["complete", "failed", "stopped"]
    exit_code: ExitCode
    reason: str
    """``complete``, or what stopped it: ``SIGTERM``, ``SIGINT``, ``time limit``, ``3 units failed``."""
    computed: tuple[Unit, ...]
    reused: int
    failures: tuple[Failure, ...]
    blocked: tuple[Unit, ...]
    """Units that did not run because one that they depend on failed."""
    pending: int
    """Units that did not run because the run was stopped."""
    seconds: float
    peak_memory_bytes: int
    """Largest resident memory seen over all processes of the run, sampled."""
    worst_status: Status
    """Over the metrics of all finished units; ``error`` is what ``--fail-on-quality`` looks at."""
    reports: bool = True
    """Whether the report is this process's: of several that work together, one writes it."""
    elsewhere: int = 0
    """How many units other processes computed meanwhile."""
