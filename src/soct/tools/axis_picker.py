"""Choose the rotation axis by eye: in a window where there is a display, in a notebook as a widget.

`pick_axis` is what ``estimate_rot_axis(..., picker=pick_axis)`` takes: it opens a window, waits, and returns the axis. A
notebook cannot wait for its own widgets, so there `axis_widget` returns one at once, whose ``.value`` is the axis::

    from soct.tools.axis_picker import axis_widget

    widget = axis_widget(stack, theta)
    widget            # a slider with the slice beside it
    widget.value      # in a later cell: the axis, in pixels
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from soct.errors import UsageError
from soct.tools.axis_preview import PickCancelledError, prepare

if TYPE_CHECKING:
    from soct.tools.axis_widget import AxisWidget

__all__ = ["PickCancelledError", "axis_widget", "is_notebook", "pick_axis"]


def is_notebook() -> bool:
    """Whether this runs in a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def pick_axis(
    stack_or_sinogram: ArrayLike, theta_radians: ArrayLike, start_axis: float | None = None
) -> float:
    """Ask for the rotation axis in a window, and wait for the answer.

    Parameters
    ----------
    stack_or_sinogram : array (n, rows, cols) or (detector, angle)
    theta_radians : array_like (n,)
    start_axis : float, optional
        Shown first; default: the middle of the detector, ``cols // 2``.

    Returns
    -------
    float
        Detector coordinate of the axis in pixels (0 is the centre of the first pixel).

    Raises
    ------
    UsageError
        There is no display, or this is a notebook.
    PickCancelledError
        The window was closed, or Escape pressed.
    """
    if is_notebook():
        raise UsageError(
            "A notebook cannot wait for its own widgets",
            expected="soct.tools.axis_picker.axis_widget(stack, theta), and its .value in a later cell",
            hint="Or leave the axis to be estimated.",
        )
    preview = prepare(stack_or_sinogram, theta_radians)
    from soct.tools.axis_window import pick_in_window

    return pick_in_window(preview, preview.cols // 2 if start_axis is None else start_axis)


def axis_widget(
    stack_or_sinogram: ArrayLike, theta_radians: ArrayLike, start_axis: float | None = None
) -> AxisWidget:
    """Return a notebook's picker, which does not wait: its ``.value`` is the axis that is chosen now.

    Parameters are those of `pick_axis`.

    Raises
    ------
    UsageError
        ipywidgets is not installed.
    """
    preview = prepare(stack_or_sinogram, theta_radians)
    try:
        from soct.tools.axis_widget import AxisWidget
    except ModuleNotFoundError as error:
        raise UsageError(
            "The axis picker of notebooks needs ipywidgets",
            found=str(error),
            hint="pip install 'soct[viewer]'",
        ) from error
    return AxisWidget(preview, preview.cols // 2 if start_axis is None else start_axis)
