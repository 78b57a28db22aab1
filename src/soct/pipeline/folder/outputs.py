"""A unit's output files: where they are written, how they are named in a record, how they are published.

A unit writes into a hidden folder of its step's folder, under the final names. What it wrote is hashed and
flushed there, renamed, and only then named by a record (`soct.pipeline.folder.records`). So what a record names was
complete, and what no record names is of no value, whatever it looks like.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soct.errors import StepError
from soct.formats.atomic import fsync_folder
from soct.pipeline.together.holder import Holder
from soct.steps.declaration import Step, Unit

PARTIAL = ".partial."
_LAYOUT, _CHUNKS = "0/zarr.json", "0/c/"
"""Of the finest level of a volume, as soct writes it."""
METRICS = "metrics"
"""Folder of each step that holds its units' metrics."""


@dataclass(frozen=True)
class FileRecord:
    """One file of an output: what it must be, and what tells cheaply that nobody wrote to it since."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class OutputRecord:
    """One published output."""

    name: str
    path: str
    """Relative to the run folder, with forward slashes."""
    files: Mapping[str, FileRecord]
    """Relative name -> file; the one name is ``""`` for an output that is a single file."""
    is_folder: bool

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    @property
    def sha256(self) -> str:
        """Digest of the file, or of the sorted names and digests of a folder's files."""
        if not self.is_folder:
            return self.files[""].sha256
        lines = (f"{self.files[name].sha256}  {name}\n" for name in sorted(self.files))
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def pixels(self) -> str:
        """Digest of the chunks of an array store's finest level; empty for any other output."""
        chunks = {name: file for name, file in self.files.items() if name.startswith(_CHUNKS)}
        if not chunks or not self.layout:
            return ""
        return OutputRecord(self.name, self.path, chunks, is_folder=True).sha256

    @property
    def layout(self) -> str:
        """Digest of the metadata (shape, data type, chunks, codecs) of an array store's finest level."""
        file = self.files.get(_LAYOUT)
        return "" if file is None else file.sha256


def output_paths(step: Step[Any], unit: Unit, subject: str) -> dict[str, str]:
    """Return ``output name -> path`` below the step's folder."""
    names: dict[str, Any] = {"subject": subject}
    if len(unit.slices) == 1:
        names["slice"] = unit.slices[0]
    elif unit.slices:
        names["fixed"], names["moving"] = unit.slices
    return {output.name: output.template.format(**names) for output in step.outputs}


def make_partial_folder(step_folder: Path, unit: Unit) -> Path:
    """Make the hidden folder that a unit writes into."""
    start = _partial_start(unit.name, socket.gethostname(), os.getpid())
    folder = step_folder / f"{start}{secrets.token_hex(3)}"
    folder.mkdir(parents=True)
    return folder


def _partial_start(unit_name: str, host: str, pid: int) -> str:
    readable = "".join(c if c.isalnum() else "-" for c in host)[:60]
    return f"{PARTIAL}{unit_name}.{readable}.{pid}."


def remove_orphans(step_folder: Path, unit_name: str, dead: Holder) -> None:
    """Remove the hidden folder of a unit that a dead process had at work."""
    start = _partial_start(unit_name, dead.host, dead.pid)
    try:
        names = [entry.name for entry in os.scandir(step_folder) if entry.name.startswith(start)]
    except FileNotFoundError:
        return
    for name in names:
        shutil.rmtree(step_folder / name, ignore_errors=True)


def sweep_partial_folders(run_folder: Path) -> int:
    """Remove what killed runs left behind; call it only while holding the run folder's lock.

    Returns
    -------
    int
        How many hidden folders and files there were.
    """
    found = partial_paths(run_folder)
    for path in found:
        remove(path)
    return len(found)


def partial_paths(run_folder: Path) -> list[Path]:
    """Return the hidden folders and files of units that are at work, or were when their run was killed."""
    found = []
    steps = _folders(run_folder)
    inner = (step / METRICS for step in steps if (step / METRICS).is_dir())
    for folder in (run_folder, *steps, *inner, *_folders(run_folder / "state")):
        for entry in list(os.scandir(folder)):
            is_file = entry.name.startswith(".") and entry.name.endswith(".partial")
            if entry.name.startswith(PARTIAL) or is_file:
                found.append(Path(entry.path))
    return found


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return [Path(e.path) for e in os.scandir(parent) if e.is_dir(follow_symlinks=False)]


def remove(path: Path) -> None:
    """Remove a file or a folder, whichever is there, never following a link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def record_output(name: str, path: Path, final: str) -> OutputRecord:
    """Hash every file of an output and flush it to disk.

    Raises
    ------
    StepError
        The output is a link, or holds one: what it points to could change unseen.
    """
    is_folder = path.is_dir() and not path.is_symlink()
    files = {}
    for relative, file in _files(path) if is_folder else (("", path),):
        if file.is_symlink():
            raise StepError(f"The output {name} contains a symbolic link", file=final)
        files[relative] = _hash_and_flush(file)
    if is_folder:
        for folder, _, _ in os.walk(path):
            fsync_folder(Path(folder))
    return OutputRecord(name, final, files, is_folder)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names) + [f for f in folders if Path(parent, f).is_symlink()]:
            file = Path(parent, name)
            yield file.relative_to(folder).as_posix(), file


def _hash_and_flush(file: Path) -> FileRecord:
    with file.open("rb") as stream:
        digest = hash_stream(stream)
        os.fsync(stream.fileno())
        status = os.fstat(stream.fileno())
    return FileRecord(status.st_size, status.st_mtime_ns, digest)


def hash_stream(stream: Any) -> str:
    """Return the sha256 of an open binary file."""
    return hashlib.file_digest(stream, "sha256").hexdigest()


def publish(partial: Path, step_folder: Path, names: Mapping[str, str], written: set[str]) -> None:
    """Move a unit's outputs to their final names and flush the folders that name them.

    What was there before goes away; also outputs that the unit could have written and did not.
    """
    trash = partial / ".replaced"
    touched = set()
    for place, (name, relative) in enumerate(names.items()):
        final = step_folder / relative
        if os.path.lexists(final):
            trash.mkdir(exist_ok=True)
            final.rename(trash / str(place))
            touched.add(final.parent)
        if name in written:
            final.parent.mkdir(parents=True, exist_ok=True)
            (partial / relative).rename(final)
            touched |= {final.parent, step_folder}
    for folder in sorted(touched):
        fsync_folder(folder)


def find_damage(run_folder: Path, outputs: tuple[OutputRecord, ...], *, deep: bool) -> str | None:
    """Say what is wrong with published outputs, or None.

    Parameters
    ----------
    run_folder : Path
    outputs : tuple of OutputRecord
    deep : bool
        True: read and hash every file. False: look at sizes, and hash only files that somebody has written
        to since they were published.
    """
    for output in outputs:
        root = run_folder / output.path
        if output.is_folder and not root.is_dir():
            return f"output {output.path} is missing"
        for relative, file in output.files.items():
            path = root / relative if relative else root
            damage = _file_damage(path, file, deep=deep)
            if damage:
                shown = f"{output.path}/{relative}" if relative else output.path
                return f"output {shown} {damage}"
    return None


def _file_damage(path: Path, expected: FileRecord, *, deep: bool) -> str | None:
    try:
        status = path.stat(follow_symlinks=False)
        if status.st_size != expected.size:
            return f"has {status.st_size} bytes instead of {expected.size}"
        if not deep and status.st_mtime_ns == expected.mtime_ns:
            return None
        with path.open("rb") as stream:
            digest = hash_stream(stream)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if digest == expected.sha256 else "has other content than was written"
