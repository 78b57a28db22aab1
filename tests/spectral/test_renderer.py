"""A picture made of placed images equals what analysis says it must."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from soct.compute.threads import limited
from soct.spectral import Affine, Image, Renderer

RIGID = {"a": (0.0, 0.0), "b": (70.37, 3.61), "c": (-2.48, 50.2), "d": (67.9, 55.5)}
SIZE = (90, 64)


def rotated(angle=0.05, scale=1.02):
    """The same tiles, turned by a little and by unequal amounts."""
    return {
        tile: Affine.translator(place)
        @ Affine.rotator(angle * (1 + k), (45, 32))
        @ Affine.scaler(scale, (45, 32))
        for k, (tile, place) in enumerate(RIGID.items())
    }


def smooth(x, y):
    return np.sin(x / 20.0) + np.cos(y / 18.0 + x / 43.0)


def sampled(place, size=SIZE, function=smooth):
    """What an image at a place sees of a function of the placement's coordinates."""
    w, h = size
    y, x = np.mgrid[:h, :w] + 0.5
    matrix = np.array(place, float)
    if matrix.shape == (2,):
        return function(x + matrix[0], y + matrix[1]).astype(np.float32)
    u, v = matrix[:, :2] @ np.array([x.ravel(), y.ravel()]) + matrix[:, 2:]
    return function(u, v).reshape(h, w).astype(np.float32)


def expected(renderer, function=smooth):
    w, h = renderer.size
    y, x = np.mgrid[:h, :w] + 0.5
    return function(x + renderer.pmin[0], y + renderer.pmin[1])


def render(places, function=smooth, **options):
    model = "affine" if isinstance(next(iter(places.values())), Affine) else "rigid"
    renderer = Renderer(**{model: places}, tilesize=SIZE, **options)
    for tile, place in places.items():
        renderer.render(tile, sampled(place, function=function))
    return renderer


STEEP = rotated(angle=0.3)
MODELS = pytest.mark.parametrize(
    "places", [RIGID, rotated(), STEEP], ids=["rigid", "affine", "steep"]
)


@MODELS
def test_a_smooth_function_seen_by_images_is_given_back_at_sub_pixel_positions(places):
    renderer = render(places)
    mask = renderer.unionmask()
    error = np.abs(renderer.image - expected(renderer))[mask]
    span = np.ptp(expected(renderer))
    assert mask.mean() > 0.6
    assert error.max() < 1e-3 * span
    assert (np.asarray(renderer.image)[~mask] == 0).all()


@MODELS
def test_a_ramp_is_given_back_up_to_the_borders(places):
    def ramp(x, y):
        return 2.0 * x - 3.0 * y

    renderer = render(places, ramp)
    mask = renderer.unionmask()
    np.testing.assert_allclose(
        np.asarray(renderer.image)[mask], expected(renderer, ramp)[mask], atol=2e-3
    )


@pytest.mark.parametrize("blend", [0, 0.5, 10, 1000])
@MODELS
def test_equal_images_stay_what_they_are_without_fringes(places, blend):
    renderer = render(places, lambda x, y: 0.7 + 0 * x, blend=blend)
    seen = np.asarray(renderer.image)[renderer.unionmask()]
    np.testing.assert_allclose(seen, np.float32(0.7), rtol=4e-7)


def test_an_image_alone_at_a_whole_pixel_is_copied_bit_for_bit():
    picture = np.random.default_rng(0).random((40, 30), np.float32)
    renderer = Renderer(rigid={1: (7, -3)})
    renderer.render(1, picture)
    np.testing.assert_array_equal(renderer.image, picture)
    assert renderer.size == (30, 40)
    assert renderer.pmin.tolist() == [7, -3]
    assert renderer.pmax.tolist() == [37, 37]


def test_an_affine_map_that_only_shifts_gives_the_same_bits_as_a_shift():
    rigid = render(RIGID)
    affine = render({t: Affine.translator(p) for t, p in RIGID.items()})
    np.testing.assert_array_equal(rigid.image, affine.image)


def test_a_quarter_turn_about_the_centre_is_numpys():
    picture = np.random.default_rng(1).random((30, 30), np.float32)
    renderer = Renderer(affine={0: Affine.rotator(np.pi / 2, (15, 15))}, tilesize=30)
    renderer.render(0, picture)
    # From +x to +y, where y grows downwards: clockwise.
    np.testing.assert_allclose(renderer.image, np.rot90(picture, -1), atol=1e-5)


