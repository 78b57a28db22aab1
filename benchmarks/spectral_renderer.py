"""Rendering placed images: time against a plain script with scipy, and canvases larger than memory.

    python benchmarks/spectral_renderer.py [--repeat 5] [--canvas 50000] [--tile 2048] [--out FOLDER] [--dtype uint16] [--skip-stream]

First, 2 x 3 images of 1200 x 1200 at sub-pixel positions, rigid and affine, with a ramp of 10 px: `soct.spectral.Renderer` on all
threads and on one, beside what a simple script does (`scipy.ndimage` over the whole canvas for each image, weights
as well), in the same run. Errors are the largest difference to the function that the images sample, as a share of its range.

Then a canvas of `--canvas` pixels squared, whose images are made when they are asked for, streamed to OME-Zarr below
`--out` (removed again): seconds, MB/s of the picture, and the largest resident memory of the process. Beside it stands the time
that making the images takes by itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Threads that wait sleep: on a busy machine, spinning takes the processors from those that they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import psutil
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from soct.compute.threads import available_cpus, limited
from soct.spectral import Affine, Renderer

BLEND = 10


def truth(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    return np.sin(x / 31.0) + np.cos(y / 27.0 + x / 97.0)


def sample(matrix: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    y, x = np.mgrid[:side, :side] + 0.5
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    return truth(u, v).astype(np.float32)


def grid(turn: float) -> dict[tuple[int, int], Affine]:
    rng = np.random.default_rng(0)
    return {
        (r, c): Affine.translator((1080 * c + rng.normal(0, 3), 1080 * r + rng.normal(0, 3)))
        @ Affine.rotator(turn * rng.normal(), (600, 600))
        for r in range(2)
        for c in range(3)
    }


def render_with_scipy(
    places: dict[Any, Affine], images: dict[Any, NDArray[np.float32]], renderer: Renderer
) -> NDArray[np.float32]:
    """Each image and its ramp over the whole canvas, cubic splines, then the weighted mean."""
    from scipy import ndimage as ndi

    shape = renderer.size[::-1]
    total, weights = np.zeros(shape), np.zeros(shape)
    for tile, image in images.items():
        matrix = np.asarray(places[tile])
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
        linear = inverse[:, :2][::-1, ::-1]
        # Canvas index (row, column) to image index: pixel centres are half a pixel off.
        offset = (inverse[:, :2] @ (renderer.pmin + 0.5) + inverse[:, 2] - 0.5)[::-1]
        edge = (np.minimum(np.arange(n), n - 1 - np.arange(n)) + 0.5 for n in image.shape)
        ramp = np.multiply.outer(*(np.minimum(e / BLEND, 1) for e in edge))
        value = ndi.affine_transform(
            image, linear, offset, output_shape=shape, order=3, mode="nearest"
        )
        weight = ndi.affine_transform(ramp, linear, offset, output_shape=shape, order=1)
        total += weight * value
        weights += weight
    return np.where(weights > 0, total / np.maximum(weights, 1e-12), 0).astype(np.float32)


def best(call: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    times, result = [], None
    for _ in range(repeat):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return result, min(times)


def small_mosaic(repeat: int) -> None:
    print(f"2 x 3 images of 1200 x 1200, best of {repeat}, {available_cpus()} processors\n")
    print("| model | method | s | against soct | error / range |")
    print("|---|---|---|---|---|")
    for model, turn in (("rigid", 0.0), ("affine", 0.01)):
        places = grid(turn)
        images = {t: sample(np.asarray(p), 1200) for t, p in places.items()}
        rigid = {t: tuple(np.asarray(p)[:, 2]) for t, p in places.items()}
        chosen: dict[str, Any] = {"rigid": rigid} if model == "rigid" else {"affine": places}
        renderer = Renderer(**chosen, tilesize=1200, blend=BLEND)

        def go(renderer: Renderer = renderer, images: Any = images) -> Any:
            renderer.clear()
            for tile, image in images.items():
                renderer.render(tile, image)
            return renderer.image

        def one(go: Any = go) -> Any:
            with limited(1):
                return go()

        def peer(places: Any = places, images: Any = images, renderer: Any = renderer) -> Any:
            return render_with_scipy(places, images, renderer)

        go()
        y, x = np.mgrid[: renderer.size[1], : renderer.size[0]] + 0.5
        exact = truth(x + renderer.pmin[0], y + renderer.pmin[1])
        # The peer has no values within half a pixel of the border.
        inside = binary_erosion(renderer.unionmask(), iterations=2)
        reference = None
        for name, call, times in (
            ("soct", go, repeat),
            ("soct, one thread", one, repeat),
            ("scipy, whole canvas", peer, max(1, repeat // 3)),
        ):
            picture, seconds = best(call, times)
            reference = reference or seconds
            error = np.abs(picture - exact)[inside].max() / np.ptp(exact)
            print(
                f"| {model} | {name} | {seconds:.3f} | {seconds / reference:.1f} x | {error:.1e} |"
            )


def one_image(repeat: int) -> None:
    """Show that the time for an image does not depend on the canvas, once its memory has been touched."""
    print("\n| canvas | one image of 1200 x 1200, s |\n|---|---|")
    image = np.random.default_rng(0).random((1200, 1200), np.float32)
    for side in (1300, 10_000, 30_000):
        places = dict.fromkeys(range(repeat + 1), (40.3, 50.7))
        renderer = Renderer(rigid=places, tilesize=1200, clip=[0, 0, side, side])
        renderer.render(repeat, image)
        left = iter(range(repeat))

        def go(renderer: Renderer = renderer, left: Iterator[int] = left) -> None:
            renderer.render(next(left), image)

        print(f"| {side} x {side} | {best(go, repeat)[1]:.4f} |")


class PeakMemory:
    """Largest resident memory of this process while the block runs."""

    def __enter__(self) -> PeakMemory:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process(os.getpid())
        while not self._stop.wait(0.02):
            self.bytes = max(self.bytes, process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def large_canvas(canvas: int, tile: int, folder: Path, dtype: str, turn: float) -> None:
    step = int(0.9 * tile)
    n = max(1, -(-(canvas - tile) // step) + 1)
    rng = np.random.default_rng(1)
    texture = rng.integers(0, 60000, (tile + 64, tile + 64), np.uint16)
    texture[::2] //= 3
    places = {
        (r, c): (c * step + rng.uniform(-3, 3), r * step + rng.uniform(-3, 3))
        for r in range(n)
        for c in range(n)
    }

    def load(key: tuple[int, int]) -> NDArray[np.uint16]:
        r, c = key
        return texture[r % 64 : r % 64 + tile, c % 64 : c % 64 + tile].copy()

    model: dict[str, Any] = {"rigid": places}
    if turn:
        model = {
            "affine": {
                t: Affine.translator(p) @ Affine.rotator(turn * rng.normal(), (tile / 2, tile / 2))
                for t, p in places.items()
            }
        }
    renderer = Renderer(**model, tilesize=tile, clip=[0, 0, canvas, canvas], blend=BLEND)
    out = Path(tempfile.mkdtemp(dir=folder)) / "mosaic.ome.zarr"
    try:
        with PeakMemory() as memory:
            start, cpu = time.perf_counter(), time.process_time()
            done = renderer.render_to(out, load, dtype=dtype, pixel_um=0.5)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        stored = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
        picture = canvas * canvas * np.dtype(dtype).itemsize
        start = time.perf_counter()
        for key in places:
            load(key)
        made = time.perf_counter() - start
        print(
            f"| {next(iter(model))} | {canvas} x {canvas} {dtype} | {len(places)} of {tile}^2 | {done.loads} | "
            f"{done.levels} | {seconds:.1f} | {cpu:.0f} | {picture / seconds / 1e6:.0f} | "
            f"{canvas * canvas / seconds / 1e6:.0f} | {memory.bytes / 2**30:.2f} | {stored / 2**30:.2f} | {made:.1f} |"
        )
    finally:
        shutil.rmtree(out.parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--canvas", type=int, default=50_000)
    parser.add_argument("--tile", type=int, default=2048)
    parser.add_argument("--dtype", default="uint16", choices=["uint8", "uint16", "float32"])
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--turn", type=float, default=0.0, help="also turn the images, radians")
    parser.add_argument("--skip-small", action="store_true")
    parser.add_argument("--skip-stream", action="store_true")
    arguments = parser.parse_args()
    if not arguments.skip_small:
        small_mosaic(arguments.repeat)
        one_image(arguments.repeat)
    if not arguments.skip_stream:
        print(
            "\n| model | canvas | images | loads | levels | s | CPU s | MB/s | Mpx/s | peak GiB | stored GiB | images alone s |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|---|")
        large_canvas(
            arguments.canvas, arguments.tile, arguments.out, arguments.dtype, arguments.turn
        )


if __name__ == "__main__":
    main()
