"""The axis picker as a window: tkinter and Pillow, nothing else."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from soct.errors import UsageError
from soct.tools.axis_preview import AxisPreview, PickCancelledError, View

_FINE, _COARSE = 0.1, 1.0
_SHOWN_PX = 560
_REDRAW_MS = 15
_HELP = (
    "Left and Right: 0.1 px, with Shift 1 px.  V: other view.  Enter: take it.  Escape: leave it."
)
_SEEN = {
    "slice": "The slice. Right: points are points, edges closed. Wrong: crescents, doubled edges.",
    "pair": "Opposite projections, one mirrored. Right: all grey. Wrong: green and magenta edges.",
}


def pick_in_window(preview: AxisPreview, start: float) -> float:
    """Open a window and wait for an axis.

    Raises
    ------
    UsageError
        There is no display, or Python has no tkinter.
    PickCancelledError
        It was left without one.
    """
    window = AxisWindow(preview, start)
    window.root.mainloop()
    return window.result()


def _open_root() -> Any:
    to_do = "Give the axis with --axis PX (axis=...), or leave it to be estimated."
    try:
        import tkinter
    except ImportError as error:
        raise UsageError(
            "The axis picker needs tkinter, which this Python has not",
            found=str(error),
            hint=f"Debian and Ubuntu: apt-get install python3-tk. {to_do}",
        ) from error
    try:
        return tkinter.Tk(className="soct")
    except tkinter.TclError as error:
        raise UsageError(
            "There is no display to pick the axis on",
            expected="a screen ($DISPLAY), or a notebook with soct.tools.axis_picker.axis_widget",
            found=str(error),
            hint=to_do,
        ) from error


class AxisWindow:
    """A slider, the picture beside it, and keys.

    Parameters
    ----------
    preview : AxisPreview
    start : float
        Axis that is shown first.
    """

    def __init__(self, preview: AxisPreview, start: float) -> None:
        self.root = _open_root()
        import tkinter as tk

        self.preview = preview
        self.axis = preview.clip(start)
        self.view: View = "slice"
        self.accepted: float | None = None
        self._pending: str | None = None
        self._image: Any = None
        root = self.root
        root.title("soct: rotation axis")
        self.label = tk.Label(root, font=("TkDefaultFont", 12, "bold"))
        self.label.pack(padx=8, pady=(8, 0))
        self.picture = tk.Label(root, borderwidth=0)
        self.picture.pack(padx=8, pady=6)
        self.told = tk.Label(root)
        self.told.pack()
        self.scale = tk.Scale(
            root, from_=0, to=preview.cols - 1, resolution=0.05, orient="horizontal", length=_SHOWN_PX,
            showvalue=False, takefocus=False, command=self._slid,
        )  # fmt: skip
        self.scale.pack(padx=8)
        tk.Label(root, text=_HELP).pack(padx=8)
        row = tk.Frame(root)
        row.pack(pady=8)
        tk.Button(row, text="Take this axis", command=self.accept).pack(side="left", padx=4)
        tk.Button(row, text="Cancel", command=self.cancel).pack(side="left", padx=4)
        self._bind()
        self.set_axis(self.axis)

    def _bind(self) -> None:
        for key, step in (("Left", -_FINE), ("Right", _FINE), ("Shift-Left", -_COARSE), ("Shift-Right", _COARSE)):  # fmt: skip
            self.root.bind(f"<{key}>", lambda _, step=step: self.set_axis(self.axis + step))
        for key in ("Return", "KP_Enter"):
            self.root.bind(f"<{key}>", lambda _: self.accept())
        self.root.bind("<Escape>", lambda _: self.cancel())
        self.root.bind("v", lambda _: self.change_view())
        self.root.protocol("WM_DELETE_WINDOW", self.cancel)
        self.root.focus_force()

    def _slid(self, text: str) -> None:
        # The slider tells of what it was set to as well, rounded to its own step.
        if abs(float(text) - self.axis) > 0.03:
            self.set_axis(float(text))

    def set_axis(self, axis: float) -> None:
        """Show another axis."""
        self.axis = self.preview.clip(axis)
        self.scale.set(self.axis)
        self.label.configure(text=f"Rotation axis at {self.axis:.2f} px")
        # A slider that is drawn tells of many values; the picture is made of the last.
        if self._pending is None:
            self._pending = self.root.after(_REDRAW_MS, self._redraw)

    def change_view(self) -> None:
        """Show the next view."""
        views = self.preview.views
        self.view = views[(views.index(self.view) + 1) % len(views)]
        self.set_axis(self.axis)

    def _redraw(self) -> None:
        from PIL import Image, ImageTk

        self._pending = None
        drawn = Image.fromarray(np.ascontiguousarray(self.preview.draw(self.axis, self.view)))
        factor = _SHOWN_PX / max(drawn.size)
        size = (max(1, round(drawn.width * factor)), max(1, round(drawn.height * factor)))
        self._image = ImageTk.PhotoImage(drawn.resize(size), master=self.root)
        self.picture.configure(image=self._image)
        self.told.configure(text=_SEEN[self.view])

    def accept(self) -> None:
        """Take the axis that is shown."""
        self.accepted = self.axis
        self._close()

    def cancel(self) -> None:
        """Take none."""
        self._close()

    def _close(self) -> None:
        if self._pending is not None:
            self.root.after_cancel(self._pending)
        self.root.destroy()
        self._image = None

    def result(self) -> float:
        """Return the axis that was taken.

        Raises
        ------
        PickCancelledError
            None was.
        """
        if self.accepted is None:
            raise PickCancelledError("No rotation axis was picked", hint="Nothing was written.")
        return self.accepted


def tk_is_here() -> bool:
    """Whether Python has tkinter."""
    if "tkinter" in sys.modules:
        return True
    from importlib.util import find_spec

    return find_spec("tkinter") is not None and find_spec("_tkinter") is not None
