"""The slice ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from soct.formats.tables import (
    SliceConfigRow,
    read_table,
)
from tests.steps.chain import Chain, Made

Damage = Callable[[Any], Any]


def test_a_missing_slice_is_listed_and_no_slice_changes_its_number(faulty: Made) -> None:
    result = faulty.chain.run("generate_slice_config")[()].result
    assert "Slice 2 is missing" in result.warnings
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
