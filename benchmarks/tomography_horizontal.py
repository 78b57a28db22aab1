"""`soct.tomography.align_horizontal` on sinograms whose shifts are known.

    python benchmarks/tomography_horizontal.py [--seeds 3] [--cases shepp|angles|truncated|size] [--tooth tooth.h5] [--json OUT]

Shepp-Logan, 256 detector pixels x 180 angles over 180 degrees unless told otherwise. "ellipses": closed form, averaged over pixels. "skimage":
`skimage.transform.radon` of the phantom on 256 x 256 pixels, columns shifted in the Fourier domain. Errors are root mean squares in
pixels over the angles, less constant, cos and sin: median and greatest of the seeds. "start" is that of zero shifts. Noise is white, in
percent of the sinogram's maximum. "known" is the bound of Cramér and Rao for the shift of one projection if the noiseless one were
known; nobody who has only the noisy ones can reach it. Times are the best of the seeds, compiled.

`--tooth` takes real projections (exchange/data, data_white, data_dark, theta), which have jitter of their own: they are aligned as they are, and
after known displacements; "differs" is how far the second result is from the first one plus these displacements.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from skimage.data import shepp_logan_phantom
from skimage.transform import radon, resize

from soct.simulate.ellipses import shepp_logan, sinogram
from soct.tomography import align_horizontal
from soct.tomography.gauge import shift_error

Array = NDArray[Any]

HALF_TURN = np.arange(180) * np.pi / 180
LIMITS = {("shepp", 0.0): 0.01, ("shepp", 0.02): 0.06, ("derivative", 0.0): 0.05}


def ellipses(
    angles: Array,
    shifts: Array,
    detectors: int = 256,
    width: float | None = None,
    axis: float | None = None,
    derivatives: bool = False,
) -> Array:
    """Line integrals of the phantom, `width` pixels wide, or their derivatives; pixels average."""
    middle = detectors // 2 if axis is None else axis
    head = shepp_logan((detectors if width is None else width) + 1)
    return sinogram(head, angles, detectors, axis=middle + shifts, derivative=derivatives)


def displaced(sinogram: Array, shifts: Array) -> Array:
    """Shift columns in the Fourier domain; they end in zeros."""
    n = len(sinogram)
    ramp = np.exp(-2j * np.pi * scipy.fft.rfftfreq(n)[:, None] * shifts)
    return scipy.fft.irfft(scipy.fft.rfft(sinogram, axis=0) * ramp, n, axis=0)


def draw(kind: str, angles: Array, rng: np.random.Generator) -> Array:
    """Shifts of each projection, pixels."""
    if kind == "aligned":
        return np.zeros(len(angles))
    if kind == "drift":
        return 4 * np.sin(3 * angles) + 0.5 * rng.standard_normal(len(angles))
    most = float(kind.removeprefix("+-"))
    return rng.uniform(-most, most, len(angles))


def bound(clean: Array, sd: float) -> float:
    """Cramér and Rao's, root mean square over projections."""
    n = len(clean)
    spectra = scipy.fft.rfft(clean, axis=0) * (2j * np.pi * scipy.fft.rfftfreq(n)[:, None])
    slopes = scipy.fft.irfft(spectra, n, axis=0)
    return float(np.sqrt(np.mean(sd**2 / (slopes**2).sum(axis=0))))


def measure(
    make: Callable[[Array], Array],
    kind: str,
    angles: Array,
    noise: float,
    seeds: int,
    **settings: Any,
) -> dict[str, Any]:
    """Align with several seeds."""
    errors, starts, times, bounds, told = [], [], [], [], set()
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        truth = draw(kind, angles, rng)
        clean = make(truth)
        sd = noise * float(clean.max())
        values = clean + sd * rng.standard_normal(clean.shape)
        began = time.perf_counter()
        found = align_horizontal(values, angles, **settings)
        times.append(time.perf_counter() - began)
        errors.append(shift_error(found.shifts[1], truth, angles))
        starts.append(shift_error(np.zeros(len(angles)), truth, angles))
        bounds.append(bound(clean, sd))
        told.add("truncated" if found.truncation.truncated else found.method)
    return {
        "start": float(np.median(starts)),
        "median": float(np.median(errors)),
        "greatest": max(errors),
        "known": float(np.median(bounds)),
        "seconds": min(times),
        "told": ", ".join(sorted(told)),
    }


def show(rows: list[dict[str, Any]], name: str, row: dict[str, Any], limit: float | None) -> None:
    verdict = "" if limit is None else ("met" if row["greatest"] <= limit else "MISSED")
    allowed = "" if limit is None else f"{limit:g}"
    print(
        f"{name:44} {row['start']:7.3f} {row['median']:8.4f} {row['greatest']:8.4f} {row['known']:7.4f} "
        f"{allowed:>6} {verdict:6} {row['seconds']:6.1f}  {row['told']}",
        flush=True,
    )
    rows.append({"case": name, "limit": limit, **row})


def shepp(rows: list[dict[str, Any]], seeds: int) -> None:
    image = resize(shepp_logan_phantom(), (256, 256), anti_aliasing=True)
    base = radon(image, np.rad2deg(HALF_TURN), circle=True)
    sources: dict[str, Callable[[Array], Array]] = {
        "ellipses": lambda s: ellipses(HALF_TURN, s),
        "skimage": lambda s: displaced(base, s),
    }
    for source, make in sources.items():
        for kind in ("aligned", "+-3", "+-10", "drift"):
            for noise in (0.0, 0.02):
                limit = 0.005 if kind == "aligned" and not noise else LIMITS["shepp", noise]
                row = measure(make, kind, HALF_TURN, noise, seeds)
                show(rows, f"{source}, {kind}, noise {noise:.0%}", row, limit)
    for kind in ("+-3", "drift"):
        for noise in (0.0, 0.02):
            row = measure(
                lambda s: ellipses(HALF_TURN, s, derivatives=True),
                kind, HALF_TURN, noise, seeds, derivatives=True,
            )  # fmt: skip
            show(
                rows,
                f"derivatives given, {kind}, noise {noise:.0%}",
                row,
                LIMITS.get(("derivative", noise)),
            )
            row = measure(sources["ellipses"], kind, HALF_TURN, noise, seeds, calc_derivatives=True)
            show(
                rows,
                f"derivatives computed, {kind}, noise {noise:.0%}",
                row,
                LIMITS.get(("derivative", noise)),
            )


