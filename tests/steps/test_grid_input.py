"""Mosaic grids that another tool made give what the raw tiles give, but for what they do not say."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.errors import InputError
from soct.formats.acquisition import open_acquisition
from soct.formats.mosaic_grid import open_mosaic_grid
from soct.pipeline.folder.findings import write_findings
from soct.pipeline.single_step import SingleStep, run_single_step
from soct.simulate.linumpy_grids import write_linumpy_grids
from soct.steps.registry import load_steps
from soct.steps.sizes import measure_slice
from tests.steps.chain import Chain, Made


def grids(made: Made, folder: Path, **how: Any) -> Chain:
    raw = made.simulation.raw
    write_linumpy_grids(raw, folder / "grids", **{"galvo_at": made.truth["galvo_at"], **how})
    return Chain(folder / "grids", folder / "steps")


@pytest.fixture(scope="module")
def converted(plain: Made, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return grids(plain, tmp_path_factory.mktemp("grids"))


@pytest.mark.parametrize(
    ("version", "sharding_factor"),
    [("0.4", 1), ("0.5", 1), ("0.5", 2)],
    ids=["v2", "v3", "sharded"],
)
def test_every_tile_comes_out_as_from_the_raw_tiles(
    plain: Made, tmp_path: Path, version: Any, sharding_factor: int
) -> None:
    chain = grids(plain, tmp_path, version=version, sharding_factor=sharding_factor, slices=[1])
    grid = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    reference = open_mosaic_grid(plain.chain.path("create_mosaic_grid", "grid", 1))
    assert (grid.rows, grid.cols, grid.tile_shape) == (
        reference.rows, reference.cols, reference.tile_shape,
    )  # fmt: skip
    np.testing.assert_allclose(grid.voxel_um, reference.voxel_um)
    for row, col in np.ndindex(grid.rows, grid.cols):
        np.testing.assert_array_equal(grid.read_tile(row, col), reference.read_tile(row, col))
    assert "second axis along x" in chain.warnings("create_mosaic_grid")


def test_a_place_that_was_never_imaged_is_listed_as_missing(faulty: Made, tmp_path: Path) -> None:
    chain = grids(faulty, tmp_path, slices=[1])
    grid = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    assert {(t.row, t.col) for t in grid.tiles if t.status == "missing"} == {(0, 1)}
    assert chain.metric("create_mosaic_grid", "tiles_found", 1) == 5


def test_the_overlap_is_measured_and_the_tiles_lie_where_they_should(
    plain: Made, converted: Chain
) -> None:
    overlap = converted.document("estimate_xy_shifts", "overlap")
    assert overlap["source"] == "images"
    assert overlap["overlap_fraction_yx"] == pytest.approx([0.25, 0.25], abs=0.03)
    for slice_id in plain.slice_ids:
        found = converted.path("stitch_3d_with_refinement", "positions", slice_id).read_text()
        rows = [line.split(",")[:4] for line in found.splitlines()[1:]]
        truth = plain.tile_positions(slice_id)
        apart = np.array([truth[int(r), int(c)] - (float(y), float(x)) for r, c, y, x in rows])
        assert np.abs(apart - apart.mean(axis=0)).max() < 0.5


def test_slices_lie_where_the_table_of_shifts_says(plain: Made, converted: Chain) -> None:
    stage, table = (
        chain.document("bring_to_common_space", "offsets")["slices"]
        for chain in (plain.chain, converted)
    )
    for axis in ("y_px", "x_px"):
        expected = np.array([stage[str(i)][axis] for i in plain.slice_ids])
        found = np.array([table[str(i)][axis] for i in plain.slice_ids])
        assert np.ptp(expected) > 2
        np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1.5)
    assert "shifts_xy.csv" in converted.warnings("estimate_xy_shifts")


def test_without_a_table_slices_lie_above_each_other_and_that_is_said(
    plain: Made, tmp_path: Path
) -> None:
    chain = grids(plain, tmp_path, tables=False)
    shifts = chain.path("estimate_xy_shifts", "shifts").read_text().splitlines()[1:]
    assert [float(v) for line in shifts for v in line.split(",")[2:4]] == [0.0] * 4
    assert "until the images say more" in chain.warnings("estimate_xy_shifts")


def test_the_profiles_overlap_and_the_sessions_count_before_the_images(
    plain: Made, tmp_path: Path
) -> None:
    chain = grids(plain, tmp_path, slices=[0])
    chain.sets = {"estimate_xy_shifts": {"overlap_fraction": 0.3}}
    found = chain.document("estimate_xy_shifts", "overlap")
    assert (found["source"], found["overlap_fraction_yx"]) == ("profile", [0.3, 0.3])
    (chain.raw / "state.json").write_text('{"overlap_fraction": 0.22}')
    other = Chain(chain.raw, tmp_path / "other")
    found = other.document("estimate_xy_shifts", "overlap")
    assert (found["source"], found["overlap_fraction_yx"]) == ("metadata", [0.22, 0.22])


@pytest.mark.parametrize(
    ("drop", "told"),
    [("0.0,1.0", "does not have every slice"), ("1.0,2.0", "does not have every slice")],
)
def test_a_table_without_a_slice_is_refused_by_name(
    converted: Chain, tmp_path: Path, drop: str, told: str
) -> None:
    shutil.copytree(converted.raw, tmp_path / "grids")
    table = tmp_path / "grids/shifts_xy.csv"
    table.write_text(
        "".join(f"{t}\n" for t in table.read_text().splitlines() if not t.startswith(drop))
    )
    chain = Chain(tmp_path / "grids", tmp_path / "steps")
    chain.done["create_mosaic_grid"] = converted.run("create_mosaic_grid")
    with pytest.raises(InputError, match=told) as caught:
        chain.run("estimate_xy_shifts")
    assert "shifts_xy.csv" in str(caught.value.file)


def test_return_lines_inside_whole_frames_are_found_and_cut_off(
    plain: Made, tmp_path: Path
) -> None:
    chain = grids(plain, tmp_path, galvo="whole", slices=[1])
    grid = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    reference = open_mosaic_grid(plain.chain.path("create_mosaic_grid", "grid", 1))
    width = reference.tile_shape[2]
    assert grid.tile_shape[2] == pytest.approx(width, abs=2)
    shared = min(width, grid.tile_shape[2]) - 2
    same = [
        (
            grid.read_tile(0, 1)[..., a : a + shared]
            == reference.read_tile(0, 1)[..., 1 : 1 + shared]
        )
        for a in range(grid.tile_shape[2] - shared + 1)
    ]
    assert max(s.mean() for s in same) == 1.0
    assert "whole frames" in chain.metric("create_mosaic_grid", "galvo_decision", 1)


def test_columns_that_were_never_kept_are_no_data_in_the_slice(plain: Made, tmp_path: Path) -> None:
    chain = grids(plain, tmp_path, galvo="cropped", slices=[1])
    grid = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    reference = open_mosaic_grid(plain.chain.path("create_mosaic_grid", "grid", 1))
    first, stop = grid.attributes["no_data_columns"]
    assert stop - first == pytest.approx(plain.truth["n_extra"], abs=2)
    a, b = grid.read_tile(1, 0), reference.read_tile(1, 0)
    np.testing.assert_array_equal(a[..., : first - 1], b[..., : first - 1])
    np.testing.assert_array_equal(a[..., stop + 1 :], b[..., stop + 1 :])
    chain.run("stitch_3d_with_refinement")


def test_the_size_of_a_run_on_grids_is_known_before_it_starts(
    plain: Made, converted: Chain, tmp_path: Path
) -> None:
    acquisition = open_acquisition(converted.raw)
    params = {name: step.params() for name, step in load_steps().items()}
    size = measure_slice(acquisition, 1, params)
    assert size is not None
    assert (size.tiles, size.grid, size.native) == (4, (2, 2), (40, 44, 44))
    write_findings(tmp_path, acquisition)
    assert '"rows": 2' in (tmp_path / "state/acquisition.json").read_text()


def test_a_grid_that_cannot_be_opened_is_a_slice_left_out_and_a_damaged_one_is_an_empty_slice(
    plain: Made, converted: Chain, tmp_path: Path
) -> None:
    shutil.copytree(converted.raw, tmp_path / "grids")
    (tmp_path / "grids/mosaic_grid_3d_z01.ome.zarr/.zattrs").write_text("{}")
    for chunk in (tmp_path / "grids/mosaic_grid_3d_z02.ome.zarr/0").rglob("*"):
        if chunk.is_file() and chunk.name != ".zarray":
            chunk.write_bytes(b"torn")
    acquisition = open_acquisition(tmp_path / "grids")
    step = load_steps()["create_mosaic_grid"]
    assert step.leaves_out is not None
    left_out = step.leaves_out(acquisition, step.params())
    assert list(left_out) == [1]
    assert "mosaic grid cannot be used" in left_out[1]
    (made,) = run_single_step(
        SingleStep(
            step, step.params(), {}, tmp_path / "out", acquisition=acquisition, units=((2,),)
        )
    )
    assert any("slice 2 shows nothing" in w for w in made.result.warnings)
    assert sum("is left out" in w for w in made.result.warnings) == 4
