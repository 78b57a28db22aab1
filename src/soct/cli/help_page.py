"""The page that ``soct --help`` prints: all commands by group, and the exit codes.

It is laid out here because rich, with its markdown and its lexers, takes longer to import than everything
else that this page needs.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence

_LEAST_TEXT = 24


def draw_page(
    usage: str,
    summary: str,
    groups: Mapping[str, Sequence[tuple[str, str]]],
    width: int | None = None,
) -> str:
    """Return the page.

    Parameters
    ----------
    usage, summary : str
        The first two paragraphs.
    groups : mapping
        Heading to ``(name, text)`` pairs, in order.
    width : int, optional
        Columns; None asks the terminal, at most 100.
    """
    columns = width or min(shutil.get_terminal_size().columns, 100)
    names = max((len(name) for rows in groups.values() for name, _ in rows), default=0)
    paragraphs = [_wrapped(usage, columns), _wrapped(summary, columns)]
    for heading, rows in groups.items():
        lines = [_bold(heading), *(_row(name, text, names, columns) for name, text in rows)]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def _wrapped(text: str, columns: int) -> str:
    return textwrap.fill(text, columns, break_on_hyphens=False)


def _row(name: str, text: str, names: int, columns: int) -> str:
    beside = columns - names - 4
    if beside < _LEAST_TEXT:
        lines = [f"  {name}", *_indented(text, 4, columns)]
        return "\n".join(lines)
    wrapped = textwrap.wrap(text, beside, break_on_hyphens=False) or [""]
    padding = " " * (names + 4)
    first = f"  {name:<{names}}  {wrapped[0]}".rstrip()
    return "\n".join([first, *(padding + line for line in wrapped[1:])])


def _indented(text: str, by: int, columns: int) -> Iterable[str]:
    lines = textwrap.wrap(text, max(columns - by, 8), break_on_hyphens=False)
    return (" " * by + line for line in lines)


def _bold(text: str) -> str:
    plain = not sys.stdout.isatty() or os.environ.get("TERM") in (None, "", "dumb")
    return f"{text}:" if plain else f"\x1b[1m{text}:\x1b[0m"
