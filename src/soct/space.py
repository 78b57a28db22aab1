"""The convention for space, stated once.

- Arrays are ``(z, y, x)``, C order. ``z`` grows with depth into the tissue and with the slice number;
  ``y`` is the B-scan axis and grows with ``stage_y``; ``x`` is the A-line axis and grows with ``stage_x``.
- Lengths in a profile carry their unit in the name (``_um``, ``_mm``, ``_px``, ``_deg``). Inside science
  code, pixels (voxels) unless the name says otherwise.
- Positions and shifts are ``(y, x)`` or ``(z, y, x)`` in pixel-centre coordinates: the centre of the first
  pixel is 0. A position is where the array's first pixel lies on the common canvas.
- A transform maps fixed (output) points to moving (input) points, as SimpleITK does. A shift ``(dy, dx)``
  is where the moving image's origin lands in the fixed image.
- A rotation angle is positive from the +x axis towards the +y axis.
- Voxel sizes travel with the array, as ``Volume`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Array = NDArray[Any]


class Voxel(NamedTuple):
    """Voxel edge lengths in micrometres, in array order."""

    z: float
    y: float
    x: float


@dataclass(frozen=True)
class Volume:
    """An array ``(z, y, x)`` with the size of its voxels."""

    data: Array
    voxel_um: Voxel
