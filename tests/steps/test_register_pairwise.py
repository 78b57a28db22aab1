"""Shift, rotation and depth between two slices that see the same tissue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from soct.formats.transforms import read_offsets, read_transform
from tests.steps.chain import Chain, Made, copy_raw, rewrite, slice_origin, tissue_of

BRIDGED = [(0, 1), (1, 3), (3, 4), (3, 5), (4, 5)]


def numbers(chain: Chain, fixed: int, moving: int) -> dict[str, Any]:
    folder = chain.path("register_pairwise", "pair", fixed, moving)
    content: dict[str, Any] = json.loads(
        (folder / "pairwise_registration_metrics.json").read_text()
    )
    return content


@pytest.mark.parametrize("pair", BRIDGED, ids=str)
def test_pairs_are_registered_within_a_fifth_of_a_pixel_also_across_the_missing_slice(
    faulty: Made, pair: tuple[int, int]
) -> None:
    fixed, moving = pair
    found = numbers(faulty.chain, fixed, moving)
    assert found["accepted"], found["reason"]
    assert found["confidence"] > 0.9
    true = {i: faulty.truth["slices"][str(i)] for i in pair}
    turn = true[fixed]["rotation_deg"] - true[moving]["rotation_deg"]
    # A fifth of a pixel at the edge of so small a field.
    assert found["transform"]["rotation_deg"] == pytest.approx(turn, abs=0.2)
    # Where the middle of the moving slice lies in the fixed one.
    centre = np.array(found["transform"]["centre_px"])
    tissue = tissue_of(faulty, moving, centre + slice_origin(faulty, moving))
    landed = centre + found["transform"]["shift_px"] + slice_origin(faulty, fixed)
    error = tissue_of(faulty, fixed, landed) - tissue
    assert np.hypot(*error) < 0.2


@pytest.mark.parametrize("pair", BRIDGED, ids=str)
def test_the_depth_of_a_pair_is_measured_within_a_voxel(
    faulty: Made, pair: tuple[int, int]
) -> None:
    found = numbers(faulty.chain, *pair)["depth"]
    top = []
    for i in pair:
        truth = faulty.truth["slices"][str(i)]
        crop = int(faulty.chain.arrays("crop_interface", "surface", i)["crop_px"])
        top.append(truth["z_um"] / faulty.truth["dz_um"] + crop - truth["surface_sample"])
    assert found["offset_px"] == pytest.approx(top[1] - top[0], abs=1.0)


def test_slices_that_share_no_depth_are_not_registered_and_the_reason_is_given(
    plain: Made,
) -> None:
    reason = plain.chain.metric("register_pairwise", "reason", 0, 2)
    assert reason == "the slices do not overlap in depth"
    found = numbers(plain.chain, 0, 2)
    assert (found["accepted"], found["confidence"]) == (False, 0.0)


def test_an_empty_slice_is_not_registered_and_the_reason_is_given(
    plain: Made, tmp_path: Path
) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    for folder in raw.glob("*_z01"):
        rewrite(folder, np.zeros_like)
    chain = Chain(raw, tmp_path / "steps")
    told = chain.warnings("register_pairwise")
    assert "slices 0 and 1 keep the stage's positions: no overlap with data in both" in told
    assert not numbers(chain, 0, 1)["accepted"]


def test_an_excluded_slice_is_not_registered(plain: Made, tmp_path: Path) -> None:
    chain = Chain(plain.simulation.raw, tmp_path, {"generate_slice_config": {"exclude": (1,)}})
    assert numbers(chain, 0, 1)["reason"] == "one of the slices is excluded"


def test_translation_alone_turns_nothing(plain: Made, tmp_path: Path) -> None:
    chain = Chain(
        plain.simulation.raw, tmp_path, {"register_pairwise": {"transform": "translation"}}
    )
    assert numbers(chain, 0, 1)["transform"]["rotation_deg"] == 0.0


def test_the_transform_file_is_what_simpleitk_reads(plain: Made) -> None:
    folder = plain.chain.path("register_pairwise", "pair", 0, 1)
    transform = sitk.ReadTransform(str(folder / "transform.tfm"))
    content = numbers(plain.chain, 0, 1)
    assert read_transform(folder / "transform.tfm").rotation_deg == pytest.approx(
        content["transform"]["rotation_deg"], abs=1e-9
    )
    y, x = content["transform"]["centre_px"]
    dy, dx = content["transform"]["shift_px"]
    # The moving image's centre lands at centre + shift of the fixed one.
    assert transform.TransformPoint((x + dx, y + dy, 0.0)) == pytest.approx((x, y, 0.0), abs=1e-6)
    assert read_offsets(folder / "offsets.txt").fixed_z == round(content["depth"]["offset_px"])
