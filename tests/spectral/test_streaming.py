"""Pictures that go to a file by bands are those that fit into memory."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from soct.errors import InputError, UsageError
from soct.formats import flat_files
from soct.formats.validation import validate_volume
from soct.formats.volume_source import open_source
from soct.spectral import Affine, Image, Renderer, streaming

SIZE = (70, 60)
PLACES = {
    (r, c): (c * 52 + 3.3 * r + 0.21 * c, r * 47 - 1.7 * c + 0.5)
    for r in range(4)
    for c in range(3)
}
TURNED = {
    tile: Affine.translator(place) @ Affine.rotator(0.03 * tile[0], (35, 30))
    for tile, place in PLACES.items()
}


@pytest.fixture
def short_bands(monkeypatch):
    """Small pictures have several bands and levels."""
    monkeypatch.setattr(streaming, "MOST_BAND_ROWS", 64)
    monkeypatch.setattr(flat_files, "_SMALLEST_SIDE", 30)
    monkeypatch.setattr(flat_files, "_SHARD_COLUMNS", 64)
    monkeypatch.setattr(flat_files, "_CHUNK", 32)


def images(kind):
    rng = np.random.default_rng(0)
    scale = 1 if kind == np.float32 else np.iinfo(kind).max
    return {tile: (scale * rng.random((60, 70))).astype(kind) for tile in PLACES}


def in_memory(renderer, pictures):
    for tile, picture in pictures.items():
        renderer.render(tile, picture)
    return np.asarray(renderer.image)


def read(path):
    if path.suffix == ".zarr":
        return zarr.open_array(str(path / "0"), mode="r")[:][0]
    return tifffile.imread(path)


@pytest.mark.usefixtures("short_bands")
@pytest.mark.parametrize("name", ["out.ome.zarr", "out.tif", "out.ome.tif"])
@pytest.mark.parametrize("model", [{"rigid": PLACES}, {"affine": TURNED}], ids=["rigid", "affine"])
@pytest.mark.parametrize("memory", [1, 1 << 30], ids=["short of memory", "at ease"])
def test_a_streamed_picture_has_the_bits_of_one_in_memory(tmp_path, name, model, memory):
    pictures = images(np.uint16)
    renderer = Renderer(**model, tilesize=SIZE)
    done = []
    out = renderer.render_to(
        tmp_path / name,
        pictures.get,
        memory_bytes=memory,
        progress=lambda *at: done.append(at),
    )
    np.testing.assert_array_equal(read(out.path), in_memory(renderer, pictures))
    rows = renderer.size[1]
    assert done[-1] == (rows, rows)
    assert [at for at, _ in done] == sorted({at for at, _ in done})
    assert out.loads == len(PLACES) or memory == 1
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("short_bands")
def test_eight_bits_in_and_out_are_the_same_where_an_image_is_alone(tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (100, 90), np.uint8)
    for name in ("a.ome.zarr", "a.tif"):
        renderer = Renderer(rigid={0: (3, 4)}, tilesize=(90, 100))
        out = renderer.render_to(tmp_path / name, lambda _: picture, dtype=np.uint8)
        np.testing.assert_array_equal(read(out.path), picture)


@pytest.mark.usefixtures("short_bands")
def test_coarser_levels_are_means_of_the_pixels_with_data(tmp_path):
    places = {0: (0, 0), 1: (75, 75)}
    renderer = Renderer(rigid=places, tilesize=65)
    zarr_out = renderer.render_to(tmp_path / "a.ome.zarr", lambda k: np.full((65, 65), k + 1.0))
    tiff_out = renderer.render_to(tmp_path / "a.tif", lambda k: np.full((65, 65), k + 1.0))
    assert zarr_out.levels == tiff_out.levels == 4
    with tifffile.TiffFile(tiff_out.path) as file:
        assert not file.is_bigtiff
        shapes = [level.shape for level in file.series[0].levels]
        last = file.series[0].levels[-1].asarray()
    assert shapes == [(140, 140), (70, 70), (35, 35), (18, 18)]
    assert set(np.unique(last)) == {0.0, 1.0, 2.0}
    np.testing.assert_array_equal(last, zarr.open_array(str(zarr_out.path / "3"), mode="r")[:][0])


@pytest.mark.usefixtures("short_bands")
def test_the_file_is_valid_ome_zarr_with_the_pixel_size(tmp_path):
    renderer = Renderer(rigid=PLACES, tilesize=SIZE)
    out = renderer.render_to(tmp_path / "a.ome.zarr", images(np.float32).get, pixel_um=(2.5, 4.0))
    assert validate_volume(out.path, samples=True) == ()
    source = open_source(out.path)
    assert source.voxel_um is not None
    assert tuple(source.voxel_um)[1:] == (4.0, 2.5)
    assert source.shape == (1, renderer.size[1], renderer.size[0])
    assert source.window is not None
    assert 0 < source.window[0] < source.window[1] < 1


@pytest.mark.usefixtures("short_bands")
def test_a_pixel_size_that_nobody_told_is_not_made_up(tmp_path):
    out = Renderer(rigid=PLACES, tilesize=SIZE).render_to(
        tmp_path / "a.ome.zarr", images(np.float32).get
    )
    assert validate_volume(out.path) == ()
    assert open_source(out.path).voxel_um is None


@pytest.mark.usefixtures("short_bands")
def test_a_large_tiff_is_a_bigtiff_and_reads_as_one_picture(tmp_path, monkeypatch):
    renderer = Renderer(rigid=PLACES, tilesize=SIZE)
    pictures = images(np.uint8)
    for most, is_big in ((1, True), (1 << 30, False)):
        monkeypatch.setattr(flat_files, "_MOST_CLASSIC_BYTES", most)
        out = renderer.render_to(tmp_path / f"{is_big}.tif", pictures.get, dtype=np.uint8)
        with tifffile.TiffFile(out.path) as file:
            assert file.is_bigtiff == is_big
        np.testing.assert_array_equal(
            Image(out.path), read(out.path).astype(np.float32) / np.float32(255)
        )


@pytest.mark.usefixtures("short_bands")
def test_images_that_are_missing_are_named_and_leave_a_gap(tmp_path):
    pictures = images(np.float32)
    del pictures[1, 1]
    renderer = Renderer(rigid=PLACES, tilesize=SIZE)
    out = renderer.render_to(tmp_path / "a.tif", pictures.get)
    assert out.missing == ((1, 1),)
    np.testing.assert_array_equal(read(out.path), in_memory(renderer, pictures))


def test_nothing_is_left_when_an_image_cannot_be_read(tmp_path):
    def load(tile):
        raise InputError("An image cannot be read", file=f"{tile}.png")

    for name in ("a.tif", "a.ome.zarr"):
        with pytest.raises(InputError, match="cannot be read"):
            Renderer(rigid=PLACES, tilesize=SIZE).render_to(tmp_path / name, load)
    assert list(tmp_path.iterdir()) == []


def test_wrong_names_types_and_sizes_are_told_before_anything_is_written(tmp_path):
    renderer = Renderer(rigid=PLACES, tilesize=SIZE)
    with pytest.raises(UsageError, match="ends with"):
        renderer.render_to(tmp_path / "a.jpg", images(np.float32).get)
    with pytest.raises(UsageError, match="float64"):
        renderer.render_to(tmp_path / "a.tif", images(np.float32).get, dtype=np.float64)
    (tmp_path / "b.tif").touch()
    with pytest.raises(UsageError, match="exists already"):
        renderer.render_to(tmp_path / "b.tif", images(np.float32).get)
    with pytest.raises(ValueError, match=r"\(0, 0\)' is 5 x 5|\(0, 0\) is 5 x 5"):
        renderer.render_to(tmp_path / "a.tif", lambda _: np.zeros((5, 5)))
    with pytest.raises(ValueError, match="pixel_um"):
        renderer.render_to(tmp_path / "a.tif", images(np.float32).get, pixel_um=-1)
    with pytest.raises(ValueError, match="not known"):
        Renderer(rigid=PLACES).render_to(tmp_path / "a.tif", images(np.float32).get)
