"""A run on the terminal: bars with the time left, or one line per step where nothing can be redrawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from soct.cli.terminal import is_interactive, words
from soct.pipeline import events
from soct.pipeline.folder.inert_text import make_inert
from soct.pipeline.profiles.quantities import format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from soct.steps.declaration import Unit

SILENCE_S = 30.0
_LEVELS = ("error", "warning", "info", "debug")


@contextmanager
def follow(log_level: str = "info", interactive: bool | None = None) -> Iterator[events.Listener]:
    """Yield a listener for `soct.pipeline.runner.run`.

    Parameters
    ----------
    log_level : str
        ``error``, ``warning``, ``info`` or ``debug``.
    interactive : bool, optional
        None asks the terminal.
    """
    if (is_interactive() if interactive is None else interactive) and log_level != "error":
        bars = _Bars(log_level)
        with bars.progress:
            yield bars
    else:
        yield _Lines(log_level)


@dataclass
class _StepTally:
    """What became of the units of one step in this run."""

    to_run: int
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    bytes: int = 0
    started: float | None = None
    fractions: dict[Unit, float] = field(default_factory=dict)
    noun: str = ""
    """What its units are: slices, pairs; empty for a unit that is the whole run."""

    @property
    def at_work(self) -> str:
        """``slice 3 of 6``: the one that is at work; empty where there is only one unit."""
        if not self.noun or self.to_run < 2:
            return ""
        at = min(self.done + self.failed + 1, self.to_run)
        return f"{self.noun.removesuffix('s')} {at} of {self.to_run}"

    @property
    def is_over(self) -> bool:
        return self.done + self.failed >= self.to_run

    @property
    def reached(self) -> float:
        return self.done + self.failed + sum(self.fractions.values())


class _Tallies:
    """Counts events; shared by both ways of showing them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began = clock()
        self.steps: dict[str, _StepTally] = {}

    def take(self, event: events.Event) -> None:
        if isinstance(event, events.RunPlanned):
            self.began = self.clock()
            self.steps = {c.step: _StepTally(c.to_run) for c in event.counts if c.to_run}
        elif isinstance(event, events.UnitStarted):
            tally = self.of(event.unit)
            tally.noun = ("", "slices", "pairs")[min(len(event.unit.slices), 2)]
            tally.started = tally.started or self.clock()
            tally.fractions[event.unit] = 0.0
        elif isinstance(event, events.UnitProgress):
            self.of(event.unit).fractions[event.unit] = event.fraction
        elif isinstance(event, events.UnitRetried):
            self.of(event.unit).fractions.pop(event.unit, None)
        elif isinstance(event, events.UnitFinished):
            tally = self.of(event.unit)
            tally.fractions.pop(event.unit, None)
            tally.done += 1
            tally.seconds += event.seconds
            tally.bytes += event.output_bytes
        elif isinstance(event, events.UnitAdopted):
            tally = self.of(event.unit)
            tally.noun = ("", "slices", "pairs")[min(len(event.unit.slices), 2)]
            tally.started = tally.started or self.clock()
            tally.done += 1
            tally.bytes += event.output_bytes
        elif isinstance(event, events.UnitFailed):
            for unit in (event.failure.unit, *event.blocked):
                self.of(unit).fractions.pop(unit, None)
                self.of(unit).failed += 1

    def of(self, unit: Unit) -> _StepTally:
        return self.steps.setdefault(unit.step, _StepTally(1))

    @property
    def fraction(self) -> float:
        total = sum(tally.to_run for tally in self.steps.values())
        return min(1.0, sum(t.reached for t in self.steps.values()) / total) if total else 1.0

    @property
    def seconds_left(self) -> float | None:
        spent = self.clock() - self.began
        return spent * (1 - self.fraction) / self.fraction if self.fraction > 0.02 else None


def _wanted(level: str, log_level: str) -> bool:
    return _LEVELS.index(level) <= _LEVELS.index(log_level)


