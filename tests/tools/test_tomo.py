"""`soct tomo`: what it measures, writes, continues and refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode, InputError, LockedError, ResourceError, UsageError
from soct.formats.tables import read_table
from soct.simulate.projections import Ellipsoid, draw_phantom, project_phantom
from soct.tomography import compute_aligned_stack
from soct.tomography.gauge import shift_error
from soct.tools.tomo_axis import chosen_rows, find_axis
from soct.tools.tomo_blocks import aligned_rows
from soct.tools.tomo_horizontal import SliceShifts, choose_rows, combine
from soct.tools.tomo_input import InputOptions, open_projections
from soct.tools.tomo_reconstruct import ReconstructOptions, block_rows, slices_of
from soct.tools.tomo_simulate import ScanWish, draw_scan, write_scan
from soct.tools.tomo_tables import ShiftTableRow, read_shifts, write_shifts
from soct.tools.tomo_work import key_of, open_work

BEADS = draw_phantom(1)
SMALL = ScanWish(projections=60, rows=24, cols=64, shift_px=2.0, seed=3)


def soct(*arguments: object) -> int:
    words = [str(a) for a in ("tomo", *arguments)]
    return run_guarded(lambda: run_app(words), words)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    write_scan(folder / "scan.h5", SMALL)
    return folder


@pytest.fixture
def scan(made: Path, tmp_path: Path) -> Path:
    """A scan in a folder of its own, with its truth beside it."""
    for path in made.iterdir():
        shutil.copy2(path, tmp_path)
    return tmp_path / "scan.h5"


def opened(path: Path, **how: object):
    return open_projections(path, InputOptions(**how))  # type: ignore[arg-type]


# -- The scan


def test_a_simulated_scan_holds_the_line_integrals_and_displacements_that_it_tells(scan):
    found = opened(scan)
    drawn = draw_scan(SMALL)
    values = found.read(slice(None), slice(None))
    assert np.abs(values - drawn.line_integrals).max() < 2e-4
    truth = read_shifts(scan.with_name("scan.truth.csv"), found.radians)
    assert np.abs(truth - drawn.shifts).max() < 1e-5
    still = draw_scan(ScanWish(**{**vars(SMALL), "shift_px": 0.0})).line_integrals
    aligned = compute_aligned_stack(values, truth, "spline")
    inner = np.s_[:, 4:-4, 4:-4]
    before = np.abs(values - still)[inner].mean()
    assert np.abs(aligned - still)[inner].mean() < 0.15 * before


def test_a_ball_is_seen_where_the_convention_says():
    ball = (Ellipsoid((0.4, 0.0, 0.3), (0.1, 0.1, 0.1), 0.0, 1.0),)
    theta = np.radians([0.0, 90.0, 180.0])
    shifts = np.array([[0.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
    images = project_phantom(ball, theta, 41, 81, 40.0, shifts)
    for image, (row, col) in zip(images, ((7.85, 56.2), (7.85, 43.0), (9.85, 23.8)), strict=True):
        mass = image / image.sum()
        assert (mass.sum(axis=1) @ np.arange(41)) == pytest.approx(row, abs=0.02)
        assert (mass.sum(axis=0) @ np.arange(81)) == pytest.approx(col, abs=0.02)


# -- What a stack is taken for


def test_rows_are_counted_from_the_first_in_use(scan):
    whole, part = opened(scan), opened(scan, rows=(5, 12))
    assert part.rows == 7
    assert np.array_equal(part.read(slice(3, 9), slice(1, 3)), whole.read(slice(3, 9), slice(6, 8)))
    assert opened(scan, rows=(20, None)).rows == 4
    with pytest.raises(UsageError, match="rows are not"):
        opened(scan, rows=(20, 30))


@pytest.mark.parametrize(
    ("how", "degrees"),
    [
        ({}, 177.0),
        ({"span": 360.0}, 354.0),
        ({"angle_range": (10.0, 190.0)}, 180.0),
        ({"span": np.pi, "angle_unit": "rad"}, 177.0),
    ],
)
def test_angles_come_from_the_file_a_span_or_a_range(scan, how, degrees):
    found = opened(scan, **how)
    assert np.degrees(np.ptp(found.radians)) == pytest.approx(degrees)
    assert found.span_deg == pytest.approx(degrees * 60 / 59)


def test_angles_without_a_unit_are_radians_if_they_span_no_more_than_a_turn(scan):
    for name, values, said in (("r", np.linspace(0, 3, 60), "radians"), ("d", np.linspace(0, 179, 60), "degrees")):  # fmt: skip
        path = scan.with_name(f"{name}.txt")
        np.savetxt(path, values)
        found = opened(scan, angles=path)
        assert said in " ".join(found.notes)
        assert np.ptp(found.radians) == pytest.approx(3.0 if name == "r" else np.radians(179))


def test_angles_that_do_not_fit_are_errors(scan, tmp_path):
    np.savetxt(tmp_path / "few.txt", np.arange(59))
    with pytest.raises(InputError, match="number of angles") as caught:
        opened(scan, angles=tmp_path / "few.txt")
    assert "60" in caught.value.expected
    np.save(tmp_path / "bare.npy", np.ones((5, 8, 8)))
    with pytest.raises(UsageError, match="Nothing says"):
        opened(tmp_path / "bare.npy")
    with pytest.raises(UsageError, match="both"):
        opened(scan, span=180.0, angle_range=(0.0, 180.0))
    with pytest.raises(InputError, match="same angle"):
        opened(scan, angle_range=(5.0, 5.0))


def test_values_are_counts_where_there_are_flats_and_the_other_kinds_are_told(scan, tmp_path):
    counts = opened(scan)
    truth = counts.read(slice(None), slice(None))
    np.save(tmp_path / "transmission.npy", np.exp(-truth))
    np.save(tmp_path / "integrals.npy", truth)
    for name, values in (("transmission", "transmission"), ("integrals", "auto")):
        found = opened(tmp_path / f"{name}.npy", span=180.0, values=values)
        assert np.abs(found.read(slice(None), slice(None)) - truth).max() < 1e-4
        assert not found.warnings
    with pytest.raises(InputError, match="look like counts or transmissions") as caught:
        opened(tmp_path / "transmission.npy", span=180.0)
    assert "--transmission" in caught.value.hint
    sure = opened(tmp_path / "transmission.npy", span=180.0, values="line-integrals")
    assert not sure.warnings


def test_what_is_replaced_is_counted_once_however_often_it_is_read(scan):
    with h5py.File(scan, "r+") as file:
        file["exchange/data"][4, 3, 10] = -5
        file["exchange/data"][:, 7, 20] = file["exchange/data_dark"][0, 7, 20]
        file["exchange/data_white"][:, 7, 20] = file["exchange/data_dark"][:, 7, 20]
    found = opened(scan)
    for _ in range(2):
        found.read(slice(None), slice(0, 24))
        found.read(slice(2, 6), slice(2, 9))
    told = found.repairs.sentences()
    assert told[0].startswith(f"60 of {60 * 24 * 64} values of pixels that do not see")
    assert told[1].startswith("1 of")


def test_projections_that_hold_nothing_are_named(scan):
    with h5py.File(scan, "r+") as file:
        file["exchange/data"][17] = np.nan
    with pytest.raises(InputError, match="lines in which no value") as caught:
        opened(scan).read(slice(None), slice(3, 5))
    assert caught.value.found == "projection 17"


# -- Tables of shifts


def test_shifts_are_read_as_they_were_written_for_the_same_projections_only(tmp_path):
    theta = np.radians(np.arange(0, 180, 10.0))
    shifts = np.random.default_rng(0).normal(size=(2, 18)).round(5)
    write_shifts(tmp_path / "s.csv", theta, shifts, (None, np.full(18, 0.25)))
    assert np.array_equal(read_shifts(tmp_path / "s.csv", theta), shifts)
    assert read_table(tmp_path / "s.csv", ShiftTableRow)[3].horizontal_residual == 0.25
    with pytest.raises(InputError, match="other projections"):
        read_shifts(tmp_path / "s.csv", theta[:-1])
    with pytest.raises(InputError, match="other angles"):
        read_shifts(tmp_path / "s.csv", theta + 0.01)


def test_aligned_rows_are_those_of_the_whole_aligned_stack(scan):
    found = opened(scan)
    shifts = read_shifts(scan.with_name("scan.truth.csv"), found.radians)
    whole = compute_aligned_stack(found.read(slice(None), slice(None)), shifts, "spline")
    rows = aligned_rows(found, shifts, slice(10, 13))
    assert np.abs(rows - whole[:, 10:13]).max() < 1e-5


# -- Reconstruct


def reconstructed(path: Path, name: str = "reconstruction/data") -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[name])


def test_slices_of_a_displaced_scan_with_its_shifts_are_those_of_a_still_one(scan, capsys):
    folder = scan.parent
    truth = scan.with_name("scan.truth.csv")
    write_scan(folder / "still.h5", ScanWish(**{**vars(SMALL), "shift_px": 0.0}))
    common = ("--axis", "32", "--filter", "hann", "--no-report")
    for name, more in (("still.h5", ()), ("scan.h5", ()), ("scan.h5", ("--shifts", truth))):
        out = folder / f"out{len(more)}_{name}"
        assert soct("reconstruct", folder / name, "-o", out, *common, *more) == ExitCode.OK
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == str(folder / "out0_still.h5")
    still, moved, mended = (
        reconstructed(folder / name)[4:-4] for name in ("out0_still.h5", "out0_scan.h5", "out2_scan.h5")
    )  # fmt: skip
    assert np.abs(mended - still).mean() < 0.15 * np.abs(moved - still).mean()


def test_every_kind_of_file_holds_the_same_slices(scan):
    for suffix in ("h5", "npy", "tif"):
        out = scan.with_name(f"s.{suffix}").with_stem(f"s_{suffix}")
        assert soct("reconstruct", scan, "-o", out, "--axis", "32", "--rows", "8:12") == ExitCode.OK
        told = json.loads(out.with_suffix(".json").read_text())
        assert told["shape"] == [4, 64, 64]
        page = out.with_suffix(".html").read_text()
        assert "data:image/png" in page
        assert "http" not in page.replace("http-equiv", "").replace(
            "http://www.w3.org/2000/svg", ""
        )
    first = reconstructed(scan.with_name("s_h5.h5"))
    assert np.array_equal(first, np.load(scan.with_name("s_npy.npy")))
    assert np.array_equal(first, tifffile.imread(scan.with_name("s_tif.tif")))


def test_the_size_of_the_memory_decides_the_blocks_and_nothing_else(scan):
    found = opened(scan)
    shifts = read_shifts(scan.with_name("scan.truth.csv"), found.radians)
    with pytest.raises(ResourceError, match="one slice"):
        block_rows(found, shifts, 1 << 19)
    few = block_rows(found, shifts, 2 << 20)
    assert len(few) > 3
    assert [few[0].start, few[-1].stop] == [0, 24]
    whole = slices_of(found, shifts, slice(0, 24), 32.0, ReconstructOptions())
    parts = [slices_of(found, shifts, rows, 32.0, ReconstructOptions()) for rows in few]
    assert np.abs(np.concatenate(parts) - whole).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("reconstruct", "scan.h5", "-o", "x.raw"), ExitCode.USAGE),
        (("reconstruct", "scan.h5", "-o", "nowhere/x.h5", "--axis", "3"), ExitCode.USAGE),
        (("reconstruct", "scan.h5", "-o", "scan.h5", "--axis", "3"), ExitCode.USAGE),
        (("reconstruct", "scan.h5", "-o", "x.h5", "--axis", "middle"), ExitCode.USAGE),
        (("reconstruct", "scan.h5", "-o", "x.h5", "--rows", "9:3"), ExitCode.USAGE),
        (("reconstruct", "scan.h5", "-o", "x.h5", "--axis", "3", "--memory", "100kB"), ExitCode.RESOURCES),
        (("reconstruct", "scan.h5", "-o", "x.h5", "--shifts", "absent.csv"), ExitCode.INPUT),
        (("reconstruct", "absent.h5", "-o", "x.h5"), ExitCode.INPUT),
        (("reconstruct", "scan.h5", "-o", "x.h5", "--line-integrals", "--transmission"), ExitCode.USAGE),
        (("simulate", "scan.h5"), ExitCode.USAGE),
        (("simulate", "x.npy"), ExitCode.USAGE),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_error_and_leaves_nothing(
    scan, monkeypatch, capsys, arguments, code
):
    monkeypatch.chdir(scan.parent)
    before = sorted(p.name for p in scan.parent.iterdir())
    assert soct(*arguments) == code
    assert "rror" in capsys.readouterr().err
    assert sorted(p.name for p in scan.parent.iterdir() if p.name != "soct-crash") == before


# -- Align


def error_px(found: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square error of vertical shifts, but for a constant."""
    return float((found - truth).std())


