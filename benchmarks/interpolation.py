"""What fills the gap of a missing slice best.

    python benchmarks/interpolation.py [--seeds 8]
    python benchmarks/interpolation.py --runs [--cases NAME ...] [--seeds 3] [--cpus 2] [--keep FOLDER]

Without ``--runs``: surfaces of a procedural brain a gap apart, three planes each with speckle (10 looks), at several
depths of the brain; every plane between them is made in each way and compared with the brain itself. ``moved`` is how far
the slice below the gap lies off, as where it is placed by the stage alone; the truth moves along evenly.

- ``ncc``: correlation of local contrast (Gaussian of 4 px) over tissue, mean over the planes of the gap
- ``error``: mean absolute error of the brightness over the mean brightness
- ``affine``, ``refused``: how often zmorph believed its affine transform, and how often a gate left the gap open

With ``--runs``: whole runs. A microscope sees little deeper than a cut (235 um for 200 um), so that a missing slice
leaves a gap in depth. The run with its gap left open says which voxels are in the gap; every way of filling it is
scored on those voxels alone against the truth: ``ncc`` and ``error`` as above, ``imaged`` the NCC of planes that were
imaged, ``filled`` the share of the gap's tissue that holds a value, ``xy_um`` the 95th percentile of the slices'
misplacement over the whole volume.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from soct.formats.ome_zarr import open_volume
from soct.registration.slice_interpolation import Morph, MorphGates, Surface, plan_morph
from soct.simulate.brain import Brain, sample_block
from soct.simulate.evaluate import GRID, evaluate
from soct.simulate.faults import Faults
from soct.simulate.microscope import simulate
from soct.simulate.spec import AcquisitionSpec, BrainSpec
from soct.simulate.truth import read_truth
from soct.space import Voxel

THIN: dict[str, Any] = {"rows": 2, "cols": 3, "tile_px": (72, 72), "n_z": 36, "slices": 5}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "one missing": (THIN, {"missing_slices": (2,)}),
    "one missing, little speckle": (THIN, {"missing_slices": (2,), "speckle_looks": 30.0}),
    "two missing in a row": (THIN, {"missing_slices": (2, 3)}),
    "one missing, imaged deep": ({**THIN, "n_z": 72}, {"missing_slices": (2,)}),
}
GAPS_UM = (165.0, 365.0)
MOVED_UM = (0.0, 75.0)
DEPTHS_UM = (-3500.0, -1500.0, 1000.0)
PIXEL_UM, PLANE_UM, FIELD_PX = 25.0, 10.0, 128
STEP = "interpolate_missing_slice"
WAYS: dict[str, tuple[str, ...]] = {
    "left open": (f"{STEP}.enabled=false",),
    "average": (f"{STEP}.method=average",),
    "weighted": (f"{STEP}.method=weighted",),
    "zmorph": (f"{STEP}.method=zmorph",),
    "zmorph, any gain": (f"{STEP}.method=zmorph", f"{STEP}.min_improvement=0"),
}


def speckled(planes: Any, rng: Any, looks: float = 10.0) -> Surface:
    seen = planes * rng.gamma(looks, 1 / looks, planes.shape)
    image = ndi.gaussian_filter(seen.mean(axis=0), 0.5).astype(np.float32)
    return Surface(image, np.ones(image.shape, bool))


def local(image: Any) -> Any:
    mean = ndi.gaussian_filter(image, 4)
    spread = np.sqrt(np.maximum(ndi.gaussian_filter(image * image, 4) - mean**2, 0))
    return (image - mean) / (spread + 0.15 * spread.max() + 1e-9)


def score_surfaces(seed: int, depth_um: float, gap_um: float, moved_um: float) -> dict[str, Any]:
    """Score each way on one gap of the brain."""
    rng = np.random.default_rng(seed)
    brain = Brain(BrainSpec(seed=seed), PLANE_UM)
    half = FIELD_PX * PIXEL_UM / 2
    count = round(gap_um / PLANE_UM)
    y0, x0 = rng.uniform(-1500, 1500, 2)
    block = sample_block(
        brain,
        (depth_um, depth_um + (count + 6 - 0.5) * PLANE_UM),
        (y0 - half, y0 + half),
        (x0 - half, x0 + half),
        Voxel(PLANE_UM, PIXEL_UM, PIXEL_UM),
    )
    angle = rng.uniform(0, 2 * np.pi)
    far = np.array([np.sin(angle), np.cos(angle)]) * moved_um / PIXEL_UM
    # Plane 2 ends the slice above, plane count + 3 begins the one below.
    share = np.clip((np.arange(count + 6) - 1) / (count + 3), 0, 1)
    true = np.stack(
        [ndi.shift(p, a * far, order=1, mode="nearest") for p, a in zip(block, share, strict=True)]
    )
    below = np.stack([ndi.shift(p, far, order=1, mode="nearest") for p in block[-3:]])
    before, after = speckled(block[:3], rng), speckled(below, rng)
    gates = MorphGates(max_translation_px=300 / PIXEL_UM)
    plan = plan_morph(before, after, gates)
    eager = plan_morph(before, after, replace(gates, min_improvement=-2.0))
    ways = {
        "average": Morph(before, after, "average"),
        "weighted": Morph(before, after, "weighted"),
        "zmorph": Morph(before, after, plan.method, plan.matrix),
        "zmorph, any gain": Morph(before, after, eager.method, eager.matrix),
    }
    border = np.zeros(before.image.shape, bool)
    border[8:-8, 8:-8] = True
    rows: dict[str, Any] = {"refused": bool(plan.failure), "affine": plan.method == "zmorph"}
    for way, morph in ways.items():
        ncc, error = [], []
        for k in range(3, count + 3):
            made, truth = morph.plane(float(share[k])).image, true[k]
            tissue = border & brain.contains(block[k])
            if tissue.sum() > 500:
                ncc.append(np.corrcoef(local(made)[tissue], local(truth)[tissue])[0, 1])
                error.append(np.abs(made - truth)[tissue].mean() / truth[tissue].mean())
        rows[way] = (np.mean(ncc), np.mean(error)) if ncc else (np.nan, np.nan)
    return rows


def compare_surfaces(seeds: int) -> None:
    """Print the table without runs."""
    ways = ("average", "weighted", "zmorph", "zmorph, any gain")
    print(
        f"{'gap':>6}{'moved':>7}  "
        + "".join(f"{w:>22}" for w in ways)
        + f"{'affine':>9}{'refused':>9}"
    )
    print(f"{'um':>6}{'um':>7}  " + f"{'ncc     error':>22}" * len(ways))
    for gap in GAPS_UM:
        for moved in MOVED_UM:
            rows = [
                score_surfaces(seed, depth, gap, moved)
                for seed in range(seeds)
                for depth in DEPTHS_UM
            ]
            cells = "".join(
                "{:>14.3f}{:>8.3f}".format(*np.nanmean([r[w] for r in rows], axis=0)) for w in ways
            )
            used = [np.mean([r[k] for r in rows]) for k in ("affine", "refused")]
            print(f"{gap:6.0f}{moved:7.0f}  {cells}{used[0]:9.0%}{used[1]:9.0%}", flush=True)


def contrast(data: Any) -> Any:
    mean = ndi.gaussian_filter(data, (1, 4, 4))
    spread = np.sqrt(np.maximum(ndi.gaussian_filter(data * data, (1, 4, 4)) - mean**2, 0))
    return (data - mean) / (spread + 0.15 * spread.max() + 1e-9)


def on_grid(path: Path) -> Any:
    volume = open_volume(path)
    data = np.nan_to_num(np.asarray(volume.read(), np.float32))
    factors = [v / g for v, g in zip(volume.voxel_um, GRID, strict=True)]
    return ndi.zoom(data, factors, order=1)


def common(volume: Any, truth: Any, shift: tuple[int, ...]) -> tuple[Any, Any]:
    low, high = np.maximum(shift, 0), np.minimum(volume.shape, np.add(truth.shape, shift))
    a = tuple(slice(int(i), int(j)) for i, j in zip(low, high, strict=True))
    b = tuple(
        slice(int(i), int(j)) for i, j in zip(low - np.array(shift), high - shift, strict=True)
    )
    return a, b


def correlate(a: Any, b: Any, where: Any) -> float:
    if np.count_nonzero(where) < 100:
        return float("nan")
    return float(np.corrcoef(a[where], b[where])[0, 1])


def score_gap(open_path: Path, path: Path, acquisition: Path) -> dict[str, float]:
    """Score a volume on the voxels that the volume with the gap left open does not hold."""
    shift = evaluate(open_path, acquisition).shift_px
    truth, mask = read_truth(acquisition)
    factors = [v / g for v, g in zip(truth.voxel_um, GRID, strict=True)]
    t = ndi.zoom(truth.data, factors, order=1)
    tissue = ndi.zoom(mask.astype(np.float32), factors, order=1) > 0.5
    left, filled = on_grid(open_path), on_grid(path)
    n = np.minimum(left.shape, filled.shape)
    left, filled = left[: n[0], : n[1], : n[2]], filled[: n[0], : n[1], : n[2]]
    a, b = common(left, t, shift)
    tissue = ndi.binary_erosion(tissue[b], iterations=2)
    held = left[a] != 0
    # Whole gaps between imaged planes, not ragged borders.
    planes = np.flatnonzero((held & tissue).sum(axis=(1, 2)) > 0)
    inside = np.zeros(len(held), bool)
    inside[planes.min() : planes.max() + 1] = True
    gap = tissue & ~ndi.binary_dilation(held, iterations=1) & inside[:, None, None]
    gap &= ((~held) & tissue).sum(axis=(1, 2))[:, None, None] > 0.5 * tissue.sum(axis=(1, 2))[
        :, None, None
    ]
    v = filled[a]
    gain = float(np.median(v[held & tissue] / np.maximum(t[b][held & tissue], 0.05)))
    vc, tc = contrast(v), contrast(t[b])
    seen = gap & (v != 0)
    imaged = ndi.binary_erosion(held, iterations=2) & tissue
    return {
        "voxels": int(gap.sum()),
        "ncc": correlate(vc, tc, seen),
        "imaged": correlate(vc, tc, imaged),
        "error": float(np.abs(v[seen] / gain - t[b][seen]).mean() / t[b][seen].mean())
        if seen.any()
        else float("nan"),
        "filled": float(seen.sum() / max(gap.sum(), 1)),
    }


def run_way(folder: Path, way: str, cpus: int) -> tuple[Path, dict[str, Any]]:
    """Run (or continue) the pipeline with one way of filling; return the volume's copy and what the step said."""
    command = [sys.executable, "-c", "from soct.cli.main import main; main()", "run"]
    command += [str(folder / "acquisition/raw"), str(folder / "out"), "--cpus", str(cpus)]
    for one in WAYS[way]:
        command += ["--set", one]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    volumes = sorted((folder / "out/stack").glob("*.ome.zarr"))
    if done.returncode != 0 or not volumes:
        raise SystemExit(f"{way}: exit {done.returncode}\n{done.stderr[-2000:]}")
    kept = folder / f"{way.replace(' ', '_')}.ome.zarr"
    volumes[0].rename(kept)
    said = folder / f"out/{STEP}/interpolation.json"
    content = json.loads(said.read_text()) if "left open" not in way and said.exists() else {}
    return kept, content


