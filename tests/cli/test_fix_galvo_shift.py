"""`soct fix-galvo-shift` changes mosaic grids as promised, and takes it back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from soct.formats.mosaic_grid import open_mosaic_grid
from soct.simulate.linumpy_grids import write_linumpy_grids
from soct.simulate.microscope import simulate
from soct.simulate.spec import preset
from tests.cli.conftest import Run
from tests.formats.test_grid_columns import digest


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = preset("tiny", seed=1, slices=2)
    return simulate(spec, tmp_path_factory.mktemp("galvo") / "acquisition", threads=1).raw


def test_a_folder_of_grids_is_looked_at_changed_and_given_back(
    raw: Path, tmp_path: Path, soct: Run
) -> None:
    write_linumpy_grids(raw, tmp_path / "grids", galvo="cropped", tables=False)
    write_linumpy_grids(raw, tmp_path / "right", galvo_at=9, tables=False)
    before = digest(tmp_path / "grids")

    looked = soct("fix-galvo-shift", "grids", "--dry-run", "--contact-sheet", "sheet.png", "--json")
    assert looked.code == 0, looked.err
    assert [row["action"] for row in json.loads(looked.out)] == ["would be changed"] * 2
    assert digest(tmp_path / "grids") == before
    assert (tmp_path / "sheet.png").stat().st_size > 1000

    done = soct("fix-galvo-shift", "grids")
    assert done.code == 0, done.err
    assert done.out.count(": changed: dark band of") == 2
    fixed, right = (
        open_mosaic_grid(tmp_path / name / "mosaic_grid_3d_z01.ome.zarr")
        for name in ("grids", "right")
    )
    same = (fixed.read_tile(1, 0) == right.read_tile(1, 0)).all(axis=(0, 1))
    assert same.sum() >= same.size - 6 - 2
    again = soct("fix-galvo-shift", "grids")
    assert again.out.count("changed before") == 2

    undone = soct("fix-galvo-shift", "grids", "--undo")
    assert undone.code == 0, undone.err
    assert digest(tmp_path / "grids") == before


def test_grids_that_are_right_are_left_alone(raw: Path, tmp_path: Path, soct: Run) -> None:
    write_linumpy_grids(raw, tmp_path / "grids", galvo_at=9, tables=False)
    before = digest(tmp_path / "grids")
    ended = soct("fix-galvo-shift", "grids")
    assert ended.code == 0
    assert ended.out.count(": left: ") == 2
    assert digest(tmp_path / "grids") == before


def test_a_damaged_grid_is_named_and_does_not_hold_the_others_up(
    raw: Path, tmp_path: Path, soct: Run
) -> None:
    grids = write_linumpy_grids(raw, tmp_path / "grids", galvo="whole", tables=False)
    (grids[0] / ".zattrs").write_text("[]")
    ended = soct("fix-galvo-shift", "grids")
    assert ended.code == 4
    assert f"{grids[0].name}: failed" in ended.out
    assert f"{grids[1].name}: changed" in ended.out
    columns = open_mosaic_grid(grids[1]).read_tile(0, 0).mean(axis=(0, 1))
    assert np.argmin(columns) >= columns.size - 6


def test_a_folder_without_grids_is_refused(tmp_path: Path, soct: Run) -> None:
    ended = soct("fix-galvo-shift", str(tmp_path))
    assert ended.code == 4
    assert "There is no mosaic grid" in ended.err


def test_a_quick_mosaic_is_written_as_picture_or_as_numbers(
    raw: Path, tmp_path: Path, soct: Run
) -> None:
    for name, mode in (("slice.png", "L"), ("slice.tif", "F")):
        ended = soct("quick-stitch", str(raw), name, "--slice", "1")
        assert ended.code == 0, ended.err
        assert ended.out.strip() == name
        assert "slice 1: 4 tiles" in ended.err
        with Image.open(tmp_path / name) as picture:
            assert picture.mode == mode
    assert soct("quick-stitch", str(raw), "slice.jpg").code == 2
