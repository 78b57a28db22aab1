"""The keywords of the documented functions.

Scripts hand the same dictionary of parameters to several functions, so each takes those that it uses, passes over the
documented ones of the others, and refuses a name that nobody knows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

_OF_SHIFTS = ("maxit", "pixtol", "deltax", "limsy", "shiftmeth", "polyorder", "alignx", "subpixel")
_OF_SLICES = (
    "theta_unit",
    "freqcutoff",
    "circle",
    "cliplow",
    "cliphigh",
    "filtertype",
    "algorithm",
)
_OF_SINOGRAMS = ("derivatives", "calc_derivatives", "freqcutoff_schedule", "multiresolution")
_OF_LEVELS = ("mr_factor", "n_coarse_iter", "rtol", "slicenum", "n_slices_tc", "n_workers_tc")

DOCUMENTED = frozenset((*_OF_SHIFTS, *_OF_SLICES, *_OF_SINOGRAMS, *_OF_LEVELS))
"""Parameters of any function."""

WITHOUT_EFFECT = frozenset(("silent", "disp", "colormap", "sinohigh", "sinolow", "interactive"))
"""Accepted and ignored: nothing here prints, plots or asks."""


def check_keywords(
    function: str, given: Mapping[str, Any], own: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the parameters that a function uses, without those of the other functions.

    Parameters
    ----------
    function : str
        Its name, for the message.
    given : mapping
        What the caller gave as ``**params``.
    own : iterable of str
        What the function uses.

    Raises
    ------
    TypeError
        For a name that no function knows; the message has the nearest one.
    """
    names = set(own)
    known = names | DOCUMENTED | WITHOUT_EFFECT
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(sorted(names))}"
            )
            raise TypeError(f"{function}() got an unknown parameter {name!r}{hint}")
    return {name: value for name, value in given.items() if name in names}
