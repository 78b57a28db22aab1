"""Align and reconstruct tomographic projections, with the names of toupy.

Scripts written for ``toupy.registration`` run after a change of the import line::

    from soct.tomography import alignprojections_vertical, alignprojections_horizontal

A stack is ``(n, rows, cols)``: projections, vertical, horizontal (the detector). A sinogram is ``(detector, angle)``. A
``shiftstack`` is ``(2, n)``, vertical and horizontal, in pixels, and says where the object lies:
``aligned[k] = measured[k + s]``. The rotation axis is a detector coordinate in pixels (0 is the centre of the first pixel);
where nothing is said it is ``cols // 2``. Angles are in degrees or radians (``theta_unit``: ``auto``, ``rad``, ``deg``;
``auto`` takes a span of at most 2 pi for radians). No function here prompts, plots or prints.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES: dict[str, str] = {
    "ConvergenceWarning": "notices",
    "HorizontalAlignment": "horizontal",
    "RotationAxis": "rotation_axis",
    "ShellCorrelation": "shell_correlation",
    "ShiftFunc": "shifts",
    "SlicesAlignment": "many_slices",
    "TomographyWarning": "notices",
    "TruncationWarning": "notices",
    "VerticalAlignment": "vertical",
    "align_horizontal": "horizontal",
    "align_horizontal_slices": "many_slices",
    "align_vertical": "vertical",
    "alignprojections_horizontal": "horizontal",
    "alignprojections_vertical": "vertical",
    "back_project": "radon",
    "center_of_mass_stack": "mass",
    "compute_aligned_horizontal": "aligned",
    "compute_aligned_sino": "aligned",
    "compute_aligned_stack": "aligned",
    "estimate_rot_axis": "rotation_axis",
    "find_rotation_axis": "rotation_axis",
    "fourier_shell_correlation": "shell_correlation",
    "oneslicefordisplay": "slice_picture",
    "project": "radon",
    "reconstruct_slice": "reconstruction",
    "reconstruct_stack": "reconstruction",
    "refine_horizontalalignment": "refinement",
    "register_2Darrays": "image_pair",
    "tomoconsistency_multiple": "many_slices",
    "vertical_fluctuations": "mass",
    "vertical_shift": "vertical",
}
"""The module of each public name."""

__all__ = [
    "ConvergenceWarning",
    "HorizontalAlignment",
    "RotationAxis",
    "ShellCorrelation",
    "ShiftFunc",
    "SlicesAlignment",
    "TomographyWarning",
    "TruncationWarning",
    "VerticalAlignment",
    "align_horizontal",
    "align_horizontal_slices",
    "align_vertical",
    "alignprojections_horizontal",
    "alignprojections_vertical",
    "back_project",
    "center_of_mass_stack",
    "compute_aligned_horizontal",
    "compute_aligned_sino",
    "compute_aligned_stack",
    "estimate_rot_axis",
    "find_rotation_axis",
    "fourier_shell_correlation",
    "oneslicefordisplay",
    "project",
    "reconstruct_slice",
    "reconstruct_stack",
    "refine_horizontalalignment",
    "register_2Darrays",
    "tomoconsistency_multiple",
    "vertical_fluctuations",
    "vertical_shift",
]


def __getattr__(name: str) -> Any:
    """Import a function when it is first used: scipy and numba take a good part of a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
