"""The volume that the steps after `stack` read: each takes the newest one that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soct.steps.declaration import Context, Input

if TYPE_CHECKING:
    from pathlib import Path

VOLUME_STEPS: tuple[str, ...] = ("stack", "correct_bias_field", "normalize_z_intensity")
"""Steps whose output ``volume`` is the whole brain, in the order in which they improve on it."""


def inputs_before(step: str) -> tuple[Input, ...]:
    """Return what a step that improves on the volume (or uses it) declares as inputs."""
    order = VOLUME_STEPS[: VOLUME_STEPS.index(step)] if step in VOLUME_STEPS else VOLUME_STEPS
    return tuple(Input(name, optional=name != "stack") for name in order)


def latest_volume(context: Context) -> Path:
    """Return the newest volume among the unit's inputs."""
    for name in reversed(VOLUME_STEPS):
        if context.has(name, "volume"):
            return context.run(name, "volume")
    return context.run("stack", "volume")
