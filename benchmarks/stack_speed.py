"""How fast `stack` is on large slices, on 1 and more threads, beside SciPy.

    python benchmarks/stack_speed.py [--slices 4] [--planes 64] [--edge 1024] [--cut 40] [--threads 1 2] [--repeats 3]
                                     [--profile]

Slices of speckle in a round footprint, turned and shifted against each other, are written as `compensate_attenuation`
writes them; `stack` makes the volume with its pyramid, tables and pictures. The quietest of some repeats counts. Volumes
must not depend on the number of threads: their digest is compared. The peer resamples and weighs the same slices with
`scipy.ndimage.affine_transform`, values and footprint, plane by plane on one thread, and writes nothing.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import pstats
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from soct.compute.threads import limited
from soct.formats.documents import write_document
from soct.formats.npz import write_npz
from soct.formats.ome_zarr import band_shards, create_volume, open_volume, plane_chunks
from soct.space import Voxel
from soct.steps import stack
from soct.steps.declaration import Context, Unit

VOXEL = Voxel(10.0, 10.0, 10.0)


def round_footprint(edge: int) -> np.ndarray:
    """Return a disc that fills most of a square field."""
    at = np.linspace(-1, 1, edge)
    return at[:, None] ** 2 + at**2 < 0.9


def write_slice(path: Path, shape: tuple[int, int, int], seed: int) -> None:
    """Write speckle, with the depth range of its A-lines."""
    rng = np.random.default_rng(seed)
    chunks = plane_chunks(shape)
    with create_volume(
        path, shape, VOXEL, chunks=chunks, shards=band_shards(shape, chunks)
    ) as writer:
        depth, high, _ = writer.shards
        for z in range(0, shape[0], depth):
            for y in range(0, shape[1], high):
                size = (min(depth, shape[0] - z), min(high, shape[1] - y), shape[2])
                writer.write((z, y, 0), rng.gamma(4.0, 0.25, size).astype(np.float32))
        valid = np.zeros((2, *shape[1:]), np.int16)
        valid[1, round_footprint(shape[1])] = shape[0]
        writer.write_valid(valid)


def write_inputs(folder: Path, count: int, shape: tuple[int, int, int], cut: int) -> dict[Any, Any]:
    """Write all that `stack` reads, and return where it lies."""
    inputs: dict[Any, Any] = {
        ("estimate_slice_poses", "poses"): {(): folder / "poses.json"},
        ("normalize", "normalization"): {(): folder / "normalization.json"},
        ("compensate_attenuation", "slice"): {},
        ("compensate_attenuation", "levels"): {},
    }
    poses, levels = {}, {}
    for i in range(count):
        path = folder / f"slice_{i}.ome.zarr"
        write_slice(path, shape, i)
        write_npz(folder / f"levels_{i}.npz", snr=np.linspace(8, 2, shape[0]))
        inputs["compensate_attenuation", "slice"][i,] = path
        inputs["compensate_attenuation", "levels"][i,] = folder / f"levels_{i}.npz"
        poses[str(i)] = {
            "rotation_deg": 0.2 * i,
            "shift_px": [1.3 * i, -2.1 * i],
            "centre_px": [shape[1] / 2, shape[2] / 2],
            "shape": list(shape),
            "z_px": cut * i + 0.3 * (i % 2),
            "stage_px": [float(cut * i), 0.0, 0.0],
            "stacked": True,
            "confidence": 1.0,
            "manual": False,
            "excluded": "",
        }
        levels[str(i)] = {"floor": 0.0, "cap": 10.0, "scale": 1.0, "empty": False}
    document = {
        "slices": poses,
        "voxel_um": list(VOXEL),
        "depths": [],
        "corrected_overlaps": [],
        "overlap_source": "solve",
    }
    write_document(folder / "poses.json", document)
    write_document(folder / "normalization.json", {"slices": levels, "steps": []})
    return inputs


def run_stack(inputs: dict[Any, Any], out: Path, threads: int, memory: int) -> Path:
    """Make the volume, and return its path."""
    out.mkdir()
    outputs = {o.name: out / o.template.format(subject="s") for o in stack.STEP.outputs}
    slices = tuple(i for (i,) in inputs["compensate_attenuation", "slice"])
    context = Context(
        Unit("stack", ()), "s", slices, inputs, outputs, threads=threads, memory_bytes=memory
    )
    with limited(threads):
        stack.run(context, stack.StackParams())
    return outputs["volume"]


def digest(folder: Path) -> str:
    """Return a digest of all files below a folder."""
    found = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        found.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return found.hexdigest()[:12]


def resample_with_scipy(volume: Path, planes: int) -> float:
    """Return nanoseconds per voxel of a slice: values and footprint resampled and weighed by SciPy."""
    reader = open_volume(volume, threads=1)
    data = reader.read((0, planes))
    valid = reader.read_valid()
    c, s = np.cos(0.01), np.sin(0.01)
    matrix = np.array([[c, s], [-s, c]])
    began = time.process_time()
    for k, plane in enumerate(data):
        inside = ((k >= valid[0]) & (k < valid[1])).astype(np.float32)
        weight = ndi.affine_transform(inside, matrix, (1.3, -2.1), order=1)
        value = ndi.affine_transform(plane * inside, matrix, (1.3, -2.1), order=1)
        np.divide(value, weight, out=value, where=weight > 0.5)
    return 1e9 * (time.process_time() - began) / data.size


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--planes", type=int, default=64)
    parser.add_argument("--edge", type=int, default=1024, help="rows and columns of a slice")
    parser.add_argument("--cut", type=int, default=40, help="planes from one slice to the next")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--memory", type=float, default=2.0, help="GiB")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    shape = (options.planes, options.edge, options.edge)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write_inputs(folder, options.slices, shape, options.cut)
        run_stack(inputs, folder / "warm", 1, 1 << 30)  # compiles
        print("threads  wall s  processor s  ns of processor per voxel made  digest")
        for threads in options.threads:
            best = (np.inf, np.inf)
            for repeat in range(options.repeats):
                began, used = time.perf_counter(), time.process_time()
                volume = run_stack(
                    inputs, folder / f"{threads}-{repeat}", threads, int(options.memory * 2**30)
                )
                best = min(best, (time.perf_counter() - began, time.process_time() - used))
            made = np.prod(open_volume(volume).shape)
            print(
                f"{threads:7d} {best[0]:7.1f} {best[1]:12.1f} {1e9 * best[1] / made:31.1f}  {digest(volume.parent)}"
            )
        peer = resample_with_scipy(
            inputs["compensate_attenuation", "slice"][0,], min(16, options.planes)
        )
        print(
            f"SciPy, resampling alone: {peer:.0f} ns per voxel read ({made / 1e6:.0f} million voxels made of "
            f"{options.slices * np.prod(shape) / 1e6:.0f} million)"
        )
        if options.profile:
            with cProfile.Profile() as profile:
                run_stack(inputs, folder / "profiled", 1, int(options.memory * 2**30))
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
