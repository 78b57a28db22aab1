"""The axis picker as a notebook's widget; needs ipywidgets (the extra ``viewer``)."""

from __future__ import annotations

import io
from typing import Any

import ipywidgets
import numpy as np
from numpy.typing import NDArray

from soct.tools.axis_preview import AxisPreview, View

_SHOWN_PX = "480px"
_STEP = 0.1


class AxisWidget(ipywidgets.VBox):  # type: ignore[misc]
    """A slider with the slice beside it. ``.value`` is the axis, in pixels, and may be set.

    Parameters
    ----------
    preview : AxisPreview
    start : float
        Axis that is shown first.

    Notes
    -----
    A notebook runs one cell at a time, and moves of a slider arrive between cells: nothing can wait for them. So this returns
    at once; a later cell reads ``.value``, or ``widget.observe_axis(function)`` calls a function with every new one.
    """

    def __init__(self, preview: AxisPreview, start: float) -> None:
        self._preview = preview
        self.slider = ipywidgets.FloatSlider(
            value=preview.clip(start), min=0.0, max=preview.cols - 1.0, step=_STEP, readout_format=".1f",
            description="axis (px)", continuous_update=True, layout=ipywidgets.Layout(width=_SHOWN_PX),
        )  # fmt: skip
        self.view = ipywidgets.ToggleButtons(
            options=list(preview.views), value="slice", description="view"
        )
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(width=_SHOWN_PX))
        self.slider.observe(self._redraw, "value")
        self.view.observe(self._redraw, "value")
        super().__init__([self.slider, self.view, self.image])
        self._redraw()

    @property
    def value(self) -> float:
        """Detector coordinate of the chosen axis, in pixels."""
        return float(self.slider.value)

    @value.setter
    def value(self, axis: float) -> None:
        self.slider.value = self._preview.clip(axis)

    def observe_axis(self, function: Any) -> None:
        """Call a function with every axis that is chosen from now on."""
        self.slider.observe(lambda change: function(float(change["new"])), "value")

    def _redraw(self, _: Any = None) -> None:
        view: View = self.view.value
        self.image.value = _png(self._preview.draw(self.value, view))


def _png(drawn: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(drawn)).save(buffer, format="PNG")
    return buffer.getvalue()