def test_vertical_shifts_are_found_and_written_with_an_aligned_stack(scan, capsys):
    out, stack = scan.with_name("out"), scan.with_name("aligned.h5")
    call = ("align", scan, "-o", out, "--no-horizontal", "--write-stack", stack)
    assert soct(*call) == ExitCode.OK
    told = capsys.readouterr()
    assert told.out.split() == [str(out / n) for n in ("shifts.csv", "align.json", "report.html")] + [str(stack)]  # fmt: skip
    found = opened(scan)
    truth = read_shifts(scan.with_name("scan.truth.csv"), found.radians)
    shifts = read_shifts(out / "shifts.csv", found.radians)
    assert error_px(shifts[0], truth[0]) < 0.02
    assert not shifts[1].any()
    again = opened(stack)
    assert again.values == "line integrals"
    assert not again.warnings
    assert np.allclose(again.radians, found.radians)
    expected = compute_aligned_stack(found.read(slice(None), slice(None)), shifts, "spline")
    assert np.abs(again.read(slice(None), slice(None)) - expected).max() < 1e-5
    document = json.loads((out / "align.json").read_text())
    assert document["vertical"]["residual_after"] < 0.1 * document["vertical"]["residual_before"]


@pytest.mark.slow
def test_shifts_of_both_directions_are_found_and_sharpen_the_slices(scan, capsys):
    out = scan.with_name("out")
    assert soct("align", scan, "-o", out, "--slices", "3", "--json") == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    found = opened(scan)
    truth = read_shifts(scan.with_name("scan.truth.csv"), found.radians)
    shifts = read_shifts(out / "shifts.csv", found.radians)
    assert error_px(shifts[0], truth[0]) < 0.02
    assert shift_error(shifts[1], truth[1], found.radians) < 0.03
    assert document["horizontal"]["residual_after"] < 0.3 * document["horizontal"]["residual_before"]  # fmt: skip
    assert len(document["horizontal"]["rows"]) == 3
    rows = read_table(out / "shifts.csv", ShiftTableRow)
    assert all(row.horizontal_residual is not None for row in rows)
    assert document["axis_px"] == pytest.approx(32, abs=0.6)


