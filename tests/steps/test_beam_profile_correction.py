"""How sensitivity falls with depth."""

from __future__ import annotations

import numpy as np

from tests.steps.chain import Made


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
