"""Placement from matched points (`soct.spectral.Placement`) on mosaics with known maps, beside plain least squares.

    python benchmarks/spectral_placement.py [--seeds 5] [--repeat 3] [--noise 0.1] [--json OUT]

Tiles of 512 x 512 px in a grid with 15 % overlap, each up to 8 px beside its place; matched points are spread over the overlaps of all
4-neighbours (3 x 3 in each, one in each for rigid placement) and get noise of ``--noise`` px per axis. Wrong matches are 2 to 30 px off
in any direction. The peer is an unweighted dense `numpy.linalg.lstsq` over the same matches in the same run, with the first tile
held (affine) or the mean (rigid). Errors are RMS distances of tile centres after the best common shift (rigid) or the best common
affine map (affine), in pixels: mean and largest over the seeds. Times are the best of ``--repeat``, matches already added.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soct.spectral import Placement
from soct.spectral.placement import PlacementWarning

Floats = NDArray[np.float64]

TILE, STEP, WANDER = 512.0, 435.0, 8.0
CENTRE = np.array([TILE / 2, TILE / 2])
DENSE_BYTES = 1.5e9


@dataclass(frozen=True)
class Mosaic:
    """Maps of tiles (n, 2, 3), and matches: tiles (m, 2), points (m, 2, 2), whether each is wrong."""

    maps: Floats
    tiles: NDArray[np.int64]
    points: Floats
    wrong: NDArray[np.bool_]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    name: str
    model: Literal["rigid", "similarity", "affine"]
    rows: int
    columns: int
    across: int = 3
    along: int = 3
    shape: float = 0.0
    turn: float = 0.0
    wrong: float = 0.0
    whole_pairs: bool = False
    seeds: int = 10


CASES = (
    Case("rigid, 40 x 40", "rigid", 40, 40, 1, 1, seeds=3),
    Case("rigid, 40 x 40, 20 % wrong", "rigid", 40, 40, 1, 1, wrong=0.2, seeds=3),
    Case("affine, 14 x 14, tiles undistorted", "affine", 14, 14),
    Case("affine, 14 x 14, tiles distorted by 0.03 %", "affine", 14, 14, shape=3e-4),
    Case("affine, 14 x 14, tiles distorted by 0.1 %", "affine", 14, 14, shape=1e-3),
    Case("affine, 14 x 14, tiles distorted by 1 %", "affine", 14, 14, shape=1e-2),
    Case("affine, 14 x 14, 20 % wrong", "affine", 14, 14, wrong=0.2),
    Case("affine, 14 x 14, 0.1 %, 20 % wrong", "affine", 14, 14, shape=1e-3, wrong=0.2),
    Case("affine, 14 x 14, 10 % of pairs wrong", "affine", 14, 14, wrong=0.1, whole_pairs=True),
    Case("similarity, 14 x 14, turned by 3 deg", "similarity", 14, 14, turn=0.05),
    Case("similarity, 14 x 14, 3 deg, 20 % wrong", "similarity", 14, 14, turn=0.05, wrong=0.2),
    Case("affine, 2 x 3, five points along each seam", "affine", 2, 3, 1, 5),
    Case("affine, 40 x 50", "affine", 40, 50, seeds=1),
    Case("affine, 40 x 50, 20 % wrong", "affine", 40, 50, wrong=0.2, seeds=1),
)


def grid_pairs(rows: int, columns: int) -> NDArray[np.int64]:
    number = np.arange(rows * columns).reshape(rows, columns)
    right = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], axis=1)
    down = np.stack([number[:-1].ravel(), number[1:].ravel()], axis=1)
    return np.vstack([right, down])


def make_mosaic(case: Case, noise: float, seed: int) -> Mosaic:
    rng = np.random.default_rng(seed)
    n = case.rows * case.columns
    row, column = np.divmod(np.arange(n), case.columns)
    middle = np.stack([column, row], axis=1) * STEP + rng.uniform(-WANDER, WANDER, (n, 2))
    turn = case.turn * rng.standard_normal(n)
    cos, sin = np.cos(turn), np.sin(turn)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    linear = linear + case.shape * rng.standard_normal((n, 2, 2))
    maps = np.concatenate([linear, (middle - linear @ CENTRE)[:, :, None]], axis=2)
    tiles, points, wrong = [], [], []
    for i, j in grid_pairs(case.rows, case.columns).tolist():
        low = np.maximum(middle[i], middle[j]) - TILE / 2
        high = np.minimum(middle[i], middle[j]) + TILE / 2
        beside = abs(middle[j] - middle[i])[0] > STEP / 2
        counts = (case.across, case.along) if beside else (case.along, case.across)
        parts = [low[k] + (np.arange(m) + 0.5) / m * (high - low)[k] for k, m in enumerate(counts)]
        where = np.stack(np.meshgrid(*parts), axis=-1).reshape(-1, 2)
        both = [np.linalg.solve(linear[t], (where - maps[t, :, 2]).T).T for t in (i, j)]
        error = noise * rng.standard_normal(where.shape)
        count = 1 if case.whole_pairs else len(where)
        bad = np.broadcast_to(rng.random(count) < case.wrong, (len(where),))
        angle, far = rng.uniform(0, 2 * np.pi, count), rng.uniform(2, 30, count)
        off = np.stack([far * np.cos(angle), far * np.sin(angle)], axis=1)
        points.append(np.stack([both[0], both[1] + error + bad[:, None] * off], axis=1))
        tiles.append(np.tile((i, j), (len(where), 1)))
        wrong.append(bad)
    return Mosaic(maps, np.concatenate(tiles), np.concatenate(points), np.concatenate(wrong))


def lstsq(mosaic: Mosaic, affine: bool) -> Floats | None:
    """Solve for maps by one dense least squares without weights; None where it would not fit into memory."""
    n, k = len(mosaic.maps), 3 if affine else 1
    m = len(mosaic.tiles)
    if 8.0 * (m + k) * n * k > DENSE_BYTES:
        return None
    matrix = np.zeros((m + k, n * k))
    for side, sign in ((0, 1.0), (1, -1.0)):
        ones = np.ones((m, 1))
        basis = np.hstack([mosaic.points[:, side] / TILE, ones]) if affine else ones
        for a in range(k):
            matrix[np.arange(m), k * mosaic.tiles[:, side] + a] = sign * basis[:, a]
    target = np.zeros((m + k, 2))
    target[:m] = mosaic.points[:, 1] - mosaic.points[:, 0]
    # The first tile is held; for shifts any tile will do.
    matrix[m + np.arange(k), np.arange(k)] = 1.0
    found = np.linalg.lstsq(matrix, target, rcond=None)[0].reshape(n, k, 2)
    maps = np.tile(np.eye(2, 3), (n, 1, 1))
    maps[:, :, 2] = found[:, -1]
    if affine:
        maps[:, :, :2] += found[:, :2].transpose(0, 2, 1) / TILE
    return maps


def centre_error(maps: Floats, true: Floats, rigid: bool, keep: NDArray[np.bool_]) -> float:
    placed, target = (m[keep] @ np.array([*CENTRE, 1.0]) for m in (maps, true))
    ones = np.ones((len(placed), 1))
    design = ones if rigid else np.hstack([placed, ones])
    rest = target - placed if rigid else target
    rest = rest - design @ np.linalg.lstsq(design, rest, rcond=None)[0]
    return float(np.sqrt((rest**2).sum(axis=1).mean()))


def as_maps(found: dict[Any, Any]) -> Floats:
    tiles = sorted(found)
    if isinstance(found[tiles[0]], tuple):
        return np.array([np.column_stack([np.eye(2), found[t]]) for t in tiles])
    return np.array([found[t].matrix for t in tiles])


def best_time(call: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    result, times = None, []
    for _ in range(repeat):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return result, min(times)


def place(
    mosaic: Mosaic, model: str, repeat: int, **options: Any
) -> tuple[Placement, Floats, float]:
    placement = Placement()
    starts = np.flatnonzero(np.diff(mosaic.tiles, axis=0, prepend=-1).any(axis=1))
    for part in np.split(np.arange(len(mosaic.tiles)), starts[1:]):
        i, j = mosaic.tiles[part[0]].tolist()
        placement.addmatch(i, j, mosaic.points[part, 0], mosaic.points[part, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlacementWarning)
        found, seconds = best_time(lambda: getattr(placement, model)(**options), repeat)
    return placement, as_maps(found), seconds


def measure(case: Case, noise: float, seed: int, repeat: int) -> dict[str, Any]:
    mosaic = make_mosaic(case, noise, seed)
    rigid = case.model == "rigid"
    placement, maps, seconds = place(mosaic, case.model, repeat)
    accepted = np.array([r.accepted for r in placement.residuals])
    sound = np.array([t not in placement.weak for t in range(len(maps))])
    everything = np.ones(len(maps), bool)
    out = {
        "error_px": centre_error(maps, mosaic.maps, rigid, everything),
        "sound_error_px": centre_error(maps, mosaic.maps, rigid, sound),
        "weak": int((~sound).sum()),
        "false_accept": int(accepted[mosaic.wrong].sum()),
        "false_accept_told": int(
            (accepted & mosaic.wrong & ~sound[mosaic.tiles].all(axis=1)).sum()
        ),
        "false_reject": int((~accepted[~mosaic.wrong]).sum()),
        "wrong": int(mosaic.wrong.sum()),
        "right": int((~mosaic.wrong).sum()),
        "seconds": seconds,
        "pull": placement.pull,
    }
    if not rigid:
        _, free, _ = place(mosaic, case.model, 1, regularize=0)
        out["free_error_px"] = centre_error(free, mosaic.maps, rigid, everything)
    plain, dense_seconds = best_time(lambda: lstsq(mosaic, not rigid), 1)
    if plain is not None:
        out["lstsq_error_px"] = centre_error(plain, mosaic.maps, rigid, everything)
        out["lstsq_seconds"] = dense_seconds
    return out


def told(rows: list[dict[str, Any]], key: str) -> str:
    values = [r[key] for r in rows if key in r]
    return f"{np.mean(values):8.3f} {np.max(values):8.3f}" if values else f"{'-':>8} {'-':>8}"


def lines(cases: dict[Case, list[dict[str, Any]]]) -> Iterator[str]:
    yield (
        f"{'case':44} {'error, px':>17} {'not weak, px':>17} {'weak':>5} {'no pull, px':>17} {'lstsq, px':>17} "
        f"{'accepted (at weak tiles) of wrong':>33} {'lost of right':>16} {'s':>7} {'lstsq s':>8}"
    )
    for case, rows in cases.items():
        sums = {
            k: sum(r[k] for r in rows)
            for k in ("wrong", "right", "false_accept", "false_accept_told", "false_reject")
        }
        dense = [r["lstsq_seconds"] for r in rows if "lstsq_seconds" in r]
        yield (
            f"{case.name:44} {told(rows, 'error_px')} {told(rows, 'sound_error_px')} "
            f"{np.mean([r['weak'] for r in rows]):5.1f} {told(rows, 'free_error_px')} "
            f"{told(rows, 'lstsq_error_px')} "
            f"{sums['false_accept']:15} ({sums['false_accept_told']:5}) / {sums['wrong']:7} {sums['false_reject']:6} / {sums['right']:7} "
            f"{min(r['seconds'] for r in rows):7.3f} "
            + (f"{min(dense):8.2f}" if dense else f"{'-':>8}")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="at most; large mosaics take fewer")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.1, help="px per axis")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measured: dict[Case, list[dict[str, Any]]] = {}
    for case in CASES:
        measured[case] = [
            measure(case, options.noise, seed, options.repeat)
            for seed in range(min(options.seeds, case.seeds))
        ]
    print("Errors: mean and largest over the seeds.")
    print("\n".join(lines(measured)))
    if options.json:
        options.json.write_text(
            json.dumps({c.name: rows for c, rows in measured.items()}, indent=1)
        )


if __name__ == "__main__":
    main()