@pytest.mark.slow
def test_a_still_scan_is_said_to_be_aligned_and_the_axis_can_be_brought_elsewhere(tmp_path, capsys):
    write_scan(tmp_path / "scan.h5", ScanWish(**{**vars(SMALL), "shift_px": 0.0, "axis": 34.0}))
    common = ("align", tmp_path / "scan.h5", "--no-vertical", "--slices", "1", "--no-report", "--json")  # fmt: skip
    assert soct(*common, "-o", tmp_path / "still") == ExitCode.OK
    assert "aligned already" in json.loads(capsys.readouterr().out)["verdict"]
    found = opened(tmp_path / "scan.h5")
    assert np.abs(read_shifts(tmp_path / "still" / "shifts.csv", found.radians)).max() < 0.05
    assert soct(*common, "-o", tmp_path / "moved", "--axis", "32") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["axis_px"] == pytest.approx(32, abs=0.1)
    moved = read_shifts(tmp_path / "moved" / "shifts.csv", found.radians)[1]
    assert np.abs(moved - 2.0).max() < 0.1


@pytest.mark.slow
def test_one_sinogram_is_aligned_horizontally_and_what_cannot_be_measured_is_said(scan, capsys):
    found = opened(scan)
    truth = draw_scan(SMALL)
    still = np.stack([np.zeros(60), truth.shifts[1]])
    stack = project_phantom(BEADS, found.radians, 1, 64, 32.0, still)
    np.save(scan.with_name("sinogram.npy"), stack[:, 0])
    out = scan.with_name("out")
    call = ("align", scan.with_name("sinogram.npy"), "--span", "180", "-o", out, "--no-report")
    assert soct(*call) == ExitCode.USAGE
    assert "--sinogram-axes" in capsys.readouterr().err
    assert soct(*call, "--sinogram-axes", "angle-detector") == ExitCode.OK
    told = capsys.readouterr().err
    assert "warning: vertical shifts are not measured" in told
    assert "one sinogram of 60 projections and 64 detector pixels" in told
    shifts = read_shifts(out / "shifts.csv", found.radians)
    assert not shifts[0].any()
    assert shift_error(shifts[1], truth.shifts[1], found.radians) < 0.03


