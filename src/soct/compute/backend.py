"""Where arrays are computed: on the processors, or on a GPU through CuPy.

A kernel that pays on a GPU exists twice: compiled for processors (numba), and over an array module ``xp``
that is CuPy on a GPU and numpy in the tests, where it is the plain reference that numba is held to. Nothing else
in soct knows about devices: a caller gets a `Backend`, moves arrays with `Backend.up` and `Backend.down`, and
does its work within `Device.attempt`, which makes the block smaller when the GPU's memory runs out and returns to the
processors when that does not help.

CuPy is imported when a GPU is asked for, never before: a process that is forked after it has talked to a GPU
can't use it.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

T = TypeVar("T")
Wanted = Literal["auto", "off", "require"]


@dataclass(frozen=True)
class Backend:
    """What computes.

    Attributes
    ----------
    name : str
        ``cpu``, or the GPU's name: what the record of a unit says.
    xp : module or None
        The array module of the device; None for the compiled kernels of the processors.
    """

    name: str = "cpu"
    xp: Any = None

    @property
    def compiled(self) -> bool:
        """Whether the compiled kernels run, on plain numpy arrays."""
        return self.xp is None

    def up(self, array: Any) -> Any:
        """Return an array on the device."""
        return array if self.xp is None else self.xp.asarray(array)

    def down(self, array: Any) -> Any:
        """Return an array of the device as a numpy array."""
        return array.get() if hasattr(array, "get") else np.asarray(array)

    def release(self) -> None:
        """Give back the device memory that is only kept for reuse."""
        pool = getattr(self.xp, "get_default_memory_pool", None)
        if pool is not None:
            pool().free_all_blocks()


CPU = Backend()


def has_nvidia() -> bool:
    """Whether the machine shows an NVIDIA GPU, with or without the software to use it."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def find_gpu() -> tuple[Backend | None, str]:
    """Return the GPU, or None and the reason why there is none to use."""
    if importlib.util.find_spec("cupy") is None:
        return None, "CuPy is not installed"
    try:
        cupy = importlib.import_module("cupy")
        if cupy.cuda.runtime.getDeviceCount() == 0:
            return None, "CuPy finds no GPU"
        device = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        # One real computation: a driver that is too old shows only here.
        if float((cupy.arange(4, dtype=cupy.float32) * 2).sum()) != 12.0:
            return None, "the GPU does not compute"
    except Exception as error:  # noqa: BLE001 - CuPy has an exception of its own for each way to fail
        return None, f"CuPy cannot use a GPU ({type(error).__name__}: {str(error)[:120]})"
    name = device["name"]
    return Backend(name.decode() if isinstance(name, bytes) else str(name), cupy), ""


@dataclass
class Device:
    """The backend of one unit of work, with what it fell back from.

    Attributes
    ----------
    backend : Backend
        What computes now.
    fallbacks : list of str
        What ran otherwise than asked for, in words.
    """

    backend: Backend = CPU
    fallbacks: list[str] = field(default_factory=list)
    used: str = "cpu"

    def attempt(self, size: int, least: int, work: Callable[[Backend, int], T]) -> T:
        """Do a piece of work in blocks of at most `size`, smaller ones where the GPU's memory does not suffice.

        Parameters
        ----------
        size, least : int
            Extent of a block (rows, say) to begin with, and the smallest one worth a GPU.
        work : callable
            ``work(backend, size)`` does all of it, from the start, in blocks of that size.
        """
        while not self.backend.compiled:
            try:
                done = work(self.backend, size)
            except MemoryError:  # CuPy's own is a subclass
                self.backend.release()
                if size // 2 < least:
                    self._leave("its memory does not hold the smallest block")
                    break
                size //= 2
                self._note(f"GPU memory was short: blocks of {size}")
            else:
                self.used = self.backend.name
                return done
        return work(self.backend, size)

    def _leave(self, reason: str) -> None:
        self._note(f"GPU {self.backend.name}: {reason}; computed on processors")
        self.backend = CPU

    def _note(self, text: str) -> None:
        if text not in self.fallbacks:
            self.fallbacks.append(text)


def open_device(wanted: Wanted) -> Device:
    """Return the device that a unit may use.

    Parameters
    ----------
    wanted : {"auto", "off", "require"}
        With ``auto`` a machine without any GPU is no reason for a note; one whose GPU can't be used is.

    Raises
    ------
    RuntimeError
        A GPU is required and there is none. Whoever starts a run asks for that before.
    """
    if wanted == "off":
        return Device()
    backend, reason = find_gpu()
    if backend is not None:
        return Device(backend)
    if wanted == "require":
        raise RuntimeError(f"a GPU is required: {reason}")
    return Device(fallbacks=[f"GPU: {reason}; computed on processors"] if has_nvidia() else [])
