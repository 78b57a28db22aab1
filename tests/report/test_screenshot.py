"""Pictures of a volume show the right planes at the right scale, and mark what they promise to mark."""

from __future__ import annotations

import numpy as np
import pytest

from soct.errors import UsageError
from soct.formats.ome_zarr import PyramidWriter
from soct.report.screenshot import (
    EXCLUDED,
    INTERPOLATED,
    draw_views,
    read_marks,
    round_length,
    take_views,
)
from soct.space import Voxel

SHAPE = (20, 30, 40)
VOXEL = Voxel(20.0, 10.0, 10.0)
MARKS = {
    "slice_starts": [[0, 0], [1, 5], [4, 12]],
    "interpolated_planes": [[7, 9]],
}


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    path = tmp_path_factory.mktemp("volume") / "brain.ome.zarr"
    z, y, x = np.mgrid[:20, :30, :40]
    data = (10_000 * z + 100 * y + x + 1).astype(np.float32)
    with PyramidWriter(path, SHAPE, VOXEL, (40,), orientation="PIR", attributes=MARKS) as writer:
        writer.append(data, np.ones(SHAPE, bool))
    return path, data


def test_the_planes_are_those_asked_for(volume):
    path, data = volume
    views = take_views(path, at=(3, 4, 5))
    np.testing.assert_array_equal(views.planes[0], data[3])
    np.testing.assert_array_equal(views.planes[1], data[:, 4])
    np.testing.assert_array_equal(views.planes[2], data[:, :, 5])
    assert take_views(path).at == (10, 15, 20)
    assert views.orientation == "PIR"
    with pytest.raises(UsageError, match="outside"):
        take_views(path, at=(20, 0, 0))


def test_a_small_picture_is_made_from_a_coarse_level(volume):
    path, _ = volume
    views = take_views(path, longest_px=10)
    assert views.planes[0].shape == (8, 10)
    assert views.shape == SHAPE


def test_panels_have_the_scale_and_the_colours_of_the_window(volume):
    path, data = volume
    views = take_views(path, at=(3, 4, 5), window=(float(data[3].min()), float(data[3].max())))
    picture = draw_views(views, longest_px=400)
    panel = picture[30 : 30 + 300, 30 : 30 + 400]
    assert (panel[150, 20:380, 0].astype(int) == panel[150, 20:380, 1]).all()
    # Brightness grows along y by 100 per voxel, which is 10 pixels of the picture.
    column = panel[5:250:10, 200, 0].astype(float)
    rise = np.diff(column)
    assert rise.min() > 0
    assert abs(rise.mean() - 255 * 100 / (data[3].max() - data[3].min())) < 0.5
    beside = picture[30 : 30 + 300, 464 : 464 + 400]
    assert beside[100, 150, 0] == 255  # deeper planes lie above the window
    assert beside[100, 10, 0] == 0


def test_marks_are_drawn_where_slices_are(volume):
    path, _ = volume
    picture = draw_views(take_views(path), longest_px=400)
    below = 30 + 300 + 34
    blue = (picture == INTERPOLATED).all(axis=2)
    red = (picture == EXCLUDED).all(axis=2)
    rows = np.flatnonzero(blue[below:, 431:436].any(axis=1))
    assert (rows.min(), rows.max()) == (7 * 20, 10 * 20)
    assert np.flatnonzero(red[below : below + 400, 100]).tolist() == [12 * 20]
    assert np.flatnonzero(red[100, 464 : 464 + 400]).tolist() == [12 * 20]


def test_marks_come_from_the_volumes_own_attributes():
    marks = read_marks(MARKS)
    assert marks.absent == ((2, 12), (3, 12))
    assert marks.interpolated == ((7, 9),)
    assert read_marks({"slice_starts": "nonsense", "interpolated_planes": [1, 2]}).starts == ()


@pytest.mark.parametrize(
    ("longest", "length"), [(999, 500), (1000, 1000), (0.3, 0.2), (2001, 2000)]
)
def test_scale_bars_have_round_lengths(longest, length):
    assert round_length(longest) == pytest.approx(length)
