"""Where arrays are computed: on the processors, or on a GPU through CuPy.

A kernel that pays on a GPU exists twice: compiled for processors (numba), and over an array module ``xp``
that is CuPy on a GPU and numpy in the tests, where it is the plain reference that numba is held to. Nothing else
in soct knows about devices: a caller gets a `Backend`, moves arrays with `Backend.up` and `Backend.down`, and
asks `Device.shorten` how to go on when the GPU's memory runs out: with a smaller block, in the end on processors.

CuPy is imported when a GPU is asked for, never before: a process that is forked after it has talked to a GPU
can't use it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from soct.compute.array_modules import array_module, gpu_problem, to_host
from soct.errors import ResourceError

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
        return to_host(array)

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
    problem = gpu_problem()
    if problem is not None:
        return None, problem
    cupy = array_module(gpu=True)
    try:
        device = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        # One real computation: a driver that is too old shows only here.
        if float((cupy.arange(4, dtype=cupy.float32) * 2).sum()) != 12.0:
            return None, "the GPU does not compute"
    except Exception as error:  # noqa: BLE001 - CuPy has an exception of its own for each way to fail
        return None, f"CuPy cannot use the GPU ({type(error).__name__}: {str(error)[:120]})"
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

    def shorten(self, size: int, least: int) -> int:
        """Say how to go on after a MemoryError: with a smaller block, or on processors.

        Parameters
        ----------
        size, least : int
            Extent of the block that failed (rows, say), and the smallest one worth a GPU.

        Returns
        -------
        int
            Extent to try next, on `backend`.

        Raises
        ------
        MemoryError
            On processors, where blocks are planned to fit.
        """
        if self.backend.compiled:
            raise MemoryError(f"a block of {size} rows does not fit")
        self.backend.release()
        if size // 2 >= least:
            self._note(f"GPU memory was short: blocks of {size // 2} rows")
            return size // 2
        self._note(f"GPU memory does not hold {size} rows: computed on processors")
        self.backend = CPU
        return size

    def _note(self, text: str) -> None:
        if text not in self.fallbacks:
            self.fallbacks.append(text)


def gpu_missing(reason: str) -> ResourceError:
    """Return the error for a GPU that is required and can't be used."""
    return ResourceError(
        "A GPU is required, and none can be used",
        expected="CuPy and an NVIDIA GPU",
        found=reason,
        hint="Install soct[cuda12] or soct[cuda13], whichever the driver supports (`nvidia-smi` says); "
        "or leave --gpu require out.",
    )


def open_device(wanted: Wanted) -> Device:
    """Return the device that a unit may use.

    Parameters
    ----------
    wanted : {"auto", "off", "require"}
        With ``auto`` a machine without any GPU is no reason for a note; one whose GPU can't be used is.

    Raises
    ------
    ResourceError
        A GPU is required and there is none.
    """
    if wanted == "off":
        return Device()
    backend, reason = find_gpu()
    if backend is not None:
        return Device(backend)
    if wanted == "require":
        raise gpu_missing(reason)
    return Device(fallbacks=[f"GPU: {reason}; computed on processors"] if has_nvidia() else [])
