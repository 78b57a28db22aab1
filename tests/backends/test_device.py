"""What happens with a GPU, without one, and when its memory runs out."""

import numpy as np
import pytest

from soct.compute import backend as backends
from soct.compute.backend import CPU, Backend, Device, open_device
from soct.errors import ResourceError
from soct.pipeline.resources import check_gpu


def test_blocks_are_halved_before_the_gpu_is_left_and_all_of_it_is_recorded():
    device = Device(Backend("pretended", np))
    assert device.shorten(128, 40) == 64
    assert device.backend.name == "pretended"
    assert device.shorten(64, 40) == 64
    assert device.backend == CPU
    assert len(device.fallbacks) == 2
    with pytest.raises(MemoryError):
        device.shorten(64, 40)


def test_a_machine_without_a_gpu_needs_no_note_and_one_that_cannot_use_it_does(monkeypatch):
    monkeypatch.setattr(backends, "find_gpu", lambda: (None, "CuPy is not installed"))
    monkeypatch.setattr(backends, "has_nvidia", lambda: False)
    assert open_device("auto") == Device()
    monkeypatch.setattr(backends, "has_nvidia", lambda: True)
    assert "CuPy is not installed" in open_device("auto").fallbacks[0]
    assert open_device("off") == Device()
    with pytest.raises(ResourceError, match="required"):
        open_device("require")


def test_a_required_gpu_that_is_absent_is_refused_with_what_to_do():
    if backends.find_gpu()[0] is not None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(ResourceError) as caught:
        check_gpu("require")
    assert "cuda12" in str(caught.value.hint)
    check_gpu("auto")
    check_gpu("off")


def test_a_gpu_that_is_there_computes_the_bands_and_is_named(monkeypatch):
    pretended = Backend("pretended", np)
    monkeypatch.setattr(backends, "find_gpu", lambda: (pretended, ""))
    assert open_device("auto").backend is pretended
    assert open_device("require").backend is pretended
    assert open_device("off").backend is CPU
