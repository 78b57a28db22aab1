"""Signals and time limits, turned into one answer: go on, stop, or drop what runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from soct.errors import ExitCode

GRACE_S = 10.0
"""How long running units may go on after a stop was asked for; all must be over within 20 s."""
SLURM_MARGIN_S = 60.0
"""How long before Slurm ends the job a run stops by itself."""


class StopControl:
    """Listens to SIGINT, SIGTERM, SIGUSR1 and the clock while its block runs.

    Parameters
    ----------
    max_runtime_s : float, optional
        Counted from the construction.
    again : bool
        SIGTERM, too, ends with the code that says "call me again", as batch systems take it.
    """

    def __init__(self, max_runtime_s: float | None = None, *, again: bool = False) -> None:
        self.reason: str | None = None
        """What asked for the stop: ``SIGINT``, ``SIGTERM``, ``SIGUSR1``, ``time limit``, or None."""
        self._again = again
        self._asked_at = 0.0
        self._drop_now = False
        self._deadline = _deadline(max_runtime_s)
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopControl:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            self._drop_now = True
        self.ask(signal.Signals(number).name)

    def ask(self, reason: str) -> None:
        """Ask for a stop; the first reason stays."""
        if self.reason is None:
            self.reason = reason
            self._asked_at = time.monotonic()

    def is_asked(self) -> bool:
        """Whether nothing new should be started."""
        if self.reason is None and time.monotonic() >= self._deadline:
            self.ask("time limit")
        return self.reason is not None

    def must_drop(self) -> bool:
        """Whether the units that still run should be dropped."""
        if not self.is_asked():
            return False
        return self._drop_now or time.monotonic() >= self._asked_at + GRACE_S

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that belongs to the reason."""
        return {
            "SIGINT": ExitCode.INTERRUPTED,
            "SIGTERM": ExitCode.TIME_LIMIT if self._again else ExitCode.TERMINATED,
            # What batch systems send some time before the end of a job.
            "SIGUSR1": ExitCode.TIME_LIMIT,
            "time limit": ExitCode.TIME_LIMIT,
        }.get(self.reason or "", ExitCode.RESOURCES)


def _deadline(max_runtime_s: float | None) -> float:
    """Return the moment, on the monotonic clock, at which to stop."""
    now = time.monotonic()
    moments = [float("inf")]
    if max_runtime_s is not None:
        moments.append(now + max_runtime_s)
    try:
        left = float(os.environ["SLURM_JOB_END_TIME"]) - time.time()
        moments.append(now + left - SLURM_MARGIN_S)
    except (KeyError, ValueError):
        pass
    return min(moments)
