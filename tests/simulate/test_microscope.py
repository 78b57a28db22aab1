"""What a simulation writes: raw tiles as the format says, a consistent truth, the same bytes again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.errors import UsageError
from soct.formats.acquisition import open_acquisition
from soct.formats.raw import read_tile
from soct.simulate.brain import Brain, sample_block
from soct.simulate.faults import Faults
from soct.simulate.microscope import simulate
from soct.simulate.spec import AcquisitionSpec, BrainSpec, preset
from soct.space import Volume, Voxel

PERFECT = {
    k: v for k, v in Faults.none().model_dump().items() if v != Faults.model_fields[k].default
}


def small(**changes: Any) -> AcquisitionSpec:
    faults = changes.pop("faults", {})
    size = {"slices": 2, "rows": 1, "cols": 2, "tile_px": (20, 24), "n_z": 24, "seed": 5}
    return preset("tiny", faults=faults, **(size | changes))


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def read_info(folder: Path) -> dict[str, str]:
    lines = (folder / "info.txt").read_text().splitlines()[1:]
    return dict(line.split(": ") for line in lines)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulate") / "tiny"
    simulate(preset("tiny", seed=7), out)
    return out


def test_the_tiny_acquisition_is_small_and_the_demo_below_80_mb(tiny: Path) -> None:
    assert sum(p.stat().st_size for p in (tiny / "raw").rglob("*")) < 6e6
    demo = preset("demo")
    per_tile = 4 * demo.n_z * (demo.tile_px[1] + demo.n_extra) * demo.tile_px[0]
    assert per_tile * demo.rows * demo.cols * demo.slices < 80e6


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("files", [1, 4])
def test_file_sizes_follow_the_arithmetic_of_the_format(
    tmp_path: Path, repeats: int, files: int
) -> None:
    spec = small(faults={"n_repeat": repeats, "files_per_tile": files})
    simulate(spec, tmp_path / "a")
    tiles = sorted((tmp_path / "a" / "raw").iterdir())
    assert len(tiles) == 4
    for folder in tiles:
        info = read_info(folder)
        n_z = int(info["bottom_z"]) - int(info["top_z"]) + 1
        frame = 4 * n_z * (int(info["nx"]) + int(info["n_extra"]))
        bins = sorted(folder.glob("image_*.bin"))
        assert len(bins) == files
        sizes = [p.stat().st_size for p in bins]
        assert all(size % frame == 0 for size in sizes)
        assert sum(sizes) == frame * int(info["ny"]) * int(info["n_repeat"])


def test_soct_reads_the_acquisition_without_a_complaint(tiny: Path) -> None:
    acquisition = open_acquisition(tiny / "raw")
    truth = json.loads((tiny / "truth.json").read_text())
    assert sorted(acquisition.slices) == [0, 1, 2]
    assert not acquisition.problems
    tile = acquisition.slices[1].tiles[3]
    assert (tile.row, tile.col) == (1, 1)
    assert read_tile(tile).shape == (40, 44, 50)
    nominal = truth["tiles"]["tile_x01_y01_z01"]["nominal_yx_px"]
    assert tile.stage_mm[0] == pytest.approx(8 + nominal[1] * 0.025, abs=1e-5)
    assert tile.stage_mm[1] == pytest.approx(13 + nominal[0] * 0.025, abs=1e-5)
    assert tile.stage_mm[2] == pytest.approx(truth["slices"]["1"]["z_um"] / 1000, abs=1e-5)


@pytest.mark.parametrize("layout", ["flat", "z", "slice_z"])
def test_every_layout_of_folders_is_found_again(tmp_path: Path, layout: str) -> None:
    spec = small(faults={"layout": layout, "session_metadata": True})
    simulate(spec, tmp_path / "a")
    acquisition = open_acquisition(tmp_path / "a" / "raw")
    assert [len(s.tiles) for s in acquisition.slices.values()] == [2, 2]


def test_what_the_microscope_did_not_record_is_absent_from_info(tmp_path: Path) -> None:
    absent = {"stage_z_absent": True, "stage_xy_absent": True, "axial_absent": True}
    simulate(small(faults=absent), tmp_path / "a")
    info = read_info(tmp_path / "a" / "raw" / "tile_x00_y00_z00")
    assert not [key for key in info if key.startswith("stage") or key == "axial_resolution"]


def test_a_truncated_tile_ends_within_a_frame_and_a_missing_one_has_no_folder(
    tmp_path: Path,
) -> None:
    faults = {"truncated_fraction": 0.25, "missing_tiles": [(1, 0, 1)], "missing_slices": [2]}
    out = tmp_path / "a"
    simulate(small(slices=4, cols=3, faults=faults), out)
    truth = json.loads((out / "truth.json").read_text())
    assert truth["missing"] == ["tile_x01_y00_z01"]
    assert not (out / "raw" / "tile_x01_y00_z01").exists()
    assert not list((out / "raw").glob("*_z02"))
    assert len(truth["truncated"]) == 2
    for folder in (out / "raw").iterdir():
        info = read_info(folder)
        frame = 4 * 24 * (int(info["nx"]) + int(info["n_extra"]))
        size = sum(p.stat().st_size for p in folder.glob("*.bin"))
        assert (size % frame != 0) == (folder.name in truth["truncated"])


def test_the_same_spec_gives_the_same_bytes_for_any_number_of_threads(tmp_path: Path) -> None:
    simulate(small(), tmp_path / "one", threads=1)
    simulate(small(), tmp_path / "three", threads=3)
    assert digest(tmp_path / "one") == digest(tmp_path / "three")
    simulate(small(seed=6), tmp_path / "other")
    assert digest(tmp_path / "one") != digest(tmp_path / "other")


def test_the_truth_has_the_layout_of_the_shared_sample_and_is_the_brain(tiny: Path) -> None:
    with np.load(tiny / "truth.npz") as arrays:
        assert sorted(arrays) == ["mask", "volume", "voxel_um"]
        volume, mask, voxel = arrays["volume"], arrays["mask"], arrays["voxel_um"]
    assert (volume.dtype, mask.dtype) == (np.float16, np.bool_)
    assert volume.shape == mask.shape
    truth = json.loads((tiny / "truth.json").read_text())
    z, y, x = truth["origin_um"]
    brain = Brain(BrainSpec.model_validate(truth["brain"]), truth["px_um"])
    block = sample_block(brain, (z, z + 100), (y, y + 500), (x, x + 500), Voxel(*voxel))
    assert np.array_equal(volume[:10, :20, :20], block.astype(np.float16))
    assert mask.mean() > 0.4
    assert set(truth["slices"]["0"]) >= {"z_um", "drift_yx_px", "rotation_deg", "roi_yx_px", "gain"}
    assert len(truth["tiles"]) == 12


def test_a_large_truth_is_written_with_coarser_voxels(tmp_path: Path) -> None:
    summary = simulate(small(truth_voxels=5000), tmp_path / "a")
    assert np.prod(summary.truth_shape) < 8000
    assert summary.truth_voxel_um[1] / summary.truth_voxel_um[0] == pytest.approx(2.5)
    assert summary.truth_voxel_um[1] % 25 == 0


def test_a_given_volume_takes_the_place_of_the_brain(tmp_path: Path) -> None:
    data = np.full((80, 60, 80), 0.7, np.float32)
    volume = Volume(data, Voxel(10, 25, 25))
    simulate(small(), tmp_path / "a", specimen=volume)
    with np.load(tmp_path / "a" / "truth.npz") as arrays:
        assert np.median(arrays["volume"]) == np.float16(0.7)
    assert json.loads((tmp_path / "a" / "truth.json").read_text())["brain"] is None
    assert simulate(small(), tmp_path / "a", specimen=volume).reused
    with pytest.raises(UsageError, match="another simulated"):
        simulate(small(), tmp_path / "a", specimen=Volume(data * 0.9, Voxel(10, 25, 25)))


def test_progress_grows_to_one(tmp_path: Path) -> None:
    seen: list[float] = []
    simulate(small(), tmp_path / "a", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


def test_its_own_complete_output_is_left_as_it_is(tmp_path: Path) -> None:
    first = simulate(small(), tmp_path / "a")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*")}
    again = simulate(small(), tmp_path / "a")
    assert again.reused
    assert not first.reused
    assert (again.raw_bytes, again.tiles) == (first.raw_bytes, first.tiles)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*")}


def test_a_folder_with_anything_else_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        simulate(small(), tmp_path / "a")
    simulate(small(), tmp_path / "b")
    with pytest.raises(UsageError, match="another simulated"):
        simulate(small(seed=9), tmp_path / "b")
    (tmp_path / "c").write_text("a file")
    with pytest.raises(UsageError, match="not a folder"):
        simulate(small(), tmp_path / "c")
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"


def test_an_interrupted_simulation_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(small(), tmp_path / "a", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_preset_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no acquisition called"):
        preset("huge")  # type: ignore[arg-type]


def test_a_spec_that_cannot_be_imaged_is_refused() -> None:
    with pytest.raises(ValueError, match="surface_sample"):
        preset("tiny", surface_sample=100.0)
    with pytest.raises(ValueError, match="galvo_return_px"):
        preset("tiny", faults={"galvo_return_px": 45})


def test_an_interpolated_brain_is_imaged_from_its_truth(tmp_path: Path) -> None:
    spec = small(truth_voxels=20000, interpolated=True, faults=PERFECT | {"galvo_return_px": None})
    simulate(spec, tmp_path / "a")
    truth = json.loads((tmp_path / "a" / "truth.json").read_text())
    with np.load(tmp_path / "a" / "truth.npz") as arrays:
        volume, voxel = arrays["volume"].astype(np.float32), arrays["voxel_um"]
    acquisition = open_acquisition(tmp_path / "a" / "raw")
    tile = read_tile(acquisition.slices[0].tiles[0])
    points = np.array([[12, 3, 4], [18, 10, 20], [20, 19, 23]])
    expected = []
    for k, j, i in points:
        at = np.array([(k - spec.surface_sample) * spec.axial_um, j * 25.0, i * 25.0])
        px = (at - truth["origin_um"]) / voxel
        expected.append(ndi.map_coordinates(volume, px[:, None], order=1)[0])
    found = [tile[k, j, i] / 1000 for k, j, i in points]
    assert found == pytest.approx(expected, rel=1e-3)