def one_slice(row: int, shifts: np.ndarray, sigma: float = 0.01, **more: object) -> SliceShifts:
    n = len(shifts)
    values = {"deviations": np.full(n, sigma), "axis": 32.0, "converged": True, "warnings": ()}
    ones = {"residual_before": np.ones(n), "residual_after": np.full(n, 0.1)}
    ones["residual_expected"] = np.full(n, 0.1)
    return SliceShifts(row=row, shifts=shifts, **{**values, **ones, **more})  # type: ignore[arg-type]


def test_spoilt_slices_and_spoilt_projections_of_one_slice_have_no_say():
    rng = np.random.default_rng(0)
    theta = np.radians(np.arange(0, 180, 3.0))
    truth = rng.uniform(-3, 3, 60)
    shifts = [truth + rng.normal(0, 0.01, 60) for _ in range(5)]
    shifts[1] = rng.uniform(-3, 3, 60)
    shifts[3][[7, 8, 30]] += 2.0
    found = combine([one_slice(r, s) for r, s in enumerate(shifts)], theta)
    assert shift_error(found.shifts, truth, theta) < 0.012
    assert np.median(found.uncertainty) < 0.02


def test_surer_slices_count_for_more_and_a_slice_moved_as_a_whole_for_the_same():
    rng = np.random.default_rng(0)
    theta = np.radians(np.arange(0, 180, 3.0))
    truth = rng.uniform(-3, 3, 60)
    slices = [one_slice(k, truth + rng.normal(0, s, 60), s) for k, s in enumerate((0.3, 0.3, 0.01))]
    assert shift_error(combine(slices, theta).shifts, truth, theta) < 0.02
    moved = [one_slice(k, truth + a * np.cos(theta)) for k, a in enumerate((0.0, 0.5, -0.2))]
    assert shift_error(combine(moved, theta).shifts, truth, theta) < 0.001