def describe(content: dict[str, Any]) -> str:
    parts = [
        f"{i}: {row['method']} ({row['ncc_before']:.2f} -> {row['ncc']:.2f})"
        for i, row in content.get("slices", {}).items()
    ]
    parts += [f"{i}: {reason}" for i, reason in content.get("failed", {}).items()]
    parts += [f"{i}: not needed" for i in content.get("not_needed", ())]
    return "; ".join(parts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=300)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="keep acquisitions and runs here")
    parser.add_argument("--runs", action="store_true", help="whole runs of the pipeline")
    asked = parser.parse_args()
    if not asked.runs:
        compare_surfaces(asked.seeds)
        return
    columns = ("ncc", "imaged", "error", "filled", "xy_um")
    print(f"{'case':30}{'way':20}" + "".join(f"{c:>9}" for c in columns) + "  what was done")
    for name in asked.cases:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        told: dict[str, str] = {}
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            shape, faults = CASES[name]
            spec = AcquisitionSpec(
                **{**shape, "seed": seed},
                faults=Faults(**{"speckle_looks": 10.0, "galvo_return_px": 23, **faults}),
            )
            with tempfile.TemporaryDirectory() as temporary:
                folder = (
                    asked.keep / f"{name}-{seed}".replace(" ", "_")
                    if asked.keep
                    else Path(temporary)
                )
                simulate(spec, folder / "acquisition")
                base: Path | None = None
                for way in WAYS:
                    path, content = run_way(folder, way, asked.cpus)
                    base = base or path
                    row = score_gap(base, path, folder / "acquisition")
                    row["xy_um"] = evaluate(path, folder / "acquisition").xy_p95_um
                    found[way].append(row)
                    told[way] = describe(content)
        for way, rows in found.items():
            cells = "".join(
                f"{np.nanmedian([r[c] for r in rows]):9.3g}"
                if np.isfinite([r[c] for r in rows]).any()
                else f"{'-':>9}"
                for c in columns
            )
            print(f"{name:30}{way:20}{cells}  {told[way]}", flush=True)


if __name__ == "__main__":
    main()
