"""The reference acquisition, corrected by what this room and the geometry room offer, against its truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.geometry.focal_curvature import estimate_focal_curvature, shift_a_lines
from soct.geometry.galvo import GalvoDecision, apply_galvo_shift, detect_galvo_return
from soct.geometry.surface import detect_interface
from soct.intensity.depth_profiles import DepthSums, project_below_surface
from soct.intensity.depth_sensitivity import solve_depth_sensitivity
from soct.intensity.illumination import estimate_illumination
from soct.space import Array, FloatArray

N_X, N_EXTRA, N_Z = 80, 12, 72
Key = tuple[int, int, int]

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def sample(shared: Path) -> Path:
    folder = shared / "data" / "soct_sample"
    if not folder.is_dir():
        pytest.skip("the reference acquisition is not on this machine")
    return folder


@pytest.fixture(scope="module")
def frames(sample: Path) -> dict[Key, FloatArray]:
    read: dict[Key, FloatArray] = {}
    for z in range(4):
        for y in range(3):
            for x in range(3):
                files = sorted((sample / "raw" / f"tile_x{x:02d}_y{y:02d}_z{z:02d}").glob("*.bin"))
                data = np.concatenate([np.fromfile(f, "<f4") for f in files])
                read[z, y, x] = data.reshape(-1, N_X + N_EXTRA, N_Z).transpose(2, 0, 1)
    return read


@pytest.fixture(scope="module")
def decisions(frames: dict[Key, FloatArray]) -> list[GalvoDecision]:
    central = [(1, 1), (0, 1), (1, 0), (1, 2), (2, 1)]
    return [
        detect_galvo_return([frames[z, y, x].mean(0) for y, x in central], N_EXTRA)
        for z in range(4)
    ]


def test_the_return_lines_are_found_in_every_slice(
    sample: Path, decisions: list[GalvoDecision]
) -> None:
    truth = json.loads((sample / "truth.json").read_text())
    assert [d.position for d in decisions] == [truth["galvo_at"]] * 4
    assert min(d.confidence for d in decisions) > 0.9


def _truth_tile(
    volume: Array, truth: dict[str, dict[str, dict[str, list[float]]]], key: Key
) -> Array:
    """Tissue below the surface (z, y, x) where a tile really was; its first plane is the surface."""
    z, y, x = key
    about = truth["slices"][str(z)]
    corner = np.array(truth["tiles"][f"tile_x{x:02d}_y{y:02d}_z{z:02d}"]["pos_yx_px"])
    corner = corner + 24 + np.array(about["drift_yx_px"])
    top = float(about["z_um"]) / 10  # type: ignore[arg-type]
    grid = np.mgrid[:54, :N_X, :N_X].astype(np.float32)
    grid += np.array([top, *corner], np.float32)[:, None, None, None]
    return np.asarray(ndi.map_coordinates(volume, grid, order=1, mode="nearest"))


def test_brightness_follows_the_truth_at_every_depth_of_every_slice(
    sample: Path, frames: dict[Key, FloatArray], decisions: list[GalvoDecision]
) -> None:
    truth = json.loads((sample / "truth.json").read_text())
    tiles = {k: apply_galvo_shift(f, decisions[k[0]]) for k, f in frames.items()}
    interfaces = {k: detect_interface(t) for k, t in tiles.items()}
    bowl = estimate_focal_curvature(list(interfaces.values()))
    surface = {
        k: np.nanmedian(i.depth_px - bowl.depth_px) + bowl.depth_px for k, i in interfaces.items()
    }
    floor = float(np.median([t[:8].mean() for t in tiles.values()]))
    keys = list(tiles)
    field = estimate_illumination(
        np.stack([project_below_surface(tiles[k], surface[k], floor=floor) for k in keys]),
        positions_px=np.array([(y * 64, x * 64) for _, y, x in keys]),
        groups=np.array([z for z, _, _ in keys]),
    )
    sums = [DepthSums(N_Z, floor) for _ in range(4)]
    for key, tile in tiles.items():
        sums[key[0]].add(tile / field.flat, surface[key])
    profiles = [s.below_surface() for s in sums]
    found = solve_depth_sensitivity(
        np.array([p.mean for p in profiles]),
        np.array([truth["slices"][str(z)]["z_um"] / 10 for z in range(4)]),
        weights=np.array([p.weight for p in profiles]),
    )
    volume = np.load(sample / "truth.npz")["volume"].astype(np.float32)
    observed, expected = np.zeros((4, 54)), np.zeros((4, 54))
    for key, tile in tiles.items():
        flat = shift_a_lines((tile - floor) / field.flat, surface[key])[:54]
        gain = np.exp(found.log_sensitivity[:54] + found.log_gain[key[0]])
        observed[key[0]] += np.nanmean(flat, axis=(1, 2)) / gain
        expected[key[0]] += _truth_tile(volume, truth, key).mean((1, 2))
    ratio = (observed / expected)[:, 3:]
    within = (ratio / ratio.mean(1, keepdims=True)).std(1)
    assert within.max() < 0.03
    assert ratio.std() / ratio.mean() < 0.05
