"""The file in which a Dask scheduler says where it is; Dask itself is not needed to read it."""

from __future__ import annotations

import json
from pathlib import Path

from soct.errors import UsageError


def is_scheduler_file(dask: str) -> bool:
    """Whether `--dask` names a file."""
    return dask not in ("local", "slurm", "off") and "://" not in dask


def read_scheduler_file(name: str) -> str:
    """Return the address that a Dask scheduler wrote into a file.

    Raises
    ------
    UsageError
        There is none.
    """
    path = Path(name)
    hint = "Start one with `dask scheduler --scheduler-file FILE`, on a shared file system."
    try:
        return str(json.loads(path.read_bytes())["address"])
    except FileNotFoundError:
        raise UsageError("There is no such Dask scheduler file", file=path, hint=hint) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError("This is no Dask scheduler file", file=path, hint=hint) from None
