"""Flat and dark fields by the library BaSiCPy, for those who want exactly that method.

It is the optional extra ``soct[basicpy]`` (it brings torch). The own estimate of `soct.intensity.illumination` also uses
tiles that see the same tissue twice; ``benchmarks/flat_field.py`` compares the two.

References
----------
Peng et al., Nature Communications 8:14836, 2017.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np

from soct.errors import ConfigurationError
from soct.space import Array


@dataclass(frozen=True)
class BasicpyFit:
    """What BaSiCPy found.

    Attributes
    ----------
    flat, dark : ndarray (y, x)
        The flat field is 1 on average.
    baseline : ndarray (n,)
        Brightness of each tile.
    """

    flat: Array
    dark: Array
    baseline: Array


def fit_basicpy(
    tiles: Array, *, darkfield: bool, smoothness: float | None, max_iterations: int
) -> BasicpyFit:
    """Fit BaSiCPy's model to a stack of tiles.

    Parameters
    ----------
    tiles : ndarray (n, y, x)
    darkfield : bool
        Estimate a dark field too.
    smoothness : float, optional
        BaSiCPy's ``smoothness_flatfield``; its own default when absent.
    max_iterations : int

    Raises
    ------
    ConfigurationError
        BaSiCPy is not installed.
    """
    if importlib.util.find_spec("basicpy") is None:
        raise ConfigurationError(
            "fix_illumination.method is basicpy, and the library is not installed",
            expected="the package basicpy (extra soct[basicpy])",
            found="no such package",
            hint="pip install 'soct[basicpy]', or use the method basic, which needs nothing",
        )
    options: dict[str, Any] = {"get_darkfield": darkfield, "max_iterations": max_iterations}
    if smoothness is not None:
        options["smoothness_flatfield"] = smoothness
    model = importlib.import_module("basicpy").BaSiC(**options)
    model.fit(np.ascontiguousarray(tiles, np.float32))
    flat = np.asarray(model.flatfield, np.float64)
    dark = np.asarray(model.darkfield, np.float64) if darkfield else np.zeros(flat.shape)
    baseline = np.asarray(model.baseline, np.float64).ravel()
    return BasicpyFit(flat / flat.mean(), dark, baseline)