def test_images_fade_over_the_width_of_the_ramp_and_count_alike_inside():
    renderer = Renderer(rigid={"left": (0, 0), "right": (40, 0)}, tilesize=(80, 8), blend=10)
    renderer.render("left", np.zeros((8, 80), np.float32))
    renderer.render("right", np.ones((8, 80), np.float32))
    row = np.asarray(renderer.image)[4]
    assert (row[:40] == 0).all()
    assert (row[80:] == 1).all()
    np.testing.assert_allclose(row[50:70], 0.5)
    right = (np.arange(10) + 0.5) / 10
    np.testing.assert_allclose(row[40:50], right / (right + 1), rtol=1e-5)


@MODELS
def test_the_picture_does_not_depend_on_the_number_of_threads(places):
    with limited(1):
        one = render(places).image
    with limited(numba.config.NUMBA_NUM_THREADS):
        np.testing.assert_array_equal(render(places).image, one)


@MODELS
def test_a_rectangle_cuts_the_same_pixels_out(places):
    whole = render(places)
    x0, y0 = whole.pmin + np.array([20, 9])
    part = render(places, clip=[x0, y0, 50, 33])
    np.testing.assert_allclose(part.image, whole.image[9:42, 20:70], atol=1e-5)
    assert part.size == (50, 33)


def test_a_rectangle_may_begin_between_pixels_and_reach_beyond_the_images():
    part = render(RIGID, clip=[-20.25, 10.5, 60, 30])
    mask = part.unionmask()
    assert not mask[:, :17].any()
    assert np.abs(part.image - expected(part))[mask].max() < 3e-3


def test_the_intersection_of_two_shifted_images_is_their_overlap():
    renderer = Renderer(rigid={0: (0, 0), 1: (10, 4)}, tilesize=(50, 40), clip=True)
    assert renderer.pmin.tolist() == [10, 4]
    assert renderer.size == (40, 36)
    assert renderer.intersectionmask().all()


def test_the_intersection_of_turned_images_is_the_largest_rectangle_that_all_cover():
    turn = Affine.rotator(np.pi / 6, (100, 100))
    renderer = Renderer(affine={0: Affine(), 1: turn}, tilesize=(200, 200), clip=True)
    # For a square that is turned by an angle, the best upright rectangle has the side 1 / (cos + sin).
    side = 200 / (np.cos(np.pi / 6) + np.sin(np.pi / 6))
    assert abs(np.prod(renderer.size) - side**2) < 2 * side
    assert renderer.intersectionmask().all()


def test_masks_say_what_some_and_what_all_images_cover():
    renderer = Renderer(rigid={0: (0, 0), 1: (30, 0)}, tilesize={0: (50, 20), 1: (50, 30)})
    union, common = renderer.unionmask(), renderer.intersectionmask()
    assert union.shape == (30, 80)
    assert union.sum() == 20 * 50 + 30 * 50 - 20 * 20
    assert common.sum() == 20 * 20
    assert common[:20, 30:50].all()
    renderer.render(0, np.ones((20, 50)))
    assert renderer.unionmask(rendered=True).sum() == 20 * 50


@MODELS
def test_masks_and_pictures_agree_to_the_pixel(places):
    renderer = render(places, fill=np.nan)
    np.testing.assert_array_equal(np.isfinite(renderer.image), renderer.unionmask())


def test_pixels_without_data_are_left_to_other_images():
    holes = np.ones((40, 40), np.float32)
    holes[10:20, 10:20] = np.nan
    for turn in (0.0, 0.02, 0.4):
        places = {0: Affine.rotator(turn, (20, 20)), 1: Affine.translator((0.3, 0.4))}
        renderer = Renderer(affine=places, tilesize=40, fill=np.nan)
        renderer.render(0, holes)
        hole = np.isnan(renderer.image) & renderer.intersectionmask()
        assert 80 < hole.sum() < 110
        renderer.render(1, np.full((40, 40), 3.0, np.float32))
        image = np.asarray(renderer.image)
        assert np.isfinite(image[renderer.unionmask()]).all()
        np.testing.assert_allclose(image[hole], 3.0, rtol=4e-7)


