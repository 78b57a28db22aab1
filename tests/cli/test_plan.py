"""soct plan tells what a run takes, also of an acquisition that is not there yet."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soct.errors import ExitCode

Soct = Callable[..., Any]
MACHINE = ("--cpus", "4", "--memory", "16GB")
DESCRIBED = ("--slices", "6", "--tiles", "3x4", "--tile-size", "100x100x60")


def test_a_described_acquisition_is_planned_within_80_columns(soct: Soct) -> None:
    ended = soct("plan", *DESCRIBED, "--nodes", "16", *MACHINE)
    assert ended.code == ExitCode.OK
    lines = ended.out.splitlines()
    assert lines[0].startswith("described: 6 slices of 3 x 4 tiles of 100 x 100 x 60 voxels")
    assert max(len(line) for line in lines[1:]) <= 80
    table = [line.split() for line in lines if line.startswith("create_mosaic_grid")]
    assert table[0][1:3] == ["6", "slices"]
    assert "16 nodes of 4 cores, 16.0 GB" in ended.out
    assert "may be off by a factor of" in ended.out


def test_the_json_of_a_plan_has_what_the_table_has(soct: Soct) -> None:
    document = json.loads(soct("plan", *DESCRIBED, "--nodes", "2", *MACHINE, "--json").out)
    steps = {step["step"]: step for step in document["steps"]}
    assert steps["create_mosaic_grid"]["units"] == 6
    assert steps["register_pairwise"]["units"] == 9
    assert document["raw_bytes"] == 6 * 12 * 100 * 100 * 60 * 4
    assert document["disk_bytes"] == sum(step["disk_bytes"] for step in steps.values())
    assert document["files"] == sum(step["files"] for step in steps.values())
    alone, together = document["times"]
    assert (alone["nodes"], together["nodes"]) == (1, 2)
    assert together["seconds"] < alone["seconds"]


def test_a_description_may_be_a_file(soct: Soct, tmp_path: Path) -> None:
    (tmp_path / "brain.yaml").write_text("slices: 3\ntiles: 4\nraw_size: 20MB\n")
    ended = soct("plan", str(tmp_path / "brain.yaml"), *MACHINE)
    assert ended.code == ExitCode.OK
    assert "3 slices of 2 x 2 tiles" in ended.out
    (tmp_path / "bad.yaml").write_text("slices: 3\ntiles: 4\ntile_sise: 4\n")
    ended = soct("plan", str(tmp_path / "bad.yaml"))
    assert ended.code == ExitCode.CONFIGURATION
    assert "bad.yaml:3: tile_sise: unknown key; did you mean tile_size?" in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "There is nothing to plan"),
        ((*DESCRIBED, "--raw-size", "1TB"), "contradict each other"),
        (("--slices", "60", "--raw-size", "1TB"), "--tiles is missing"),
        (("--tile-size", "9x9x9"), "--slices, --tiles are missing"),
        (("--slices", "60", "--tiles", "4"), "--tile-size or --raw-size is missing"),
        ((".", "--tiles", "4"), "An acquisition is given and described"),
    ],
)
def test_what_cannot_be_planned_is_told(soct: Soct, arguments: tuple[str, ...], told: str) -> None:
    ended = soct("plan", *arguments)
    assert ended.code == ExitCode.USAGE
    assert told in ended.err


def test_a_machine_that_is_too_small_is_told_and_not_an_error(soct: Soct) -> None:
    ended = soct("plan", *DESCRIBED, "--cpus", "1", "--memory", "300MB")
    assert ended.code == ExitCode.OK
    assert "too little memory for the largest unit" in ended.out


def test_two_sizes_that_agree_are_both_told(soct: Soct) -> None:
    ended = soct("plan", *DESCRIBED, "--raw-size", "170MB", *MACHINE)
    assert ended.code == ExitCode.OK
    assert "173 MB of raw data, 170 MB were told" in ended.out


def test_compiling_is_told_beside_the_time_where_nothing_is_compiled_yet(
    soct: Soct, tmp_path: Path
) -> None:
    empty = {"NUMBA_CACHE_DIR": str(tmp_path / "empty")}
    ended = soct("plan", *DESCRIBED, *MACHINE, env=empty)
    assert "first run: compiling kernels takes some 2 minutes more" in ended.out
    (tmp_path / "empty" / "kernels").mkdir(parents=True)
    (tmp_path / "empty" / "kernels" / "surface.edges.nbi").touch()
    assert "first run" not in soct("plan", *DESCRIBED, *MACHINE, env=empty).out
