"""Publishing a file in one step: readers see the old content or the new one, never a part."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def publish(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that replaces `path` when the block ends without an error.

    The content goes to a hidden file in the same folder, is flushed to disk and renamed. After an error
    `path` is as it was.

    Parameters
    ----------
    path : Path
        The file to write; its folder must exist.

    Yields
    ------
    IO[bytes]
        Open for writing.
    """
    # A name of 255 bytes is legal; the temporary one must not be longer.
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.partial")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of `path` in one step."""
    with publish(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` with UTF-8 text in one step."""
    write_bytes(path, text.encode("utf-8"))


def link_tree(source: Path, target: Path) -> None:
    """Repeat a folder by hard links, which take no space; by copies where the file system has no links.

    The files of a published output never change (they are replaced by renaming), so sharing them is safe.
    """
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            try:
                (here / name).hardlink_to(Path(folder) / name)
            except OSError:
                shutil.copyfile(Path(folder) / name, here / name)
