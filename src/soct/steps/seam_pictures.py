"""Some seams of a slice at full resolution, for the report: a large slice is saved only as a small picture.

Tiles are projected along depth and mixed evenly, by the stage alone and as placed; each picture is cut where
the overlap shows most texture, and the first tile stays where it is, so that only the second one moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.mosaic.placement import Placement
    from soct.mosaic.rendering import Shading
    from soct.space import FloatArray
    from soct.steps.grid_tiles import TileLoader

SEAM_PX = 240
"""Side of a picture, or a tile's shorter side where that is less; a page shows it with every pixel."""
WORST = 2
"""Seams of largest residual that are kept of a slice, beside a median and an arbitrary one."""


def choose_pairs(residual: NDArray[Any], accepted: NDArray[Any], seed: int) -> list[int]:
    """Return which pairs of tiles to draw: the worst, a median and an arbitrary one of those that were trusted.

    Parameters
    ----------
    residual, accepted : ndarray (n,)
        Of `Placement`.
    seed : int
        Any number of the slice: the arbitrary one is the same each time.
    """
    import numpy as np

    values = np.asarray(residual, float)
    trusted = np.flatnonzero(np.asarray(accepted, bool) & np.isfinite(values))
    ranked = trusted[np.argsort(-values[trusted], kind="stable")].tolist()
    chosen = ranked[:WORST]
    if len(ranked) > WORST:
        chosen.append(ranked[max(WORST, len(ranked) // 2)])
    rest = [k for k in ranked if k not in chosen]
    if rest:
        chosen.append(rest[(7919 * (seed + 1)) % len(rest)])
    return [int(k) for k in chosen]


def divide_flat(images: FloatArray, shading: Shading | None) -> FloatArray:
    """Return projections of a tile with the flat field divided out."""
    import numpy as np

    if shading is None:
        return images
    dark = 0.0 if shading.dark is None else shading.dark
    return ((images - dark) / np.maximum(shading.flat, 1e-6)).astype(np.float32)


def draw_seams(
    load: TileLoader,
    shading: Shading | None,
    placement: Placement,
    nominal: NDArray[np.float64],
    seed: int,
) -> dict[str, NDArray[Any]]:
    """Draw some pairs of tiles around their seam, with every pixel of the slice.

    Parameters
    ----------
    load : TileLoader
    shading : Shading or None
    placement : Placement
    nominal : ndarray (n, 2)
        Where the stage alone puts the tiles, in pixels.
    seed : int
        See `choose_pairs`.

    Returns
    -------
    dict
        Figure arrays: ``seam_pairs (k, 2)``, ``seam_before`` and ``seam_after (k, side, side)``.
    """
    import numpy as np

    def project(i: int) -> FloatArray:
        first, stop = load.whole_planes
        whole = load(i)[first:stop].mean(axis=0, dtype=np.float64)
        return divide_flat(whole.astype(np.float32), shading)

    kept: dict[int, FloatArray] = {}
    drawn = []
    for k in choose_pairs(placement.pair_residual_px, placement.pair_accepted, seed):
        pair = [int(v) for v in placement.pairs[k]]
        # Neighbouring seams share tiles; more than two would only take memory.
        kept = {i: kept[i] if i in kept else project(i) for i in pair}
        images = (kept[pair[0]], kept[pair[1]])
        centre, after = _around(images, placement.positions_px[pair])
        _, before = _around(images, np.asarray(nominal)[pair], centre)
        drawn.append((pair, before, after))
    size = (len(drawn), *drawn[0][2].shape) if drawn else (0, SEAM_PX, SEAM_PX)
    return {
        "seam_pairs": np.array([pair for pair, _, _ in drawn], np.int64).reshape(-1, 2),
        "seam_before": np.array([b for _, b, _ in drawn], np.float32).reshape(size),
        "seam_after": np.array([a for _, _, a in drawn], np.float32).reshape(size),
    }


def _around(
    images: tuple[FloatArray, FloatArray],
    positions: NDArray[np.float64],
    centre: tuple[int, int] | None = None,
) -> tuple[tuple[int, int], FloatArray]:
    """Return the middle of the picture, counted from the first tile, and the picture of both tiles around it."""
    import numpy as np

    from soct.mosaic.rendering import BandRenderer, plan_bands

    shape = (images[0].shape[0], images[0].shape[1])
    plan = plan_bands(positions, shape)
    renderer = BandRenderer(plan, lambda i: images[i][None], blending="average")
    both = renderer.render(0, plan.shape[0])[0]
    first = np.rint(positions[0] - np.array(plan.origin_px)).astype(int)
    if centre is None:
        second = np.rint(positions[1] - np.array(plan.origin_px)).astype(int)
        low, high = np.maximum(first, second), np.minimum(first, second) + np.array(shape)
        middle = _busiest(both, low, high)
        centre = (middle[0] - int(first[0]), middle[1] - int(first[1]))
    side = min(SEAM_PX, *shape)
    out = np.full((side, side), np.nan, np.float32)
    top, left = (int(f) + c - side // 2 for f, c in zip(first, centre, strict=True))
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(both.shape[0], top + side), min(both.shape[1], left + side)
    if y1 > y0 and x1 > x0:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = both[y0:y1, x0:x1]
    return centre, out


def _busiest(both: FloatArray, low: NDArray[Any], high: NDArray[Any]) -> tuple[int, int]:
    """Return the middle of the stretch of an overlap that shows most texture."""
    import numpy as np

    (y0, x0), (y1, x1) = (np.asarray(v, int).tolist() for v in (low, high))
    middle = ((y0 + y1) // 2, (x0 + x1) // 2)
    along = 0 if y1 - y0 >= x1 - x0 else 1
    start, stop = (y0, y1) if along == 0 else (x0, x1)
    best = -1.0
    for at in range(
        start + SEAM_PX // 2, max(stop - SEAM_PX // 2, start + SEAM_PX // 2) + 1, SEAM_PX // 2
    ):
        span = slice(max(at - SEAM_PX // 2, 0), at + SEAM_PX // 2)
        part = both[span, x0:x1] if along == 0 else both[y0:y1, span]
        known = part[np.isfinite(part)]
        if known.size > part.size // 2 and float(known.std()) > best and stop - start > SEAM_PX:
            best = float(known.std())
            middle = (at, middle[1]) if along == 0 else (middle[0], at)
    return middle
