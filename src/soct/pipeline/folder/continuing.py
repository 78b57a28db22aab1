"""With which command a run goes on that was asked for in part."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from soct.pipeline.folder.run_folder import RunDocument

_SELECTING = frozenset(("--from", "--until", "--only", "--unit"))
"""Options of `soct run` that choose a part of a run; each takes a value. Chosen slices are the slices of the run."""


def command_for_rest(document: RunDocument, folder: Path) -> str:
    """Return the last `soct run` on a folder as it computes everything: without what chose a part of the run."""
    for call in reversed(document.history):
        try:
            given = shlex.split(call.command)
        except ValueError:
            continue
        if given[:2] == ["soct", "run"]:
            return shlex.join(_without_selection(given))
    return shlex.join(["soct", "run", document.input, str(folder)])


def _without_selection(given: Iterable[str]) -> Iterator[str]:
    words = iter(given)
    for word in words:
        name, _, value = word.partition("=")
        if name not in _SELECTING:
            yield word
        elif not value:
            next(words, None)
