"""What a run says while it works."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from soct.cli.progress import _Bars, _Lines, follow
from soct.pipeline import events
from soct.steps.declaration import Unit

COUNTS = (
    events.StepCount("read", 2, 2),
    events.StepCount("cut", 2, 0),
    events.StepCount("stack", 1, 1),
)
PLANNED = events.RunPlanned(COUNTS, 5_000_000, 2)


def started(unit: Unit) -> events.UnitStarted:
    return events.UnitStarted(unit, ("it was never computed",), 1)


def finished(unit: Unit, **more: object) -> events.UnitFinished:
    return events.UnitFinished(unit, 2.0, 3_000_000, 1_000_000, "ok", **more)  # type: ignore[arg-type]


def lines(log_level: str, told: Iterable[tuple[float, events.Event]]) -> list[str]:
    now = 0.0
    said: list[str] = []
    listener = _Lines(log_level, said.append, lambda: now)
    for moment, event in told:
        now = moment
        listener(event)
    return said


FIRST, SECOND = Unit("read", (1,)), Unit("read", (2,))
FAILURE = events.Failure(SECOND, "InputError", "A tile is bad")
RUN = [
    (0.0, PLANNED),
    (1.0, started(FIRST)),
    (3.0, finished(FIRST, warnings=("thin",))),
    (3.0, started(SECOND)),
    (20.0, events.UnitProgress(SECOND, 0.5)),
    (34.0, events.UnitProgress(SECOND, 0.6)),
    (35.0, events.UnitProgress(SECOND, 0.7)),
    (40.0, events.UnitFailed(FAILURE, (Unit("stack"),))),
    (40.0, events.RunEnded("failed", "1 unit failed", 1, 2, 40.0)),
]


def test_elsewhere_than_on_a_terminal_there_is_one_line_per_step_and_one_in_30_seconds() -> None:
    assert lines("info", RUN) == [
        "3 units to compute, 5.0 MB of input, 2 workers",
        "read:z01: thin",
        "... 53%, about 29.8s left: read slice 2 of 2",
        "FAILED read:z02: A tile is bad",
        "[1/2 steps] read: 1 of 2 slices, 1 FAILED, 39.0s, 1.0 MB",
        "[2/2 steps] stack: not done, 1 FAILED, 40.0s, 0 B",
    ]


def test_the_log_level_chooses_what_is_told() -> None:
    assert lines("error", RUN) == ["FAILED read:z02: A tile is bad"]
    assert lines("warning", RUN) == ["read:z01: thin", "FAILED read:z02: A tile is bad"]
    assert "read:z01: 2.0s, peak 3.0 MB" in lines("debug", RUN)


def test_notices_retries_and_stops_are_told() -> None:
    told = lines(
        "info",
        [
            (0.0, events.Notice("warning", "a chunk was damaged")),
            (1.0, events.UnitRetried(FIRST, "its worker was killed")),
            (2.0, events.RunStopping("SIGTERM", False)),
        ],
    )
    assert told == [
        "note: a chunk was damaged",
        "read:z01: once more: its worker was killed",
        "stopping (SIGTERM): finishing what runs",
    ]


def test_bars_take_every_event_and_draw_inert_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, color_system=None, markup=False)
    monkeypatch.setattr("soct.cli.terminal.words_console", lambda: console)
    bars = _Bars("info")
    with bars.progress:
        for _, event in RUN:
            bars(event)
        bars(events.Notice("info", "name [red] \x1b[31m"))
    text = written.getvalue()
    assert "all units" in text
    assert "FAILED read:z02: A tile is bad" in text
    assert "name [red] \\x1b[31m" in text


@pytest.mark.parametrize("to_run", [0, 3])
def test_a_run_with_nothing_to_do_ends_its_bar(to_run: int) -> None:
    with follow("info", interactive=True) as listener:
        listener(events.RunPlanned((events.StepCount("read", 3, to_run),), 0, 1))
        listener(events.RunEnded("complete", "complete", 0, 3, 0.1))
