"""Compiled kernels in two layers: those that an image brings, read-only, and those that a user's runs add.

numba imports this module by itself, when the first kernel is declared, where `soct.compute.caches` has named it
in ``NUMBA_CACHE_LOCATOR_CLASSES``. numba has one folder per kernel, and refuses to declare a kernel whose folder
cannot be written. With this, kernels are looked for in the image first; new ones go to the user's folder, and
where that fails (no folder, no space) they are compiled anew in the next process, which is slow and not wrong.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core import caching

from soct.compute.caches import shipped_kernels


class LayeredLocator(caching.UserProvidedCacheLocator):  # type: ignore[misc]
    """Names the user's folder, whether it can be written or not."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> LayeredLocator | None:
        """Return the locator of a function; None where it has no source file."""
        return cls(py_func, py_file) if Path(py_file).exists() else None

    def ensure_cache_path(self) -> None:
        """Make the folder, if that is possible."""
        with suppress(OSError):
            super().ensure_cache_path()


class LayeredFiles(caching.IndexDataCacheFile):  # type: ignore[misc]
    """The compiled forms of one function, in both layers.

    The layers never share an index: a number in one index means nothing in the other folder.
    """

    def __init__(self, cache_path: str, filename_base: str, source_stamp: Any) -> None:
        super().__init__(cache_path, filename_base, source_stamp)
        shipped = shipped_kernels()
        self._below = shipped and _PlainFiles(
            str(shipped / Path(cache_path).name), filename_base, source_stamp
        )

    def load(self, key: Any) -> Any:
        """Return what was compiled for a key; None where nothing was."""
        found = None
        if self._below:
            with suppress(OSError):
                found = self._below.load(key)
        if found is None:
            with suppress(OSError):
                found = super().load(key)
        return found

    def save(self, key: Any, data: Any) -> None:
        """Keep what was compiled, in the user's layer; nowhere, if that cannot be written."""
        with suppress(OSError):
            super().save(key, data)


_PlainFiles = caching.IndexDataCacheFile
caching.IndexDataCacheFile = LayeredFiles
