"""Every fault of the light and the surface appears in the data at its stated size."""

from __future__ import annotations

import numpy as np
import pytest

from soct.simulate.faults import Faults
from soct.simulate.poses import draw_poses
from soct.simulate.spec import AcquisitionSpec
from tests.simulate.specimens import Ruler, Uniform, look, record


def spec_with(**faults: object) -> AcquisitionSpec:
    return AcquisitionSpec(
        slices=3, rows=2, cols=2, tile_px=(33, 41), n_z=40, n_extra=6, surface_sample=8.25,
        overlap=0.25, faults=Faults.none(**faults),
    )  # fmt: skip


def surface_of(light: np.ndarray) -> np.ndarray:
    """Depth (samples) at which uniform tissue begins: exact, since it covers whole and part samples."""
    return light.shape[2] - 0.5 - light.sum(axis=2)


def test_a_perfect_microscope_shows_nothing_above_the_surface_and_tissue_below() -> None:
    light = look(spec_with(), Uniform())
    assert np.all(light[:, :, :8] == 0)
    assert light[:, :, 8] == pytest.approx(0.25, abs=1e-5)
    assert light[:, :, 9:] == pytest.approx(1, abs=1e-6)


def test_tissue_lies_at_its_depth_below_the_cut_in_every_slice() -> None:
    spec = spec_with()
    poses = draw_poses(spec)
    for index in (0, 4, 8):
        z = look(spec, Ruler("z"), index)[5, 5] - 10000
        at = poses.slices[poses.tiles[index].slice_id].z_um
        assert z[20] == pytest.approx(at + (20 - 8.25) * 10, abs=0.01)
        assert at == pytest.approx(200 * poses.tiles[index].slice_id)


def test_attenuation_halves_the_log_of_light_as_stated() -> None:
    light = look(spec_with(attenuation_per_mm=2.0, attenuation_contrast=0.0), Uniform())
    line = light[3, 3, 10:]
    assert np.log(line[1:] / line[:-1]) == pytest.approx(-2 * 2.0 * 0.01, abs=1e-4)


def test_brighter_tissue_attenuates_more_where_asked() -> None:
    spec = spec_with(attenuation_per_mm=2.0, attenuation_contrast=1.0)
    line = look(spec, Uniform(1.2))[3, 3, 10:]
    assert np.log(line[1:] / line[:-1]) == pytest.approx(-2 * 2.0 * 2 * 0.01, abs=1e-4)


def test_the_axial_profile_is_the_confocal_function() -> None:
    line = look(spec_with(rayleigh_um=100.0, focus_sample=20.0), Uniform())[16, 20]
    assert line[20] == pytest.approx(1, abs=1e-6)
    assert line[30] == pytest.approx(0.5, abs=1e-6)


def test_vignetting_takes_its_share_in_the_far_corner() -> None:
    light = look(spec_with(vignetting=0.4), Uniform())[:, :, 20]
    assert light.max() == pytest.approx(1, abs=0.01)
    assert light.min() == pytest.approx(0.6, abs=1e-5)


def test_focal_curvature_bends_the_surface_and_the_tissue_with_it() -> None:
    spec = spec_with(focal_curvature_samples=3.0)
    depth = surface_of(look(spec, Uniform()))
    assert depth[0, 0] - depth[16, 20] == pytest.approx(3.0, abs=1e-4)
    assert depth[0, 20] - depth[16, 20] == pytest.approx(1.5, abs=1e-4)
    z = look(spec, Ruler("z"))
    assert z[16, 20, 30] - z[0, 0, 30] == pytest.approx(30.0, abs=0.01)


def test_a_tilted_cut_moves_the_surface_but_not_the_tissue() -> None:
    spec = spec_with(surface_tilt_deg=(0.5, -1.0))
    depth = surface_of(look(spec, Uniform()))
    slope = 25 * np.tan(np.deg2rad([0.5, -1.0])) / 10
    assert depth[32, 0] - depth[0, 0] == pytest.approx(32 * slope[0], abs=1e-3)
    assert depth[0, 40] - depth[0, 0] == pytest.approx(40 * slope[1], abs=1e-3)
    z = look(spec, Ruler("z"))[:, :, 30]
    assert np.ptp(z) == pytest.approx(0, abs=0.01)


def test_the_surface_moves_from_slice_to_slice_as_the_truth_says() -> None:
    spec = spec_with(surface_jitter_um=20.0)
    poses = draw_poses(spec)
    depths = []
    for index in (0, 4, 8):
        depth = surface_of(look(spec, Uniform(), index))
        truth = poses.slices[poses.tiles[index].slice_id].surface_sample
        assert depth == pytest.approx(truth, abs=1e-4)
        depths.append(truth)
    assert np.std(depths) > 0.3