def test_what_slices_warn_of_is_told_once_with_their_rows():
    theta = np.radians(np.arange(0, 180, 18.0))
    texts = ("3 columns (1, 2, 3) are dead", "5 columns (1, 2) are dead", "the object is cut off")
    slices = [one_slice(10 * k, np.zeros(10), warnings=(text,)) for k, text in enumerate(texts)]
    told = combine(slices, theta, ["row 99 is not used: nothing in it"]).warnings
    assert told == (
        "row 99 is not used: nothing in it",
        "in rows 0, 10: 3 columns (1, 2, 3) are dead (row 0)",
        "in row 20: the object is cut off",
    )


def test_shifts_that_gain_nothing_are_not_used_and_told():
    theta = np.radians(np.arange(0, 180, 3.0))
    chance = np.random.default_rng(0).normal(0, 0.3, 60)
    same = {"residual_before": np.ones(60), "residual_after": np.ones(60)}
    doubted = combine([one_slice(0, chance, **same)], theta)
    assert "may be chance" in doubted.warnings[0]
    assert not doubted.shifts.any()
    assert "no shifts were found" in doubted.verdict()
    used = combine([one_slice(0, chance)], theta)
    assert not used.warnings
    assert used.shifts.any()


def test_slices_are_spread_over_the_rows_that_show_something(scan):
    found = opened(scan)
    assert choose_rows(found, 3, None) == [3, 11, 19]
    assert choose_rows(found, 99, None) == list(range(24))
    assert choose_rows(found, 4, None, 3.5) == [5, 9, 13, 17]
    assert len(choose_rows(found, 4, None, 11.0)) == 4
    mass = np.zeros(24)
    mass[6:15] = 1.0
    chosen = choose_rows(found, 3, mass)
    assert len(chosen) == 2
    assert all(6 <= row < 15 for row in chosen)


