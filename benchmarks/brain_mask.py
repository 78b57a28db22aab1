"""How well `soct segment` finds the brain: overlap with the true mask, against simpler thresholds.

    python benchmarks/brain_mask.py ACQUISITION [ACQUISITION ...]

An acquisition is a folder with ``truth.npz`` (`soct simulate`). Its true volume gets speckle of one and of four
looks and is averaged to about 50 um; Dice is that of the mask with the true one. `outside` is the part of what is
not brain that the mask leaves out: where nearly all is brain, Dice alone says little.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from skimage.filters import threshold_otsu

from soct.formats.volume_source import block_means
from soct.intensity.brain_mask import dice, segment_brain
from soct.intensity.tissue_mask import compute_tissue_mask
from soct.simulate.truth import read_truth
from soct.space import Voxel


def main(acquisitions: list[str]) -> None:
    """Print a table."""
    print(f"{'acquisition':<20}{'looks':>6}  {'method':<28}{'Dice':>8}{'outside':>9}{'seconds':>9}")
    for name in acquisitions:
        volume, mask = read_truth(Path(name))
        factors = [max(1, round(50 / v)) for v in volume.voxel_um]
        shape = [n // f * f for n, f in zip(mask.shape, factors, strict=True)]
        inner = tuple(slice(n) for n in shape)
        reduce = (factors[0], factors[1], factors[2])
        voxel = Voxel(*(f * v for f, v in zip(factors, volume.voxel_um, strict=True)))
        truth = block_means(np.where(mask[inner], 1.0, 1e-9), reduce) > 0.5
        for looks in (1, 4):
            rng = np.random.default_rng(0)
            speckle = rng.gamma(looks, 1 / looks, shape)
            data = block_means(np.maximum(volume.data[inner], 1e-4) * speckle, reduce)
            methods = {
                "everything": lambda d: np.ones(d.shape, bool),
                "one Otsu threshold": lambda d: d > threshold_otsu(d),
                "compute_tissue_mask": compute_tissue_mask,
                "soct segment": lambda d, v=voxel: segment_brain(d, v).mask,
            }
            for method, find in methods.items():
                start = time.perf_counter()
                found = find(data)
                seconds = time.perf_counter() - start
                outside = 1 - (found & ~truth).sum() / max((~truth).sum(), 1)
                label = Path(name).resolve().name[:18]
                print(
                    f"{label:<20}{looks:>6}  {method:<28}{dice(found, truth):>8.4f}{outside:>9.3f}{seconds:>9.2f}"
                )


if __name__ == "__main__":
    main(sys.argv[1:] or ["../shared/data/soct_sample"])
