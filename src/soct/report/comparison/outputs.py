"""Whether two runs made the same bytes, by the hashes in their records; nothing is read or hashed again."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, TypeAlias

from soct.report.headline import place
from soct.report.markup import number
from soct.report.model import OutputView, RunView, UnitView

Answer: TypeAlias = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class VolumeMatch:
    """Whether the two volumes hold the same pixels."""

    answer: Answer
    text: str


@dataclass(frozen=True)
class StepOutputs:
    """How many outputs of a step are the same in both runs."""

    step: str
    same: int
    different: int
    unknown: int
    """No hash was recorded, or the same data may be stored in another way."""
    first: str = ""
    """The first unit that differs."""


def compare_volumes(view: RunView, other: RunView) -> VolumeMatch:
    """Say whether the newest volumes of two runs are pixel-identical."""
    if view.volume is None or other.volume is None:
        owner = "neither run" if view.volume is other.volume else "this run" if view.volume is None else "the other run"  # fmt: skip
        verb = "has" if owner == "neither run" else "has no"
        return VolumeMatch("unknown", f"{owner.capitalize()} {verb} volume.")
    mine, its = view.volume, other.volume
    if mine.levels and its.levels:
        here, there = mine.levels[0], its.levels[0]
        if here.shape != there.shape or here.voxel_um != there.voxel_um:
            return VolumeMatch(
                "no",
                f"Other sizes: {_grid(here.shape, here.voxel_um)} in this run, "
                f"{_grid(there.shape, there.voxel_um)} in the other.",
            )
        if mine.dtype != its.dtype:
            return VolumeMatch("no", f"Other data types: {mine.dtype} and {its.dtype}.")
    first, second = _output(view, mine.path), _output(other, its.path)
    answer = "unknown" if first is None or second is None else match(first, second)
    return VolumeMatch(answer, _VOLUME_TEXTS[answer])


_VOLUME_TEXTS: dict[Answer, str] = {
    "yes": "The recorded hashes of the voxels are the same.",
    "no": "The recorded hashes of the voxels differ.",
    "unknown": "The records do not tell: a hash is missing, or the stores differ in codec or chunks, "
    "so that equal voxels can be different bytes.",
}


def match(this: OutputView, other: OutputView) -> Answer:
    """Say whether two outputs hold the same data: by their pixels where both are arrays, else byte by byte."""
    if this.checksum and this.checksum == other.checksum:
        return "yes"
    if this.pixels and other.pixels:
        if this.layout != other.layout:
            return "unknown"
        return "yes" if this.pixels == other.pixels else "no"
    if not this.checksum or not other.checksum or this.path.endswith(".zarr"):
        return "unknown"
    return "no"


def compare_outputs(view: RunView, other: RunView) -> tuple[StepOutputs, ...]:
    """Compare the outputs of every unit that both runs finished, step by step."""
    found = []
    for step in view.steps:
        theirs = {u.slices: u for u in other.units(step.id) if u.finished}
        counts: dict[Answer, int] = defaultdict(int)
        first = ""
        for unit in step.units:
            if not unit.finished or unit.slices not in theirs:
                continue
            for answer in _matches(unit, theirs[unit.slices]):
                counts[answer] += 1
                if answer == "no" and not first:
                    first = place(unit)
        if counts:
            found.append(
                StepOutputs(step.id, counts["yes"], counts["no"], counts["unknown"], first)
            )
    return tuple(found)


def _matches(unit: UnitView, other: UnitView) -> list[Answer]:
    theirs = {output.name: output for output in other.outputs}
    return [match(o, theirs[o.name]) for o in unit.outputs if o.name in theirs]


def _output(view: RunView, path: str) -> OutputView | None:
    return next((o for u in view.units() for o in u.outputs if o.path == path), None)


def _grid(shape: tuple[int, ...], voxel: tuple[float, ...]) -> str:
    return f"{' × '.join(map(str, shape))} voxels of {' × '.join(number(v) for v in voxel)} µm"