def test_speckle_has_the_contrast_of_its_looks() -> None:
    spec = spec_with(speckle_looks=4.0, speckle_common=0.4)
    frames = record(spec, Uniform(), draw_poses(spec).tiles[0])[:, :41, 12:]
    assert frames.mean() == pytest.approx(1, abs=0.02)
    assert frames.std() / frames.mean() == pytest.approx(0.5, abs=0.03)


def test_overlapping_tiles_share_the_stated_part_of_their_speckle_and_slices_do_not() -> None:
    spec = spec_with(speckle_looks=1.0, speckle_common=0.4)
    tiles = draw_poses(spec).tiles
    overlap = 41 - spec.pitch_px[1]
    left = record(spec, Uniform(), tiles[0])[:, 41 - overlap : 41, 12:]
    right = record(spec, Uniform(), tiles[1])[:, :overlap, 12:]
    shared = np.mean((left - 1) * (right - 1)) / np.sqrt(left.var() * right.var())
    assert shared == pytest.approx(0.4, abs=0.08)
    below = record(spec, Uniform(), tiles[4])[:, 41 - overlap : 41, 12:]
    assert abs(np.corrcoef(left.ravel(), below.ravel())[0, 1]) < 0.05


def test_the_noise_floor_has_its_mean() -> None:
    spec = spec_with(noise_floor=0.02)
    frames = record(spec, Uniform(), draw_poses(spec).tiles[0])
    assert frames[:, :, :8].mean() == pytest.approx(0.02, rel=0.03)


def test_repeats_share_the_speckle_and_differ_in_noise() -> None:
    spec = spec_with(n_repeat=2, speckle_looks=1.0, noise_floor=0.01)
    frames = record(spec, Uniform(), draw_poses(spec).tiles[0])
    assert len(frames) == 2 * 33
    first, second = frames[0::2, :, 12:].ravel(), frames[1::2, :, 12:].ravel()
    assert np.corrcoef(first, second)[0, 1] > 0.99
    assert abs(np.corrcoef(frames[0::2, :, :6].ravel(), frames[1::2, :, :6].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("start", [0, 11, 41, None])
def test_the_return_band_lies_where_asked_and_rolling_it_out_gives_the_tile(
    start: int | None,
) -> None:
    spec = spec_with(galvo_return_px=start)
    tile = draw_poses(spec).tiles[0]
    frames = record(spec, Ruler("x"), tile)[:, :, 20] - 10000
    assert frames.shape == (33, 47)
    p = 41 if start is None else start
    rolled = np.roll(frames, 47 - p - 6, axis=1)[:, :41]
    assert rolled[7] == pytest.approx(25.0 * np.arange(41), abs=0.01)


def test_the_return_band_has_its_level_and_runs_backwards() -> None:
    spec = spec_with(galvo_return_px=5, galvo_return_level=0.35)
    tile = draw_poses(spec).tiles[0]
    assert record(spec, Uniform(), tile)[:, 5:11, 20] == pytest.approx(0.35, abs=1e-5)
    back = record(spec, Ruler("x"), tile)[0, 5:11, 20]
    assert np.all(np.diff(back) < 0)


def test_without_return_lines_a_frame_is_the_tile() -> None:
    spec = spec_with().model_copy(update={"n_extra": 0})
    frames = record(spec, Uniform(), draw_poses(spec).tiles[0])
    assert frames.shape == (33, 41, 40)


def test_gain_scales_a_whole_slice_as_the_truth_says() -> None:
    spec = spec_with(gain_drift=0.3)
    poses = draw_poses(spec)
    for index in (0, 5):
        level = look(spec, Uniform(), index)[:, :, 20]
        assert level == pytest.approx(poses.slices[poses.tiles[index].slice_id].gain, rel=1e-5)


def test_a_blank_tile_shows_only_noise() -> None:
    spec = spec_with(blank_fraction=0.25, noise_floor=0.02)
    poses = draw_poses(spec)
    blank = [t for t in poses.tiles if t.blank]
    assert len(blank) == 3
    frames = record(spec, Uniform(), blank[0])
    assert frames[:, :, 20:].mean() == pytest.approx(0.02, rel=0.05)


def test_a_tile_in_bands_is_the_tile_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_with(focal_curvature_samples=2.0, slice_rotation_deg=3.0, galvo_return_px=7)
    tile = draw_poses(spec).tiles[5]
    whole = record(spec, Ruler("y"), tile)
    monkeypatch.setattr("soct.simulate.optics._BAND_SAMPLES", 47 * 40 * 5)
    assert np.array_equal(record(spec, Ruler("y"), tile), whole)
