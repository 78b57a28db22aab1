"""One slice to look at, from documented parameters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from numpy.typing import ArrayLike, NDArray

from soct.tomography.keywords import check_keywords
from soct.tomography.reconstruction import SliceSettings, reconstruct_slice

_OWN = ("theta_unit", "axis", "shifts", *(f.name for f in fields(SliceSettings)))


def oneslicefordisplay(sinogram: ArrayLike, theta: ArrayLike, **params: Any) -> NDArray[Any]:
    """Reconstruct one slice and return it; nothing is drawn.

    Parameters
    ----------
    sinogram : array (detectors, n)
    theta : array (n,)
        Angles of the projections.
    **params
        ``theta_unit``, ``axis`` and ``shifts`` of `soct.tomography.reconstruction.reconstruct_slice`, and those of
        `soct.tomography.reconstruction.SliceSettings`, all with defaults: ``algorithm``, ``filtertype``, ``freqcutoff``,
        ``derivatives``, ``calc_derivatives``, ``circle``, ``cliplow``, ``cliphigh``, ... Documented parameters of the other
        functions may be there and have no effect.

    Returns
    -------
    array (size, size)

    Raises
    ------
    TypeError
        For a parameter that no function knows; the message has the nearest one.
    """
    chosen = check_keywords("oneslicefordisplay", params, _OWN)
    return reconstruct_slice(sinogram, theta, **chosen)
