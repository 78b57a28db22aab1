"""What the regions of an atlas measure in a brain: volume, brightness, and how much of each was imaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from soct.registration.brain_mask import BoolArray
from soct.space import Array, FloatArray

LEFT, RIGHT = 1, 2


@dataclass
class _Sums:
    left: float = 0.0
    right: float = 0.0
    other: float = 0.0
    voxels: int = 0
    valid: int = 0
    values: list[FloatArray] = field(default_factory=list)

    def add(self, more: _Sums) -> None:
        self.left += more.left
        self.right += more.right
        self.other += more.other
        self.voxels += more.voxels
        self.valid += more.valid
        self.values += more.values


@dataclass(frozen=True)
class RegionMeasure:
    """One region with all its parts.

    Attributes
    ----------
    id : int
        Its number in the annotation.
    volume_mm3, left_mm3, right_mm3 : float
        In the brain that was imaged, not in the template; the halves are NaN where hemispheres aren't known.
    mean, median : float
        Brightness where there are data; NaN without any.
    covered : float
        Share of the region that holds data.
    """

    id: int
    volume_mm3: float
    left_mm3: float
    right_mm3: float
    mean: float
    median: float
    covered: float


class RegionSums:
    """Collects voxels of regions, slab by slab."""

    def __init__(self) -> None:
        self._sums: dict[int, _Sums] = {}

    def add(
        self,
        labels: Array,
        values: FloatArray,
        valid: BoolArray,
        mm3: FloatArray,
        halves: NDArray[np.uint8] | None,
    ) -> None:
        """Take voxels of a slab.

        Parameters
        ----------
        labels : ndarray of int
            Region of each voxel; 0 is none.
        values : ndarray of float32
            Brightness.
        valid : ndarray of bool
            Where there are data.
        mm3 : ndarray of float32
            What each voxel measures in the brain.
        halves : ndarray of uint8, optional
            `LEFT` or `RIGHT`; None where hemispheres aren't known.
        """
        inside = labels > 0
        if not inside.any():
            return
        ids, group = np.unique(labels[inside], return_inverse=True)
        order = np.argsort(group, kind="stable")
        ends = np.cumsum(np.bincount(group, minlength=len(ids)))
        parts = [np.split(a[inside][order], ends[:-1]) for a in (values, valid, mm3)]
        sides = None if halves is None else np.split(halves[inside][order], ends[:-1])
        for n, region in enumerate(ids):
            v, good, size = (p[n] for p in parts)
            one = _Sums(voxels=len(v), valid=int(good.sum()), values=[v[good]])
            if sides is None:
                one.other = float(size.sum(dtype=np.float64))
            else:
                one.left = float(size[sides[n] == LEFT].sum(dtype=np.float64))
                one.right = float(size[sides[n] == RIGHT].sum(dtype=np.float64))
                one.other = float(size.sum(dtype=np.float64)) - one.left - one.right
            self._sums.setdefault(int(region), _Sums()).add(one)

    @property
    def ids(self) -> tuple[int, ...]:
        """Regions that were seen."""
        return tuple(sorted(self._sums))

    def measure(
        self, ancestors: Mapping[int, Sequence[int]], *, halves: bool
    ) -> dict[int, RegionMeasure]:
        """Return the measures of every region with its parts, and of the regions that they are parts of.

        Parameters
        ----------
        ancestors : mapping
            Region -> all regions that it is a part of; those not named have none.
        halves : bool
            Whether hemispheres are known.
        """
        total: dict[int, _Sums] = {}
        for region, sums in self._sums.items():
            for target in {region, *ancestors.get(region, ())}:
                total.setdefault(target, _Sums()).add(sums)
        return {region: _measure(region, sums, halves) for region, sums in sorted(total.items())}


def _measure(region: int, sums: _Sums, halves: bool) -> RegionMeasure:
    values = np.concatenate(sums.values) if sums.values else np.empty(0, np.float32)
    nan = float("nan")
    return RegionMeasure(
        region,
        sums.left + sums.right + sums.other,
        sums.left if halves else nan,
        sums.right if halves else nan,
        float(values.mean(dtype=np.float64)) if values.size else nan,
        float(np.median(values)) if values.size else nan,
        sums.valid / sums.voxels if sums.voxels else 0.0,
    )
