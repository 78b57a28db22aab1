"""Acquisitions that the tests of the steps share; each is simulated once, and each of its steps runs once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soct.simulate.microscope import simulate
from soct.simulate.spec import preset
from tests.steps.chain import Chain, Made


def make(folder: Path, **spec: Any) -> Made:
    simulation = simulate(preset("tiny", **spec), folder / "acquisition", threads=1)
    return Made(simulation, Chain(simulation.raw, folder / "steps"))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A microscope in daily use: three slices of 2 x 2 tiles."""
    return make(tmp_path_factory.mktemp("plain"), seed=1)


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Thin cuts; slice 2 was not imaged, the stage misread slice 4, and tile (0, 1) of slice 1 is missing."""
    return make(
        tmp_path_factory.mktemp("faulty"),
        seed=2,
        slices=6,
        rows=2,
        cols=3,
        thickness_um=100.0,
        faults={
            "missing_slices": [2],
            "missing_tiles": [[1, 0, 1]],
            "glitches": [{"slice_id": 4, "y_mm": 1.5, "x_mm": -2.0}],
        },
    )


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One slice of one tile, without return lines."""
    return make(
        tmp_path_factory.mktemp("single"),
        seed=4,
        slices=1,
        rows=1,
        cols=1,
        n_extra=0,
        faults={"galvo_return_px": None},
    )
