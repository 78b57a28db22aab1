"""What a step is: its parameters, its place in the graph, and one function.

A step module holds exactly a `Params` subclass, one `Step` and one function ``run(context, params)``.
The pipeline and the subcommand ``soct <step>`` call that same function. Everything a step may know about
its surroundings comes through `Context`; it never sees the profile, the run folder or the executor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition


class Params(BaseModel):
    """Base of every step's parameters: frozen, strict about unknown keys, NaN and infinity."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        use_enum_values=True,
    )


def parameter(
    default: Any,
    description: str,
    *,
    unit: str | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    keyed: bool = True,
    content: tuple[str, ...] = (),
) -> Any:
    """Declare one field of a `Params` class.

    Parameters
    ----------
    default : object
        The value when no profile says otherwise.
    description : str
        One sentence, shown in ``--help``, the JSON schema and the documentation.
    unit : str, optional
        ``um``, ``mm``, ``px``, ``deg``, ...
    ge, gt, le, lt : float, optional
        Allowed range.
    keyed : bool
        False for a parameter that cannot change the outputs: it stays out of the unit's key.
    content : tuple of str
        For a parameter that names a folder: patterns of the files in it that are read. The key then holds what is in
        these files, not where they lie; an empty value names no folder.
    """
    extra: dict[str, Any] = {"keyed": keyed}
    if content:
        extra["content"] = list(content)
    if unit is not None:
        extra["unit"] = unit
    return Field(
        default, description=description, ge=ge, gt=gt, le=le, lt=lt, json_schema_extra=extra
    )


class Scope(StrEnum):
    """What one unit of a step covers."""

    RUN = "run"
    SLICE = "slice"
    PAIR = "pair"


@dataclass(frozen=True, order=True)
class Unit:
    """A step applied to the whole run, to one slice, or to one pair (fixed, moving) of slices."""

    step: str
    slices: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """``run``, ``z03`` or ``z03_z04``: the name of the record file."""
        return "_".join(f"z{s:02d}" for s in self.slices) or "run"

    def __str__(self) -> str:
        return f"{self.step}:{self.name}"


@dataclass(frozen=True)
class Input:
    """The step whose outputs are read. Which of its units follows from both scopes.

    A run-scope unit is read by everyone; a slice unit by the same slice, by the pairs it belongs to, and by
    run-scope steps (all slices); a pair unit by the same pair and by run-scope steps (all pairs).
    """

    step: str
    optional: bool = False
    """True when the step may be switched off (`Params` with ``enabled = False``) and is then simply absent."""


@dataclass(frozen=True)
class Output:
    """A file or folder that one unit publishes, below ``{run}/{step}/``.

    ``template`` may use ``{slice:02d}`` (slice scope), ``{fixed:02d}`` and ``{moving:02d}`` (pair scope) and
    ``{subject}``.
    """

    name: str
    template: str
    optional: bool = False
    """True when a unit may finish without writing it (the record says which outputs are there)."""


@dataclass(frozen=True)
class Need:
    """What one unit will take, known before it starts.

    A step's `Step.estimate` says the sizes; the time follows from `Step.cost`, the files from its outputs.
    """

    disk_bytes: int = 0
    """Size of its outputs."""
    memory_bytes: int = 0
    """The least working memory with which it can run; `Context.memory_bytes` is at least this."""
    files: int = 0
    """Files of its outputs; 0: as many as outputs of that size and kind have."""
    cpu_seconds: float = 0.0
    """Processor time on the reference core (`Cost`)."""
    serial: float = 1.0
    """Part of that time which one thread spends alone."""

    def seconds(self, threads: int) -> float:
        """Return how long the unit takes on this many threads of the reference machine."""
        return self.cpu_seconds * (self.serial + (1 - self.serial) / max(1, threads))


@dataclass(frozen=True)
class Work:
    """How much data a unit covers, over all of its slices."""

    slices: int = 0
    tiles: int = 0
    raw_mvoxels: float = 0.0
    """Recorded voxels, in millions."""
    mvoxels: float = 0.0
    """Voxels of the tiles at the working resolution, in millions."""
    kept_mvoxels: float = 0.0
    """Voxels of the stitched slices as deep as they are kept below the cut surface, in millions."""
    mpixels: float = 0.0
    """Pixels of one plane of every stitched slice, in millions."""


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time that a unit takes on the reference core: a sum of rates times `Work`.

    Measured by ``benchmarks/plan_accuracy.py``, which prints how far they are off; the reference is that of
    `soct.pipeline.planning.pace`. They steer nothing that is computed: only what is told before, and batch jobs' limits.
    """

    unit: float = 0.02
    """Whatever the unit covers."""
    slice: float = 0.0
    tile: float = 0.0
    raw_mvoxel: float = 0.0
    mvoxel: float = 0.0
    kept_mvoxel: float = 0.0
    mpixel: float = 0.0
    serial: float = 1.0
    """Part of the time which one thread spends alone; the rest is shared by all threads."""
    most_tiles: str = ""
    """The parameter that says at how many tiles a unit looks at most; empty: at all."""

    def cpu_seconds(self, work: Work, params: Params | None = None) -> float:
        """Return the processor time for this much data."""
        seen = 1.0
        if self.most_tiles and work.tiles:
            seen = min(1.0, int(getattr(params, self.most_tiles, work.tiles)) / work.tiles)
        return (
            self.unit
            + self.slice * work.slices
            + self.tile * seen * work.tiles
            + self.raw_mvoxel * seen * work.raw_mvoxels
            + self.mvoxel * seen * work.mvoxels
            + self.kept_mvoxel * work.kept_mvoxels
            + self.mpixel * work.mpixels
        )


@dataclass(frozen=True)
class Metric:
    """One number (or word) that a unit reports; limits for it live in the profile, under its name."""

    name: str
    value: float | int | str | bool | None
    unit: str = ""
    description: str = ""
    tile: tuple[int, int] | None = None
    """Row and column, from 0 within the slice's grid, of the tile that the value is about."""
    places: tuple[tuple[int, ...], ...] = ()
    """Slices (or pairs) that the value comes from, the worst first: for a number of the whole run that has a place."""


