"""What a user must know about a result, told as a warning where a function can only return arrays.

Functions with a richer sibling (`align_vertical`) have the same sentences in its ``notices``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable


class TomographyWarning(UserWarning):
    """A result of `soct.tomography` holds with a reservation."""


class TruncationWarning(TomographyWarning):
    """The object leaves the field of view, so what its mass tells is biased."""


class ConvergenceWarning(TomographyWarning):
    """Iterations ended before their result settled."""


def tell(
    notices: Iterable[str | TomographyWarning],
    kind: type[TomographyWarning] = TomographyWarning,
    depth: int = 3,
) -> None:
    """Warn of each notice, as if the caller of the public function stood there.

    Parameters
    ----------
    notices : iterable of str or TomographyWarning
    kind : type
        Of those that are plain sentences.
    depth : int
        ``stacklevel`` of `warnings.warn`: 3 is the caller of the function that calls this one.
    """
    for notice in notices:
        warnings.warn(notice, kind, stacklevel=depth)
