"""Slices that a step excludes after looking at their images: one document, written by some and read by all.

An excluded slice never holds its neighbours in place: pairs with it have no vote in the global solve. What
becomes of its own image is said by its *treatment*: ``stage`` stacks it where the stage puts it (the
registration failed, the image may be sound), ``leave_out`` does not stack it (the image is bad), which leaves
a gap like that of a slice that was never acquired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from soct.steps.declaration import Decision

if TYPE_CHECKING:
    from pathlib import Path

    from soct.steps.declaration import Context

Treatment = Literal["stage", "leave_out"]

EXCLUDING_STEPS = ("auto_assess_quality", "auto_exclude_slices")
"""Steps with an output ``exclusions``, in pipeline order."""

_SAID = {"stage": "placed by the stage alone", "leave_out": "not stacked from its image"}


@dataclass(frozen=True)
class Exclusion:
    """Why a slice is excluded, and what becomes of it."""

    reason: str
    treatment: Treatment
    step: str


def write_exclusions(path: Path, exclusions: Mapping[int, Exclusion]) -> None:
    """Write `exclusions.json`."""
    from soct.formats.documents import write_document

    write_document(path, {"slices": {str(i): asdict(e) for i, e in sorted(exclusions.items())}})


def read_exclusions(context: Context) -> dict[int, Exclusion]:
    """Return what all excluding steps said; where two exclude a slice, leaving it out wins."""
    from soct.formats.documents import read_document

    found: dict[int, Exclusion] = {}
    for step in EXCLUDING_STEPS:
        if not context.has(step, "exclusions"):
            continue
        rows = read_document(context.run(step, "exclusions"))["slices"]
        for name, row in rows.items():
            known = found.get(int(name))
            if known is None or known.treatment == "stage":
                found[int(name)] = Exclusion(**row)
    return found


def ledger_decisions(exclusions: Mapping[int, Exclusion]) -> Iterable[Decision]:
    """Return what the exclusions mean for the slice ledger."""
    for slice_id, one in sorted(exclusions.items()):
        reason = f"{one.reason}; {_SAID[one.treatment]}"
        yield Decision(slice_id, "auto_excluded", True, reason)
        yield Decision(slice_id, "auto_exclude_reason", reason, "see auto_excluded")
        if one.treatment == "stage":
            yield Decision(slice_id, "placement", "stage", "its image is stacked nevertheless")
