"""What a run tells its listener while it works.

`soct.pipeline.runner.run` calls its listener with these, in order, from one thread. A listener that raises
ends the run as a bug would, so it should only draw and count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from soct.steps.declaration import Unit


@dataclass(frozen=True)
class Failure:
    """Why a unit failed, in parts that can be printed, stored and shown as a crash card."""

    unit: Unit
    kind: str
    """Name of the exception's class."""
    message: str
    file: str | None = None
    expected: str | None = None
    found: str | None = None
    hint: str | None = None
    mendable: bool = False
    """True for errors that the user can mend; then the traceback is of no interest."""
    traceback: str = ""


@dataclass(frozen=True)
class StepCount:
    """How many units of one step there are, and how many of them are to be computed."""

    step: str
    units: int
    to_run: int


@dataclass(frozen=True)
class RunPlanned:
    """The first event: what will be computed."""

    counts: tuple[StepCount, ...]
    """In pipeline order, with the steps of which nothing is to be computed."""
    raw_bytes: int
    workers: int
    seconds: float | None = None
    """How long it will take by the estimate; None where that is not known or not worth telling."""

    @property
    def to_run(self) -> int:
        """Number of units to compute."""
        return sum(count.to_run for count in self.counts)


@dataclass(frozen=True)
class UnitStarted:
    """A unit was handed to a worker."""

    unit: Unit
    reasons: tuple[str, ...]
    threads: int


@dataclass(frozen=True)
class UnitProgress:
    """A running unit says how far it is, from 0 to 1."""

    unit: Unit
    fraction: float


@dataclass(frozen=True)
class UnitFinished:
    """A unit's outputs and its record are published."""

    unit: Unit
    seconds: float
    peak_memory_bytes: int
    output_bytes: int
    status: Literal["ok", "warning", "error", "info"]
    """The worst status of its metrics; a bad metric does not make a unit fail."""
    warnings: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnitAdopted:
    """Another process computed a unit and published it."""

    unit: Unit
    seconds: float
    output_bytes: int
    host: str


@dataclass(frozen=True)
class UnitRetried:
    """A unit will run once more, because its worker died or an input of it turned out damaged."""

    unit: Unit
    reason: str


@dataclass(frozen=True)
class UnitFailed:
    """A unit failed; everything that depends on it will not run."""

    failure: Failure
    blocked: tuple[Unit, ...]


@dataclass(frozen=True)
class RunStopping:
    """The run was asked to stop, or its time is up; the units that run now are finished first."""

    reason: str
    dropping: bool
    """True when the running units are dropped instead (second Ctrl-C, or no time left)."""


@dataclass(frozen=True)
class Notice:
    """One sentence for the user that belongs to no unit."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True)
class RunEnded:
    """The last event, after all records are on disk."""

    state: Literal["complete", "failed", "stopped"]
    reason: str
    computed: int
    reused: int
    seconds: float


Event: TypeAlias = (
    RunPlanned
    | UnitStarted
    | UnitProgress
    | UnitFinished
    | UnitAdopted
    | UnitRetried
    | UnitFailed
    | RunStopping
    | Notice
    | RunEnded
)
Listener: TypeAlias = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
