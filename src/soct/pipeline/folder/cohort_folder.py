"""All run folders below a folder, in any state; one that cannot be read is listed, never an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from soct.errors import InputError, UserError
from soct.pipeline.folder.run_folder import FILE_NAME, read_run
from soct.pipeline.folder.summary import build_view
from soct.report.cohort import Cohort, Member, Unreadable, make_cohort, make_member
from soct.report.rendering import report_name

_STATE, _FINDINGS = "state", "acquisition.json"


def read_cohort(folder: Path, page_folder: Path, *, also: Path | None = None) -> Cohort:
    """Return the runs below a folder, placed and ranked.

    Parameters
    ----------
    folder : Path
        Searched to any depth; links to run folders are followed, other links are not.
    page_folder : Path
        Where the page will lie that links to the runs' reports.
    also : Path, optional
        A run folder that belongs to the cohort wherever it lies; the cohort is then seen by it.

    Raises
    ------
    InputError
        It is no folder, or holds no run folder.
    """
    if not folder.is_dir():
        raise InputError(
            "There is no folder of this name", file=folder, expected="a folder with run folders"
        )
    found = {path.resolve(): path for path in reversed(list(find_runs(folder)))}
    if not found:
        raise InputError(
            "No run folder lies in this folder",
            file=folder,
            expected=f"folders with {FILE_NAME}, as `soct run` makes them",
            found=_content(folder),
        )
    own = None
    if also is not None:
        found.setdefault(also.resolve(), also)
        own = _name(found[also.resolve()], folder)
    read = [_read(path, _name(path, folder), page_folder) for path in found.values()]
    members = sorted((m for m in read if isinstance(m, Member)), key=lambda m: m.path)
    cohort = make_cohort(members, [u for u in read if isinstance(u, Unreadable)])
    return cohort if own is None else cohort.seen_by(own)


def find_runs(folder: Path) -> Iterator[Path]:
    """Yield the run folders in a folder, itself included; runs are not searched for further ones."""
    for parent, folders, files in os.walk(folder):
        path = Path(parent)
        if _is_run(path, files, folders):
            folders.clear()
            yield path
            continue
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not f.endswith(".zarr"))
        linked = [name for name in folders if (path / name).is_symlink()]
        yield from (path / name for name in linked if (path / name / FILE_NAME).is_file())


def _is_run(path: Path, files: list[str], folders: list[str]) -> bool:
    """Whether a folder is a run's, or was one before its ``run.json`` was lost."""
    if _STATE not in folders:
        return False
    return FILE_NAME in files or (path / _STATE / _FINDINGS).is_file()


def _read(path: Path, name: str, page_folder: Path) -> Member | Unreadable:
    try:
        if read_run(path) is None:
            is_there = (path / FILE_NAME).exists()
            return Unreadable(name, f"{FILE_NAME} {'cannot be read' if is_there else 'is missing'}")
        view = build_view(path)
        return make_member(view, name, _report(path / report_name(view.subject), page_folder))
    except UserError as error:
        found = f" ({error.found})" if error.found else ""
        return Unreadable(name, f"{error.message}{found}")
    except Exception as error:  # noqa: BLE001  (one broken run never costs the page of all others)
        return Unreadable(name, f"{type(error).__name__}: {error}"[:300])


def _report(report: Path, page_folder: Path) -> str:
    return os.path.relpath(report.absolute(), page_folder.absolute()) if report.is_file() else ""


def _name(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


def _content(folder: Path) -> str:
    names = sorted(entry.name for entry in os.scandir(folder))
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return shown or "nothing"
