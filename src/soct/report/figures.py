"""Figure arrays that the steps saved, read when a reportlet asks for them.

A figure that is missing, truncated or not what it should be raises `FigureError`; the page then shows a red
card in its place and goes on.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.report.model import FigureKey

MAX_ELEMENTS = 64_000_000
"""No figure array is larger; what claims to be is refused before memory is taken."""


class FigureError(Exception):
    """A figure's arrays cannot be read."""


@dataclass(frozen=True)
class FigureStore:
    """The figure files of a run."""

    paths: Mapping[FigureKey, Path]

    def has(self, step: str, unit: str = "run") -> bool:
        """Whether this unit saved figures (the file may still turn out broken)."""
        return (step, unit) in self.paths

    def units(self, step: str) -> list[str]:
        """Return the names of the step's units that saved figures, in order."""
        return sorted(unit for name, unit in self.paths if name == step)

    def array(self, step: str, unit: str, name: str, *, ndim: int | None = None) -> NDArray[Any]:
        """Read one array.

        Raises
        ------
        FigureError
            When the file or the array is absent, broken, too large or of another dimension.
        """
        (array,) = self.arrays(step, unit, name)
        if ndim is not None and array.ndim != ndim:
            msg = (
                f"{step}, {unit}: array {name!r} should have {ndim} dimensions and has {array.ndim}"
            )
            raise FigureError(msg)
        return array

    def arrays(self, step: str, unit: str, *names: str) -> tuple[NDArray[Any], ...]:
        """Read several arrays of one unit; see `array`."""
        with self._open(step, unit) as archive:
            return tuple(_read(archive, f"{step}, {unit}", name) for name in names)

    def names(self, step: str, unit: str = "run") -> frozenset[str]:
        """Return the names of the arrays in a unit's figure file."""
        with self._open(step, unit) as archive:
            return frozenset(archive.files)

    @contextmanager
    def _open(self, step: str, unit: str) -> Iterator[Any]:
        path = self.paths.get((step, unit))
        if path is None:
            msg = f"{step}, {unit}: no figures were saved"
            raise FigureError(msg)
        try:
            with path.open("rb") as file:
                archive = np.load(file, allow_pickle=False)
                if not hasattr(archive, "files"):
                    msg = f"{step}, {unit}: {path.name} is no npz archive"
                    raise FigureError(msg)
                yield archive
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
            msg = f"{step}, {unit}: {path.name} cannot be read ({type(error).__name__})"
            raise FigureError(msg) from error


def _read(archive: Any, where: str, name: str) -> NDArray[Any]:
    _check_header(archive, name)
    try:
        return np.asarray(archive[name])
    except KeyError:
        msg = f"{where}: the figure file holds no array {name!r}"
        raise FigureError(msg) from None


def _check_header(archive: Any, name: str) -> None:
    """Refuse an array whose member in the archive is larger than any figure."""
    members = {member.filename: member.file_size for member in archive.zip.infolist()}
    if members.get(f"{name}.npy", 0) > 8 * MAX_ELEMENTS:
        msg = f"array {name!r} is too large for a figure"
        raise FigureError(msg)
