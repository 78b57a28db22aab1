"""A small scan of a known object, as a beamline would write it, with the truth beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soct.errors import UsageError
from soct.formats.conversion import new_place
from soct.formats.tables import write_table
from soct.simulate.projections import draw_phantom, project_phantom
from soct.space import FloatArray
from soct.tools.tomo_tables import ShiftTableRow

_WHITE = 20_000.0
_DARK = 100.0
_FLATS = 10


@dataclass(frozen=True)
class ScanWish:
    """What is to be simulated.

    Attributes
    ----------
    projections, rows, cols : int
    span : float
        Degrees, evenly covered; the first projection is at 0.
    shift_px : float
        Displacements are even within plus and minus this, vertically and horizontally.
    drift_px : float
        Amplitude of a slow horizontal drift, ``sin(3 theta)``.
    noise : float
        Standard deviation of the noise on line integrals, as a part of the largest.
    axis : float or None
        Detector coordinate of the rotation axis in pixels; None: ``cols // 2``.
    seed : int
    """

    projections: int = 120
    rows: int = 64
    cols: int = 128
    span: float = 180.0
    shift_px: float = 0.0
    drift_px: float = 0.0
    noise: float = 0.0
    axis: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class Scan:
    """A simulated scan.

    Attributes
    ----------
    line_integrals : float32 ndarray (n, rows, cols)
    radians : float64 ndarray (n,)
    shifts : float64 ndarray (2, n)
        Vertical and horizontal displacement of the object in each projection.
    axis : float
    """

    line_integrals: FloatArray
    radians: NDArray[np.float64]
    shifts: NDArray[np.float64]
    axis: float
    flat: FloatArray = field(repr=False)


def draw_scan(wish: ScanWish) -> Scan:
    """Draw a scan; the same wish gives the same numbers."""
    rng = np.random.default_rng(wish.seed)
    n = wish.projections
    radians = np.radians(np.arange(n) * (wish.span / n))
    shifts = rng.uniform(-wish.shift_px, wish.shift_px, (2, n))
    shifts[1] += wish.drift_px * np.sin(3 * radians)
    shifts -= shifts.mean(axis=1, keepdims=True)
    axis = float(wish.cols // 2) if wish.axis is None else wish.axis
    values = project_phantom(draw_phantom(wish.seed), radians, wish.rows, wish.cols, axis, shifts)
    values *= np.float32(1.5 / max(float(values.max()), 1e-6))
    if wish.noise:
        values += rng.normal(0, wish.noise * float(values.max()), values.shape).astype(np.float32)
    y, x = np.mgrid[-1 : 1 : wish.rows * 1j, -1 : 1 : wish.cols * 1j]
    gain = 1 - 0.3 * (x**2 + 0.5 * y**2) + rng.normal(0, 0.02, x.shape)
    return Scan(values, radians, shifts, axis, (_WHITE * gain).astype(np.float32))


def write_scan(out: Path, wish: ScanWish) -> list[Path]:
    """Write a scan as Data Exchange HDF5, with flat and dark fields, and its truth as a table.

    Returns
    -------
    list of Path
        The scan, and ``NAME.truth.csv`` beside it.

    Raises
    ------
    UsageError
        One of them exists, or the name does not end with .h5.
    """
    import h5py

    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise UsageError("A simulated scan is an HDF5 file", file=str(out), expected="a name that ends with .h5")  # fmt: skip
    truth = out.with_name(f"{out.stem}.truth.csv")
    if truth.exists():
        raise UsageError("The table of the truth exists already; nothing is ever overwritten", file=str(truth))  # fmt: skip
    with new_place(out) as place:
        scan = draw_scan(wish)
        counts = scan.flat * np.exp(-scan.line_integrals) + np.float32(_DARK)
        frames = np.ones((_FLATS, 1, 1), np.float32)
        with h5py.File(place, "x") as file:
            for name, values, unit in (
                ("data", counts.astype(np.float32), "counts"),
                ("data_white", frames * (scan.flat + np.float32(_DARK)), "counts"),
                ("data_dark", np.broadcast_to(np.float32(_DARK), (_FLATS, *scan.flat.shape)), "counts"),
                ("theta", np.degrees(scan.radians), "degrees"),
            ):  # fmt: skip
                made = file.create_dataset(f"exchange/{name}", data=values, track_times=False)
                made.attrs["units"] = unit
    write_table(truth, ShiftTableRow, shift_rows(scan))
    return [out, truth]


def shift_rows(scan: Scan) -> list[ShiftTableRow]:
    """Return the truth in the form of a table of shifts."""
    return [
        ShiftTableRow(k, float(np.degrees(a)), round(float(v), 6), round(float(h), 6))
        for k, (a, v, h) in enumerate(zip(scan.radians, *scan.shifts, strict=True))
    ]
