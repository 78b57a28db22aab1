"""One instruction set for all machines of a level, so that a result does not depend on who computed it.

Compilers and libraries choose by the processor: wider registers add up in another order, and the last bits
of a sum differ. The nodes of a cluster differ, too; numba keeps the kernels of every kind apart, so each
compiles anew. Here everything that chooses is told to use x86-64-v3 (AVX2 and FMA: Intel since 2013, AMD
since 2015), where the processor has it. What a user sets goes first.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

LEVEL = "x86-64-v3"

_FLAGS = frozenset(
    name
    for generation in (
        ("cx16", "lahf_lm", "popcnt", "ssse3", "sse4_1", "sse4_2"),
        ("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"),
    )
    for name in generation
)
"""What Linux calls the members of x86-64-v3."""

_CPU_INFO = Path("/proc/cpuinfo")
_ENOUGH = 16384
"""Bytes that surely hold the first processor; on a large node the whole file takes long to make."""


def fix(environment: Mapping[str, str] | None = None) -> str | None:
    """Tell numba, numpy and OpenBLAS, by the environment, which instructions to use.

    Call before numpy and numba are imported. Calling again changes nothing.

    Parameters
    ----------
    environment : mapping, optional
        What to set where the user set nothing; that of this machine by default.

    Returns
    -------
    str or None
        The level that numba compiles for; None where it is the processor's own.
    """
    for name, value in (choose() if environment is None else environment).items():
        os.environ.setdefault(name, value)
    return os.environ.get("NUMBA_CPU_NAME")


@cache
def choose() -> Mapping[str, str]:
    """Return the variables that hold this machine to the level; empty where its processor lacks it."""
    return variables_for(_read_flags())


def variables_for(flags: frozenset[str]) -> dict[str, str]:
    """Return the variables for a processor.

    Parameters
    ----------
    flags : frozenset of str
        What it can, in Linux' words.
    """
    if not flags >= _FLAGS:
        return {}
    # numba takes the features of this processor, whatever the name, unless it is given some itself. The name
    # implies these two; an empty text would do, but not survive every way of passing variables on.
    variables = {"NUMBA_CPU_NAME": LEVEL, "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    variables["OPENBLAS_CORETYPE"] = "Haswell"
    if "avx512f" in flags and _numpy_version() >= (2, 4):
        # Older ones have other names for these, and warn of names that they do not know.
        variables["NPY_DISABLE_CPU_FEATURES"] = "X86_V4 AVX512_ICL AVX512_SPR"
    return variables


def describe() -> tuple[str, str | None]:
    """Return what kernels are compiled for, and what is to be said about it where it is not the level.

    Returns
    -------
    level : str
    notice : str or None
        For the user: on this machine the last bits of results may differ from those of others.
    """
    set_by_hand = os.environ.get("NUMBA_CPU_NAME")
    if set_by_hand not in (None, LEVEL):
        return str(set_by_hand), f"NUMBA_CPU_NAME is set: soct would compile for {LEVEL}"
    if choose() or set_by_hand == LEVEL:
        return LEVEL, None
    own = f"this processor's own ({platform.machine()})"
    if platform.machine().lower() not in ("x86_64", "amd64") or sys.platform != "linux":
        return own, None
    return own, (
        f"the processor is older than {LEVEL}: kernels are compiled for it alone, and the last bits of "
        "results may differ from those of newer machines. Keep such nodes out of a shared run."
    )


def _read_flags() -> frozenset[str]:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return frozenset()
    try:
        with _CPU_INFO.open("rb") as file:
            text = file.read(_ENOUGH).decode("utf-8", "replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _numpy_version() -> tuple[int, ...]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return tuple(int(part) for part in version("numpy").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return (0,)
