"""`soct sweep-illumination` on a folder of grids: table, sheet and lines to paste."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from soct.cli.tools.sweep_illumination import find_grids, read_settings, yaml_of_best
from soct.errors import InputError, UsageError
from soct.quality.illumination_sweep import FlatFieldSetting, SweepRow
from tests.cli.conftest import Run

ONES = np.ones((2, 2), np.float32)
NONE = SweepRow(None, 0.3, 0.5, 0.1, 4, ONES, 0.0, 0.0)


@pytest.mark.slow
def test_the_sweep_writes_table_sheet_and_lines(soct: Run, tmp_path: Path) -> None:
    assert soct("simulate", "made", "--preset", "tiny", "--slices", "2").code == 0
    assert soct("run", "made/raw", "run", "--until", "resample_mosaic_grid").code == 0
    ended = soct("sweep-illumination", "run", "--smoothness", "auto,6", "--darkfield", "no")
    assert ended.code == 0, ended.err
    told = ended.out
    assert "fix_illumination:" in told
    assert "no correction" in told
    with (tmp_path / "illumination-sweep" / "sweep.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [r["method"] for r in rows].count("basic") == 2
    assert (tmp_path / "illumination-sweep" / "contact_sheet.png").stat().st_size > 1000
    assert (tmp_path / "illumination-sweep" / "best.yaml").read_text() in told + "\n"


def test_settings_that_cannot_be_tried_are_named() -> None:
    assert len(read_settings("basic", "no", "auto,3")) == 2
    for bad in (
        ("bsic", "no", "auto"),
        ("basic", "maybe", "auto"),
        ("basic", "no", "much"),
    ):
        with pytest.raises(UsageError, match="cannot be tried"):
            read_settings(*bad)


def test_a_folder_without_grids_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mosaic grid"):
        find_grids(tmp_path)


def test_the_best_setting_is_given_as_lines_of_a_profile() -> None:
    best = SweepRow(FlatFieldSetting("basic", True, 2.0), 0.1, 0.9, 0.0, 4, ONES, 0.0, 1.0)
    assert yaml_of_best((NONE, best)) == [
        "fix_illumination:", "  method: basic", "  darkfield: true", "  smoothness_flatfield: 2",
    ]  # fmt: skip
    worse = SweepRow(FlatFieldSetting("mean", False, None), 0.4, 0.4, 0.2, 4, ONES, 0.0, 1.0)
    assert yaml_of_best((NONE, worse))[-1] == "  enabled: false"
