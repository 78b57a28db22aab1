"""Whether a run's report names the faults that were planted, each at its place."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, str]


class Report:
    """The tables of a finished run: `report_data/` and the final ledger."""

    def __init__(self, out: Path) -> None:
        self.problems = _tsv(out / "report_data/problems.tsv")
        self.metrics = _tsv(out / "report_data/metrics.tsv")
        self.tiles = _tsv(out / "report_data/tiles.tsv")
        self.slices = {int(r["slice_id"]): r for r in _tsv(out / "report_data/slices.tsv")}
        with (out / "slice_config_final.csv").open() as lines:
            self.ledger = {int(r["slice_id"]): r for r in csv.DictReader(lines)}

    def problem(self, pattern: str, *places: str) -> bool:
        """Whether a problem's text matches, and names all places (in `where` or its evidence)."""
        for row in self.problems:
            text = " ".join(row.values())
            if re.search(pattern, text, re.IGNORECASE) and all(re.search(p, text) for p in places):
                return True
        return False

    def metric(self, name: str) -> dict[str, str]:
        """Value by unit."""
        return {r["unit"]: r["value"] for r in self.metrics if r["metric"] == name}


def _tsv(path: Path) -> list[Row]:
    with path.open() as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def _place(name: str) -> tuple[int, int, int]:
    """``(slice, row, column)`` from a tile's folder name."""
    x, y, z = (int(v) for v in re.findall(r"\d+", name))
    return z, y, x


def _slice_word(i: int) -> str:
    return rf"\b(slices?[^;|]*?)\b0*{i}\b"


def _of_tiles(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    for kind, word in (("truncated", "truncated"), ("missing", "missing")):
        for name in truth[kind]:
            z, y, x = _place(name)
            row = any(
                word in r["kind"]
                and (int(r["slice_id"]), r["row"], r["col"]) == (z, str(y), str(x))
                for r in report.tiles
            )
            problem = report.problem(word, rf"slice {z} tile \({y}, {x}\)")
            yield f"{kind} tile {name}", row and problem
    for name in truth["blank"]:
        z, y, x = _place(name)
        texts = [r for r in report.problems if "texture" in " ".join(r.values())]
        yield (
            f"blank tile {name}",
            any(
                re.search(_slice_word(z), r["where"]) or re.search(rf"slice {z}\b", r["evidence"])
                for r in texts
            )
            and _blank_listed(report, z, y, x),
        )


def _blank_listed(report: Report, z: int, y: int, x: int) -> bool:
    """Whether the table of tiles lists a tile as without texture."""
    return any(
        r["kind"] == "blank_tile"
        and (int(r["slice_id"]), r["row"], r["col"]) == (z, str(y), str(x))
        for r in report.tiles
    )


def _of_slices(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    present = {int(k) for k in truth["slices"]}
    for i in sorted(set(range(truth["spec"]["slices"])) - present):
        row = report.slices.get(i)
        yield (
            f"missing slice {i}",
            report.problem("missing slice", _slice_word(i))
            and row is not None
            and row["missing"] == "true",
        )
    for i in present:
        if any(truth["slices"][str(i)]["glitch_yx_mm"]):
            row = report.ledger[i]
            yield (
                f"glitch of slice {i}",
                report.problem("glitch", _slice_word(i)) and row["rehomed"] in ("1", "true"),
            )


def _galvo(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    for i in map(int, truth["slices"]):
        row = report.ledger[i]
        confident = (
            row["galvo_confidence"] not in ("", "0") and float(row["galvo_confidence"]) > 0.6
        )
        nx = truth["spec"]["tile_px"][1]
        # A band at the end of the frame is only cut off.
        rolled = (row["galvo_fix"] in ("1", "true")) == (truth["galvo_at"] != nx)
        decided = report.metric("galvo_decision").get(f"z{i:02d}", "")
        yield f"galvo band of slice {i}", confident and rolled and "return lines" in decided


def _no_galvo(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    for i in map(int, truth["slices"]):
        shift = report.metric("galvo_shift").get(f"z{i:02d}", "")
        yield (
            f"no band in slice {i}",
            shift in ("0", "") and report.ledger[i]["galvo_fix"] in ("0", "false", ""),
        )


def _growth(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    for growth in truth["spec"]["faults"]["growth"]:
        i = growth["slice_id"]
        yield f"growth at slice {i}", report.problem("grew|growth|grows|shape", _slice_word(i))


def _turns(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Slices that lie more than a degree from the one before are named."""
    ids = sorted(map(int, truth["slices"]))
    for a, b in itertools.pairwise(ids):
        turn = truth["slices"][str(b)]["rotation_deg"] - truth["slices"][str(a)]["rotation_deg"]
        if abs(turn) > 1.05:
            yield (
                f"turn of {turn:.1f} deg from {a} to {b}",
                report.problem(r"rotat|turn|pair|keep", rf"\b{a}\b.*\b{b}\b"),
            )


def _number(report: Report, name: str) -> list[float]:
    return [float(v) for v in report.metric(name).values() if v not in ("", "true", "false")]


def _curvature(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    f, um = truth["spec"]["faults"], truth["dz_um"]
    found = _number(report, "focal_curvature_um")
    expected = f["focal_curvature_samples"] * um
    yield "focal curvature", bool(found) and abs(found[0] / expected - 1) < 0.25


def _tilt(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    expected = max(abs(v) for v in truth["spec"]["faults"]["surface_tilt_deg"])
    named = report.problem("tilt")
    yield (
        "tilt",
        named and all(abs(v - expected) < 0.5 for v in _number(report, "interface_tilt_deg")),
    )


def _low_contrast(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    yield "low contrast", report.problem(r"snr|noise|contrast|signal")


def _stage_turned(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    angle = _number(report, "stage_rotation_deg")
    scale = _number(report, "stage_scale")
    f = truth["spec"]["faults"]
    yield (
        "rotation of the stage",
        bool(angle) and abs(abs(np.median(angle)) - abs(f["stage_rotation_deg"])) < 0.5,
    )
    yield (
        "scale of the stage",
        bool(scale) and abs(np.median(scale) - f["stage_scale"]) < 0.01,
    )


def _no_stage(report: Report, truth: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    yield "no stage positions", report.problem("no stage positions")


CHECKS: dict[str, Callable[[Report, dict[str, Any]], Iterator[tuple[str, bool]]]] = {
    "galvo band": _galvo,
    "no galvo band": _no_galvo,
    "growth": _growth,
    "turns": _turns,
    "focal curvature": _curvature,
    "tilt": _tilt,
    "low contrast": _low_contrast,
    "stage turned": _stage_turned,
    "no stage": _no_stage,
}


def check_told(folder: Path, kinds: tuple[str, ...]) -> list[tuple[str, bool]]:
    """Every planted fault, and whether report and ledger name it at the right place."""
    truth = json.loads((folder / "acquisition/truth.json").read_text())
    report = Report(folder / "out")
    found = [*_of_tiles(report, truth), *_of_slices(report, truth)]
    for kind in kinds:
        found += CHECKS[kind](report, truth)
    return found
