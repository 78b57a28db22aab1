"""The flat field that all tiles share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.pipeline.single_step import SingleStep, run_single_step
from soct.simulate.optics import shade
from soct.simulate.spec import AcquisitionSpec
from soct.steps.fix_illumination import project_tile
from soct.steps.registry import load_step
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


@pytest.mark.parametrize("side", [(61, 80), (20, 33)])
def test_a_projection_shows_the_shading_and_not_the_tilt_of_the_surface(
    side: tuple[int, int],
) -> None:
    """Tissue whose brightness falls by 2 % a sample: a mean over fixed depths would show 40 % of shading."""
    z = np.arange(72.0)[:, None, None]
    v, u = (np.linspace(-1, 1, n) for n in side)
    surface = 12 + 6 * v[:, None] - 4 * u + 3 * (v[:, None] ** 2 + u**2)
    shading = 1 - 0.2 * u**2 + 0.1 * v[:, None]
    below = z - surface
    tissue = 400 * np.exp(-0.02 * below) * np.clip(below + 0.5, 0, 1)
    speckle = np.random.default_rng(0).gamma(4, 0.25, (72, *side))
    tile = ((tissue * shading + 5) * speckle).astype(np.float32)
    projection = ndi.gaussian_filter(project_tile(tile), 2)
    ratio = projection / ndi.gaussian_filter(shading, 2)
    assert float(np.std(ratio) / ratio.mean()) < 0.03


def test_the_result_does_not_depend_on_the_threads(plain: Made, tmp_path: Path) -> None:
    step = load_step("fix_illumination")
    inputs: dict[tuple[str, str], dict[tuple[int, ...], Path]] = {}
    for source in step.inputs:
        for slices, made in plain.chain.run(source.step).items():
            for name, path in made.outputs.items():
                inputs.setdefault((source.step, name), {})[slices] = path
    fields = []
    for threads in (1, 3):
        request = SingleStep(step, step.params(), inputs, tmp_path / f"{threads}", threads=threads)
        (done,) = run_single_step(request)
        fields.append(done.outputs["fields"].read_bytes())
    assert fields[0] == fields[1]
