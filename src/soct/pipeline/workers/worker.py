"""What happens in a worker process: one unit from its inputs to outputs that are hashed and flushed.

Publishing is not done here. Only the process that holds the run folder's lock (or, of several, the unit's claim)
renames outputs and writes records, so a worker that outlives its run for a moment can harm nothing.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soct.errors import InputError, StepError, UserError
from soct.pipeline.events import Failure, UnitProgress
from soct.pipeline.folder.outputs import OutputRecord, find_damage, record_output
from soct.pipeline.folder.records import Record, RecordStore
from soct.pipeline.workers.executors import send_message
from soct.steps.declaration import Context, Params, Result, Step, Unit

if TYPE_CHECKING:
    from soct.pipeline.request import Fingerprint


@dataclass(frozen=True)
class Task:
    """All that a worker needs to compute one unit."""

    step: Step[Any]
    params: Params
    context: Context
    """Its output paths lie in `partial`."""
    run_folder: Path
    partial: Path
    names: Mapping[str, str]
    """``output name -> path`` below the step's folder."""
    sources: tuple[Unit, ...]
    """The units that are read."""
    raw: Mapping[int, Mapping[str, str]]
    """``slice -> fingerprint`` that the raw files must still have afterwards; empty where none are read."""
    fingerprint: Fingerprint | None


@dataclass(frozen=True)
class Done:
    """A unit that has written all its outputs."""

    result: Result
    outputs: tuple[OutputRecord, ...]
    seconds: float
    peak_memory_bytes: int
    host: str
    pid: int


@dataclass(frozen=True)
class Failed:
    """A unit that could not."""

    failure: Failure
    seconds: float
    damaged: tuple[tuple[Unit, str], ...] = ()
    """Units whose published outputs turned out to be damaged, and how: they are to be computed again."""
    disk_full: bool = False


def execute(task: Task) -> Done | Failed:
    """Run one unit. Never raises for what the step does: failures are results."""
    started = time.monotonic()
    _reset_peak_memory()
    try:
        with _threads(task.context.threads):
            result = task.step.run(task.context, task.params)
        if not isinstance(result, Result):
            raise TypeError(f"{task.step.id} returned {type(result).__name__} instead of a Result")
        _check_raw_unchanged(task)
        outputs = tuple(_outputs(task))
    except Exception as error:  # noqa: BLE001 - a failing unit must not stop the run
        return Failed(
            describe(task.context.unit, error),
            time.monotonic() - started,
            tuple(_damaged_sources(task.run_folder, task.sources)),
            _is_disk_full(error),
        )
    finally:
        _give_memory_back()
    return Done(
        result,
        outputs,
        time.monotonic() - started,
        _peak_memory(),
        socket.gethostname(),
        os.getpid(),
    )


def progress_of(unit: Unit) -> _Progress:
    """Return the callable that a step reports its progress to."""
    return _Progress(unit)


class _Progress:
    """Sends at most five messages per second."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._next = 0.0

    def __call__(self, fraction: float) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.2
            send_message(UnitProgress(self._unit, min(max(fraction, 0.0), 1.0)))


def describe(unit: Unit, error: BaseException) -> Failure:
    """Take an exception apart for storage and display."""
    if isinstance(error, UserError):
        return Failure(
            unit=unit,
            kind=type(error).__name__,
            message=error.message,
            file=error.file,
            expected=error.expected,
            found=error.found,
            hint=error.hint,
            mendable=True,
        )
    text = "".join(traceback.format_exception(error))
    return Failure(
        unit=unit, kind=type(error).__name__, message=str(error) or repr(error), traceback=text
    )


def worker_died(unit: Unit, cause: str, found: str, hint: str) -> Failed:
    """Return the failure of a unit whose worker did not live until it was done."""
    failure = Failure(
        unit=unit,
        kind="StepError",
        message=f"The unit could not be computed: {cause}",
        expected="a worker that lives until its unit is done",
        found=found,
        hint=hint,
        mendable=True,
    )
    return Failed(failure, 0.0)


def _outputs(task: Task) -> Iterator[OutputRecord]:
    for output in task.step.outputs:
        path = task.partial / task.names[output.name]
        if os.path.lexists(path):
            final = f"{task.step.id}/{task.names[output.name]}"
            yield record_output(output.name, path, final)
        elif not output.optional:
            raise StepError(
                f"{task.step.id} did not write its output {output.name}", file=path.name
            )


def _check_raw_unchanged(task: Task) -> None:
    if task.fingerprint is None or task.context.acquisition is None:
        return
    for slice_id, before in task.raw.items():
        after = task.fingerprint(task.context.acquisition.slices[slice_id])
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                raise InputError(
                    "An input file changed while it was read",
                    file=name,
                    expected=before.get(name, "no such file"),
                    found=after.get(name, "no such file"),
                    hint="Wait until the acquisition is complete, then run the same command again.",
                )


def _damaged_sources(run_folder: Path, units: tuple[Unit, ...]) -> Iterator[tuple[Unit, str]]:
    """Look for damage in what a failed unit had read."""
    store = RecordStore(run_folder)
    for unit in units:
        record = store.read(unit)
        if isinstance(record, Record):
            damage = find_damage(run_folder, record.outputs, deep=True)
            if damage:
                yield unit, damage
        elif record is None:
            # Another process found it damaged, and computes it again.
            yield unit, "its record is gone"


def _is_disk_full(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        # Storage libraries wrap the system's error in types of their own and keep its text.
        if "No space left on device" in str(seen) or "Disk quota exceeded" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@contextmanager
def _threads(count: int) -> Iterator[None]:
    if "numba" not in sys.modules:
        yield
        return
    from soct.compute.threads import limited

    with limited(count):
        yield


def _reset_peak_memory() -> None:
    """Let the kernel count the peak anew; where it cannot, the peak is that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_memory() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _give_memory_back() -> None:
    """Return freed memory to the system, so that one large unit does not burden all that follow."""
    gc.collect()
    # What is left lives as long as the process: modules, compiled kernels. It need not be looked at again.
    gc.freeze()
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
