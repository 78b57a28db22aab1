"""What is drawn over pictures: the scale bar and marks."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.charts import round_length
from soct.report.images import Picture
from soct.report.markup import EMPTY, number

_WIDTH = 520.0
_TEXT = 16.0
_READABLE = 11.5
"""Pixels of text on the page, where a picture is shown small."""


def overlay_size(image: Picture) -> tuple[float, float]:
    """Return width and height of a picture's overlay: the same width for all, so that text has one size."""
    return _WIDTH, _WIDTH * image.aspect


def scale_overlay(
    image: Picture, width_um: float, more: Markup = EMPTY, *, shown: int | None = None
) -> Markup:
    """Return an SVG that lies over a picture: a scale bar and whatever else is given.

    Parameters
    ----------
    image : Picture
    width_um : float
        What the picture's width stands for.
    more : Markup
        SVG in the units of `overlay_size`.
    shown : int, optional
        Width of the picture on the page, where it is so small or large that text must be another size to be read.
    """
    text = _TEXT if shown is None else _READABLE * _WIDTH / shown
    width, height = overlay_size(image)
    length = round_length(0.3 * width_um)
    bar = EMPTY
    if length > 0 and height > 40:
        drawn = length / width_um * width
        label = number(length / 1000, "mm") if length >= 1000 else number(length, "um")
        x1, x2 = width - 14 - drawn, width - 14
        bar = Markup(
            '<line x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}" stroke="#000" stroke-width="6"/>'
            '<line x1="{0:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{2:.1f}" stroke="#fff" stroke-width="3.5"/>'
            '<text x="{3:.1f}" y="{4:.1f}" text-anchor="middle" style="font-size:{6:.0f}px">{5}</text>'
        ).format(
            x1, x2, height - 14, (x1 + x2) / 2, height - 22, label, text
        )  # fmt: skip
    return Markup(
        '<svg viewBox="0 0 {:.1f} {:.1f}" preserveAspectRatio="none" aria-hidden="true">{}{}</svg>'
    ).format(width, height, bar, more)


def seam_overlay(image: Picture, *, upright: bool) -> Markup:
    """Return arrowheads at two edges that point along a seam through the middle, for `scale_overlay`."""
    width, height = overlay_size(image)
    x, y = width / 2, height / 2
    heads = (
        (f"M{x - 11:.1f} 0h22l-11 20z", f"M{x - 11:.1f} {height:.1f}h22l-11 -20z")
        if upright
        else (f"M0 {y - 11:.1f}v22l20 -11z", f"M{width:.1f} {y - 11:.1f}v22l-20 -11z")
    )
    head = Markup('<path d="{}" fill="#e69f00" stroke="#000"/>')
    return EMPTY.join(head.format(path) for path in heads)


def square_overlay(image: Picture, shape: tuple[int, ...], side: int) -> Markup:
    """Return faint lines between the squares of a checkerboard, for `scale_overlay`."""
    width, height = overlay_size(image)
    rows, columns = shape
    line = Markup('<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" stroke="#fff" stroke-opacity=".3"/>')
    down = [x * width / columns for x in range(side, columns, side)]
    across = [y * height / rows for y in range(side, rows, side)]
    return EMPTY.join(
        [line.format(x, 0, x, height) for x in down] + [line.format(0, y, width, y) for y in across]
    )
