"""Poses and tile positions of a finished run against the truth of its simulation."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.formats.ome_zarr import open_volume
from soct.registration.transforms import RigidTransform2D, rotation_matrix

Floats = NDArray[np.float64]

TEXTURE = 0.3
"""Share of tissue in a tile from which on its position can be measured."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of one slice: solved and true positions, what the stage alone says, and whether they show tissue."""

    found: Floats
    true: Floats
    ideal: Floats
    stage: Floats
    textured: NDArray[np.bool_]
    group: NDArray[np.int64]
    """Number of the group of tiles with texture that a tile belongs to; -1 for others."""
    origin: Floats
    """Where the slice's first pixel lies among the true positions."""


def _rms(errors: list[Floats]) -> float | None:
    every = np.concatenate(errors) if errors else np.zeros((0, 2))
    return float(np.sqrt((every**2).sum(axis=1).mean())) if len(every) else None


def tile_errors(folder: Path) -> tuple[dict[str, float | None], dict[int, Tiles]]:
    """RMS errors in px of tiles with and without texture.

    Tiles with texture are compared within the groups that neighbours with texture form: how two groups lie to
    each other, no overlap tells (``group_px``: their means about the slice's, the stage's error). Blank tiles are compared with their places in the grid without jitter (``blank_px``), since nothing in the data
    tells the jitter of what cannot be seen, and with their true places (``blank_true_px``).
    """
    truth = json.loads((folder / "acquisition/truth.json").read_text())
    share = _tissue_share(folder / "acquisition", truth)
    slices = {
        int(table.stem.rsplit("_z", 1)[1]): _read_tiles(folder, table, truth, share)
        for table in sorted(
            (folder / "out/stitch_3d_with_refinement").glob("tile_positions_z*.csv")
        )
    }
    textured, blank, blank_true, stage, between = [], [], [], [], []
    for s in slices.values():
        held = s.textured if s.textured.any() else np.ones(len(s.found), bool)
        error = s.found - s.true
        error -= error[held].mean(axis=0)
        ideal = s.found - s.ideal
        ideal -= (s.found - s.true)[held].mean(axis=0)
        by_stage = s.stage - s.true
        groups = [g for g in np.unique(s.group) if g >= 0]
        between.append(np.array([error[s.group == g].mean(axis=0) for g in groups]).reshape(-1, 2))
        textured += [
            error[s.group == g] - error[s.group == g].mean(axis=0)
            for g in groups
            if (s.group == g).sum() > 1
        ]
        blank.append(ideal[~s.textured])
        blank_true.append(error[~s.textured])
        stage.append((by_stage - by_stage[held].mean(axis=0))[s.textured])
    row = {
        "tile_px": _rms(textured),
        "blank_px": _rms(blank),
        "blank_true_px": _rms(blank_true),
        "group_px": _rms(between),
        "stage_px": _rms(stage),
    }
    return row, slices


def _tissue_share(acquisition: Path, truth: dict[str, Any]) -> dict[str, float]:
    """Share of tissue in every tile's field, over the upper 300 um of its slice."""
    with np.load(acquisition / "truth.npz") as arrays:
        mask, voxel = arrays["mask"], arrays["voxel_um"]
    px, (h, w) = truth["px_um"], _tile_shape(truth)
    z0, y0, x0 = truth["origin_um"]
    out = {}
    for name, tile in truth["tiles"].items():
        s = truth["slices"][str(int(name.rsplit("_z", 1)[1]))]
        z = int((s["z_um"] - z0) / voxel[0])
        y, x = (np.add(tile["pos_yx_px"], s["drift_yx_px"]) * px - (y0, x0)) / voxel[1:]
        part = mask[
            max(z, 0) : z + int(300 / voxel[0]),
            max(int(y), 0) : int(y + h * px / voxel[1]),
            max(int(x), 0) : int(x + w * px / voxel[2]),
        ]
        out[name] = float(part.mean()) if part.size else 0.0
    return out


def _tile_shape(truth: dict[str, Any]) -> tuple[int, int]:
    size = truth["tile_px"]
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _read_tiles(folder: Path, table: Path, truth: dict[str, Any], share: dict[str, float]) -> Tiles:
    tag = table.stem.rsplit("_", 1)[1]
    with table.open() as lines:
        rows = list(csv.DictReader(lines))
    every = [n for n in truth["tiles"] if n.endswith(f"_{tag}") and n not in truth["truncated"]]
    row0 = min(int(n.split("_y")[1].split("_")[0]) for n in every)
    col0 = min(int(n.split("_x")[1].split("_")[0]) for n in every)
    names = [f"tile_x{int(r['col']) + col0:02d}_y{int(r['row']) + row0:02d}_{tag}" for r in rows]
    found = np.array([[float(r["y_px"]), float(r["x_px"])] for r in rows])
    true = np.array([truth["tiles"][n]["pos_yx_px"] for n in names])
    nominal = np.array([truth["tiles"][n]["nominal_yx_px"] for n in names])
    faults = truth["spec"]["faults"]
    turn = faults["stage_scale"] * rotation_matrix(faults["stage_rotation_deg"])
    middle = np.array(truth["centre_yx_px"]) - (np.array(_tile_shape(truth)) - 1) / 2
    textured = np.array([n not in truth["blank"] and share[n] >= TEXTURE for n in names])
    return Tiles(
        found,
        true,
        middle + (nominal - middle) @ turn.T,
        np.array([[float(r["nominal_y_px"]), float(r["nominal_x_px"])] for r in rows]),
        textured,
        _groups(textured, np.array([[int(r["row"]), int(r["col"])] for r in rows])),
        _origin(folder, tag, found, true, names, truth, share),
    )


