"""The score of a volume against the truth: perfect, wrong by a known amount, and as published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.errors import InputError
from soct.formats.ome_zarr import create_volume
from soct.simulate.brain import Brain, sample_block
from soct.simulate.evaluate import evaluate, score_volume
from soct.simulate.spec import BrainSpec
from soct.space import Volume, Voxel

SCORE = Path(__file__).parents[2].parent / "shared" / "acceptance" / "score.py"
VOXEL = Voxel(20.0, 25.0, 25.0)


@pytest.fixture(scope="module")
def truth() -> tuple[Volume, np.ndarray]:
    spec = BrainSpec(radius_um=(2600, 1100, 1200), seed=2)
    data = sample_block(Brain(spec, 25), (-240, 240), (-1150, 1150), (-1250, 1250), VOXEL)
    return Volume(data, VOXEL), data > 0.045


def reconstructed(truth: tuple[Volume, np.ndarray]) -> np.ndarray:
    """The truth with noise, its agarose made data, and the outermost pixels missing."""
    noise = np.random.default_rng(0).normal(1, 0.05, truth[0].data.shape)
    data = (truth[0].data * noise).astype(np.float32)
    data[:, :4] = 0
    return data


def test_the_truth_scores_as_the_truth(truth: tuple[Volume, np.ndarray]) -> None:
    score = score_volume(Volume(reconstructed(truth), VOXEL), *truth)
    assert score.ncc > 0.98
    assert score.xy_p95_um < 2
    assert score.rot_p95_deg < 0.05
    assert score.z_p95_um == 0
    assert score.gain_cv < 0.01
    assert score.coverage > 0.95


def test_one_global_motion_is_no_error(truth: tuple[Volume, np.ndarray]) -> None:
    data = np.pad(reconstructed(truth), ((3, 1), (5, 9), (12, 2)))
    score = score_volume(Volume(data, VOXEL), *truth)
    assert score.shift_px == (3, 5, 12)
    assert score.xy_p95_um < 2


def test_a_turn_of_the_whole_volume_is_no_error_where_it_is_told(
    truth: tuple[Volume, np.ndarray], tmp_path: Path
) -> None:
    angle = np.deg2rad(20.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    data = reconstructed(truth)
    middle = (np.array(data.shape[1:]) - 1) / 2
    # Output pixel p of the turned volume shows the tissue at R p.
    offset = middle - turn @ middle
    turned = np.stack([ndi.affine_transform(plane, turn, offset, order=1) for plane in data])
    with create_volume(tmp_path / "v.ome.zarr", data.shape, VOXEL) as writer:
        writer.write((0, 0, 0), turned)
    np.savez(tmp_path / "truth.npz", volume=truth[0].data, mask=truth[1], voxel_um=np.array(VOXEL))
    score = evaluate(tmp_path / "v.ome.zarr", tmp_path, turn_deg=20.0)
    assert score.ncc > 0.93
    assert score.rot_p95_deg < 0.1
    assert evaluate(tmp_path / "v.ome.zarr", tmp_path).ncc < 0.5


def test_a_block_of_planes_moved_turned_and_dimmed_scores_that_much(
    truth: tuple[Volume, np.ndarray],
) -> None:
    data = reconstructed(truth)
    cut = 16
    turned = ndi.rotate(data[cut:], 0.8, axes=(1, 2), reshape=False, order=1)
    data[cut:] = ndi.shift(turned, (0, 0, 2.0), order=1) * 0.5
    score = score_volume(Volume(data, VOXEL), *truth)
    assert score.xy_p95_um == pytest.approx(50, abs=6)
    assert score.rot_p95_deg == pytest.approx(0.8, abs=0.1)
    assert score.gain_cv == pytest.approx(
        np.std([1] * 2 + [0.5]) / np.mean([1] * 2 + [0.5]), abs=0.04
    )


def test_planes_at_the_wrong_depth_score_that_much(truth: tuple[Volume, np.ndarray]) -> None:
    data = reconstructed(truth)
    data[14:-3] = data[17:].copy()
    score = score_volume(Volume(data[:-3], VOXEL), *truth)
    assert score.z_p95_um == pytest.approx(60)


def test_a_missing_truth_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no readable truth"):
        evaluate(tmp_path / "v.ome.zarr", tmp_path)
    (tmp_path / "truth.npz").write_bytes(b"PK\x03\x04 rubbish")
    with pytest.raises(InputError, match=r"no readable truth"):
        evaluate(tmp_path / "v.ome.zarr", tmp_path)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not SCORE.is_file(), reason="the published scoring script is not here")
def test_the_score_agrees_with_the_published_script(
    tmp_path: Path, truth: tuple[Volume, np.ndarray]
) -> None:
    """NCC, gain and coverage within 0.001, positions within 1 um, rotations within 0.02 degrees."""
    data = reconstructed(truth)
    data[12:] = ndi.shift(data[12:], (0, 1.5, -1.0), order=1) * 0.8
    data = np.pad(data, ((2, 0), (3, 0), (0, 4)))
    np.savez(
        tmp_path / "truth.npz", volume=truth[0].data.astype(np.float16), mask=truth[1],
        voxel_um=np.array(VOXEL),
    )  # fmt: skip
    path = tmp_path / "v.ome.zarr"
    with create_volume(path, data.shape, VOXEL) as writer:
        writer.write((0, 0, 0), data)
    ours = evaluate(path, tmp_path)
    command = [sys.executable, "-W", "ignore", str(SCORE), str(path), str(tmp_path)]
    theirs = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    for name, tolerance in (
        ("ncc", 1e-3), ("gain_cv", 1e-3), ("coverage", 1e-3), ("xy_p95_um", 1.0),
        ("rot_p95_deg", 0.02), ("z_p95_um", 0.1),
    ):  # fmt: skip
        assert getattr(ours, name) == pytest.approx(theirs[name], abs=tolerance), name
    assert list(ours.shape) == theirs["shape"]
