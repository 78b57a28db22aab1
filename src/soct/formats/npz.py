"""Several arrays in one ``.npz`` file, with the same bytes whoever writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_DATE = (1980, 1, 1, 0, 0, 0)
_LONG = 1 << 31
"""Longer members need a header that shorter ones do without."""


def write_npz(path: Path, **arrays: ArrayLike) -> None:
    """Write arrays by name, uncompressed.

    `numpy.savez` writes a header for more than 4 GB whatever the size, and releases of Python differ in it.

    Parameters
    ----------
    path : Path
        With its suffix.
    **arrays : array_like
        No objects.

    Raises
    ------
    ValueError
        An array of objects.
    """
    import io
    import zipfile

    import numpy as np

    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            values = np.asanyarray(array)
            member = zipfile.ZipInfo(f"{name}.npy", _DATE)
            if values.nbytes < _LONG:
                content = io.BytesIO()
                np.lib.format.write_array(content, values, allow_pickle=False)
                archive.writestr(member, content.getbuffer())
            else:
                with archive.open(member, "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)
