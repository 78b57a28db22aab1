"""Speed and memory of `soct convert` on a volume that is larger than the bands it is streamed in.

    python benchmarks/conversion.py [MEGABYTES]

Each conversion runs in a process of its own, which prints the time from the first voxel read to the last one
compared, and the peak of its memory above that of the imported libraries.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from soct.formats.ome_zarr import PyramidWriter
from soct.space import Voxel

_CHILD = """
import resource, sys, time
from pathlib import Path
import soct.formats.conversion as c
import soct.formats.multiscale, soct.formats.ome_zarr, tifffile, SimpleITK
import soct.formats.volume_source as s
s.BAND_BYTES = 32 << 20
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
c.convert(Path(sys.argv[1]), Path(sys.argv[2]), c.Wish(orientation=sys.argv[3] or None))
took = time.perf_counter() - start
print(took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def main(megabytes: int) -> None:
    """Print a table."""
    side = round((megabytes * 2**20 / 4) ** (1 / 3))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.ome.zarr"
        rng = np.random.default_rng(0)
        shape = (side, side, side)
        with PyramidWriter(source, shape, Voxel(10, 10, 10), (), orientation="PIR") as writer:
            for _ in range(side):
                writer.append(
                    rng.gamma(4, 0.25, (1, side, side)).astype(np.float32),
                    np.ones((1, side, side), bool),
                )
        size = 4 * side**3 / 2**20
        print(f"float32, {side}^3 voxels, {size:.0f} MiB; bands of 32 MiB")
        print(f"{'output':<14}{'turned to':<12}{'seconds':>9}{'MiB/s':>9}{'memory, MiB':>13}")
        for suffix in (".nii", ".nii.gz", ".nrrd", ".tif", ".zarr", ".ome.zarr"):
            for code in ("", "SAR"):
                out = Path(folder) / f"out{code}{suffix}"
                command = [sys.executable, "-c", _CHILD, str(source), str(out), code]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds, memory = (float(word) for word in done.stdout.split())
                print(
                    f"{suffix:<14}{code or '-':<12}{seconds:>9.1f}{size / seconds:>9.1f}{memory:>13.0f}"
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
