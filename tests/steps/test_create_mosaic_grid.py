"""Raw tiles become the grid of a slice, whatever is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.errors import InputError
from soct.formats.acquisition import open_acquisition
from soct.formats.mosaic_grid import open_mosaic_grid
from soct.quality.limits import QualityLimits, metric_status
from tests.steps.chain import Chain, Made, copy_raw, rewrite, tile_folder
from tests.steps.conftest import make

Damage = Callable[[Any], Any]
LIMITS = QualityLimits()


def raw_frames(made: Made, slice_id: int, row: int, col: int) -> Any:
    """Samples of a tile as recorded, turned to (z, y, A-line)."""
    spec = made.truth["spec"]
    file = next(tile_folder(made.simulation.raw, slice_id, row, col).glob("*.bin"))
    width = spec["tile_px"][1] + spec["n_extra"]
    frames = np.fromfile(file, "<f4").reshape(spec["tile_px"][0], width, spec["n_z"])
    return frames.transpose(2, 0, 1)


def damaged(
    made: Made, folder: Path, slice_id: int, change: Damage, *tiles: tuple[int, int]
) -> Chain:
    raw = copy_raw(made.simulation.raw, folder / "raw")
    for row, col in tiles:
        rewrite(tile_folder(raw, slice_id, row, col), change)
    return Chain(raw, folder / "steps")


def test_the_galvo_return_is_found_where_it_was_recorded_and_cut_out(plain: Made) -> None:
    start, n_extra = plain.truth["galvo_at"], plain.truth["n_extra"]
    grid = open_mosaic_grid(plain.chain.path("create_mosaic_grid", "grid", 0))
    recorded = raw_frames(plain, 0, 1, 0)
    kept = np.concatenate([recorded[..., start + n_extra :], recorded[..., :start]], axis=2)
    np.testing.assert_array_equal(grid.read_tile(1, 0), kept)
    assert plain.chain.metric("create_mosaic_grid", "galvo_confidence", 0) > 0.9


def test_frames_without_return_lines_are_kept_as_recorded(single: Made) -> None:
    grid = open_mosaic_grid(single.chain.path("create_mosaic_grid", "grid", 0))
    np.testing.assert_array_equal(grid.read_tile(0, 0), raw_frames(single, 0, 0, 0))
    assert single.chain.metric("create_mosaic_grid", "galvo_shift", 0) == 0


def test_return_lines_at_the_frames_end_are_only_cropped(tmp_path: Path) -> None:
    made = make(tmp_path, seed=6, slices=1, faults={"galvo_return_px": None})
    grid = open_mosaic_grid(made.chain.path("create_mosaic_grid", "grid", 0))
    np.testing.assert_array_equal(grid.read_tile(0, 1), raw_frames(made, 0, 0, 1)[..., :-6])


def test_a_missing_tile_is_listed_and_leaves_a_hole_at_its_own_place(faulty: Made) -> None:
    result = faulty.chain.run("create_mosaic_grid")[(1,)].result
    # The list of input problems tells it with its place, so the report need not say it again.
    assert (result.warnings, result.notices) == ((), ("A tile is missing",))
    metrics = {m.name: m.value for m in result.metrics}
    assert (metrics["tiles_expected"], metrics["tiles_found"]) == (6, 5)
    grid = open_mosaic_grid(faulty.chain.path("create_mosaic_grid", "grid", 1))
    held = [[grid.has(row, col) for col in range(3)] for row in range(2)]
    assert held == [[True, False, True], [True, True, True]]
    problems = open_acquisition(faulty.simulation.raw).slices[1].problems
    assert [(p.kind, p.row, p.col) for p in problems] == [("missing_tile", 0, 1)]


def test_a_truncated_tile_is_named_masked_or_fatal_by_policy(plain: Made, tmp_path: Path) -> None:
    chain = damaged(plain, tmp_path, 1, lambda data: data[: len(data) // 2 + 3], (0, 1))
    grid = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    assert not grid.has(0, 1)
    assert grid.has(0, 0)
    (problem,) = open_acquisition(chain.raw).slices[1].problems
    assert problem.kind == "truncated"
    assert "tile_x01_y00_z01" in problem.file
    strict = Chain(
        chain.raw, tmp_path / "strict", {"create_mosaic_grid": {"missing_tiles": "fail"}}
    )
    with pytest.raises(InputError, match="tile_x01_y00_z01"):
        strict.run("create_mosaic_grid")


def test_a_slice_without_a_readable_tile_is_refused_with_what_to_do(
    plain: Made, tmp_path: Path
) -> None:
    every = [(row, col) for row in (0, 1) for col in (0, 1)]
    chain = damaged(plain, tmp_path, 2, lambda data: data[:9], *every)
    with pytest.raises(InputError, match="slice 2 has no readable tile") as caught:
        chain.run("create_mosaic_grid")
    assert "--slices" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data * np.nan, "no finite sample"),
        (lambda data: np.full_like(data, np.inf), "no finite sample"),
        (np.zeros_like, "the same value everywhere"),
        (lambda data: np.full_like(data, 65535.0), "the same value everywhere"),
    ],
    ids=["NaN", "infinite", "zero", "saturated"],
)
def test_a_tile_without_signal_is_listed_and_left_out(
    plain: Made, tmp_path: Path, change: Damage, told: str
) -> None:
    chain = damaged(plain, tmp_path, 1, change, (0, 1))
    assert f"tile_x01_y00_z01 holds {told}" in chain.warnings("create_mosaic_grid")
    grid = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    assert not grid.has(0, 1)
    assert chain.metric("create_mosaic_grid", "tiles_found", 1) == 3
    strict = Chain(
        chain.raw, tmp_path / "strict", {"create_mosaic_grid": {"missing_tiles": "fail"}}
    )
    with pytest.raises(InputError, match=told):
        strict.run("create_mosaic_grid")


def test_clipped_tiles_are_told_with_their_place_and_clean_ones_never(
    plain: Made, tmp_path: Path
) -> None:
    clean = plain.chain.run("create_mosaic_grid")
    for done in clean.values():
        values = {m.name: m.value for m in done.result.metrics}
        assert (values["saturated_percent"], values["saturated_tiles"]) == (0.0, 0)

    def clip(data: Any) -> Any:
        return np.minimum(data, np.quantile(data, 0.98))

    chain = damaged(plain, tmp_path, 1, clip, (0, 1), (1, 0))
    results = chain.run("create_mosaic_grid")
    metrics = {m.name: m for m in results[(1,)].result.metrics}
    assert metrics["saturated_tiles"].value == 2
    assert metrics["saturated_percent"].value == pytest.approx(2.0, rel=0.5)
    assert metrics["saturated_percent"].tile in ((0, 1), (1, 0))
    assert metric_status("saturated_percent", metrics["saturated_percent"].value, LIMITS) == "error"
    share = chain.arrays("create_mosaic_grid", "figures", 1)["saturated"]
    assert [tuple(at) for at in np.argwhere(share > 0).tolist()] == [(0, 1), (1, 0)]
    assert not chain.arrays("create_mosaic_grid", "figures", 0)["saturated"].any()


def test_single_samples_that_are_no_number_are_told_and_do_not_spread(
    plain: Made, tmp_path: Path
) -> None:
    def spoil(data: Any) -> Any:
        data[1000:1010] = np.nan
        data[2000] = np.inf
        return data

    chain = damaged(plain, tmp_path, 1, spoil, (0, 1))
    assert "11 samples that are not finite" in chain.warnings("create_mosaic_grid")
    tile = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1)).read_tile(0, 1)
    before = open_mosaic_grid(plain.chain.path("create_mosaic_grid", "grid", 1)).read_tile(0, 1)
    assert np.isfinite(tile).all()
    assert np.count_nonzero(tile != before) == 11


def test_a_grid_that_soct_wrote_is_an_input_too(plain: Made, tmp_path: Path) -> None:
    (tmp_path / "grids").mkdir()
    for i in plain.slice_ids:
        source = plain.chain.path("create_mosaic_grid", "grid", i)
        shutil.copytree(source, tmp_path / "grids" / source.name)
    chain = Chain(tmp_path / "grids", tmp_path / "steps")
    again = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 1))
    first = open_mosaic_grid(plain.chain.path("create_mosaic_grid", "grid", 1))
    np.testing.assert_array_equal(again.read_tile(1, 1), first.read_tile(1, 1))
    assert "the input is a mosaic grid" in chain.warnings("create_mosaic_grid")
    stage = chain.path("estimate_xy_shifts", "stage_positions").read_text()
    assert len(stage.splitlines()) == 13


def test_a_camera_that_began_at_a_wrong_line_is_put_right_when_asked(
    single: Made, tmp_path: Path
) -> None:
    spec = single.truth["spec"]
    shape = (spec["tile_px"][0], spec["tile_px"][1], spec["n_z"])

    def misread(data: Any) -> Any:
        frames = data.reshape(shape).copy()
        frames[:, 0] *= 4
        return np.roll(frames, 13, axis=1).ravel()

    raw = copy_raw(single.simulation.raw, tmp_path / "raw")
    rewrite(tile_folder(raw, 0, 0, 0), misread)
    chain = Chain(raw, tmp_path / "steps", {"create_mosaic_grid": {"fix_camera_shift": True}})
    tile = open_mosaic_grid(chain.path("create_mosaic_grid", "grid", 0)).read_tile(0, 0)
    np.testing.assert_array_equal(tile[..., 1:], raw_frames(single, 0, 0, 0)[..., 1:])
    assert "column 13" in chain.metric("create_mosaic_grid", "camera_decision", 0)
    untouched = Chain(raw, tmp_path / "off")
    tile = open_mosaic_grid(untouched.path("create_mosaic_grid", "grid", 0)).read_tile(0, 0)
    np.testing.assert_array_equal(tile[..., 14:], raw_frames(single, 0, 0, 0)[..., 1:-13])


def test_the_legacy_orientation_turns_tiles_the_known_way(tmp_path: Path) -> None:
    made = make(
        tmp_path,
        seed=8,
        slices=1,
        rows=1,
        cols=2,
        tile_px=(40, 52),
        faults={"galvo_return_px": None},
    )
    sets = {"create_mosaic_grid": {"legacy_orientation": True}}
    old = open_mosaic_grid(
        Chain(made.simulation.raw, tmp_path / "old", sets).path("create_mosaic_grid", "grid", 0)
    )
    new = raw_frames(made, 0, 0, 1)[..., :-6]
    assert old.tile_shape == (40, 52, 40)
    # Three quarter turns, then a flip of the first lateral axis: out[i, j] = in[-1 - j, -1 - i].
    tile = old.read_tile(0, 1)
    for i, j in ((0, 0), (3, 7), (51, 39)):
        np.testing.assert_array_equal(tile[:, i, j], new[:, -1 - j, -1 - i])
