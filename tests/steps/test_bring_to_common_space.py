"""Where the stage puts every slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.errors import StepError
from soct.steps.stage_refinement import refine_steps
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


class Places:
    """As much of a context as finding a step anew takes."""

    threads = 1

    def __init__(self, chain: Chain) -> None:
        self.of_slice = chain.path


def test_the_images_find_a_step_that_the_stage_misread(plain: Made) -> None:
    rows = plain.chain.document("bring_to_common_space", "offsets")["slices"]
    wrong = {**rows, "1": {**rows["1"], "y_px": rows["1"]["y_px"] + 16.0}}
    (found,) = refine_steps(
        Places(plain.chain),  # type: ignore[arg-type]
        [(0, 1)],
        wrong,
        min_correlation=0.2,
        max_shift_um=625.0,
        pixel_um=25.0,
    )
    assert found.accepted, found.reason
    # The stage does not see the slices' own drift of 40 um per axis.
    assert found.shift_px == pytest.approx((-16.0, 0.0), abs=6.0)
    (not_believed,) = refine_steps(
        Places(plain.chain),  # type: ignore[arg-type]
        [(0, 1)],
        wrong,
        min_correlation=0.999,
        max_shift_um=625.0,
        pixel_um=25.0,
    )
    assert not not_believed.accepted
    assert not_believed.shift_px == (0.0, 0.0)
