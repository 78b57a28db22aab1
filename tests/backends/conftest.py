"""The array modules that the kernels are held to: numpy, the reference, and CuPy where there is a GPU."""

import numpy as np
import pytest

from soct.compute.backend import Backend, find_gpu


@pytest.fixture(params=["numpy", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    if request.param == "numpy":
        return Backend("numpy", np)
    gpu, reason = find_gpu()
    if gpu is None:
        pytest.skip(f"no GPU: {reason}")
    return gpu