def angles(rows: list[dict[str, Any]], seeds: int) -> None:
    rng = np.random.default_rng(100)
    sets = {
        "360 degrees, 240 angles": np.arange(240) * np.pi / 120,
        "uneven, 180 angles": np.sort(rng.uniform(0, np.pi, 180)),
        "unsorted, in degrees": np.rad2deg(rng.permutation(HALF_TURN)),
        "140 degrees, 140 angles": np.arange(140) * np.pi / 180,
        "45 angles": np.arange(45) * np.pi / 45,
    }
    for name, theta in sets.items():
        turned = np.deg2rad(theta) if np.ptp(theta) > 7 else theta
        for noise in (0.0, 0.02):
            row = measure(lambda s, turned=turned: ellipses(turned, s), "+-3", turned, noise, seeds)  # type: ignore[misc]
            show(rows, f"{name}, +-3, noise {noise:.0%}", row, None)
    for noise in (0.0, 0.02):
        row = measure(
            lambda s: ellipses(HALF_TURN, s, width=220, axis=141.3), "+-3", HALF_TURN, noise, seeds
        )
        show(rows, f"axis 13.3 px beside the middle, noise {noise:.0%}", row, None)
        row = measure(lambda s: ellipses(HALF_TURN, s, width=40), "+-3", HALF_TURN, noise, seeds)
        show(rows, f"object 40 px wide, noise {noise:.0%}", row, None)

        def dead(s: Array) -> Array:
            values = ellipses(HALF_TURN, s)
            values[[90, 91, 170]] = 0.0
            return values

        row = measure(dead, "+-3", HALF_TURN, noise, seeds)
        show(rows, f"3 dead columns, noise {noise:.0%}", row, None)


def truncated(rows: list[dict[str, Any]], seeds: int) -> None:
    for name, detectors, axis in (
        ("160 of 236 px seen", 160, 80),
        ("one end cut, 200 px", 200, 80),
    ):
        for kind in ("aligned", "+-3", "+-10", "drift"):
            for noise in (0.0, 0.02):
                row = measure(
                    lambda s, d=detectors, a=axis: ellipses(HALF_TURN, s, d, 256, a),  # type: ignore[misc]
                    kind, HALF_TURN, noise, seeds, axis=axis,
                )  # fmt: skip
                show(rows, f"{name}, {kind}, noise {noise:.0%}", row, None)


def size(rows: list[dict[str, Any]], seeds: int) -> None:
    for detectors, n in ((512, 360), (1024, 720)):
        theta = np.arange(n) * np.pi / n
        row = measure(
            lambda s, d=detectors, t=theta: ellipses(t, s, d), "+-3", theta, 0.02, min(seeds, 1)
        )  # type: ignore[misc]
        show(rows, f"{detectors} x {n}, +-3, noise 2%", row, None)


def tooth(rows: list[dict[str, Any]], seeds: int, file: Path) -> None:
    import h5py

    with h5py.File(file) as opened:
        dark = opened["exchange/data_dark"][:].mean(axis=0)
        white = opened["exchange/data_white"][:].mean(axis=0) - dark
        counts = opened["exchange/data"][:] - dark
        theta = np.deg2rad(opened["exchange/theta"][:])
    for row in range(counts.shape[1]):
        values = -np.log(np.clip(counts[:, row] / white[row], 1e-3, None)).T.astype(float)
        own = align_horizontal(values, theta)
        jitter = shift_error(own.shifts[1], np.zeros(len(theta)), theta)
        print(
            f"tooth, row {row}: own jitter {jitter:.3f} px, uncertainty {own.uncertainties.mean():.3f} px, axis at {own.axis_before:.2f}, "
            f"residual {own.residuals_before.mean():.4f} to {own.residuals_after.mean():.4f}"
        )
        for kind in ("+-3", "+-10", "drift"):
            differs = []
            for seed in range(seeds):
                truth = draw(kind, theta, np.random.default_rng(seed))
                found = align_horizontal(displaced(values, truth), theta)
                differs.append(shift_error(found.shifts[1], own.shifts[1] + truth, theta))
            print(
                f"tooth, row {row}, {kind}: differs by {np.median(differs):.4f} px, at most {max(differs):.4f}",
                flush=True,
            )
            rows.append({"case": f"tooth, row {row}, {kind}", "own": jitter, "differs": differs})


CASES = {"shepp": shepp, "angles": angles, "truncated": truncated, "size": size}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", choices=CASES, nargs="*", default=[*CASES])
    parser.add_argument("--tooth", type=Path)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    align_horizontal(
        ellipses(HALF_TURN, np.zeros(180), 64), HALF_TURN, method="reprojection", maxit=1
    )
    print(
        f"{'case':44} {'start':>7} {'median':>8} {'greatest':>8} {'known':>7} {'limit':>6} {'':6} {'s':>6}  what"
    )
    for case in chosen.cases:
        CASES[case](rows, chosen.seeds)
    if chosen.tooth:
        tooth(rows, chosen.seeds, chosen.tooth)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
