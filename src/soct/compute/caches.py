"""Where compiled kernels are kept.

numba writes its cache beside the source by default, which fails in a read-only container or home. The
folder is chosen here, before numba is imported: ``SOCT_CACHE_DIR``, then ``XDG_CACHE_HOME``, then the home
folder, then a private folder below the temporary one. An image brings kernels that are compiled already,
below ``sys.prefix`` (`soct.compute.kernel_layers`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from soct.compute import instruction_set

_LOCATORS = "soct.compute.kernel_layers.LayeredLocator,IPythonCacheLocator,ZipCacheLocator"
_NAME_OF_BUILD = "BUILD"


@dataclass(frozen=True)
class KernelCache:
    """Where kernels come from on this machine, for `soct doctor`."""

    folder: Path | None
    """Where new ones are written; None where no folder can be."""
    shipped: Path | None
    """Those of the image that soct runs in; None outside of one."""
    shipped_fit: bool
    """Whether the image's kernels were compiled for the instruction set that this machine uses."""
    level: str
    """The instruction set that kernels are compiled for."""
    notice: str | None
    """What the user should know of it."""


def _candidates() -> list[Path]:
    paths: list[Path] = []
    for variable, tail in (("SOCT_CACHE_DIR", ""), ("XDG_CACHE_HOME", "soct")):
        value = os.environ.get(variable)
        if value:
            paths.append(Path(value) / tail)
    with contextlib.suppress(RuntimeError):
        paths.append(Path.home() / ".cache" / "soct")
    with contextlib.suppress(OSError):
        paths.append(Path(tempfile.gettempdir()) / f"soct-cache-{os.getuid()}")
    return paths


def _usable(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return path.stat().st_uid == os.getuid() and os.access(path, os.W_OK | os.X_OK)


def cache_folder() -> Path | None:
    """Return the first writable cache folder, or None where there is none (kernels then compile anew)."""
    return next((path for path in _candidates() if _usable(path)), None)


def shipped_kernels() -> Path | None:
    """Return the folder of kernels that this installation brings, None for most."""
    folder = Path(sys.prefix) / "share" / "soct" / "kernels"
    return folder if (folder / _NAME_OF_BUILD).is_file() else None


def _name_of_build(shipped: Path) -> tuple[str, str]:
    """Return what tells one image from others, and the instruction set of its kernels."""
    name, _, level = (shipped / _NAME_OF_BUILD).read_text(encoding="utf-8").strip().partition(" ")
    return name, level


def holds_kernels(module: str = "*") -> bool:
    """Whether any kernel, or any of a module's, was compiled for later runs; the first run compiles all that it needs."""
    pattern = f"{module}.*nbi"
    return any(next(folder.rglob(pattern), None) is not None for folder in _layers())


def _layers() -> Iterator[Path]:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen is not None:
        yield Path(chosen)
    shipped = shipped_kernels()
    if shipped is not None and describe().shipped_fit:
        yield shipped


def describe() -> KernelCache:
    """Return where kernels come from and what they are compiled for."""
    level, notice = instruction_set.describe()
    shipped = shipped_kernels()
    fit = shipped is not None and _name_of_build(shipped)[1] == level
    return KernelCache(cache_folder(), shipped, fit, level, notice)


def prepare() -> Path | None:
    """Point numba and CuPy at the cache folder and fix the instruction set.

    Call before numba is imported; calling again changes nothing.
    """
    instruction_set.fix()
    folder, shipped = cache_folder(), shipped_kernels()
    # Two images have their sources in the same place. In one folder, each would take the other's index away.
    name = "numba" if shipped is None else f"numba-{_name_of_build(shipped)[0]}"
    if folder is not None:
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / name))
        os.environ.setdefault("CUPY_CACHE_DIR", str(folder / "cupy"))
    else:
        os.environ.setdefault("CUPY_CACHE_IN_MEMORY", "1")
    if folder is None or shipped is not None:
        os.environ.setdefault("NUMBA_CACHE_DIR", os.devnull)
        os.environ.setdefault("NUMBA_CACHE_LOCATOR_CLASSES", _LOCATORS)
    return folder
