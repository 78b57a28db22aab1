import os

import numpy as np
import pytest

from soct.errors import InputError
from soct.formats.acquisition import open_acquisition
from soct.formats.raw import read_tile, to_legacy_orientation
from tests.formats.raw_files import samples, write_tile


def only_tile(root):
    (record,) = open_acquisition(root).slices.values()
    return record.tiles[0]


@pytest.mark.parametrize("n_files", [1, 2, 3])
def test_depth_is_fastest_then_a_line_then_frame(tmp_path, n_files):
    frames = samples(1)
    write_tile(tmp_path / "tile_x0_y0_z0", frames, n_files)
    tile = read_tile(only_tile(tmp_path))
    assert tile.dtype == np.float32
    assert tile.shape == (5, 3, 6)
    np.testing.assert_array_equal(tile, frames.transpose(2, 0, 1))


def test_consecutive_repeats_are_averaged_across_files(tmp_path):
    frames = samples(1, n_repeat=4)
    write_tile(tmp_path / "tile_x0_y0_z0", frames, 5, n_repeat=4)
    expected = frames.reshape(3, 4, 6, 5).mean(axis=1, dtype=np.float64).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_tile(only_tile(tmp_path)), expected.astype(np.float32))


def test_a_tile_larger_than_a_block_is_read_whole(tmp_path):
    keys = {"nx": 50, "ny": 301, "n_extra": 0, "bottom_z": 99, "top_z": 0}
    frames = samples(1, **keys)
    write_tile(tmp_path / "tile_x0_y0_z0", frames, 3, **keys)
    np.testing.assert_array_equal(read_tile(only_tile(tmp_path)), frames.transpose(2, 0, 1))


def test_numbered_files_are_joined_in_the_order_of_their_numbers(tmp_path):
    frames = samples(1)
    folder = write_tile(tmp_path / "tile_x0_y0_z0", frames)
    (folder / "image_00000.bin").unlink()
    for frame, number in zip(frames, (8, 9, 10), strict=True):
        frame.tofile(folder / f"image_{number}.bin")
    np.testing.assert_array_equal(read_tile(only_tile(tmp_path)), frames.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [0, 120, 361, 10_000])
def test_a_file_that_changed_after_the_scan_is_an_input_error(tmp_path, size):
    folder = write_tile(tmp_path / "tile_x0_y0_z0", samples(1))
    tile = only_tile(tmp_path)
    os.truncate(folder / "image_00000.bin", size)
    with pytest.raises(InputError, match=f"360 bytes.*\n.*{size} bytes"):
        read_tile(tile)
    (folder / "image_00000.bin").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        read_tile(tile)


def test_legacy_orientation_is_three_quarter_turns_and_a_flip():
    tile = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.testing.assert_array_equal(to_legacy_orientation(tile)[0], [[5, 2], [4, 1], [3, 0]])