def finite(value: float) -> float | None:
    """Return a number for a metric or a document: None where it was not measured."""
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class Decision:
    """A change to the slice ledger (`slice_config.csv`): column, value and the reason for it."""

    slice_id: int
    column: str
    value: str | float | bool
    reason: str


@dataclass(frozen=True)
class Result:
    """What a unit says of itself when it is done. Its data are in the output files."""

    metrics: tuple[Metric, ...] = ()
    warnings: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    fallbacks: tuple[str, ...] = ()
    """What ran otherwise than asked for, and why (a GPU that was absent, memory that was short)."""
    backend: str = "cpu"
    """What computed it: ``cpu``, or the GPU's name. Recorded, never part of the key."""
    notices: tuple[str, ...] = ()
    """Warnings of what the ledger or the list of input problems tells as well. Whoever watches the run reads
    them; the report, which shows those, does not say the same again."""


@dataclass(frozen=True)
class Context:
    """All that a step's function may know about its surroundings.

    Build one through the pipeline or, for a single step, through ``soct <step>``.
    """

    unit: Unit
    subject: str
    """Empty for steps whose output names do not contain it: it is not in their key."""
    slice_ids: tuple[int, ...]
    """The slices that the unit covers, ascending: all of the run (also those that the ledger excludes) at run
    scope, else the unit's own. Others would be a dependency that the unit's key does not know."""
    input_paths: Mapping[tuple[str, str], Mapping[tuple[int, ...], Path]]
    """``(step, output name) -> unit slices -> path`` of every published output of the upstream units."""
    output_paths: Mapping[str, Path]
    """``output name -> temporary path`` that the unit writes; the runner publishes it."""
    acquisition: Acquisition | None = None
    """The raw input, with the slices of `slice_ids`; only for steps that declare ``reads_raw``."""
    threads: int = 1
    memory_bytes: int = 2 << 30
    """The working memory that this unit may take."""
    gpu: Literal["auto", "off", "require"] = "off"
    progress: Callable[[float], None] = field(default=lambda fraction: None, compare=False)

    def has(self, step: str, name: str) -> bool:
        """Whether any upstream unit published this output."""
        return bool(self.input_paths.get((step, name)))

    def all(self, step: str, name: str) -> dict[tuple[int, ...], Path]:
        """Return every upstream unit's path of this output, keyed by the unit's slices."""
        return dict(self.input_paths.get((step, name), {}))

    def run(self, step: str, name: str) -> Path:
        """Return the output of a run-scope step."""
        return self.input_paths[step, name][()]

    def of_slice(self, step: str, name: str, slice_id: int) -> Path:
        """Return the output of a slice-scope step for one slice."""
        return self.input_paths[step, name][(slice_id,)]

    def mine(self, step: str, name: str) -> Path:
        """Return the output of an upstream step for this unit's own slice or pair."""
        return self.input_paths[step, name][self.unit.slices]

    def output(self, name: str) -> Path:
        """Where this unit writes an output."""
        return self.output_paths[name]


P = TypeVar("P", bound=Params)


@dataclass(frozen=True)
class Step(Generic[P]):
    """The declaration of a step. Adding a step is adding one module and its name in `soct.steps.STEPS`."""

    id: str
    version: int
    """Raised whenever the same inputs and parameters give other outputs: old results are computed again."""
    scope: Scope
    params: type[P]
    run: Callable[[Context, P], Result]
    summary: str
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    reads_raw: bool = False
    """The unit's key then contains the fingerprints of its slice's raw files (or of all, at run scope)."""
    estimate: Callable[[Acquisition, tuple[int, ...], Mapping[str, Any]], Need] | None = None
    """``(acquisition, slices the unit covers, parameters of every step by id) -> Need``, for the check of disk
    and memory before a run; from names and sizes alone. None: next to nothing."""
    cost: Cost = Cost()
    """How long a unit takes, for what is told before a run and for the limits of batch jobs."""
    leaves_out: Callable[[Acquisition, P], Mapping[int, str]] | None = None
    """``(acquisition, parameters) -> slice -> reason``: slices that cannot be part of a run, from names and sizes
    alone. They have no units and are bridged like slices that were never acquired."""
    check: Callable[[P, Mapping[str, Any]], None] | None = None
    """``(own parameters, parameters of every step by id)``: raises the `UserError` of what would fail only after
    hours, such as a missing file. Called before anything is computed; it reads, and never writes."""
    files: Callable[[P], tuple[Path, ...]] | None = None
    """Files outside of the run that the parameters name: digests of their content are part of the unit's key."""
    uses_gpu: bool = False
    """Whether it computes on a GPU where there is one; batch jobs ask for one by that."""
    example: str = ""
    """Options that the example command of the step's page needs."""
    cli_name: str | None = None
    """A shorter name for the subcommand; the default is the id with dashes."""

    @property
    def command(self) -> str:
        """The subcommand's name."""
        return self.cli_name or self.id.replace("_", "-")
