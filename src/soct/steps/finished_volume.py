"""The volume that the steps after `stack` read: each takes the newest one that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from soct.steps.declaration import Context, Input

if TYPE_CHECKING:
    from pathlib import Path

T = TypeVar("T")

VOLUME_STEPS: tuple[str, ...] = ("stack", "correct_bias_field", "normalize_z_intensity")
"""Steps whose output ``volume`` is the whole brain, in the order in which they improve on it."""


def inputs_before(step: str) -> tuple[Input, ...]:
    """Return what a step that improves on the volume (or uses it) declares as inputs."""
    order = VOLUME_STEPS[: VOLUME_STEPS.index(step)] if step in VOLUME_STEPS else VOLUME_STEPS
    return tuple(Input(name, optional=name != "stack") for name in order)


def latest_volume(context: Context) -> Path:
    """Return the newest volume among the unit's inputs."""
    found = newest_volume(
        lambda name: context.run(name, "volume") if context.has(name, "volume") else None
    )
    return context.run("stack", "volume") if found is None else found


def newest_volume(find: Callable[[str], T | None]) -> T | None:
    """Return what `find` says of the newest volume: every step, tool and page that names the volume asks here.

    Parameters
    ----------
    find : callable
        Step id to whatever stands for its volume, or None where it has none.
    """
    found = (find(name) for name in reversed(VOLUME_STEPS))
    return next((one for one in found if one is not None), None)
