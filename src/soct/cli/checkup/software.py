"""Versions, compiled kernels, extras, GPU."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata

import soct
from soct.cli.checkup.finding import Finding
from soct.compute import caches
from soct.compute.backend import has_nvidia
from soct.compute.containers import find_container

LIBRARIES = ("numpy", "numba", "scipy", "tensorstore", "zarr", "pydantic", "pillow", "SimpleITK")


def look_at_versions() -> Finding:
    """Say which soct, python and libraries these are."""
    versions = {name: version_of(name) for name in LIBRARIES}
    values = {"soct": soct.__version__, "python": platform.python_version(), **versions}
    text = f"{soct.__version__}, python {platform.python_version()} on {platform.platform()}"
    supported = (3, 11) <= sys.version_info[:2] < (3, 15)
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        hint = "reinstall soct"
        return Finding("soct", "error", f"{text}; {', '.join(missing)} missing", hint, values)
    hint = "" if supported else "soct is tested with python 3.11 to 3.14"
    return Finding("soct", "ok" if supported else "warning", text, hint, values)


def version_of(name: str) -> str | None:
    """Return the version of an installed distribution, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def look_at_cache() -> Finding:
    """Say where compiled kernels come from and go to."""
    told = caches.describe()
    caches.prepare()
    warm = caches.holds_kernels()
    values = {
        "folder": None if told.folder is None else str(told.folder),
        "shipped": None if told.shipped is None else str(told.shipped),
        "shipped_fit": told.shipped_fit,
        "warm": warm,
        "level": told.level,
    }
    shipped = f"; the image's kernels in {told.shipped}" if told.shipped else ""
    if told.shipped is not None and not told.shipped_fit:
        hint = "the image's kernels are for another processor: the first run compiles for a minute or two"
        return Finding("cache", "warning", f"{told.folder}{shipped}", hint, values)
    if told.folder is None and not told.shipped_fit:
        hint = "set SOCT_CACHE_DIR to a folder that can be written to; until then every process compiles anew"
        return Finding("cache", "warning", "no writable folder", hint, values)
    state = "kernels are compiled" if warm else "empty: the first run compiles for a minute or two"
    return Finding(
        "cache", "ok", f"{told.folder or 'no writable folder'}{shipped}; {state}", values=values
    )


def look_at_numba() -> Finding:
    """Compile something."""
    caches.prepare()
    import numba

    compiled = numba.njit(lambda x: x + 1)(1)
    threads = int(numba.config.NUMBA_NUM_THREADS)
    values = {"version": numba.__version__, "threads": threads}
    text = f"numba {numba.__version__} compiles, {threads} threads"
    return Finding("numba", "ok" if compiled == 2 else "error", text, values=values)


def look_at_gpu() -> Finding:
    """Say which GPU the driver shows."""
    program = shutil.which("nvidia-smi")
    if program is None and has_nvidia():
        inside = find_container() is not None
        hint = "start the container with the driver: --nv (Apptainer), --gpus all (Docker)" if inside else "install the driver's tools (nvidia-smi)"  # fmt: skip
        return Finding(
            "gpu", "warning", "a GPU is there, its driver's tools are not", hint, {"gpus": None}
        )
    if program is None:
        return Finding("gpu", "ok", "none found (no nvidia-smi); not needed", values={"gpus": []})
    ask = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        text = f"nvidia-smi fails: {(done.stderr or done.stdout).strip()[:200]}"
        return Finding(
            "gpu", "warning", text, "leave --gpu off, or mend the driver", {"gpus": None}
        )
    gpus = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    values = {"gpus": gpus, "cuda": driver_cuda()}
    return Finding("gpu", "ok", "; ".join(gpus), values=values)


def driver_cuda() -> str | None:
    """Return the newest CUDA that the driver supports, None where it does not say."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    done = subprocess.run([program], capture_output=True, text=True, timeout=20, check=False)
    match = re.search(r"CUDA Version:\s*([0-9.]+)", done.stdout)
    return match[1] if match else None


def cupy_variant() -> tuple[str, int | None] | None:
    """Return the installed CuPy and the CUDA it is made for: ``("cupy-cuda12x", 12)``."""
    names = {
        str(d.metadata["Name"]).lower() for d in metadata.distributions() if d.metadata["Name"]
    }
    for name in sorted(n for n in names if n == "cupy" or n.startswith("cupy-cuda")):
        match = re.fullmatch(r"cupy-cuda(\d+)x", name)
        return name, int(match[1]) if match else None
    return None


def look_at_cupy() -> Finding:
    """Say whether CuPy fits the driver, and computes."""
    variant = cupy_variant()
    if variant is None or importlib.util.find_spec("cupy") is None:
        text = "not installed; not needed, a GPU only speeds up rendering and bias fields"
        return Finding("cupy", "ok", text, values={"variant": None})
    name, made_for = variant
    cuda = driver_cuda()
    values = {"variant": name, "driver_cuda": cuda}
    if cuda is not None and made_for is not None and int(cuda.split(".")[0]) < made_for:
        hint = f"install soct[cuda{cuda.split('.')[0]}], or a newer driver"
        text = f"{name} needs CUDA {made_for}; the driver supports {cuda}"
        return Finding("cupy", "warning", text, hint, values)
    ask = "from soct.compute.backend import find_gpu; g, r = find_gpu(); print(g.name if g else r)"
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, timeout=120, check=False
    )
    told = done.stdout.strip() or done.stderr.strip()[-200:]
    works = done.returncode == 0 and not told.startswith(("CuPy", "there is no", "the GPU"))
    hint = "" if works or not has_nvidia() else "runs go on without it; --gpu require would refuse"
    status = "ok" if works or not has_nvidia() else "warning"
    return Finding("cupy", status, f"{name}: {told}", hint, {**values, "works": works})  # type: ignore[arg-type]


def look_at_dask() -> Finding:
    """Say whether runs can be sent to Dask workers."""
    version = version_of("distributed")
    text = "not installed; only needed for --dask (extra soct[dask])"
    return Finding(
        "dask", "ok", f"distributed {version}" if version else text, values={"version": version}
    )


def look_at_fonts() -> Finding:
    """Say whether pictures can have letters: the font comes with Pillow, what draws it may be missing."""
    from PIL import features

    works = bool(features.check("freetype2"))
    if not works:
        hint = "reinstall Pillow with FreeType; sheets and screenshots have coarse letters without"
        return Finding("fonts", "warning", "Pillow has no FreeType", hint, {"freetype": False})
    return Finding("fonts", "ok", "those of Pillow", values={"freetype": True})
