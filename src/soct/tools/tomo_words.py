"""Numbers with their uncertainty, and words of functions as options of the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

_MOST_DIGITS = 4
_OPTIONS = (
    (re.compile(r" \(polyorder \d+\)"), ""),
    (re.compile(r"\btheta_unit says\b"), "--angle-unit says"),
    (re.compile(r"\btheta_unit\b"), "--angle-unit"),
    (re.compile(r"\baxis=(-?[\d.]*\d)"), r"--axis \1"),
    (re.compile(r"\bmaxit \((\d+)\)"), r"--maxit (now \1)"),
    (re.compile(r"(?<!-)\bmaxit\b"), "--maxit"),
    (re.compile(r"(?<!-)\bpixtol\b"), "--pixtol"),
    (re.compile(r"\bfreqcutoff\b"), "--cutoff"),
    (re.compile(r"\bderivatives=True\b"), "--derivatives"),
    (re.compile(r"\bpadding=[\"']?edge[\"']?"), "--padding edge"),
    (re.compile(r"\bextended=True\b"), "--extended"),
)


_NAMED = re.compile(r"(projections \(|their shifts may be wrong: )(\d+(?:, \d+)*)")
"""Where a sentence lists projections."""


def in_options(text: str) -> str:
    """Return a sentence of a function with the command line's options in the place of keywords."""
    for keyword, option in _OPTIONS:
        text = keyword.sub(option, text)
    return text


def all_in_options(texts: Iterable[object]) -> tuple[str, ...]:
    """Return sentences with options in the place of keywords."""
    return tuple(in_options(str(text)) for text in texts)


def renumbered(texts: Iterable[str], numbers: Sequence[int]) -> tuple[str, ...]:
    """Return sentences that name projections by their place among those in use, with their numbers in the file."""
    if all(k == number for k, number in enumerate(numbers)):
        return tuple(texts)

    def number(place: re.Match[str]) -> str:
        k = int(place[0])
        return str(numbers[k]) if k < len(numbers) else place[0]

    def renumber(found: re.Match[str]) -> str:
        return found[1] + re.sub(r"\d+", number, found[2])

    return tuple(_NAMED.sub(renumber, text) for text in texts)


def with_uncertainty(value: float, deviation: float, sign: str = "+-") -> str:
    """Return a value and its standard deviation, which has two digits: ``63.8100 +- 0.0066``."""
    if not math.isfinite(deviation):
        return f"{value:.2f} {sign} unknown"
    if deviation < 0.5 * 10.0**-_MOST_DIGITS:
        return f"{value:.{_MOST_DIGITS}f} {sign} <{10.0**-_MOST_DIGITS:.{_MOST_DIGITS}f}"
    digits = 1 - math.floor(math.log10(deviation))
    digits = min(max(digits, 0), _MOST_DIGITS)
    return f"{value:.{digits}f} {sign} {deviation:.{digits}f}"


def listed(numbers: Iterable[int], most: int = 6) -> str:
    """Return numbers in a sentence, the first few of many."""
    known = list(numbers)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(str(k) for k in known[:most]) + more
