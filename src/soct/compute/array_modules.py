"""Which library holds the arrays of a computation: numpy, or CuPy where a GPU is there.

Science that runs on both is written over the module that `array_module` returns. CuPy is imported only
when it is asked for; a machine without it pays nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

import numpy as np

from soct.errors import ResourceError


@cache
def gpu_problem() -> str | None:
    """Return why no GPU can be used here, None when one can."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    try:
        cupy = importlib.import_module("cupy")
        count = int(cupy.cuda.runtime.getDeviceCount())
    except Exception as error:  # noqa: BLE001 - CuPy raises its own and the loader's errors alike
        return f"CuPy finds no GPU: {error}"
    return None if count else "there is no CUDA device"


def array_module(*, gpu: bool) -> Any:
    """Return numpy, or CuPy.

    Raises
    ------
    ResourceError
        A GPU is asked for and none can be used.
    """
    if not gpu:
        return np
    problem = gpu_problem()
    if problem is not None:
        raise ResourceError(
            "A GPU is asked for and none can be used",
            expected="a CUDA device, and CuPy (extra soct[cuda12] or soct[cuda13])",
            found=problem,
            hint="leave the GPU off, or let it be chosen (auto)",
        )
    return importlib.import_module("cupy")


def filters(xp: Any) -> Any:
    """Return the ``scipy.ndimage`` that works on the arrays of this module."""
    if xp is np:
        return importlib.import_module("scipy.ndimage")
    return importlib.import_module("cupyx.scipy.ndimage")


def to_host(array: Any) -> Any:
    """Return an array as numpy's, wherever it is."""
    return array.get() if hasattr(array, "get") else np.asarray(array)
