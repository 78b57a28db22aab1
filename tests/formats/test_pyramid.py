import json

import numba
import numpy as np
import pytest
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from soct.formats.block_means import HISTOGRAM_BINS, new_histogram, percentile
from soct.formats.ome_zarr import PyramidWriter, open_volume
from soct.formats.pyramid_layout import level_factors, pyramid_memory
from soct.formats.validation import validate_volume
from soct.space import Voxel
from tests.formats.test_ome_zarr import digest

SHAPE = (70, 45, 61)
VOXEL = Voxel(10, 25, 25)


def planes(seed=0):
    rng = np.random.default_rng(seed)
    return rng.gamma(1, 10, SHAPE).astype(np.float32), rng.random(SHAPE) < 0.7


def write(path, data, valid, step=16, voxel=VOXEL, **options):
    with PyramidWriter(path, data.shape, voxel, **options) as writer:
        for z in range(0, len(data), step):
            writer.append(data[z : z + step], valid[z : z + step])
    return path


def block_means(data, valid, factor):
    """Return means of valid voxels, and where there are any, the plain way."""
    shape = [-(-n // f) for n, f in zip(data.shape, factor, strict=True)]
    mean, any_valid = np.zeros(shape), np.zeros(shape, bool)
    for index in np.ndindex(*shape):
        block = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factor, strict=True))
        if valid[block].any():
            mean[index] = data[block][valid[block]].astype(np.float64).mean()
            any_valid[index] = True
    return mean, any_valid


def test_levels_are_exact_means_of_valid_voxels(tmp_path):
    data, valid = planes()
    path = write(tmp_path / "v.ome.zarr", data, valid)
    group = zarr.open_group(str(path), mode="r")
    factors = level_factors(VOXEL, (10, 25, 50, 100))
    assert factors == ((1, 1, 1), (2, 1, 1), (5, 2, 2), (10, 4, 4))
    for number, factor in enumerate(factors):
        mean, any_valid = block_means(data, valid, factor)
        level = group[str(number)][:]
        np.testing.assert_allclose(level, mean, rtol=2e-7)
        np.testing.assert_array_equal(group[f"labels/validity/{number}"][:], any_valid)
        np.testing.assert_array_equal(level > 0, any_valid)


def test_voxel_sizes_and_half_pixel_translations(tmp_path):
    path = write(tmp_path / "v.ome.zarr", *planes(), translation_um=(100, 0, 0))
    expected = {0: (10, 25, 25), 1: (20, 25, 25), 2: (50, 50, 50), 3: (100, 100, 100)}
    for number, voxel in expected.items():
        level = open_volume(path, number)
        assert level.voxel_um == voxel
        offset = (np.array(voxel) - VOXEL) / 2
        np.testing.assert_allclose(level.translation_um, np.array([100, 0, 0]) + offset)


def test_the_result_is_valid_and_opens_with_ome_zarr_and_zarr(tmp_path):
    data, valid = planes()
    path = write(tmp_path / "v.ome.zarr", data, valid, orientation="SAR", attributes={"a": 1})
    assert validate_volume(path, samples=True) == ()
    nodes = list(Reader(parse_url(str(path)))())
    assert nodes[0].data[0].shape == SHAPE
    np.testing.assert_array_equal(np.asarray(nodes[0].data[0]), np.where(valid, data, 0))
    attributes = dict(zarr.open_group(str(path), mode="r").attrs)
    axes = attributes["ome"]["multiscales"][0]["axes"]
    assert axes[0]["orientation"]["value"] == "inferior-to-superior"
    assert attributes["soct"]["a"] == 1


@pytest.mark.parametrize("step", [1, 7, 70])
def test_the_same_planes_give_the_same_bytes_however_they_come(tmp_path, step):
    data, valid = planes()
    first = digest(write(tmp_path / "a" / "v.ome.zarr", data, valid))
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        second = digest(write(tmp_path / "b" / "v.ome.zarr", data, valid, step, threads=1))
    finally:
        numba.set_num_threads(threads)
    assert first == second


def test_no_data_is_zero_and_data_are_positive(tmp_path):
    data, valid = planes()
    data[::3] = -5
    data[1, 0, :4] = np.nan, np.inf, -np.inf, 0
    valid[1, 0, :4] = True
    path = write(tmp_path / "v.ome.zarr", data, valid)
    base = open_volume(path).read()
    valid[1, 0, :3] = False
    np.testing.assert_array_equal(base > 0, valid)
    assert np.isfinite(base).all()
    for level in (1, 2, 3):
        assert np.isfinite(open_volume(path, level).read()).all()


