"""A whole brain fitted to a template: itself from every orientation, and the standard brain of another program.

    python benchmarks/atlas.py [--data FOLDER] [--orientations 24] [--voxel-um 100] [--json FILE]

FOLDER holds `brain.tif`, `downsampled_brain.tiff` and `downsampled_standard_brain.tiff` (a brain by serial
two-photon tomography, Copyright University College London, BSD-3-Clause). The brain is turned by up to 30
degrees about a random axis, scaled by up to 5 %, shifted, its axes permuted and reversed, and noise is added;
the fit knows nothing of all that (`search`). Errors are over the voxels of the brain.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage
from scipy.spatial.transform import Rotation

from soct.geometry.orientation import OrientedVolume, all_orientations, make_affine
from soct.registration.atlas_fit import fit_atlas
from soct.registration.atlas_search import Scene, make_scene, rotation_angle
from soct.registration.atlas_warp import Grid, Warp
from soct.registration.brain_mask import dice, edge_distance


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/brain_stpt"))
    parser.add_argument("--orientations", type=int, default=24)
    parser.add_argument("--voxel-um", type=float, default=100.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = self_fits(given)
    standard = standard_fit(given)
    if given.json:
        given.json.write_text(json.dumps({"self": rows, "standard": standard}, indent=1))
    return 0


def self_fits(given: argparse.Namespace) -> list[dict[str, float | str]]:
    data = tifffile.imread(given.data / "brain.tif").astype(np.float32)
    whole = OrientedVolume(data, make_affine("AIR", (50, 40, 40)))
    everywhere = np.ones(data.shape, bool)
    coarse = Scene(whole, everywhere, everywhere).coarser(given.voxel_um).volume
    fixed = make_scene(coarse)
    voxel = float(np.max(whole.voxel_um))
    codes = all_orientations(right_handed=True)
    chosen = codes[:: max(1, len(codes) // given.orientations)][: given.orientations]
    sys.stdout.write(f"itself, {len(chosen)} orientations, voxels {np.round(coarse.voxel_um)} um\n")
    sys.stdout.write(
        f"{'code':>6} {'tilt':>6} {'deg':>7} {'median':>8} {'max um':>8} {'s':>6} {'cpu s':>6}\n"
    )
    rows: list[dict[str, float | str]] = []
    rng = np.random.default_rng(1)
    for code in chosen:
        axis = rng.normal(size=3)
        tilt = float(rng.uniform(5, 30))
        turn = axis / np.linalg.norm(axis) * tilt
        volume, true = imaged(coarse, fixed.centre(), code, turn, rng)
        start, cpu = time.perf_counter(), time.process_time()
        fit = fit_atlas(fixed, make_scene(volume), model="affine", orientations=codes)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        error = fit.matrix @ np.linalg.inv(true)
        u, _, vt = np.linalg.svd(error[:3, :3])
        points = np.argwhere(fixed.brain)[::97]
        world = np.c_[points @ coarse.affine[:3, :3].T + coarse.affine[:3, 3], np.ones(len(points))]
        away = 1000 * np.linalg.norm((world @ (fit.matrix - true).T)[:, :3], axis=1)
        row = {"code": code, "tilt": tilt, "deg": rotation_angle(u @ vt), "median_um": float(np.median(away)),
               "max_um": float(away.max()), "s": wall, "cpu_s": cpu}  # fmt: skip
        rows.append(row)
        sys.stdout.write(
            f"{code:>6} {tilt:6.1f} {row['deg']:7.3f} {row['median_um']:8.1f} {row['max_um']:8.1f} {wall:6.1f} {cpu:6.1f}\n"
        )
        sys.stdout.flush()
    for name, of in (("median", np.median), ("worst", np.max)):
        deg, um, far, s, cpu = (
            of([r[k] for r in rows]) for k in ("deg", "median_um", "max_um", "s", "cpu_s")
        )
        sys.stdout.write(
            f"{name:>6} {'':6} {deg:7.3f} {um:8.1f} {far:8.1f} {s:6.1f} {cpu:6.1f}   {um / voxel:.2f} of the largest voxel edge\n"
        )
    return rows


def imaged(
    source: OrientedVolume,
    centre: np.ndarray,
    code: str,
    turn: np.ndarray,
    rng: np.random.Generator,
) -> tuple[OrientedVolume, np.ndarray]:
    """Return the brain as a microscope of another orientation would show it, its code forgotten; and the truth."""
    linear = Rotation.from_rotvec(turn, degrees=True).as_matrix() * rng.uniform(0.95, 1.05)
    turned = source.reoriented(code)
    pad = 10
    shape = [n + 2 * pad for n in turned.data.shape]
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + rng.uniform(-0.4, 0.4, 3) - linear @ centre
    affine = turned.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ np.full(3, pad)
    index = np.linalg.inv(source.affine) @ np.linalg.inv(matrix) @ affine
    data = ndimage.affine_transform(
        source.data, index[:3, :3], index[:3, 3], shape, order=1, cval=5
    )
    data = data * rng.gamma(16, 1 / 16, data.shape)
    claimed = make_affine("SAR", turned.voxel_um)
    return OrientedVolume(data.astype(np.float32), claimed), claimed @ np.linalg.inv(
        affine
    ) @ matrix


def standard_fit(given: argparse.Namespace) -> list[dict[str, float | str]]:
    """Fit the brain to what another program made of it in the space of the Allen atlas."""
    names = ("downsampled_standard_brain.tiff", "downsampled_brain.tiff")
    fixed, moving = (
        make_scene(
            OrientedVolume(
                tifffile.imread(given.data / n).astype(np.float32), make_affine("PIL", (100,) * 3)
            )
        )
        for n in names
    )
    shape = fixed.valid.shape
    window = tuple((0, n) for n in shape)
    rows: list[dict[str, float | str]] = []
    sys.stdout.write(
        "\nthe brain against its image in the Allen space by another program, 100 um\n"
    )
    sys.stdout.write(f"{'model':>8} {'dice':>6} {'edge um':>8} {'p95':>6} {'metric':>7} {'s':>6}\n")
    for model in ("rigid", "affine", "bspline"):
        start = time.perf_counter()
        fit = fit_atlas(fixed, moving, model=model)
        wall = time.perf_counter() - start
        warp = Warp(fit, moving.volume.affine)
        marked = np.where(moving.valid, 1 + moving.brain, 0).astype(np.float32)
        grid = Grid(shape, fixed.volume.affine)
        values, valid = warp.fill(
            grid, window, marked.shape, lambda w, m=marked: m[tuple(slice(*r) for r in w)]
        )
        mask, reference = values > 1.5, fixed.brain & valid
        edge, far = edge_distance(mask, reference, fixed.volume.voxel_um, valid)
        row = {"model": fit.model, "dice": dice(mask, reference), "edge_um": edge, "edge_p95_um": far,
               "metric": fit.stages_score, "s": wall}  # fmt: skip
        rows.append(row)
        sys.stdout.write(
            f"{fit.model:>8} {row['dice']:6.3f} {edge:8.0f} {far:6.0f} {row['metric']:7.3f} {wall:6.1f}\n"
        )
        sys.stdout.flush()
    return rows


if __name__ == "__main__":
    sys.exit(main())
