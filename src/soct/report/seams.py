"""The seams of a run by how far the two tiles disagree with where they were put."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soct.report.examples import choose_examples
from soct.report.figures import FigureError, FigureStore
from soct.report.slice_pictures import STITCH

REASONS = {
    "no data": "one of the tiles holds no data in the overlap",
    "no tissue": "the overlap shows no tissue",
    "ambiguous": "several shifts fit equally well",
    "unsupported": "one pair alone said so, against the grid",
    "disagrees": "it disagrees with the other pairs",
}
"""What the reason of a rejected pair means, in words."""


@dataclass(frozen=True)
class Seam:
    """Two neighbouring tiles of one slice."""

    unit: str
    a: int
    b: int
    """Their places in the slice's figure arrays."""
    where: str
    residual_um: float
    """NaN where nothing was measured."""
    accepted: bool
    reason: str
    """Why it was rejected; empty where it was not, or in runs that did not save it."""
    sharp: bool = False
    """Whether it was saved at full resolution, beside the picture of the slice."""

    @property
    def key(self) -> str:
        """Unique in the run."""
        return f"{self.unit}-{self.a}-{self.b}"


def rank_seams(figures: FigureStore, units: Sequence[str]) -> list[Seam]:
    """Return the measured seams of some slices, the worst first; slices that cannot be read are left out."""
    seams: list[Seam] = []
    for unit in units:
        try:
            seams += _read(figures, unit)
        except (FigureError, ValueError, IndexError):
            continue
    return sorted(seams, key=lambda s: (-s.residual_um, s.key))


def choose_seams(seams: Sequence[Seam], seed: str) -> list[tuple[Seam, str]]:
    """Return the three worst accepted seams, the median one and a random one, with why each is shown.

    Where the steps saved seams at full resolution, the last two give way to the nearest of those by residual.
    """
    trusted = {s.key: s for s in seams if s.accepted}
    values = [(key, s.residual_um) for key, s in trusted.items()]
    chosen: dict[str, str] = {}
    for example in choose_examples(values, seed=seed):
        key = example.unit
        if example.why in ("median", "random"):
            key = _sharp_near(trusted[key], [s for s in trusted.values() if s.key not in chosen])
        chosen[key] = example.why
    return [(trusted[key], why) for key, why in chosen.items()]


def _sharp_near(wanted: Seam, seams: Sequence[Seam]) -> str:
    """Return the seam of nearest residual among those saved at full resolution; where there is none, the wanted one."""
    sharp = [(abs(s.residual_um - wanted.residual_um), s.key) for s in seams if s.sharp]
    return min(sharp)[1] if sharp else wanted.key


def _read(figures: FigureStore, unit: str) -> list[Seam]:
    pairs, residual, accepted, index, voxel = figures.arrays(
        STITCH, unit, "pairs", "pair_residual_px", "pair_accepted", "grid_index", "voxel_um"
    )
    names = figures.names(STITCH, unit)
    named = "pair_reason" in names
    drawn = figures.array(STITCH, unit, "seam_pairs") if "seam_pairs" in names else np.zeros((0, 2))
    sharp = {(int(a), int(b)) for a, b in drawn.reshape(-1, 2).tolist()}
    reasons = figures.array(STITCH, unit, "pair_reason").ravel().tolist() if named else []
    pixel = float(np.ravel(voxel)[-1])
    tile = [f"({r}, {c})" for r, c in index.reshape(-1, 2).tolist()]
    return [
        Seam(
            unit,
            a,
            b,
            f"{unit}, tiles {tile[a]} and {tile[b]}",
            float(value) * pixel,
            bool(used),
            str(reasons[k]) if k < len(reasons) else "",
            (a, b) in sharp,
        )
        for k, ((a, b), value, used) in enumerate(
            zip(
                pairs.reshape(-1, 2).tolist(),
                residual.ravel().tolist(),
                accepted.ravel().tolist(),
                strict=True,
            )
        )
        if value == value and 0 <= a < len(tile) and 0 <= b < len(tile)
    ]
