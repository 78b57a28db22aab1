"""Projectors and filters on any array module give what the compiled kernels give."""

import numpy as np
import pytest

from soct.compute.backend import Device
from soct.simulate.ellipses import Ellipse, draw, sinogram
from soct.tomography import back_project, project, reconstruct_slice, reconstruct_stack

DISCS = [Ellipse(1.0, 4.0, -3.0, 14.0, 9.0, 0.3), Ellipse(0.5, -8.0, 5.0, 5.0, 5.0)]
THETA = np.append(np.linspace(-0.3, 3.5, 21), [np.pi / 4, np.pi / 2, 3 * np.pi / 4])
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


def close(found, expected, tolerance):
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
@pytest.mark.parametrize("shape", [(40, 40), (31, 44)])
def test_projections_and_back_projections_are_alike(backend, shape, interpolation, dtype):
    rng = np.random.default_rng(0)
    images = rng.random((3, *shape)).astype(dtype)
    options = {"axis": 20 + rng.uniform(-3, 3, THETA.size), "interpolation": interpolation}
    expected = project(images, THETA, detectors=42, **options)
    close(
        project(images, THETA, detectors=42, backend=backend, **options), expected, TOLERANCE[dtype]
    )
    options |= {"size": shape, "radius": 18.5}
    back = back_project(expected, THETA, **options)
    close(back_project(expected, THETA, backend=backend, **options), back, TOLERANCE[dtype])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"filtertype": "hann", "freqcutoff": 0.6, "circle": False, "cliplow": 0.0},
        {"calc_derivatives": True},
        {"filtertype": "none", "derivatives": True},
        {"algorithm": "SART", "cliplow": 0.0, "iterations": 3},
        {"algorithm": "SART", "circle": False, "derivatives": True},
    ],
)
def test_slices_are_alike(backend, settings):
    sino = sinogram(DISCS, THETA, 48, axis=22.3)
    expected = reconstruct_slice(sino, THETA, axis=22.3, **settings)
    close(reconstruct_slice(sino, THETA, axis=22.3, backend=backend, **settings), expected, 1e-10)


def test_a_slab_that_does_not_fit_is_halved_and_told(backend, monkeypatch):
    from soct.tomography import radon_arrays

    stack = project(np.stack([draw(DISCS, 48)] * 6), THETA).transpose(2, 0, 1).astype(np.float32)
    expected = reconstruct_stack(stack, THETA)
    real = radon_arrays.back_project_slices

    def short(xp, projections, *rest):
        if len(projections) > 2:
            raise MemoryError
        return real(xp, projections, *rest)

    monkeypatch.setattr(radon_arrays, "back_project_slices", short)
    device = Device(backend)
    close(reconstruct_stack(stack, THETA, device=device), expected, 1e-5)
    assert device.fallbacks == [
        "GPU memory was short: blocks of 3 rows",
        "GPU memory was short: blocks of 1 rows",
    ]
    assert not device.backend.compiled