def test_an_aligned_stack_is_added_later_without_measuring_again(scan, capsys):
    out, stack = scan.with_name("out"), scan.with_name("aligned.npy")
    assert soct("align", scan, "-o", out, "--no-horizontal", "--no-report") == ExitCode.OK
    before = content(out, ".")
    capsys.readouterr()
    call = ("align", scan, "-o", out, "--no-horizontal", "--no-report", "--write-stack", stack)
    assert soct(*call) == ExitCode.OK
    assert "vertical alignment" not in capsys.readouterr().err
    assert content(out, ".") == before
    assert np.load(stack).shape == (60, 24, 64)
    assert soct("align", scan, "-o", out, "--no-horizontal", "--max-shift", "9") == ExitCode.USAGE
    assert "max_shift: None before, 9.0 now" in capsys.readouterr().err


@pytest.mark.parametrize(("noise", "most"), [(0.0, 0.02), (0.015, 0.12)])
def test_phase_gradients_are_aligned_vertically_too(scan, tmp_path, noise, most):
    found = opened(scan)
    values = found.read(slice(None), slice(None))
    values += np.random.default_rng(0).normal(0, noise, values.shape).astype(np.float32)
    np.save(tmp_path / "gradients.npy", np.gradient(values, axis=2))
    out = tmp_path / "out"
    call = ("align", tmp_path / "gradients.npy", "--span", "180", "--derivatives", "-o", out, "--no-horizontal")  # fmt: skip
    assert soct(*call, "--no-report") == ExitCode.OK
    truth = read_shifts(scan.with_name("scan.truth.csv"), found.radians)
    assert error_px(read_shifts(out / "shifts.csv", found.radians)[0], truth[0]) < most


# -- The rotation axis


def test_the_axis_is_printed_with_its_uncertainty_and_as_json(tmp_path, capsys):
    wish = ScanWish(projections=90, rows=12, cols=96, axis=43.3, noise=0.01)
    write_scan(tmp_path / "scan.h5", wish)
    assert soct("rotation-axis", tmp_path / "scan.h5") == ExitCode.OK
    axis, _, uncertainty = capsys.readouterr().out.split()
    assert float(axis) == pytest.approx(43.3, abs=0.1)
    assert 0 <= float(uncertainty) < 0.2
    assert soct("rotation-axis", tmp_path / "scan.h5", "--json", "--rows", "3:9") == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert told["axis_px"] == pytest.approx(43.3, abs=0.1)
    assert told["rows"] == 6
    assert told["picked"] is False


