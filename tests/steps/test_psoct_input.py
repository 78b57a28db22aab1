"""Thorlabs `.oct` files go through the pipeline as raw tiles do."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from soct.errors import UsageError
from soct.formats.mosaic_grid import open_mosaic_grid
from soct.simulate.evaluate import evaluate
from soct.simulate.microscope import simulate
from soct.simulate.spec import preset
from soct.simulate.thorlabs import store_as_oct
from tests.steps.chain import Chain

BEFORE = 3
CREATE = {
    "data_type": "psoct",
    "polarisation": "both",
    "angle": 1,
    "crop_start_px": BEFORE,
    "crop_stop_px": BEFORE + 40,
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("psoct")
    spec = preset("tiny", slices=2, n_extra=0, faults={"galvo_return_px": None})
    made = simulate(spec, folder / "made", threads=1)
    return made, store_as_oct(made.raw, folder / "psoct", angles=2, depth_before=BEFORE)


def grids(chain: Chain) -> dict[int, np.ndarray]:
    return {
        slices[0]: np.stack([grid.read_tile(t.row, t.col) for t in grid.tiles])
        for slices, result in chain.run("create_mosaic_grid").items()
        for grid in [open_mosaic_grid(result.outputs["grid"])]
    }


def test_both_detectors_together_give_the_grid_of_the_raw_tiles(stored, tmp_path):
    made, psoct = stored
    raw = grids(Chain(made.raw, tmp_path / "raw"))
    got = grids(Chain(psoct, tmp_path / "oct", {"create_mosaic_grid": CREATE}))
    assert raw.keys() == got.keys()
    for slice_id in raw:
        np.testing.assert_allclose(got[slice_id], raw[slice_id], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_volume_comes_out_as_accurate_as_from_raw_tiles(stored, tmp_path):
    made, psoct = stored
    chain = Chain(psoct, tmp_path, {"create_mosaic_grid": CREATE})
    (result,) = chain.run("stack").values()
    score = evaluate(result.outputs["volume"], made.path)
    assert score.xy_p95_um is not None
    assert score.xy_p95_um < 12.5  # half a pixel
    assert score.ncc > 0.7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_type": "oct"}, "not of the type"),
        ({"angle": 2}, "No tile was imaged at the chosen angle"),
        ({"crop_start_px": 320, "crop_stop_px": 750}, "outside of the samples"),
    ],
)
def test_parameters_that_do_not_fit_the_files_are_told(stored, tmp_path, changes, words):
    _, psoct = stored
    with pytest.raises(Exception, match=words):
        Chain(psoct, tmp_path, {"create_mosaic_grid": {**CREATE, **changes}}).run(
            "create_mosaic_grid"
        )


def test_a_lost_detector_is_named(stored, tmp_path):
    import zipfile

    _, psoct = stored
    shutil.copytree(psoct, tmp_path / "in")
    victim = tmp_path / "in" / "slice_z00" / "tile_0002.oct"
    with zipfile.ZipFile(victim) as whole:
        members = {n: whole.read(n) for n in whole.namelist() if "Cam1" not in n}
    with zipfile.ZipFile(victim, "w") as made:
        for name, data in members.items():
            made.writestr(name, data)
    chain = Chain(tmp_path / "in", tmp_path / "out", {"create_mosaic_grid": CREATE})
    results = chain.run("create_mosaic_grid")
    (warning,) = results[(0,)].result.warnings
    assert "Complex_Cam1.data" in warning
    assert not results[(1,)].result.warnings


def test_an_acquisition_with_return_lines_is_not_stored_as_oct(tmp_path):
    spec = preset("tiny", slices=1, rows=1, cols=1)
    made = simulate(spec, tmp_path / "made", threads=1)
    with pytest.raises(UsageError, match="return"):
        store_as_oct(made.raw, tmp_path / "psoct")
