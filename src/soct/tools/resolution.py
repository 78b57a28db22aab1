"""The resolution of a volume, block by block of its tissue: what `soct resolution` measures.

Two volumes of one specimen are compared by the correlation of their Fourier shells. Of one volume the noise is found in its own
spectrum (`soct.tomography.noise_floor`), which tells the correlation that a second, equally noisy volume would show.
Blocks are read one at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError, UsageError
from soct.formats.tiles import shown
from soct.formats.volume_source import VolumeSource, open_source
from soct.geometry.orientation import Window
from soct.intensity.tissue_mask import tissue_threshold
from soct.space import Array, Voxel
from soct.tomography.noise_floor import (
    correlation_of_one,
    find_noise_floor,
    is_white,
    spectral_fall,
)
from soct.tomography.shell_correlation import (
    Part,
    ShellCorrelation,
    Shells,
    fourier_shell_correlation,
)

FloatVector = NDArray[np.float64]
Progress = Callable[[int, int], None]

_BLOCK = (64, 96, 96)
_FEWEST_VOXELS = 16
_CELL = 8
_FULL = 0.95
# With so many blocks of tissue no smaller ones are looked for.
_ENOUGH = 3
_FEWEST_PERIODS = 6
_TISSUE, _EMPTY = 0.8, 0.05
# Blocks looked at for each that is wanted: of a brain in its box a good part is tissue.
_EXAMINED = 8
_BACKGROUND = 8
_FEWEST_EMPTY = 3
_SEED = 20
_FLATTERS = (
    "The spectrum does not end in noise ({}): either detail is as fine as the voxels, or the noise of "
    "neighbours is correlated (a resampled volume) and the number flatters; a second volume (--other) tells"
)
DIRECTIONS: tuple[tuple[str, Part], ...] = (("in plane", "across"), ("along z", "along"))


@dataclass(frozen=True)
class Direction:
    """The resolution in one direction.

    Attributes
    ----------
    name : str
        ``in plane`` or ``along z``.
    blocks : tuple of ShellCorrelation
        One per place; frequencies per micrometre.
    may_flatter : bool
        The noise is not known for sure: the true resolution may be coarser.
    """

    name: str
    blocks: tuple[ShellCorrelation, ...]
    may_flatter: bool = False

    def values_um(self, criterion: str) -> FloatVector:
        """Return the resolution of every block; NaN where the correlation is never above the threshold."""
        return np.array([block.resolution(criterion) for block in self.blocks])

    def quartiles_um(self, criterion: str = "half-bit") -> tuple[float, float, float]:
        """Return the median and both quartiles over the blocks, NaN where there is none."""
        values = self.values_um(criterion)
        values = values[np.isfinite(values)]
        if not values.size:
            return float("nan"), float("nan"), float("nan")
        low, middle, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
        return middle, low, high

    def at_limit(self, criterion: str = "half-bit") -> int:
        """Return how many blocks never fall below a threshold: finer than two voxels can show."""
        crossings = [block.crossings[criterion] for block in self.blocks]
        return sum(not c.is_crossed and bool(np.isfinite(c.frequency)) for c in crossings)

    @property
    def frequencies(self) -> FloatVector:
        """Frequencies of the shells, per micrometre."""
        return self.blocks[0].frequencies

    @property
    def median(self) -> FloatVector:
        """The median correlation over the blocks."""
        return np.asarray(np.median([block.correlation for block in self.blocks], axis=0))


@dataclass(frozen=True)
class VolumeResolution:
    """The resolution of a volume.

    Attributes
    ----------
    path : Path
    other : Path or None
        The second volume, if there is one.
    shape : tuple of int
    voxel_um : Voxel
    block : tuple of int
        Voxels of a block.
    places : tuple of tuple of int
        First voxel of every block.
    directions : tuple of Direction
    noise : str
        How the noise was known.
    notices : tuple of str
        What a user must know about it.
    """

    path: Path
    other: Path | None
    shape: tuple[int, int, int]
    voxel_um: Voxel
    block: tuple[int, int, int]
    places: tuple[tuple[int, int, int], ...]
    directions: tuple[Direction, ...]
    noise: Literal["second volume", "background", "spectrum"]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Places:
    """Blocks in tissue and blocks without it."""

    tissue: list[tuple[int, int, int]]
    empty: list[tuple[int, int, int]]


def measure_resolution(
    path: Path,
    other: Path | None = None,
    *,
    level: int = 0,
    voxel_um: Voxel | None = None,
    blocks: int = 12,
    progress: Progress | None = None,
) -> VolumeResolution:
    """Measure the resolution of a volume in several blocks of tissue.

    Parameters
    ----------
    path : Path
        OME-Zarr, NIfTI, NRRD or TIFF.
    other : Path, optional
        A second volume of the same specimen on the same grid, with noise of its own.
    level : int
        Which resolution of an OME-Zarr image.
    voxel_um : Voxel, optional
        Instead of what the file says.
    blocks : int
        How many blocks, at most.
    progress : callable, optional
        Called with the number of blocks read and their total.

    Raises
    ------
    InputError
        There is no volume, it says no voxel size, the two do not fit, or no block is full of tissue.
    """
    source = open_source(path, level=level, voxel_um=voxel_um)
    if source.voxel_um is None:
        raise InputError(
            "The volume does not say the size of its voxels",
            file=shown(path),
            expected="--voxel-um Z,Y,X, or a file that says it",
        )
    second = None if other is None else open_source(other, level=level, voxel_um=voxel_um)
    if second is not None:
        _check_pair(source, second)
    block, places = _find_blocks(source, blocks, progress)
    directions, noise, notices = [], "second volume", []
    for name, part in DIRECTIONS:
        if part == "along" and block[0] < _FEWEST_VOXELS:
            notices.append(
                f"The volume has {source.shape[0]} planes: too few to tell the resolution along z"
            )
            continue
        shells = Shells(block, source.voxel_um, part=part, axis=0)
        if second is None:
            found, noise, told = _from_one(source, block, places, shells, name)
        else:
            found, told = _from_two(source, second, block, places, part), []
        directions.append(Direction(name, tuple(found), _FLATTERS.format(name) in told))
        notices += told
        notices += _rough(directions[-1], block, source.voxel_um)
    if len(places.tissue) < min(4, blocks):
        notices.append(f"Only {len(places.tissue)} blocks of tissue are full of data: the spread says little")  # fmt: skip
    return VolumeResolution(
        path,
        other,
        source.shape,
        source.voxel_um,
        block,
        tuple(places.tissue),
        tuple(directions),
        noise,  # type: ignore[arg-type]
        tuple(dict.fromkeys(notices)),
    )


def _rough(direction: Direction, block: tuple[int, int, int], voxel: Voxel) -> list[str]:
    """Say where blocks are too small for what they show."""
    axes = (0,) if direction.name == "along z" else (1, 2)
    extent = min(block[a] * voxel[a] for a in axes)
    if not direction.quartiles_um()[0] > extent / _FEWEST_PERIODS:
        return []
    return [
        f"Blocks of {extent:g} um hold less than {_FEWEST_PERIODS} periods of the resolution ({direction.name}): the number is rough"
    ]


def _check_pair(first: VolumeSource, second: VolumeSource) -> None:
    if first.shape != second.shape:
        raise InputError(
            "The two volumes differ in size",
            file=shown(second.path),
            expected=f"{first.shape}, as {shown(first.path)} has",
            found=str(second.shape),
            hint="Both must lie on one grid, voxel on voxel.",
        )
    one, two = first.voxel_um, second.voxel_um
    if one is not None and two is not None and not np.allclose(one, two, rtol=1e-3):
        raise InputError(
            "The two volumes differ in the size of their voxels",
            file=shown(second.path),
            expected=" x ".join(f"{v:g}" for v in one) + " um",
            found=" x ".join(f"{v:g}" for v in two) + " um",
        )


def _find_blocks(
    source: VolumeSource, wanted: int, progress: Progress | None
) -> tuple[tuple[int, int, int], _Places]:
    """Find blocks of tissue: as large as they fit, smaller ones where tissue is thin."""
    best: tuple[tuple[int, int, int], _Places] | None = None
    for block in _block_shapes(source):
        places = _choose(source, block, wanted, progress)
        if places.tissue and best is None:
            best = block, places
        if len(places.tissue) >= min(_ENOUGH, wanted):
            return block, places
    if best is None:
        raise InputError(
            "No block of the volume is full of data",
            file=shown(source.path),
            expected=f"a block of {_FEWEST_VOXELS} voxels along each axis without zeros, which are no data",
            found="none",
            hint="Take a finer --level, or a volume with less empty space.",
        )
    return best


def _block_shapes(source: VolumeSource) -> list[tuple[int, int, int]]:
    """Return how many voxels a block may have, the largest first: even sides, so that blocks half a side apart lie side by side."""
    n_z, n_y, n_x = source.shape
    if min(n_y, n_x) < _FEWEST_VOXELS:
        raise InputError(
            "The volume is too small to tell its resolution",
            file=shown(source.path),
            expected=f"at least {_FEWEST_VOXELS} x {_FEWEST_VOXELS} voxels in the plane",
            found=f"{n_y} x {n_x}",
        )
    depth = min(_BLOCK[0], n_z)
    side = min(_BLOCK[1], max(_FEWEST_VOXELS, min(n_y, n_x) // 6 * 2))
    shapes = [(depth, side, side)]
    while depth > _FEWEST_VOXELS or side > _FEWEST_VOXELS:
        if depth >= side or side <= _FEWEST_VOXELS:
            depth = max(min(_FEWEST_VOXELS, n_z), depth // 2)
        else:
            side = max(_FEWEST_VOXELS, side // 4 * 2)
        if (depth, side, side) == shapes[-1]:
            break
        shapes.append((depth, side, side))
    return shapes


def _window(place: tuple[int, int, int], block: tuple[int, int, int]) -> Window:
    (z, y, x), (d, h, w) = place, block
    return (z, z + d), (y, y + h), (x, x + w)


def _candidates(shape: tuple[int, ...], block: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Return places of blocks side by side, then those half a block between; each lot in an order that is random and always the same."""
    steps = (block[0], max(1, block[1] // 2), max(1, block[2] // 2))
    axes = []
    for n, b, step in zip(shape, block, steps, strict=True):
        count = (n - b) // step + 1
        start = (n - b - (count - 1) * step) // 2
        axes.append(range(start, start + count * step, step))
    rng = np.random.default_rng(_SEED)
    ordered: list[tuple[int, int, int]] = []
    every = list(itertools.product(*axes))
    beside = set(itertools.product(axes[0], axes[1][::2], axes[2][::2]))
    for lot in ([p for p in every if p in beside], [p for p in every if p not in beside]):
        ordered += [lot[i] for i in rng.permutation(len(lot))]
    return ordered


def _choose(
    source: VolumeSource, block: tuple[int, int, int], wanted: int, progress: Progress | None
) -> _Places:
    """Find blocks that are full of data, in tissue and beside it."""
    candidates = _candidates(source.shape, block)[: _EXAMINED * wanted]
    cells, full = [], []
    for k, place in enumerate(candidates):
        data = source.read_block(_window(place, block))
        has_data = np.isfinite(data) & (data != 0)
        if has_data.mean() >= _FULL:
            full.append(place)
            cells.append(_cell_means(data, has_data))
        if progress is not None:
            progress(k + 1, len(candidates))
    if not full:
        return _Places([], [])
    every = np.concatenate([c.ravel() for c in cells])
    threshold = tissue_threshold(every[every > 0]) if (every > 0).any() else 0.0
    share = np.array([(c > threshold).mean() for c in cells])
    tissue = [p for p, s in zip(full, share, strict=True) if s >= _TISSUE]
    if not tissue:
        tissue = [full[int(np.argmax(share))]]
    empty = [p for p, s in zip(full, share, strict=True) if s <= _EMPTY]
    # Blocks beside the tissue only tell the noise: they may overlap.
    return _Places(_apart(tissue, block)[:wanted], empty[:_BACKGROUND])


def _apart(
    places: list[tuple[int, int, int]], block: tuple[int, int, int]
) -> list[tuple[int, int, int]]:
    """Leave out places whose block overlaps one before."""
    kept: list[tuple[int, int, int]] = []
    for place in places:
        if all(any(abs(a - b) >= n for a, b, n in zip(place, other, block, strict=True)) for other in kept):  # fmt: skip
            kept.append(place)
    return kept


def _cell_means(data: Array, has_data: NDArray[np.bool_]) -> FloatVector:
    """Return means over small cells, of the voxels that have data."""
    values = np.where(has_data, data, 0).astype(np.float64)
    count = has_data.astype(np.float64)
    for axis, n in enumerate(data.shape):
        starts = np.arange(0, n, _CELL)
        values = np.add.reduceat(values, starts, axis=axis)
        count = np.add.reduceat(count, starts, axis=axis)
    means: FloatVector = values / np.maximum(count, 1)
    return means


def _read(source: VolumeSource, place: tuple[int, int, int], block: tuple[int, int, int]) -> Array:
    """Read a block; voxels without data get the mean of the others."""
    data = source.read_block(_window(place, block)).astype(np.float64)
    has_data = np.isfinite(data) & (data != 0)
    data[~has_data] = data[has_data].mean() if has_data.any() else 0.0
    return data


def _from_two(
    first: VolumeSource,
    second: VolumeSource,
    block: tuple[int, int, int],
    places: _Places,
    part: Part,
) -> list[ShellCorrelation]:
    found = []
    for place in places.tissue:
        a, b = _read(first, place, block), _read(second, place, block)
        if not (np.ptp(a) and np.ptp(b)):
            raise UsageError(
                "A block has no contrast in one of the volumes",
                file=shown(second.path if np.ptp(a) else first.path),
                found=f"one brightness in the block at {place}",
            )
        found.append(
            fourier_shell_correlation(a, b, voxel_size=first.voxel_um or 1.0, part=part, axis=0)
        )
    return found


def _power(
    source: VolumeSource, place: tuple[int, int, int], block: tuple[int, int, int], shells: Shells
) -> FloatVector:
    spectrum = np.abs(shells.spectrum(_read(source, place, block))) ** 2
    return shells.sums(spectrum) / shells.sums(np.ones(spectrum.shape))


def _from_one(
    source: VolumeSource,
    block: tuple[int, int, int],
    places: _Places,
    shells: Shells,
    name: str,
) -> tuple[list[ShellCorrelation], str, list[str]]:
    """Return the correlation of every block with a second volume that there is not."""
    shape, notices = None, []
    if len(places.empty) >= _FEWEST_EMPTY:
        powers = [_power(source, place, block, shells) for place in places.empty]
        shape = np.median([p / p.mean() for p in powers], axis=0)
        if not is_white(*spectral_fall(shells.frequencies, shape, len(powers) * shells.counts)):
            notices.append(
                f"Noise is correlated from voxel to voxel ({name}), as interpolation leaves it; its spectrum "
                "was measured beside the tissue and taken into account"
            )
    found, falls, error = [], [], 0.0
    for place in places.tissue:
        power = _power(source, place, block, shells)
        floor = find_noise_floor(shells.frequencies, power, shells.counts, shape)
        falls.append(floor.fall)
        error = max(error, floor.fall_error)
        found.append(correlation_of_one(shells.frequencies, power, shells.counts, shape))
    # Of one block the end of the spectrum is itself uncertain by some percent.
    if not is_white(float(np.median(falls)), error / float(np.sqrt(len(falls)))):
        notices.append(_FLATTERS.format(name))
    return found, "spectrum" if shape is None else "background", notices