def remarks(event: events.Event) -> Iterator[tuple[str, str]]:
    """Yield ``(level, sentence)`` for what an event says beyond numbers."""
    if isinstance(event, events.Notice):
        yield event.level, f"note: {event.text}"
    elif isinstance(event, events.UnitStarted):
        yield "debug", f"{event.unit}: {'; '.join(event.reasons)} ({event.threads} threads)"
    elif isinstance(event, events.UnitRetried):
        yield "warning", f"{event.unit}: once more: {event.reason}"
    elif isinstance(event, events.UnitFinished):
        for text in (*event.warnings, *event.fallbacks):
            yield "warning", f"{event.unit}: {text}"
        peak = format_size(event.peak_memory_bytes)
        yield "debug", f"{event.unit}: {format_duration(event.seconds)}, peak {peak}"
    elif isinstance(event, events.UnitAdopted):
        yield "debug", f"{event.unit}: computed on {event.host}"
    elif isinstance(event, events.UnitFailed):
        yield "error", f"FAILED {event.failure.unit}: {event.failure.message}"
    elif isinstance(event, events.RunStopping):
        how = "dropping what runs" if event.dropping else "finishing what runs"
        yield "warning", f"stopping ({event.reason}): {how}"


class _Lines:
    """One line per step, and one when nothing was said for `SILENCE_S`."""

    def __init__(
        self,
        log_level: str,
        say: Callable[[str], None] = words,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._level = log_level
        self._emit = say
        self._tallies = _Tallies(clock)
        self._told: set[str] = set()
        self._last = clock()

    def __call__(self, event: events.Event) -> None:
        """Take one event of the run."""
        self._tallies.take(event)
        for level, text in remarks(event):
            self._say(level, text)
        if isinstance(event, events.RunPlanned):
            size = format_size(event.raw_bytes)
            text = (
                f"{event.to_run} units to compute, {size} of input, {event.workers} workers"
                f"{_told_time(event)}"
            )
            self._say("info", text if event.to_run else "nothing to compute: all is up to date")
        self._tell_steps()
        if self._tallies.clock() - self._last >= SILENCE_S:
            self._say("info", self._summary())

    def _say(self, level: str, text: str) -> None:
        if _wanted(level, self._level):
            self._last = self._tallies.clock()
            self._emit(text)

    def _tell_steps(self) -> None:
        steps = self._tallies.steps
        for step, tally in steps.items():
            if step in self._told or not tally.is_over:
                continue
            self._told.add(step)
            if tally.done or tally.failed:
                failed = f", {tally.failed} FAILED" if tally.failed else ""
                what = "done" if tally.done else "not done"
                if tally.noun:
                    what = f"{tally.done} of {tally.to_run} {tally.noun}"
                wall = self._tallies.clock() - (tally.started or self._tallies.began)
                self._say(
                    "info",
                    f"[{len(self._told)}/{len(steps)} steps] {step}: {what}{failed}, "
                    f"{format_duration(wall)}, {format_size(tally.bytes)}",
                )

    def _summary(self) -> str:
        left = self._tallies.seconds_left
        busy = [
            f"{step} {tally.at_work}".rstrip()
            for step, tally in self._tallies.steps.items()
            if tally.fractions
        ]
        ends = f", about {format_duration(left)} left" if left is not None else ""
        return f"... {self._tallies.fraction:.0%}{ends}: {', '.join(busy) or 'waiting'}"


class _Bars:
    """A bar for the run and one for each step that is at work."""

    def __init__(self, log_level: str) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from soct.cli.terminal import words_console

        self._level = log_level
        self._tallies = _Tallies()
        self._tasks: dict[str, TaskID] = {}
        self._whole: TaskID | None = None
        self.progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=words_console(),
            refresh_per_second=5,
        )

    def __call__(self, event: events.Event) -> None:
        """Take one event of the run."""
        self._tallies.take(event)
        for level, text in remarks(event):
            if _wanted(level, self._level):
                self.progress.console.print(make_inert(text))
        if isinstance(event, events.RunPlanned):
            name = f"all units{_told_time(event)}"
            self._whole = self.progress.add_task(name, total=max(event.to_run, 1))
            if not event.to_run:
                self.progress.update(self._whole, completed=1)
        self._draw()

    def _draw(self) -> None:
        steps = self._tallies.steps
        for step, tally in steps.items():
            if tally.started is None:
                continue
            if step not in self._tasks:
                self._tasks[step] = self.progress.add_task(make_inert(step), total=tally.to_run)
            self.progress.update(self._tasks[step], completed=round(tally.reached, 2))
        if self._whole is not None and steps:
            reached = sum(tally.reached for tally in steps.values())
            self.progress.update(self._whole, completed=round(reached, 2))


def _told_time(event: events.RunPlanned) -> str:
    return f", about {format_duration(event.seconds)}" if event.seconds else ""
