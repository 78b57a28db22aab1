"""How sensitivity falls with depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.steps.chain import Chain, Made


def test_the_depth_profile_is_the_loss_of_light_that_was_simulated(faulty: Made) -> None:
    """Attenuation 1.3 / mm both ways and a focus: 0.3 mm deep, what is left is known within 15 %."""
    spec = faulty.truth["spec"]
    saved = faulty.chain.arrays("beam_profile_correction", "profile")
    surface = np.mean([s["surface_sample"] for s in faulty.truth["slices"].values()])
    depth = np.arange(2, 25)
    focus = spec["faults"]["focus_sample"]
    gate = 1 / (
        1 + ((depth + surface - focus) * spec["axial_um"] / spec["faults"]["rayleigh_um"]) ** 2
    )
    true = (
        np.exp(-2 * spec["faults"]["attenuation_per_mm"] * depth * spec["axial_um"] / 1000) * gate
    )
    found = saved["profile"][2:25]
    ratio = (found / found.mean()) / (true / true.mean())
    assert np.abs(np.log(ratio)).max() < 0.15


def test_the_model_finds_the_focus_and_divides_it_out(faulty: Made, tmp_path: Path) -> None:
    """The focus lies at sample 25 and agarose shows it; the fit starts at the objective's Rayleigh length."""
    faulty.chain.run("beam_profile_correction")
    done = {
        k: v for k, v in faulty.chain.done.items() if k in ("crop_interface", "estimate_xy_shifts")
    }
    chain = Chain(
        faulty.chain.raw, tmp_path, {"beam_profile_correction": {"method": "model"}}, done
    )
    spec = faulty.truth["spec"]
    axial, faults = spec["axial_um"], spec["faults"]
    focus = chain.metric("beam_profile_correction", "axial_focus_um")
    assert focus == pytest.approx(faults["focus_sample"] * axial, abs=0.1 * spec["n_z"] * axial)
    saved = chain.arrays("beam_profile_correction", "profile")
    surface = np.mean([s["surface_sample"] for s in faulty.truth["slices"].values()])
    z = np.arange(int(surface) + 2, spec["n_z"] - 5)
    true = 1 / (1 + ((z - faults["focus_sample"]) * axial / faults["rayleigh_um"]) ** 2)
    ratio = saved["axial_sensitivity"][z] / true
    assert np.abs(np.log(ratio / np.median(ratio))).max() < 0.1
    assert "focus at" in chain.metric("beam_profile_correction", "axial_method")
