"""Where words and data go: data to stdout, words to stderr, and no escape code where none is wanted."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from soct.errors import UserError

SCRIPT_VARIABLE = "SOCT_CONTINUE"
"""Set by a batch script: the command that submits it again."""
LEAST_BAR_COLUMNS = 60
LEAST_PAUSE_S = 2.0


def open_missing_streams() -> None:
    """Give a process that was started with stdout or stderr closed something to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def respect_environment() -> None:
    """Make ``NO_COLOR`` mean no escape code at all; call before rich or typer are imported.

    rich alone drops colours under ``NO_COLOR`` but keeps bold and dim. A terminal that calls itself dumb
    gets neither.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        os.environ["TERM"] = "dumb"
        for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
            os.environ.pop(name, None)


def takes_escapes(stream: TextIO) -> bool:
    """Whether a stream is a terminal that acts on escape codes, and nobody asked for none."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def is_interactive() -> bool:
    """Whether stderr is a terminal that can redraw lines and is wide enough for bars."""
    return takes_escapes(sys.stderr) and shutil.get_terminal_size().columns >= LEAST_BAR_COLUMNS


def words(*lines: str) -> None:
    """Write lines for a person to stderr, with every character that could act on a terminal escaped.

    Nobody listening is no reason to stop a run.
    """
    try:
        _write(sys.stderr, lines)
    except BrokenPipeError:
        silence(sys.stderr)


def telling_progress(clock: Callable[[], float] = time.monotonic) -> Callable[[float], None]:
    """Return what a long computation calls with its fraction done: a line now and then, with the time left."""
    began = told = clock()

    def tell(fraction: float) -> None:
        nonlocal told
        now = clock()
        if now - told >= LEAST_PAUSE_S and 0 < fraction < 1:
            left = (now - began) * (1 - fraction) / fraction
            words(f"... {fraction:.0%}, about {left:.0f} s left")
            told = now

    return tell


def tell_first_run(kernels: str | None = None) -> None:
    """Say that compiling takes its time, where nothing has been compiled yet: nothing at all, or none of a module's kernels."""
    from soct.compute import caches

    if kernels is not None and not caches.holds_kernels(kernels):
        words("note: first run of this: compiling takes 20 to 40 seconds, this once")
    elif not caches.holds_kernels():
        words("note: first run after an install: compiling takes a minute or two, this once")


def data(*lines: str) -> None:
    """Write lines of the result to stdout, escaped as `words` are; each stays one line."""
    _write(sys.stdout, lines, keep="")


def data_json(value: Any) -> None:
    """Write a value to stdout as JSON: pure ASCII, so inert anywhere."""
    _write(sys.stdout, (json.dumps(value, indent=2, default=str),))


def _write(stream: TextIO, lines: tuple[str, ...], keep: str = "\n") -> None:
    from soct.pipeline.folder.inert_text import make_inert

    text = "".join(f"{make_inert(line, keep)}\n" for line in lines)
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def words_of_error(error: UserError) -> list[str]:
    """Return the lines of an error: what, where, expected, found, what to do."""
    from soct.pipeline.folder.inert_text import make_inert

    lines = [f"error: {error.message}"]
    for label, part in (
        ("file", error.file),
        ("expected", error.expected),
        ("found", error.found),
        ("to do", error.hint),
    ):
        if part is not None:
            # A file's name may hold a line feed, which must not look like the next part.
            inert = make_inert(part) if label == "file" else part
            lines.append(f"  {label + ':':<10}{inert}")
    return lines


def words_console() -> Console:
    """Return a console on stderr that prints text as it is: no markup, no highlighting."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=False)


def data_console() -> Console:
    """Return a console on stdout, for tables; elsewhere than on a terminal lines are not wrapped."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    return Console(markup=False, highlight=False, emoji=False, width=width)


def silence(stream: TextIO) -> None:
    """Point a stream at nothing, so that the interpreter's last flush cannot fail after ``| head``."""
    with contextlib.suppress(OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