def test_the_window_is_robust_and_in_order(tmp_path):
    data, valid = planes()
    data[5, 5, 5] = 1e9
    valid[5, 5, 5] = True
    path = write(tmp_path / "v.ome.zarr", data, valid)
    window = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["omero"]["channels"][
        0
    ]["window"]
    assert window["min"] <= window["start"] < window["end"] <= window["max"]
    assert window["end"] == pytest.approx(np.percentile(data[valid], 99.8), rel=0.1)


def test_percentiles_of_the_histogram_are_within_one_percent():
    values = np.random.default_rng(0).gamma(2, 3, 100_000).astype(np.float32)
    counts = new_histogram()
    counts[0] = np.bincount(values.view(np.uint32) >> 16, minlength=HISTOGRAM_BINS)
    for percent in (0.5, 50, 99.8):
        assert percentile(counts, percent) == pytest.approx(
            np.percentile(values, percent), rel=0.01
        )
    assert percentile(new_histogram(), 50) == 0


def test_an_empty_volume_and_one_voxel_are_valid(tmp_path):
    data, valid = planes()
    path = write(tmp_path / "a.ome.zarr", data, np.zeros_like(valid))
    assert not open_volume(path).read().any()
    assert validate_volume(path) == ()
    path = write(tmp_path / "b.ome.zarr", np.ones((1, 1, 1), np.float32), np.ones((1, 1, 1), bool))
    assert validate_volume(path) == ()


def test_whole_numbers_keep_no_data_apart(tmp_path):
    data, valid = planes()
    path = write(tmp_path / "v.ome.zarr", data, valid, dtype=np.uint16)
    assert validate_volume(path) == ()
    expected = np.where(valid, np.clip(np.rint(data), 1, 65535), 0)
    np.testing.assert_array_equal(open_volume(path).read(), expected)


@pytest.mark.parametrize(
    ("voxel", "expected"),
    [
        ((10, 10, 10), ((1, 1, 1), (2, 2, 2), (5, 5, 5), (10, 10, 10))),
        ((25, 25, 25), ((1, 1, 1), (2, 2, 2), (4, 4, 4))),
        ((200, 25, 25), ((1, 1, 1), (1, 2, 2), (1, 4, 4))),
        ((200, 200, 200), ((1, 1, 1),)),
        ((3.5, 13, 13), ((1, 1, 1), (3, 1, 1), (7, 2, 2), (14, 4, 4), (28, 7, 7))),
    ],
)
def test_levels_approach_what_was_asked_and_never_upsample(voxel, expected):
    assert level_factors(Voxel(*voxel), (10, 25, 50, 100)) == expected


def test_memory_does_not_grow_with_the_number_of_planes():
    some, many = (pyramid_memory((n, 500, 500), VOXEL) for n in (1_000, 100_000))
    assert many < 1.05 * some
    assert pyramid_memory((1000, 5000, 7000), Voxel(10, 10, 10)) < 5 * (1 << 30)


def test_a_wrong_number_of_planes_or_shape_is_refused(tmp_path):
    data, valid = planes()
    writer = PyramidWriter(tmp_path / "v.ome.zarr", SHAPE, VOXEL)
    writer.append(data[:60], valid[:60])
    with pytest.raises(ValueError, match="60 planes instead of 70"):
        writer.close()
    with pytest.raises(ValueError, match="more than 70 planes"):
        writer.append(data[:11], valid[:11])
    with pytest.raises(ValueError, match="for volume"):
        writer.append(data[:1, :3], valid[:1, :3])
    assert not (tmp_path / "v.ome.zarr" / "zarr.json").exists()


def test_the_stricter_check_finds_what_the_specification_allows(tmp_path):
    path = write(tmp_path / "v.ome.zarr", *planes())
    whole = (path / "zarr.json").read_text()
    changes = {
        '"micrometer"': '"um"',
        '"FFFFFF"': '"#FFF"',
        '"start": ': '"start": 1e9, "start_": ',
    }
    for old, new in changes.items():
        (path / "zarr.json").write_text(whole.replace(old, new))
        assert validate_volume(path), new
    content = json.loads(whole)
    level = content["attributes"]["ome"]["multiscales"][0]["datasets"][2]
    level["coordinateTransformations"][1]["translation"] = [0, 0, 0]
    (path / "zarr.json").write_text(json.dumps(content))
    assert {f.expected for f in validate_volume(path)} >= {
        "translation 20 um",
        "translation 12.5 um",
    }
    (path / "zarr.json").write_text(whole)
    assert validate_volume(path) == ()
    (path / "labels" / "validity" / "1" / "c" / "0" / "0" / "0").unlink()
    assert "missing" in validate_volume(path)[0].message


def test_a_written_volume_holds_no_time(tmp_path):
    data, valid = planes()
    metadata = b"".join(
        f.read_bytes() for f in write(tmp_path / "v.ome.zarr", data, valid).rglob("*.json")
    )
    assert b"time" not in metadata