def _groups(textured: NDArray[np.bool_], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give one number to each group of neighbours (rows or columns next to each other) with texture."""
    group = np.where(textured, np.arange(len(textured)), -1)
    apart = np.abs(index[:, None] - index[None]).sum(axis=2)
    for i, j in np.argwhere((apart == 1) & textured[:, None] & textured[None]):
        group[group == group[j]] = group[i]
    return group


def _origin(
    folder: Path,
    tag: str,
    found: Floats,
    true: Floats,
    names: list[str],
    truth: dict[str, Any],
    share: dict[str, float],
) -> Floats:
    volume = open_volume(folder / f"out/stitch_3d_with_refinement/slice_{tag}.ome.zarr")
    first = np.array(volume.attributes.get("origin_px", (0.0, 0.0)), float)
    weight = np.array([0.0 if n in truth["blank"] else share[n] for n in names])
    weight = weight if weight.any() else np.ones(len(names))
    return np.asarray(np.average(true - (found - first), axis=0, weights=weight))


@dataclass(frozen=True)
class PoseErrors:
    """What is left of the solved poses after one global rigid motion."""

    px: Floats
    deg: Floats
    z_um: Floats
    turn_deg: float
    """Rotation of that global motion: from the volume to the true brain."""
    first_um: float
    """True depth of the volume's first plane."""


def pose_errors(folder: Path, tiles: dict[int, Tiles], *, stage: bool = False) -> PoseErrors:
    """Compare every slice's solved pose (or, with `stage`, its stage position) with the truth."""
    truth = json.loads((folder / "acquisition/truth.json").read_text())
    poses = json.loads((folder / "out/estimate_slice_poses/slice_poses.json").read_text())
    centre = np.array(truth["centre_yx_px"])
    solved, true, turns, depth = [], [], [], []
    for key, row in poses["slices"].items():
        s, k = truth["slices"][key], int(key)
        # A grid over the middle of the field, in the slice's own pixels.
        h, w = row["shape"][1:]
        y, x = np.meshgrid(np.linspace(0.2, 0.8, 5) * (h - 1), np.linspace(0.2, 0.8, 5) * (w - 1))
        points = np.stack([y.ravel(), x.ravel()], axis=1)
        shift = row["stage_px"][1:] if stage else row["shift_px"]
        angle = 0.0 if stage else row["rotation_deg"]
        to_slice = RigidTransform2D(angle, tuple(shift), tuple(row["centre_px"]))
        solved.append(to_slice.inverse().apply(points))
        turn = rotation_matrix(s["rotation_deg"])
        canvas = points + tiles[k].origin
        true.append((canvas - centre) @ turn.T + centre + np.array(s["drift_yx_px"]))
        turns.append(angle + s["rotation_deg"])
        with np.load(folder / f"out/crop_interface/figures_z{k:02d}.npz") as crop:
            crop_px = float(crop["crop_px"])
        z = row["stage_px"][0] if stage else row["z_px"]
        depth.append((z - crop_px + s["surface_sample"]) * poses["voxel_um"][0] - s["z_um"])
    a, b = np.concatenate(solved), np.concatenate(true)
    turn = _best_turn(a, b)
    offset = b.mean(axis=0) - a.mean(axis=0) @ turn.T
    global_deg = float(np.rad2deg(np.arctan2(turn[0, 1], turn[0, 0])))
    moved = [p @ turn.T + offset - t for p, t in zip(solved, true, strict=True)]
    # About their own median: where positions are the stage's, the turn that fits them best says little.
    left = np.array(turns) - np.median(turns)
    z_error = np.array(depth)
    return PoseErrors(
        np.array([float(np.hypot(*m.mean(axis=0))) for m in moved]),
        np.abs(left),
        np.abs(z_error - np.median(z_error)),
        global_deg,
        _first_plane(folder, poses) - float(np.median(z_error)),
    )


def _first_plane(folder: Path, poses: dict[str, Any]) -> float:
    """Depth of the stacked volume's first plane in the frame of the poses, um."""
    first = poses["slices"][min(poses["slices"], key=int)]["z_px"]
    with np.load(folder / "out/stack/figures.npz") as saved:
        start = float(saved["z_boundaries"].min())
    # The canvas begins at a whole plane, and boundaries are rounded up.
    return float(np.ceil(first - 1e-6) - start) * float(poses["voxel_um"][0])


def _best_turn(a: Floats, b: Floats) -> Floats:
    """Rotation that lays points a on points b (Kabsch)."""
    p, q = a - a.mean(axis=0), b - b.mean(axis=0)
    u, _, vt = np.linalg.svd(q.T @ p)
    flip = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
    return np.asarray(u @ flip @ vt)
