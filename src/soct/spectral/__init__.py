"""Match, place, render: spectral alignment of any images, with the names of spectralign.

Scripts written for spectralign run after a change of the import line::

    from soct.spectral import Affine, Image, Matcher, Placement, Renderer

Points are ``(x, y)`` in pixel-edge convention: the centre of an image of W x H pixels is ``(W / 2, H / 2)``, the centre of its
first pixel ``(0.5, 0.5)``. Arrays are ``(row, column)``, sizes ``(w, h)``. (All other rooms follow `soct.space`.)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soct.spectral.affine import Affine
    from soct.spectral.image import Image
    from soct.spectral.matcher import Matcher
    from soct.spectral.placement import Placement
    from soct.spectral.renderer import Renderer

_HOMES = {
    "Affine": "affine",
    "Image": "image",
    "Matcher": "matcher",
    "Placement": "placement",
    "Renderer": "renderer",
}

__all__ = ["Affine", "Image", "Matcher", "Placement", "Renderer"]


def __getattr__(name: str) -> Any:
    """Import a class when it is first used: scipy and numba take a good part of a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
