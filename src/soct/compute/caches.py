"""Where compiled kernels are kept.

numba writes its cache beside the source by default, which fails in a read-only container or home. The
folder is chosen here, before numba is imported: ``SOCT_CACHE_DIR``, then ``XDG_CACHE_HOME``, then the home
folder, then a private folder below the temporary one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def _candidates() -> list[Path]:
    paths: list[Path] = []
    for variable, tail in (("SOCT_CACHE_DIR", ""), ("XDG_CACHE_HOME", "soct")):
        value = os.environ.get(variable)
        if value:
            paths.append(Path(value) / tail)
    with contextlib.suppress(RuntimeError):
        paths.append(Path.home() / ".cache" / "soct")
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


def holds_kernels(module: str = "*") -> bool:
    """Whether any kernel, or any of a module's, was compiled for later runs; the first run compiles all that it needs."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return chosen is not None and next(Path(chosen).rglob(f"{module}.*nbi"), None) is not None


def prepare() -> Path | None:
    """Point numba at the cache folder. Call before numba is imported; calling again changes nothing."""
    folder = cache_folder()
    if folder is not None:
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "numba"))
    return folder
