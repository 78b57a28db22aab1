"""What the report knows of a run: one frozen picture of the run folder, at any moment.

The pipeline builds a `RunView` from its records; every reportlet reads nothing else (and the figure files
that it names). So a report can be made while the run goes on, after it failed, and when raw data are gone.

Times are seconds since the first invocation of the run began, so that a run's order can be drawn without
clocks; calendar dates are text. Paths are text relative to the run folder, except those of `figures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from soct.quality.limits import QualityLimits

RunState: TypeAlias = Literal["complete", "partial", "failed", "running"]
"""``complete``: every unit is done; ``partial``: stopped or limited by a selection; ``failed``: a unit failed."""
UnitState: TypeAlias = Literal["done", "reused", "failed", "blocked", "pending", "running"]
"""``reused``: done by an earlier invocation; ``blocked``: a unit that it depends on failed."""
MetricValue: TypeAlias = float | int | str | bool | None
StatusName: TypeAlias = Literal["ok", "warning", "error", "info"]
FigureKey: TypeAlias = tuple[str, str]
"""``(step id, unit name)``; a unit's name is ``run``, ``z03`` or ``z03_z04``."""


@dataclass(frozen=True)
class MetricView:
    """One saved metric of one unit, judged when it was saved."""

    name: str
    value: MetricValue
    unit: str = ""
    description: str = ""
    status: StatusName = "info"
    tile: tuple[int, int] | None = None
    """Row and column, from 0 within the slice's grid, of the tile that the value is about."""
    places: tuple[tuple[int, ...], ...] = ()
    """Slices or pairs that a number of the whole run comes from, the worst first."""


@dataclass(frozen=True)
class DecisionView:
    """A change to the slice ledger by a step, with its reason."""

    slice_id: int
    column: str
    value: MetricValue
    reason: str


@dataclass(frozen=True)
class FailureView:
    """Why a unit failed."""

    kind: str
    """Name of the exception's class."""
    message: str
    file: str = ""
    expected: str = ""
    found: str = ""
    hint: str = ""
    traceback: str = ""
    """Empty for errors that the user can mend."""


@dataclass(frozen=True)
class OutputView:
    """One published file or folder."""

    name: str
    path: str
    bytes: int = 0
    checksum: str = ""
    """As recorded (a sha256, or the probe of a store)."""
    pixels: str = ""
    """Of an array store: a digest of its finest level's data alone, free of names and other metadata."""
    layout: str = ""
    """Of an array store: the digest of that level's metadata; only with equal ones can `pixels` be compared."""


@dataclass(frozen=True)
class UnitView:
    """A step applied to the run (no slices), to a slice, or to a pair (fixed, moving)."""

    step: str
    slices: tuple[int, ...] = ()
    state: UnitState = "pending"
    reason: str = ""
    """Why it ran (again), waits, or is blocked."""
    started_s: float | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    bytes_read: int | None = None
    """Raw bytes that the unit stands for, for MB/s."""
    threads: int | None = None
    backend: str = ""
    """``cpu`` or ``gpu``, as recorded."""
    worker: str = ""
    metrics: tuple[MetricView, ...] = ()
    warnings: tuple[str, ...] = ()
    decisions: tuple[DecisionView, ...] = ()
    fallbacks: tuple[str, ...] = ()
    failure: FailureView | None = None
    outputs: tuple[OutputView, ...] = ()

    @property
    def name(self) -> str:
        """``run``, ``z03`` or ``z03_z04``."""
        return "_".join(f"z{s:02d}" for s in self.slices) or "run"

    @property
    def finished(self) -> bool:
        """Whether its outputs are there."""
        return self.state in ("done", "reused")

    def metric(self, name: str) -> MetricView | None:
        """Return a metric by name, or None."""
        return next((m for m in self.metrics if m.name == name), None)

    def number(self, name: str) -> float | None:
        """Return a metric's value where it is a number, or None."""
        found = self.metric(name)
        if found is None or isinstance(found.value, bool | str) or found.value is None:
            return None
        return float(found.value)


@dataclass(frozen=True)
class StepView:
    """One step of the graph and its units in the order of their slices."""

    id: str
    summary: str = ""
    version: int = 1
    scope: Literal["run", "slice", "pair"] = "run"
    units: tuple[UnitView, ...] = ()


@dataclass(frozen=True)
class InvocationView:
    """One ``soct run`` on this folder. The first is the start, each further one a resume."""

    command: str
    started: str = ""
    """ISO 8601."""
    ended: str = ""
    outcome: str = ""
    """``complete``, ``running``, or what ended it: ``SIGTERM``, ``killed``, ``time limit``, ``2 units failed``."""
    host: str = ""
    cpus: int | None = None
    memory_bytes: int | None = None
    computed: int = 0
    reused: int = 0


@dataclass(frozen=True)
class LedgerRow:
    """The final decision about one slice."""

    slice_id: int
    used: bool = True
    reason: str = ""
    """Why it is not stacked from its own image."""
    decided_by: str = ""
    """``user`` or the step's id."""
    interpolated: bool = False
    missing: bool = False
    """True for a slice id inside the range that was never acquired."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The other columns of the ledger, as written."""


@dataclass(frozen=True)
class TileProblem:
    """A tile that is not there, or not as it should be."""

    slice_id: int
    row: int | None
    col: int | None
    kind: str
    """``missing_tile``, ``truncated``, ``duplicate``, ``unreadable``, ..."""
    message: str = ""
    file: str = ""
    expected: str = ""
    found: str = ""


