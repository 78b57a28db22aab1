"""Where the stage puts every slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.errors import StepError
from tests.steps.chain import Chain, Made


def test_slices_lie_where_the_mosaic_was_moved_to(plain: Made) -> None:
    rows = plain.chain.document("bring_to_common_space", "offsets")["slices"]
    places = np.array([(rows[i]["y_px"], rows[i]["x_px"]) for i in ("0", "1", "2")])
    moves = np.array([plain.truth["slices"][i]["roi_yx_px"] for i in ("0", "1", "2")])
    # Tiles that stick out beyond the first one move a slice's first pixel by less than two pixels.
    assert np.abs((places - places[0]) - (moves - moves[0])).max() < 2.5


def test_depths_count_from_the_cut_surface_which_moves_in_the_frame_from_slice_to_slice(
    plain: Made,
) -> None:
    rows = plain.chain.document("bring_to_common_space", "offsets")["slices"]
    error = []
    for i, row in rows.items():
        truth = plain.truth["slices"][i]
        crop = int(plain.chain.arrays("crop_interface", "surface", int(i))["crop_px"])
        true = truth["z_um"] / plain.truth["dz_um"] + crop - truth["surface_sample"]
        error.append(row["z_px"] - true)
    surfaces = [s["surface_sample"] for s in plain.truth["slices"].values()]
    assert np.ptp(surfaces) > 0.3
    assert np.ptp(error) < 0.15


def test_a_glitch_of_the_stage_moves_no_slice(faulty: Made) -> None:
    rows = faulty.chain.document("bring_to_common_space", "offsets")["slices"]
    places = np.array([(row["y_px"], row["x_px"]) for row in rows.values()])
    assert np.ptp(places, axis=0).max() < 20
    assert [i for i, row in rows.items() if not row["reliable"]] == ["4", "5"]


def test_an_excluded_slice_has_no_place(plain: Made, tmp_path: Path) -> None:
    chain = Chain(plain.simulation.raw, tmp_path, {"generate_slice_config": {"exclude": (1,)}})
    assert list(chain.document("bring_to_common_space", "offsets")["slices"]) == ["0", "2"]


def test_excluding_every_slice_is_refused(plain: Made, tmp_path: Path) -> None:
    every = {"generate_slice_config": {"exclude": (0, 1, 2)}}
    with pytest.raises(StepError, match="no slice is used"):
        Chain(plain.simulation.raw, tmp_path, every).run("bring_to_common_space")