def test_a_stack_of_planes_reuses_the_renderer_and_keeps_the_pictures_taken():
    renderer = Renderer(rigid=RIGID, tilesize=SIZE)
    planes = []
    for z in range(3):
        for tile, place in reversed(RIGID.items()):
            renderer.render(tile, sampled(place) + z)
        planes.append(renderer.image)
        renderer.clear()
    assert (np.asarray(renderer.image) == 0).all()
    mask = renderer.unionmask()
    for z in range(3):
        assert isinstance(planes[z], Image)
        np.testing.assert_allclose((planes[z] - planes[0])[mask], z, atol=1e-5)


def test_eight_and_sixteen_bits_are_brightness():
    for kind, largest in ((np.uint8, 255), (np.uint16, 65535)):
        renderer = Renderer(rigid={0: (0, 0)})
        renderer.render(0, np.full((5, 6), largest, kind))
        assert (np.asarray(renderer.image) == 1).all()


def test_a_canvas_of_a_million_million_pixels_costs_only_what_is_drawn():
    renderer = Renderer(rigid={0: (0, 0), 1: (10**6, 10**6)}, tilesize=8, clip=[0, 0, 8, 8])
    renderer.render(0, np.ones((8, 8)))
    renderer.render(1, np.ones((8, 8)))
    assert (np.asarray(renderer.image) == 1).all()


def test_a_picture_that_does_not_fit_into_memory_names_the_ways_out():
    renderer = Renderer(rigid={0: (0, 0), 1: (10**8, 10**9)}, tilesize=8)
    with pytest.raises(MemoryError, match=r"100000008 x 1000000008 pixels .* render_to"):
        renderer.render(0, np.ones((8, 8)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "none is given"),
        ({"rigid": RIGID, "affine": rotated()}, "both are given"),
        ({"rigid": {}}, "empty"),
        ({"rigid": [(0, 0)]}, "list"),
        ({"rigid": {"a": (0, 0), "b": (np.nan, 1)}}, "'b' has no finite"),
        ({"rigid": {"a": 3}}, "'a' must be"),
        ({"affine": {"a": np.zeros((2, 3))}}, "'a' flattens"),
        ({"rigid": RIGID, "tilesize": (3.5, 2)}, "tilesize"),
        ({"rigid": RIGID, "tilesize": {"a": (3, 2)}}, "'b', 'c', 'd'"),
        ({"rigid": RIGID, "tilesize": SIZE, "clip": [0, 0, 5]}, "clip must be"),
        ({"rigid": RIGID, "tilesize": SIZE, "clip": [0, 0, 5, 0]}, "clip must be"),
        ({"rigid": {0: (0, 0), 1: (99, 0)}, "tilesize": 50, "clip": True}, "no such pixel"),
        ({"rigid": RIGID, "blend": -1}, "blend"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        Renderer(**options)


def test_tiles_that_do_not_fit_are_named():
    renderer = Renderer(rigid=RIGID)
    with pytest.raises(ValueError, match="size of the images is not known"):
        _ = renderer.size
    with pytest.raises(ValueError, match="'e' is not in the placement, which has 'a', 'b'"):
        renderer.render("e", np.zeros((3, 3)))
    with pytest.raises(ValueError, match="two-dimensional"):
        renderer.render("a", np.zeros((3, 3, 3)))
    renderer.render("a", np.zeros((64, 90)))
    with pytest.raises(ValueError, match="already"):
        renderer.render("a", np.zeros((64, 90)))
    with pytest.raises(ValueError, match=r"'b' is 64 x 90 pixels, not 90 x 64"):
        renderer.render("b", np.zeros((90, 64)))


@pytest.mark.parametrize("angle", [1e-5, 0.003, 0.1, 0.24, 0.3, 1.0, 2.0, -0.05])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.3])
def test_any_turn_and_scale_gives_the_function_back(angle, scale):
    place = Affine.rotator(angle, (45, 32)) @ Affine.scaler(scale, (45, 32))
    renderer = Renderer(affine={0: place}, tilesize=SIZE)
    renderer.render(0, sampled(place))
    error = np.abs(renderer.image - expected(renderer))[renderer.unionmask()]
    assert error.max() < 2e-3 * np.ptp(expected(renderer))