@dataclass(frozen=True)
class SliceAcquisition:
    """What was found of one slice. Grid positions are (row, col)."""

    slice_id: int
    rows: int
    cols: int
    found: tuple[tuple[int, int], ...] = ()
    """Positions of readable tiles, counted from 0 within the slice's grid."""
    problems: tuple[TileProblem, ...] = ()
    stage_z_mm: float | None = None

    @property
    def expected(self) -> int:
        """Tiles in a full grid."""
        return self.rows * self.cols


@dataclass(frozen=True)
class MetadataView:
    """One acquisition fact, with where it came from."""

    name: str
    value: str
    unit: str = ""
    source: str = ""


@dataclass(frozen=True)
class AcquisitionView:
    """The input as it was found."""

    kind: Literal["raw", "grid"] = "raw"
    path: str = ""
    raw_bytes: int = 0
    slices: tuple[SliceAcquisition, ...] = ()
    missing_slices: tuple[int, ...] = ()
    metadata: tuple[MetadataView, ...] = ()
    ignored: tuple[str, ...] = ()
    fingerprints: tuple[tuple[str, str], ...] = ()
    """``(slice, fingerprint)`` of the input, as recorded."""


@dataclass(frozen=True)
class ParameterView:
    """One value of the resolved profile."""

    key: str
    """``step.parameter``, as it is written in YAML."""
    value: str
    unit: str = ""
    origin: str = "default"
    """``default``, the profile's file and line, ``SOCT_...``, ``--set``."""
    description: str = ""
    default: str | None = None
    """What it is where nobody sets it; None where that is not known."""


@dataclass(frozen=True)
class VolumeLevel:
    """One pyramid level of the final volume."""

    path: str
    shape: tuple[int, int, int]
    voxel_um: tuple[float, float, float]


@dataclass(frozen=True)
class VolumeView:
    """The final volume, as its metadata say."""

    path: str
    levels: tuple[VolumeLevel, ...] = ()
    dtype: str = "float32"
    codec: str = ""
    bytes: int = 0
    orientation: str = ""
    """Three letters in (z, y, x) order, or empty when unknown."""
    validation: str = ""
    """What the NGFF check said, empty when it did not run."""
    interpolated_planes: tuple[tuple[int, int], ...] = ()
    """``[first, last]`` planes made from neighbouring slices."""


@dataclass(frozen=True)
class RatingView:
    """What one person said of a run (see `soct.report.ratings` for the words)."""

    rater: str
    rating: str
    run: str
    """Key of the run that was rated (see `soct.report.identity`)."""
    artefacts: tuple[str, ...] = ()
    comment: str = ""
    time: str = ""
    """ISO 8601, or empty."""
    computed: str = ""
    """The verdict that the rated report showed."""
    soct_version: str = ""


@dataclass(frozen=True)
class RunView:
    """Everything the report says, in one place. All fields but the first two may stay empty."""

    subject: str
    state: RunState
    profile: str = "default"
    soct_version: str = ""
    invocations: tuple[InvocationView, ...] = ()
    steps: tuple[StepView, ...] = ()
    """In pipeline order, with units that have not run yet."""
    ledger: tuple[LedgerRow, ...] = ()
    """One row per slice, ascending, missing slices included."""
    acquisition: AcquisitionView = field(default_factory=AcquisitionView)
    parameters: tuple[ParameterView, ...] = ()
    limits: QualityLimits = field(default_factory=QualityLimits)
    limit_origins: tuple[tuple[str, str], ...] = ()
    """``(metric.part, origin)`` of the limits that a profile sets; all others are soct's own."""
    packages: tuple[tuple[str, str], ...] = ()
    """``(name, version)`` of what the results depend on, Python first."""
    container: str = ""
    """Digest of the container image, if any."""
    volume: VolumeView | None = None
    figures: Mapping[FigureKey, Path] = field(default_factory=dict)
    """The figure arrays that units saved. A missing or broken file is shown as such."""
    cpus: int | None = None
    memory_budget_bytes: int | None = None
    peak_memory_bytes: int | None = None
    wall_seconds: float | None = None
    """Over all invocations."""
    run_folder: str = ""
    """The folder's name, for commands to copy; never an absolute path."""
    ratings: tuple[RatingView, ...] = ()
    """What people said, also of earlier states of the run."""
    rating_faults: tuple[str, ...] = ()
    """Rating files that cannot be read, and why."""
    private: tuple[str, ...] = ()
    """Names and folders that no section shows by itself, but that may stand in a message: for redaction."""
    redacted: bool = False
    """Whether names and folders have been taken out."""
    key: str = ""
    """What `soct.report.identity.run_key` would find, where names have been taken out since."""

    def step(self, step_id: str) -> StepView | None:
        """Return a step by id, or None when this run's graph lacks it."""
        return next((s for s in self.steps if s.id == step_id), None)

    def units(self, step_id: str | None = None) -> Iterator[UnitView]:
        """Iterate over the units of one step, or of all steps."""
        for step in self.steps:
            if step_id is None or step.id == step_id:
                yield from step.units

    def numbers(self, step_id: str, metric: str) -> list[tuple[UnitView, float]]:
        """Return ``(unit, value)`` wherever a finished unit of the step saved this metric as a number."""
        pairs = ((u, u.number(metric)) for u in self.units(step_id) if u.finished)
        return [(unit, value) for unit, value in pairs if value is not None]

    def limit_origin(self, metric: str, part: str) -> str:
        """Return where a limit comes from: ``part`` is ``warning`` or ``error``."""
        found = dict(self.limit_origins)
        return found.get(f"{metric}.{part}", found.get(metric, "default"))

    def parameter(self, key: str) -> ParameterView | None:
        """Return a value of the resolved profile by ``step.parameter``, or None."""
        return next((p for p in self.parameters if p.key == key), None)
