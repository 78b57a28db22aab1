"""One matrix of the stage against the camera for all slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.errors import ConfigurationError
from soct.steps.estimate_global_transform import describe_matrix
from tests.steps.chain import Chain, Made
from tests.steps.conftest import make

ON = {"estimate_global_transform": {"enabled": True}}


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The stage is turned by 1.5 deg and 2 % long; many tiles of the four slices are blank."""
    return make(
        tmp_path_factory.mktemp("turned"),
        seed=5,
        slices=4,
        rows=3,
        cols=3,
        faults={
            "stage_rotation_deg": 1.5,
            "stage_scale": 1.02,
            "blank_fraction": 0.6,
            "tile_jitter_px": 0.2,
        },
    )


def tile_error(made: Made, chain: Chain, slice_id: int) -> float:
    """RMS error in pixels of all tiles' positions, blank ones included, about their mean."""
    table = chain.path("stitch_3d_with_refinement", "positions", slice_id).read_text()
    truth = made.tile_positions(slice_id)
    rows = [line.split(",")[:4] for line in table.splitlines()[1:]]
    apart = np.array([truth[int(r), int(c)] - (float(y), float(x)) for r, c, y, x in rows])
    return float(np.sqrt(((apart - apart.mean(axis=0)) ** 2).sum(axis=1).mean()))


def test_angle_and_scale_of_the_stage_come_back(turned: Made, tmp_path: Path) -> None:
    chain = Chain(turned.simulation.raw, tmp_path, ON)
    found = chain.document("estimate_global_transform", "transform")
    angle = np.deg2rad(1.5)
    turn = 1.02 * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(found["matrix_yx"], turn, atol=0.01)
    degrees, scales, shear = describe_matrix(found["matrix_yx"])
    assert degrees == pytest.approx(1.5, abs=0.4)
    assert scales == pytest.approx((1.02, 1.02), abs=0.01)
    assert abs(shear) < 0.6


def test_blank_tiles_lie_better_by_the_matrix_of_all_slices(turned: Made, tmp_path: Path) -> None:
    alone = Chain(turned.simulation.raw, tmp_path / "alone")
    pooled = Chain(
        turned.simulation.raw,
        tmp_path / "pooled",
        {**ON, "stitch_3d_with_refinement": {"stitch_global_transform": True}},
    )
    pooled.done = {k: v for k, v in alone.done.items() if k != "stitch_3d_with_refinement"}
    errors = {
        name: [tile_error(turned, chain, i) for i in turned.slice_ids]
        for name, chain in (("alone", alone), ("pooled", pooled))
    }
    assert max(errors["pooled"]) < 0.6
    assert np.mean(errors["pooled"]) < 0.5 * np.mean(errors["alone"])


def test_the_matrix_cannot_be_used_while_the_step_is_off(plain: Made, tmp_path: Path) -> None:
    chain = Chain(
        plain.simulation.raw,
        tmp_path,
        {
            "estimate_global_transform": {"enabled": False},
            "stitch_3d_with_refinement": {"stitch_global_transform": True},
        },
    )
    chain.done = {k: v for k, v in plain.chain.done.items() if k != "stitch_3d_with_refinement"}
    with pytest.raises(ConfigurationError, match="switched off"):
        chain.run("stitch_3d_with_refinement")


def test_a_single_tile_gives_the_identity_and_says_so(single: Made, tmp_path: Path) -> None:
    chain = Chain(single.simulation.raw, tmp_path, ON)
    found = chain.document("estimate_global_transform", "transform")
    assert found["matrix_yx"] == [[1.0, 0.0], [0.0, 1.0]]
    assert "no two tiles" in chain.warnings("estimate_global_transform")
