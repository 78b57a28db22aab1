"""Unfinished work beside its output, so that the same command goes on where it was stopped.

A hidden folder ``.NAME.work`` beside the output holds what is done, each piece written in one step, under a key made of the
input's fingerprint and all parameters. Work of another key is not used: it is discarded, and that is said. One process at
a time has the folder. When the output has its name, the folder goes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct import __version__
from soct.errors import LockedError, ResourceError, UsageError
from soct.formats.atomic import fsync_folder, publish, write_text
from soct.formats.filled_arrays import find_array, lay_out
from soct.formats.tiles import shown
from soct.space import FloatArray

Tell = Callable[[str], None]


def key_of(fingerprint: str, parameters: Mapping[str, Any]) -> str:
    """Return what names a result: of which input, by which parameters, by which soct."""
    text = json.dumps([__version__, fingerprint, dict(parameters)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Work:
    """What is done so far. Use `open_work`."""

    folder: Path
    key: str

    def load(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Return a piece that was saved, or None."""
        try:
            # Opened here: what is no archive would be left open by numpy.
            with (self.folder / f"{name}.npz").open("rb") as file, np.load(file) as stored:
                return {k: stored[k] for k in stored.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def save(self, name: str, **arrays: Any) -> None:
        """Keep a piece, in one step."""
        with publish(self.folder / f"{name}.npz") as file:
            np.savez(file, **arrays)


@contextmanager
def open_work(
    output: Path, key: str, parameters: Mapping[str, Any], tell: Tell = lambda _: None
) -> Iterator[Work]:
    """Take the work of an output, within the block alone.

    Parameters
    ----------
    output : Path
        What the work will become; its folder must exist.
    key : str
    parameters : mapping
        To say how discarded work differs.
    tell : callable
        Takes a sentence about work that is found.

    Raises
    ------
    LockedError
        Another process is at it.
    ResourceError
        The disk is full, or refuses.
    """
    folder = work_folder(output)
    try:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise _cannot_write(output, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                "Another soct works on this output",
                file=shown(output),
                hint="Wait for it or stop it, or choose another name.",
            ) from None
        _take(folder, key, parameters, tell)
        try:
            yield Work(folder, key)
        except BaseException:
            # Nothing is done that could be gone on with.
            if not any(folder.glob("*.npz")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise _cannot_write(output, error) from error
    finally:
        os.close(descriptor)


def _cannot_write(output: Path, error: OSError) -> ResourceError:
    return ResourceError(
        "The output cannot be written",
        file=shown(output),
        found=error.strerror or str(error),
        hint="Look at the free space and the permissions of that folder. What is done so far is kept.",
    )


def _take(folder: Path, key: str, parameters: Mapping[str, Any], tell: Tell) -> None:
    file = folder / "work.json"
    found = read_json(file)
    if found is not None and found.get("key") == key:
        tell("continues what an earlier call left unfinished")
        return
    others = [p for p in folder.iterdir() if p.name != "lock"]
    if found is not None:
        change = differences(found.get("parameters", {}), parameters)
        tell(f"unfinished work of another call is discarded ({change})")
    for path in others:
        _discard_partial(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = json.dumps({"key": key, "parameters": dict(parameters)}, default=str)
    write_text(file, text)


def _discard_partial(piece: Path) -> None:
    """Remove the unfinished file that a piece of work is about."""
    with suppress(OSError, ValueError, EOFError, zipfile.BadZipFile):
        if piece.suffix == ".npz":
            with piece.open("rb") as file, np.load(file) as stored:
                if "partial" in stored.files:
                    (piece.parent.parent / str(stored["partial"])).unlink(missing_ok=True)


def read_json(file: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where there is none that can be read."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in which parameters two calls differ."""
    plain = json.loads(json.dumps(dict(now), default=str))
    names = [name for name in plain if before.get(name) != plain[name]]
    told = [f"{name}: {before.get(name)} before, {plain[name]} now" for name in names]
    return shown("; ".join(told)) or "the input changed, or soct did"


def work_folder(output: Path) -> Path:
    """Return where the unfinished work of an output lies."""
    return output.parent / f".{output.name[:100]}.work"


def check_finished(
    output: Path,
    document: Path,
    key: str,
    parameters: Mapping[str, Any],
    *,
    beside: Sequence[Path] = (),
) -> bool:
    """Whether an output is there already, as the same call made it.

    Parameters
    ----------
    output : Path
    document : Path
        JSON that holds the key of a finished output.
    key : str
    parameters : mapping
    beside : sequence of Path
        Other files that will be written.

    Raises
    ------
    UsageError
        Something else has its name, or its folder does not exist.
    """
    if not output.parent.is_dir():
        raise UsageError("The output's folder does not exist", file=shown(output.parent))
    unfinished = read_json(work_folder(output) / "work.json")
    if unfinished is not None and unfinished.get("key") == key:
        return False
    if not os.path.lexists(output):
        _check_beside(beside)
        return False
    found = read_json(document)
    if found is not None and found.get("key") == key:
        return True
    difference = (
        "something that soct tomo did not write"
        if found is None or "key" not in found
        else "made by another call: " + differences(found.get("parameters", {}), parameters)
    )
    raise UsageError(
        "The output exists already; nothing is ever overwritten",
        file=shown(output),
        expected="a new name, or the same call that made it",
        found=difference,
        hint="Remove it first, or choose another name.",
    )


def _check_beside(files: Sequence[Path]) -> None:
    for file in files:
        if os.path.lexists(file):
            raise UsageError(
                "A file beside the output exists already; nothing is ever overwritten",
                file=shown(file),
                expected="a new name for the output",
            )


@dataclass(frozen=True)
class FilledFile:
    """A large array that is written block by block, and continued after a stop. Use `fill_file`."""

    path: Path
    suffix: str
    dataset: str
    shape: tuple[int, int, int]

    @property
    def hidden(self) -> Path:
        """Where it is until it is complete."""
        return self.path.with_name(f".{self.path.name[:100]}.partial")


def fill_file(
    work: Work,
    name: str,
    file: FilledFile,
    blocks: list[slice],
    compute: Callable[[slice], FloatArray],
    *,
    attributes: Mapping[str, str],
    beside: Mapping[str, tuple[NDArray[np.float64], str]] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Write an array whose blocks along the first axis are computed one after the other.

    Parameters
    ----------
    work : Work
        Remembers which blocks are in.
    name : str
        Of this array in `work`.
    file : FilledFile
    blocks : list of slice
        Along the first axis.
    compute : callable
        Takes a block and returns its values.
    attributes, beside
        See `soct.formats.filled_arrays.lay_out`.
    progress : callable
        Takes the fraction done.
    """
    stored = work.load(name)
    if stored is not None and file.path.exists() and stored["done"].all():
        return
    done = np.zeros(file.shape[0], np.bool_)
    if stored is not None and file.hidden.exists() and len(stored["done"]) == len(done):
        done = stored["done"]
    if not done.any():
        lay_out(file.hidden, file.shape, file.suffix, dataset=file.dataset, attributes=attributes, beside=beside)  # fmt: skip
    # Beside the work, or named whole.
    partial = os.path.relpath(file.hidden, work.folder.parent)
    place = find_array(file.hidden, file.suffix, file.dataset)
    for i, block in enumerate(blocks):
        # Blocks may be of another size than before: what they hold is the same.
        if not done[block].all():
            try:
                values = compute(block)
            except BaseException:
                if not done.any():
                    file.hidden.unlink(missing_ok=True)
                raise
            # The block is on disk before anything says so.
            place.write(block.start, values)
            done[block] = True
            work.save(name, done=done, partial=partial)
        progress((i + 1) / len(blocks))
    if os.path.lexists(file.path):
        raise UsageError("The output has appeared meanwhile", file=shown(file.path))
    file.hidden.rename(file.path)
    fsync_folder(file.path.parent)