def test_a_large_stack_tells_its_axis_by_some_rows(scan, monkeypatch):
    from soct.tools import tomo_axis

    monkeypatch.setattr(tomo_axis, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(tomo_axis, "_ROWS", 3)
    found = opened(scan)
    shifts = read_shifts(scan.with_name("scan.truth.csv"), found.radians)
    assert chosen_rows(found, shifts).shape == (60, 3, 64)
    assert find_axis(found, shifts).axis == pytest.approx(32, abs=0.1)


def test_an_axis_that_nothing_tells_is_an_error_that_says_what_to_do(tmp_path, capsys):
    np.save(tmp_path / "flat.npy", np.ones((40, 4, 32), np.float32))
    assert soct("rotation-axis", tmp_path / "flat.npy", "--span", "180") == ExitCode.INPUT
    assert "--pick" in capsys.readouterr().err


def test_a_reconstruction_finds_its_axis_and_says_it(scan, capsys):
    out = scan.with_name("s.h5")
    truth = scan.with_name("scan.truth.csv")
    assert soct("reconstruct", scan, "-o", out, "--shifts", truth, "--rows", "8:16") == ExitCode.OK
    assert json.loads(out.with_suffix(".json").read_text())["axis_px"] == pytest.approx(32, abs=0.1)
    assert "rotation axis at 32.0" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.slow
def test_a_real_tooth_of_two_rows_is_aligned_horizontally_and_vertically_nothing_is_claimed(
    shared, tmp_path, capsys
):
    tooth = shared / "data" / "tomo_tooth" / "tooth.h5"
    assert soct("align", tooth, "-o", tmp_path / "out", "--slices", "1") == ExitCode.OK
    assert "vertical shifts are not measured and taken for 0" in capsys.readouterr().err
    document = json.loads((tmp_path / "out" / "align.json").read_text())
    assert document["verdict"].startswith("Vertical: not measured.")
    # The stage of a beamline is better than this.
    assert document["horizontal"]["rms_shift_px"] < 0.3
    assert document["axis_px"] == pytest.approx(296.0, abs=0.6)


@pytest.mark.data
def test_the_axis_of_a_real_tooth_is_found_and_its_slice_written(shared, tmp_path):
    tooth = shared / "data" / "tomo_tooth" / "tooth.h5"
    out = tmp_path / "tooth.npy"
    assert soct("reconstruct", tooth, "-o", out) == ExitCode.OK
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["axis_px"] == pytest.approx(296.0, abs=0.5)
    slices = np.load(out)
    # The tooth lies in the middle of the field, and attenuates; air does not.
    assert slices.shape == (2, 640, 640)
    assert slices[:, 260:300, 300:320].mean() > 20 * abs(slices[:, 60:100, 300:320].mean())


# -- Stopped on the way

_KILLED = """
import os, signal, sys
from soct.tools import tomo_work
save, left = tomo_work.Work.save, int(sys.argv[1])

def counted(self, name, **arrays):
    global left
    save(self, name, **arrays)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

tomo_work.Work.save = counted
from soct.cli.app import run_app
from soct.cli.main import run_guarded
words = ["tomo", *sys.argv[2:]]
sys.exit(run_guarded(lambda: run_app(words), words))
"""


def killed_after(saves: int, folder: Path, *arguments: object) -> int:
    """Run `soct tomo` and kill it, as ``kill -9`` does, once so many pieces of work are kept."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_KILLED), str(saves), *map(str, arguments)],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    return done.returncode


def content(folder: Path, *names: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in names
        for path in ([folder / name] if (folder / name).is_file() else sorted((folder / name).rglob("*")))
    }  # fmt: skip


@pytest.mark.slow
def test_a_killed_reconstruction_is_continued_to_the_same_bytes(scan, monkeypatch, capsys):
    folder = scan.parent
    with h5py.File(scan, "r+") as file:
        file["exchange/data"][4, 3, 10] = -5
    call = ("reconstruct", "scan.h5", "-o", "s.h5", "--shifts", "scan.truth.csv", "--axis", "32.25", "--memory", "2MB")  # fmt: skip
    other = folder / "other"
    other.mkdir()
    for path in (scan, scan.with_name("scan.truth.csv")):
        shutil.copy2(path, other)
    monkeypatch.chdir(other)
    assert soct(*call) == ExitCode.OK
    for saves in (2, 1):
        assert killed_after(saves, folder, *call) == -signal.SIGKILL
        assert not (folder / "s.h5").exists()
    monkeypatch.chdir(folder)
    capsys.readouterr()
    assert soct(*call) == ExitCode.OK
    assert "continues" in capsys.readouterr().err
    names = ("s.h5", "s.json", "s.html")
    assert content(folder, *names) == content(other, *names)
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    assert soct(*call) == ExitCode.OK
    assert "complete already" in capsys.readouterr().err
    assert soct(*call, "--cutoff", "0.5") == ExitCode.USAGE
    assert "freqcutoff: 1.0 before, 0.5 now" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_alignment_is_continued_to_the_same_bytes(scan, monkeypatch, capsys):
    folder = scan.parent
    with h5py.File(scan, "r+") as file:
        file["exchange/data"][4, 3, 10] = -5
    call = ("align", "scan.h5", "-o", "out", "--slices", "2", "--write-stack", "aligned.h5")
    other = folder / "other"
    other.mkdir()
    shutil.copy2(scan, other)
    monkeypatch.chdir(other)
    assert soct(*call) == ExitCode.OK
    # After the vertical stage, after the first slice, and within the stack.
    for saves in (2, 2, 2):
        assert killed_after(saves, folder, *call) == -signal.SIGKILL
        assert not (folder / "out").exists()
    monkeypatch.chdir(folder)
    capsys.readouterr()
    assert soct(*call) == ExitCode.OK
    assert "continues" in capsys.readouterr().err
    assert content(folder, "out", "aligned.h5") == content(other, "out", "aligned.h5")
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_work_of_another_call_is_discarded_and_that_is_said(tmp_path):
    told: list[str] = []
    out = tmp_path / "out"
    parameters = {"slices": 5}
    key = key_of("input", parameters)

    def stopped(values: np.ndarray | None) -> None:
        with open_work(out, key, parameters, told.append) as work:
            if values is not None:
                work.save("part", values=values)
            assert np.array_equal(work.load("part")["values"], np.arange(3))
            raise KeyboardInterrupt

    for values in (np.arange(3), None):
        with pytest.raises(KeyboardInterrupt):
            stopped(values)
    other = {"slices": 7}
    with open_work(out, key_of("input", other), other, told.append) as work:
        assert work.load("part") is None
    assert "continues" in told[0]
    assert "slices: 5 before, 7 now" in told[1]
    assert not list(tmp_path.iterdir())


def test_an_error_before_anything_is_done_leaves_nothing_and_discarded_work_takes_its_file_along(
    scan, monkeypatch, capsys
):
    folder = scan.parent
    before = sorted(folder.iterdir())
    with h5py.File(scan, "r+") as file:
        file["exchange/data"][17, 20] = np.nan
    call = ("reconstruct", "scan.h5", "--axis", "32", "--memory", "700kB", "--no-report")
    monkeypatch.chdir(folder)
    assert soct(*call, "-o", "x.h5", "--rows", "20:24") == ExitCode.INPUT
    assert sorted(folder.iterdir()) == before
    assert soct(*call, "-o", "x.h5") == ExitCode.INPUT
    assert len(list(folder.glob(".x*"))) == 2
    assert soct(*call, "-o", "x.h5", "--rows", "0:9") == ExitCode.OK
    assert "discarded (rows: [0, 24] before, [0, 9] now)" in capsys.readouterr().err
    assert not list(folder.glob(".x*"))


def test_a_broken_piece_of_work_is_made_anew(tmp_path):
    with open_work(tmp_path / "out", "key", {}) as work:
        for data in (b"", b"PK\x03\x04broken"):
            (work.folder / "part.npz").write_bytes(data)
            assert work.load("part") is None


def test_two_processes_never_work_on_one_output(tmp_path):
    with (
        open_work(tmp_path / "out", "key", {}),
        pytest.raises(LockedError),
        open_work(tmp_path / "out", "key", {}),
    ):
        pass
