"""The flat field that all tiles share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.simulate.optics import shade
from soct.simulate.spec import AcquisitionSpec
from tests.steps.chain import Chain, Made, copy_raw, rewrite


def relative_error(made: Made, chain: Chain) -> float:
    flat = chain.arrays("fix_illumination", "fields")["flat"]
    true = shade(AcquisitionSpec.model_validate(made.truth["spec"]))
    ratio = (flat / flat.mean()) / (true / true.mean())
    return float(np.std(ratio))


def test_the_flat_field_is_the_optics_within_two_percent(faulty: Made) -> None:
    """29 tiles vote; the shading itself has a spread of 5 %."""
    assert relative_error(faulty, faulty.chain) < 0.02
    assert faulty.chain.metric("fix_illumination", "tiles_voting") == 29


def test_four_tiles_of_one_slice_do_not_invent_a_shading_stronger_than_the_optics(
    plain: Made,
) -> None:
    assert relative_error(plain, plain.chain) < 0.04


@pytest.mark.parametrize("method", ["median", "mean"])
def test_the_simpler_methods_give_a_finite_field_of_mean_about_one(
    plain: Made, tmp_path: Path, method: str
) -> None:
    chain = Chain(plain.simulation.raw, tmp_path, {"fix_illumination": {"method": method}})
    flat = chain.arrays("fix_illumination", "fields")["flat"]
    assert np.isfinite(flat).all()
    assert flat.min() > 0.3
    assert flat.mean() == pytest.approx(1.0, abs=0.05)


def test_tiles_without_signal_give_a_field_of_ones_and_a_warning(
    plain: Made, tmp_path: Path
) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    for folder in raw.iterdir():
        rewrite(folder, np.zeros_like)
    chain = Chain(raw, tmp_path / "steps")
    assert "the flat field is 1 everywhere" in chain.warnings("fix_illumination")
    assert (chain.arrays("fix_illumination", "fields")["flat"] == 1).all()
