"""How fast a machine is beside the reference that the steps' costs are declared for.

What units of the same run took is the best guide; without any, a small computation is timed. A pace is a factor
on the declared time: 2 means twice as long.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soct.steps.declaration import Need

REFERENCE_S = 0.0053
"""The probe on one core of the reference machine (a virtual core of an EPYC server), the least of many."""
PROBES = 7
LEAST_SECONDS = 0.05
"""Shorter units say nothing of a machine: they are start and fsync."""


@dataclass(frozen=True)
class Taken:
    """What a finished unit took, beside what was estimated for it."""

    step: str
    seconds: float
    threads: int
    need: Need


@dataclass(frozen=True)
class Pace:
    """Factors on the declared times.

    Attributes
    ----------
    by_step : mapping
        Steps of which units were measured.
    others : float
        All other steps.
    units : int
        How many units were measured; 0: a probe, or nothing.
    """

    by_step: Mapping[str, float]
    others: float = 1.0
    units: int = 0

    def of(self, steps: Iterable[str]) -> dict[str, float]:
        """Return ``step -> factor``."""
        return {step: self.by_step.get(step, self.others) for step in steps}

    @property
    def spread(self) -> float:
        """How far off an estimate may be, as a factor up and down."""
        return 1.4 if self.units else 2.0


def measure_pace(taken: Iterable[Taken]) -> Pace | None:
    """Return the pace of units that ran, None where none was long enough to tell."""
    actual: dict[str, float] = {}
    declared: dict[str, float] = {}
    count = 0
    for unit in taken:
        if unit.seconds >= LEAST_SECONDS:
            count += 1
            actual[unit.step] = actual.get(unit.step, 0.0) + unit.seconds
            declared[unit.step] = declared.get(unit.step, 0.0) + unit.need.seconds(unit.threads)
    total = sum(declared.values())
    if not total:
        return None
    by_step = {step: actual[step] / declared[step] for step in actual if declared[step]}
    return Pace(by_step, sum(actual.values()) / total, count)


def probe_pace() -> Pace:
    """Time a small computation on one thread: sorting and transforming, as the steps do."""
    import numpy as np

    values = np.random.default_rng(0).random((64, 4096), np.float32)
    best = min(_time_once(values) for _ in range(PROBES))
    return Pace({}, best / REFERENCE_S)


def _time_once(values: object) -> float:
    import numpy as np

    array = np.asarray(values)
    # Time of this thread, not of the wall: what else is at work now will not be at work in all of a run.
    started = time.thread_time()
    np.sort(array, axis=1)
    spectrum = np.fft.rfft(array, axis=1)
    np.fft.irfft(spectrum * np.conj(spectrum), axis=1)
    return time.thread_time() - started
