"""What a scheduler asks about other processes that compute units of the same run.

One process computes a unit: the one that has its claim. Whoever gets a claim looks for a record and a failure
first, because both are published before a claim is given back. So a unit is computed once, and what became of
it elsewhere becomes of it here.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from soct.pipeline.folder.outputs import find_damage
from soct.pipeline.folder.records import FailureRecord, Record, RecordStore
from soct.pipeline.planning.plan import Plan
from soct.pipeline.together.claims import Claims
from soct.steps.declaration import Unit

LOOK_S = 1.0
"""How long between two looks at what others have claimed."""
LISTING_S = 5.0
"""How long between two listings of a step's records; longer where a listing takes long."""
VISIBLE_S = 60.0
"""How long a network file system may take to show here what was published elsewhere."""
_SPREAD = 0.618034
"""Multiples of the golden ratio, modulo 1, lie far apart however many there are."""


class Claimed(Enum):
    """What came of claiming a unit."""

    HERE = auto()
    ELSEWHERE = auto()


class Others(Protocol):
    """The other processes, as a scheduler sees them."""

    session: str
    """Marks failures that are not to be tried again as long as these processes work together."""

    def turn(self, unit: Unit) -> int:
        """Return a number: ready units of a step are started from the least on."""

    def claim(self, unit: Unit) -> Claimed | Record | FailureRecord:
        """Claim a unit, or say what became of it elsewhere."""

    def holds(self, unit: Unit) -> bool:
        """Whether a unit is still this process's to publish."""

    def release(self, unit: Unit) -> None:
        """Give a unit back, after what became of it is on disk."""

    def distrust(self, units: Iterable[Unit]) -> None:
        """Have every byte of these units looked at before a record of them is believed."""

    def look(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Record | FailureRecord | None]]:
        """Yield what became of units that were elsewhere; None: nobody has them any more."""


class Nobody:
    """A process that has the run to itself."""

    session = ""

    def __init__(self, plan: Plan) -> None:
        self._place = {unit: i for i, unit in enumerate(plan.units)}

    def turn(self, unit: Unit) -> int:
        """Return the unit's place in pipeline order."""
        return self._place[unit]

    def claim(self, unit: Unit) -> Claimed | Record | FailureRecord:
        """Every unit is free."""
        return Claimed.HERE

    def holds(self, unit: Unit) -> bool:
        """Nobody takes a unit away."""
        return True

    def release(self, unit: Unit) -> None:
        """Nobody waits for it."""

    def distrust(self, units: Iterable[Unit]) -> None:
        """Nobody computes them in between."""

    def look(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Record | FailureRecord | None]]:
        """No unit is elsewhere."""
        return iter(())


class Together:
    """Processes that cooperate through claims.

    Parameters
    ----------
    claims : Claims
    store : RecordStore
    plan : Plan
    session : str
        The same for all of them.
    number : int
        Of this process among them. Different numbers start at different slices, so that few race for a unit.
    """

    def __init__(
        self, claims: Claims, store: RecordStore, plan: Plan, session: str, number: int
    ) -> None:
        self.session = session
        self._claims = claims
        self._store = store
        self._plan = plan
        self._distrusted: set[Unit] = set()
        self._unseen: dict[Unit, float] = {}
        self._next_look = 0.0
        self._listings: dict[str, tuple[float, frozenset[str]]] = {}
        self._turn = {
            unit: (i - int(number * _SPREAD % 1 * len(units))) % len(units)
            for units in plan.graph.units.values()
            for i, unit in enumerate(units)
        }

    def turn(self, unit: Unit) -> int:
        """Return a number that counts from this process's own first slice on."""
        return self._turn[unit]

    def claim(self, unit: Unit) -> Claimed | Record | FailureRecord:
        """Claim a unit, or say what became of it elsewhere."""
        if self._is_listed(unit):
            # Most likely finished: reading the record is all that it takes then.
            known = self._find(unit)
            if known is not None:
                return known
        if not self._claims.take(unit):
            return Claimed.ELSEWHERE
        found = self._find(unit)
        if found is None:
            return Claimed.HERE
        self._claims.release(unit)
        return found

    def holds(self, unit: Unit) -> bool:
        """Whether a unit is still this process's to publish."""
        return self._claims.holds(unit)

    def release(self, unit: Unit) -> None:
        """Give a unit back, after what became of it is on disk."""
        self._claims.release(unit)

    def distrust(self, units: Iterable[Unit]) -> None:
        """Have every byte of these units looked at before a record of them is believed."""
        self._distrusted.update(units)

    def look(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Record | FailureRecord | None]]:
        """Yield what became of units that were elsewhere; None: nobody has them any more.

        One small listing per step, and only records of units whose claim has gone are read.
        """
        if time.monotonic() < self._next_look:
            return
        units = tuple(units)
        if units:
            self._claims.bury_dead()
            self._claims.free_orphans(units)
        taken: dict[str, frozenset[str]] = {}
        for unit in units:
            if unit.step not in taken:
                taken[unit.step] = self._claims.taken(unit.step)
            if unit.name not in taken[unit.step]:
                found = self._find(unit)
                if not isinstance(found, Claimed):
                    yield unit, found
        self._next_look = time.monotonic() + LOOK_S

    def _is_listed(self, unit: Unit) -> bool:
        """Whether a unit had a record when those of its step were last listed, which is done seldom."""
        due, names = self._listings.get(unit.step, (0.0, frozenset()))
        began = time.monotonic()
        if began >= due:
            with (
                contextlib.suppress(FileNotFoundError),
                os.scandir(self._store.path(unit).parent) as entries,
            ):
                names = frozenset(entry.name for entry in entries)
            now = time.monotonic()
            self._listings[unit.step] = (now + max(LISTING_S, 20 * (now - began)), names)
        return f"{unit.name}.json" in names

    def _find(self, unit: Unit) -> Claimed | Record | FailureRecord | None:
        """Return what became of a unit that nobody else has; ELSEWHERE while its outputs are not seen here."""
        ask_server(self._store.path(unit).parent)
        record = self._store.read(unit)
        if isinstance(record, Record) and record.key.digest == self._plan.units[unit].digest:
            if unit in self._distrusted or self._plan.units[unit].suspicious:
                deep = unit in self._distrusted
                if not find_damage(self._store.run_folder, record.outputs, deep=deep):
                    return record
            elif self._is_seen(record):
                return record
            elif time.monotonic() < self._unseen.setdefault(unit, time.monotonic()) + VISIBLE_S:
                return Claimed.ELSEWHERE
        failure = self._store.read_failure(unit)
        if failure is not None and failure.session == self.session:
            return failure
        return None

    def _is_seen(self, record: Record) -> bool:
        """Whether this machine sees the outputs that the record speaks of, by one file of each."""
        run_folder = self._store.run_folder
        for folder in {(run_folder / output.path).parent for output in record.outputs}:
            ask_server(folder)
        few = tuple(replace(o, files=dict(list(o.files.items())[:1])) for o in record.outputs)
        return find_damage(run_folder, few, deep=False) is None


def ask_server(folder: Path) -> None:
    """Have the names in a folder looked up anew: opening it makes a network file system ask its server."""
    with contextlib.suppress(OSError):
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
