"""Removing from a run folder what a run can compute again, and what dead runs left behind.

Intermediate arrays are the Zarr stores that units of slices and pairs published. Tables, figures, transforms and
everything of run scope stay, so the report can still be written and the volume is never touched. What was
removed is listed in ``state/cleaned.json``, so that `soct verify` knows it was meant.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from soct.errors import UsageError
from soct.formats.atomic import write_bytes
from soct.pipeline.folder.outputs import partial_paths, remove
from soct.pipeline.folder.records import Record, RecordStore
from soct.pipeline.folder.run_folder import RunDocument
from soct.pipeline.folder.status import read_status
from soct.pipeline.graph import unit_named
from soct.pipeline.together.lock import hold
from soct.steps.declaration import Scope

_LIST = Path("state") / "cleaned.json"


@dataclass(frozen=True)
class Removable:
    """Something that may go."""

    path: Path
    n_bytes: int
    step: str
    """Empty for what a dead run left behind."""


def read_cleaned(run_folder: Path) -> frozenset[str]:
    """Return the outputs, relative to the run folder, that were removed on purpose."""
    try:
        names = json.loads((run_folder / _LIST).read_bytes())
    except (OSError, ValueError):
        return frozenset()
    return (
        frozenset(n for n in names if isinstance(n, str))
        if isinstance(names, list)
        else frozenset()
    )


def _size(path: Path) -> int:
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        total += sum((Path(folder) / name).lstat().st_size for name in names)
    return total


def _is_inside(path: Path, run_folder: Path, source: Path) -> bool:
    """Whether a recorded path really lies in the run folder, and has nothing to do with the input."""
    real, root = path.resolve(), run_folder.resolve()
    return (
        real.is_relative_to(root)
        and real != root
        and not path.is_symlink()
        and not source.is_relative_to(real)
        and not real.is_relative_to(source)
    )


def _intermediates(run_folder: Path, document: RunDocument) -> Iterable[Removable]:
    store = RecordStore(run_folder)
    source = Path(document.input)
    for step, names in document.units.items():
        if document.scopes.get(step) not in (Scope.SLICE, Scope.PAIR):
            continue
        for unit in names:
            record = store.read(unit_named(step, unit))
            for output in record.outputs if isinstance(record, Record) else ():
                path = run_folder / PurePosixPath(output.path)
                name = PurePosixPath(output.path)
                is_own = name.parts[:1] == (step,) and name.suffix == ".zarr"
                if (
                    output.is_folder
                    and is_own
                    and path.is_dir()
                    and _is_inside(path, run_folder, source)
                ):
                    yield Removable(path, _size(path), step)


def find_removable(run_folder: Path, *, temporaries_only: bool = False) -> tuple[Removable, ...]:
    """Return what may go; nothing is changed.

    Parameters
    ----------
    run_folder : Path
    temporaries_only : bool
        Leave intermediate arrays alone.

    Raises
    ------
    InputError
        The folder is no run folder.
    UsageError
        The run is not complete, so intermediate arrays are still needed.
    """
    status = read_status(run_folder)
    document = status.document
    found = [Removable(path, _size(path), "") for path in partial_paths(run_folder)]
    if temporaries_only:
        return tuple(found)
    state = document.history[-1].state if document.history else "empty"
    if state == "complete" and status.left:
        state = "partial"
    if state != "complete":
        raise UsageError(
            "The run is not complete, so what its steps made is still needed",
            file=run_folder,
            expected="a complete run",
            found=state,
            hint="Finish it with `soct run`, or remove only leftovers with --temporaries.",
        )
    return (*found, *_intermediates(run_folder, document))


def clean(run_folder: Path, *, temporaries_only: bool = False) -> tuple[Removable, ...]:
    """Remove what may go, while holding the run folder.

    Returns
    -------
    tuple of Removable
        What was removed.

    Raises
    ------
    LockedError
        A run works in the folder: its temporary files are not orphans.
    """
    read_status(run_folder)
    with hold(run_folder, "soct clean"):
        found = find_removable(run_folder, temporaries_only=temporaries_only)
        names = {item.path.relative_to(run_folder).as_posix() for item in found if item.step}
        if names:
            # Listed first: an interrupted removal is then still a meant one.
            listed = sorted(read_cleaned(run_folder) | names)
            write_bytes(run_folder / _LIST, json.dumps(listed, indent=0).encode())
        for item in found:
            remove(item.path)
    return found
