"""Pictures of the slices before anything is measured, in the pipeline and as a tool."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soct.errors import UsageError
from soct.formats.mosaic_grid import open_mosaic_grid
from soct.formats.ome_zarr import open_volume
from soct.formats.validation import validate_volume
from soct.mosaic.flat_mosaic import choose_reduction, reduce_tile, render_flat_mosaic
from soct.simulate.linumpy_grids import write_linumpy_grids
from soct.tools.quick_stitch import QuickOptions, quick_stitch
from tests.steps.chain import Chain, Made


def switched_on(made: Made, folder: Path) -> Chain:
    sets = {"generate_aip": {"enabled": True}, "mosaic_preview": {"enabled": True}}
    chain = Chain(made.simulation.raw, folder, sets)
    chain.done = dict(made.chain.done)
    return chain


def test_the_projection_of_a_grid_is_the_mean_over_depth_of_every_tile(
    faulty: Made, tmp_path: Path
) -> None:
    faulty.chain.run("create_mosaic_grid")
    chain = switched_on(faulty, tmp_path)
    aip = open_mosaic_grid(chain.path("generate_aip", "aip", 1))
    grid = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    assert aip.tile_shape == (1, *grid.tile_shape[1:])
    assert aip.tiles == grid.tiles
    np.testing.assert_allclose(aip.read_tile(1, 2)[0], grid.read_tile(1, 2).mean(axis=0), rtol=1e-5)
    assert not aip.has(0, 1)
    picture = np.asarray(Image.open(chain.path("generate_aip", "picture", 1)))
    assert picture.shape == (2 * 44, 3 * 44)
    assert (picture[:44, 44:88] == 0).all()


def test_a_preview_shows_the_tiles_where_the_stage_puts_them(plain: Made, tmp_path: Path) -> None:
    plain.chain.run("estimate_xy_shifts")
    chain = switched_on(plain, tmp_path)
    path = chain.path("mosaic_preview", "preview", 1)
    assert validate_volume(path) == ()
    preview = open_volume(path).read()[0]
    grid = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    np.testing.assert_allclose(
        preview[:30, :30], grid.read_tile(0, 0).mean(axis=0)[:30, :30], rtol=1e-4
    )
    assert preview.shape == (44 + 33, 44 + 33)
    assert chain.metric("mosaic_preview", "preview_positions", 1) == "stage"


def test_a_reduced_mosaic_keeps_the_tiles_places() -> None:
    rng = np.random.default_rng(0)
    canvas = np.repeat(np.repeat(rng.random((20, 20)), 10, 0), 10, 1).astype(np.float32)
    positions = np.array([(0, 0), (0, 100), (100, 0), (100, 100)], float)
    tiles = [canvas[int(y) : int(y) + 100, int(x) : int(x) + 100] for y, x in positions]
    small = choose_reduction(positions, (100, 100), 20)
    assert small == (10, 10)
    mosaic = render_flat_mosaic([reduce_tile(t, small) for t in tiles], positions, (100, 100))
    np.testing.assert_allclose(mosaic.image, canvas[::10, ::10], rtol=1e-5)
    assert mosaic.pixel_factor == (10.0, 10.0)


@pytest.mark.parametrize("galvo", ["raw", "whole", "cropped"])
def test_a_quick_mosaic_of_raw_tiles_and_of_a_grid_shows_the_slice(
    plain: Made, tmp_path: Path, galvo: str
) -> None:
    source = plain.simulation.raw
    if galvo != "raw":
        source = write_linumpy_grids(source, tmp_path, galvo=galvo, slices=[1])[0]  # type: ignore[arg-type]
    made = quick_stitch(source, QuickOptions(slice_id=1, refine=True, max_side_px=None))
    truth = plain.tile_positions(1)
    extent = np.ptp(list(truth.values()), axis=0) + 44
    np.testing.assert_allclose(made.image.shape, extent, atol=3)
    assert (made.tiles, made.pixel_um) == (4, (25.0, 25.0))
    assert "4 of 4 pairs" in made.notes[-1]
    seen = np.isfinite(made.image).mean()
    assert seen > (0.7 if galvo == "cropped" else 0.9)


def test_a_slice_that_is_not_there_is_refused_with_those_that_are(plain: Made) -> None:
    with pytest.raises(UsageError, match="no slice 7") as caught:
        quick_stitch(plain.simulation.raw, QuickOptions(slice_id=7))
    assert caught.value.expected == "0, 1, 2"
