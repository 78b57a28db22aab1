"""Which slices are shown as examples: the worst, a median and a random one, never only good ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A unit that is shown, and why."""

    unit: str
    why: str
    value: float | None


def choose_examples(
    values: Sequence[tuple[str, float]],
    *,
    seed: str,
    worst: int = 3,
    higher_is_better: bool = False,
) -> tuple[Example, ...]:
    """Choose the worst units, the median one and a random one.

    Parameters
    ----------
    values : sequence of (unit name, float)
        What the units are ranked by; NaN counts as worst.
    seed : str
        Any text of the run: the random choice is the same each time the run is rendered.
    worst : int
        How many of the worst.
    higher_is_better : bool

    Returns
    -------
    tuple of Example
        Without repetition; worst first, then the median, then the random one.
    """
    if not values:
        return ()

    def badness(item: tuple[str, float]) -> tuple[float, str]:
        name, value = item
        if value != value:
            return (float("-inf"), name)
        return (value if higher_is_better else -abs(value), name)

    ranked = sorted(values, key=badness)
    chosen: dict[str, Example] = {}
    for i, (name, value) in enumerate(ranked[:worst]):
        chosen[name] = Example(name, "worst" if i == 0 else f"{_ordinal(i + 1)} worst", value)
    middle = ranked[len(ranked) // 2]
    chosen.setdefault(middle[0], Example(middle[0], "median", middle[1]))
    rest = [item for item in ranked if item[0] not in chosen]
    if rest:
        name, value = rest[zlib.crc32(seed.encode("utf-8", "replace")) % len(rest)]
        chosen[name] = Example(name, "random", value)
    return tuple(chosen.values())


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
