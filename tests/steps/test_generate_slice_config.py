"""The slice ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soct.errors import InputError
from soct.formats.acquisition import open_acquisition
from soct.formats.tables import (
    SliceConfigRow,
    read_table,
)
from soct.pipeline.desk import narrow_acquisition
from soct.pipeline.graph import build_graph, slices_left_out
from soct.pipeline.single_step import SingleStep, run_single_step
from soct.steps.declaration import Scope
from soct.steps.registry import load_steps
from tests.steps.chain import Chain, Made, copy_raw, rewrite, tile_folder

Damage = Callable[[Any], Any]


def test_a_missing_slice_is_listed_and_no_slice_changes_its_number(faulty: Made) -> None:
    result = faulty.chain.run("generate_slice_config")[()].result
    assert "Slice 2 is missing" in result.notices
    rows = read_table(faulty.chain.path("generate_slice_config", "slice_config"), SliceConfigRow)
    assert [r.slice_id for r in rows] == [0, 1, 3, 4, 5]
    assert all(r.use for r in rows)


def test_an_excluded_slice_is_in_the_ledger_with_its_reason(plain: Made, tmp_path: Path) -> None:
    chain = Chain(plain.simulation.raw, tmp_path, {"generate_slice_config": {"exclude": (1,)}})
    rows = read_table(chain.path("generate_slice_config", "slice_config"), SliceConfigRow)
    assert [(r.slice_id, r.use) for r in rows] == [(0, True), (1, False), (2, True)]
    assert rows[1].exclude_reason == "named in generate_slice_config.exclude"
    (decision,) = chain.run("generate_slice_config")[()].result.decisions
    assert (decision.slice_id, decision.column, decision.value) == (1, "use", False)


def test_a_slice_without_a_readable_tile_is_left_out_by_name_and_bridged(
    plain: Made, tmp_path: Path
) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    for row in (0, 1):
        for col in (0, 1):
            rewrite(tile_folder(raw, 1, row, col), lambda data: data[: len(data) // 2 + 3])
    acquisition = open_acquisition(raw)
    steps = load_steps()
    params = {name: step.params() for name, step in steps.items()}
    left_out = slices_left_out(steps, params, acquisition)
    assert "4 problems" in left_out[1]
    graph = build_graph(steps, params, acquisition.slices, None, left_out)
    assert graph.slices == (0, 2)
    step = steps["generate_slice_config"]
    seen = narrow_acquisition(acquisition, Scope.RUN, graph.slices)
    request = SingleStep(step, step.params(), {}, tmp_path / "out", acquisition=seen)
    (made,) = run_single_step(request)
    rows = read_table(made.outputs["slice_config"], SliceConfigRow)
    assert [(r.slice_id, r.use) for r in rows] == [(0, True), (1, False), (2, True)]
    assert (
        "no readable tile (4 problems; the first: A .bin file is truncated"
        in rows[1].exclude_reason
    )
    assert [(d.slice_id, d.value) for d in made.result.decisions] == [(1, False)]
    assert any("slice 1 is not used" in w for w in made.result.notices)


def test_with_missing_tiles_fatal_the_slice_stays_in_the_run_and_fails(
    plain: Made, tmp_path: Path
) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    for row in (0, 1):
        for col in (0, 1):
            rewrite(tile_folder(raw, 1, row, col), lambda data: data[:9])
    steps = load_steps()
    params = {name: step.params() for name, step in steps.items()}
    params["create_mosaic_grid"] = steps["create_mosaic_grid"].params(missing_tiles="fail")
    assert slices_left_out(steps, params, open_acquisition(raw)) == {}
    chain = Chain(raw, tmp_path / "steps", {"create_mosaic_grid": {"missing_tiles": "fail"}})
    with pytest.raises(InputError, match="missing or damaged"):
        chain.run("create_mosaic_grid")
