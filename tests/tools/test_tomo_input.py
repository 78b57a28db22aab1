"""`soct tomo`: what it takes a stack for, refuses, leaves out and tells."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode, InputError, UsageError
from soct.formats.tables import read_table
from soct.tools.tomo_axis import check_axis
from soct.tools.tomo_input import InputOptions, open_projections
from soct.tools.tomo_simulate import ScanWish, write_scan
from soct.tools.tomo_tables import ShiftTableRow
from soct.tools.tomo_words import in_options, renumbered, with_uncertainty

N, ROWS, COLS = 40, 12, 48


def soct(*arguments: object) -> int:
    words = [str(a) for a in ("tomo", *arguments)]
    return run_guarded(lambda: run_app(words), words)


def opened(path: Path, **how: object):
    return open_projections(path, InputOptions(**how))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def integrals(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    write_scan(path, ScanWish(projections=N, rows=ROWS, cols=COLS, shift_px=1.5, seed=5))
    return opened(path).read(slice(None), slice(None)).copy()


@pytest.fixture
def stack(integrals: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "stack.npy", integrals)
    return tmp_path / "stack.npy"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_counted_and_told(integrals, tmp_path, capsys, bad):
    values = integrals.copy()
    values[7, 5, 20] = bad
    np.save(tmp_path / "s.npy", values)
    told = f"1 of {values.size} values that are no finite numbers (NaN or infinite) was replaced by its neighbours in the line (projection 7)"
    assert soct("rotation-axis", tmp_path / "s.npy", "--span", 180) == ExitCode.OK
    assert f"warning: {told}" in capsys.readouterr().err
    out = tmp_path / "out"
    assert soct("align", tmp_path / "s.npy", "--span", 180, "-o", out, "--slices", 1, "--no-report") == 0  # fmt: skip
    assert f"warning: {told}" in capsys.readouterr().err
    assert told in json.loads((out / "align.json").read_text())["warnings"]


@pytest.fixture
def counts(integrals: np.ndarray, tmp_path: Path) -> Path:
    np.save(tmp_path / "counts.npy", np.rint(100 + 5000 * np.exp(-integrals)).astype(np.uint16))
    return tmp_path / "counts.npy"


def test_counts_without_flats_are_an_error_that_asks_for_them(counts, tmp_path, capsys):
    with h5py.File(tmp_path / "counts.h5", "w") as file:
        file["exchange/data"] = np.load(counts)
        file["exchange/theta"] = np.arange(N) * 180 / N
    tifffile.imwrite(tmp_path / "counts.tif", np.load(counts))
    np.save(tmp_path / "floats.npy", np.load(counts).astype(np.float32))
    for name in ("counts.npy", "counts.tif", "counts.h5", "floats.npy"):
        for said in ((), ("--transmission",)):
            span = () if name.endswith("h5") else ("--span", "180")
            assert soct("rotation-axis", tmp_path / name, *span, *said) == ExitCode.INPUT
            told = capsys.readouterr()
            assert "--flats FILE [--darks FILE]" in told.err
            assert not told.out


def test_flats_and_darks_are_taken_from_files_of_their_own(counts, integrals, tmp_path):
    flat = np.full((3, ROWS, COLS), 5100, np.uint16)
    np.save(tmp_path / "flats.npy", flat)
    np.save(tmp_path / "dark.npy", np.full((ROWS, COLS), 100, np.uint16))
    tifffile.imwrite(tmp_path / "flat.tif", flat[0])
    with h5py.File(tmp_path / "fields.h5", "w") as file:
        file["exchange/data_white"] = flat[0]
        file["exchange/data_dark"] = flat * 0 + 100
    for flats, darks in (("flats.npy", "dark.npy"), ("flat.tif", "fields.h5"), ("fields.h5", "dark.npy")):  # fmt: skip
        found = opened(counts, span=180.0, flats=tmp_path / flats, darks=tmp_path / darks)
        assert np.abs(found.read(slice(None), slice(None)) - integrals).max() < 2e-3
    np.save(tmp_path / "line.npy", np.full((2, COLS), 5100.0))
    np.save(tmp_path / "sinogram.npy", np.load(counts)[:, 5])
    found = opened(
        tmp_path / "sinogram.npy",
        span=180.0,
        sinogram_axes="angle-detector",
        flats=tmp_path / "line.npy",
    )
    assert found.values == "counts"
    assert np.isfinite(found.read(slice(None), slice(None))).all()


def test_flats_that_do_not_fit_or_show_nothing_are_errors_that_say_what_to_do(counts, tmp_path):
    np.save(tmp_path / "small.npy", np.full((ROWS - 1, COLS), 5100))
    with pytest.raises(InputError, match="differ in size") as caught:
        opened(counts, span=180.0, flats=tmp_path / "small.npy")
    assert caught.value.hint
    np.save(tmp_path / "zero.npy", np.zeros((ROWS, COLS)))
    with pytest.raises(InputError, match="show no light") as caught:
        opened(counts, span=180.0, flats=tmp_path / "zero.npy").read(slice(None), slice(None))
    assert "--flats" in caught.value.hint
    with pytest.raises(UsageError, match="Dark fields alone"):
        opened(counts, span=180.0, darks=tmp_path / "zero.npy")


def test_derivatives_that_are_taken_for_line_integrals_are_noticed(integrals, tmp_path):
    np.save(tmp_path / "d.npy", np.gradient(integrals, axis=2))
    assert "--derivatives" in opened(tmp_path / "d.npy", span=180.0).warnings[0]
    said = opened(tmp_path / "d.npy", span=180.0, derivatives=True)
    assert not said.warnings
    assert said.values == "derivatives"
    assert "derivatives of line integrals" in said.notes[0]


def test_an_empty_stack_and_other_kinds_of_files_give_one_plain_error(stack, tmp_path, capsys):
    np.save(tmp_path / "nan.npy", np.full((N, ROWS, COLS), np.nan))
    assert soct("rotation-axis", tmp_path / "nan.npy", "--span", 180) == ExitCode.INPUT
    assert "Warning:" not in capsys.readouterr().err
    with h5py.File(tmp_path / "angles.h5", "w") as file:
        file["a"] = np.arange(N)
    with pytest.raises(InputError, match="angles") as caught:
        opened(stack, angles=tmp_path / "angles.h5")
    assert "codec" not in caught.value.found


def test_excluded_projections_have_no_shift_and_their_numbers_stay(integrals, tmp_path, capsys):
    values = integrals.copy()
    values[[9, 30]] = np.nan
    np.save(tmp_path / "s.npy", values)
    call = (tmp_path / "s.npy", "--span", 180)
    assert soct("rotation-axis", *call) == ExitCode.INPUT
    assert "--exclude 9,30" in capsys.readouterr().err
    out = tmp_path / "out"
    assert soct("align", *call, "--exclude", "9,29-30", "-o", out, "--slices", 1) == ExitCode.OK
    rows = read_table(out / "shifts.csv", ShiftTableRow)
    assert [row.projection for row in rows] == list(range(N))
    assert [row.projection for row in rows if row.vertical_px is None] == [9, 29, 30]
    assert [row.projection for row in rows if row.excluded] == [9, 29, 30]
    assert json.loads((out / "align.json").read_text())["excluded"] == [9, 29, 30]
    capsys.readouterr()
    assert soct("reconstruct", *call, "--shifts", out, "-o", tmp_path / "x.npy", "--no-report") == 0
    assert json.loads((tmp_path / "x.json").read_text())["excluded"] == [9, 29, 30]
    assert np.isfinite(np.load(tmp_path / "x.npy")).all()
    assert soct("rotation-axis", *call, "--exclude", f"3,{N}") == ExitCode.USAGE
    assert soct("rotation-axis", *call, "--exclude", "3-") == ExitCode.USAGE


def test_shifts_of_another_scan_are_warned_of_and_those_of_another_detector_refused(
    stack, integrals, tmp_path, capsys
):
    out = tmp_path / "out"
    assert soct("align", stack, "--span", 180, "-o", out, "--slices", 1, "--no-report") == ExitCode.OK  # fmt: skip
    np.save(tmp_path / "other.npy", integrals[:, :8] * np.float32(1.1))
    np.save(tmp_path / "wide.npy", np.pad(integrals, ((0, 0), (0, 0), (4, 4))))
    (tmp_path / "copy.npy").write_bytes(stack.read_bytes())
    capsys.readouterr()
    for name, warned in (("copy", False), ("other", True)):
        call = ("reconstruct", tmp_path / f"{name}.npy", "--span", 180, "--shifts", out, "--axis", 24, "--no-report")  # fmt: skip
        assert soct(*call, "-o", tmp_path / f"{name}-x.npy") == ExitCode.OK
        assert ("measured from another file (stack.npy, 12 rows)" in capsys.readouterr().err) == warned  # fmt: skip
        made = json.loads((tmp_path / f"{name}-x.json").read_text())
        assert len(made["shifts"]["sha256"]) == 64
        assert made["shifts"]["file"].endswith("shifts.csv")
        assert bool(made["warnings"]) == warned
    call = ("reconstruct", tmp_path / "wide.npy", "--span", 180, "--shifts", out)
    assert soct(*call, "-o", tmp_path / "w.npy") == ExitCode.INPUT
    assert "another scan" in capsys.readouterr().err


def test_an_axis_outside_of_the_detector_is_refused_but_for_half_an_acquisition(stack):
    half, whole = opened(stack, span=180.0), opened(stack, span=360.0)
    for axis in (0.0, 23.5, COLS - 1.0):
        assert not check_axis(half, axis, may_be_outside=True)
    for found, axis in ((half, 500.0), (half, -10.0), (whole, 500.0), (whole, -COLS)):
        with pytest.raises(UsageError, match="not on the detector"):
            check_axis(found, axis, may_be_outside=True)
    assert "outside" in check_axis(whole, -10.0, may_be_outside=True)[0]


def test_the_memory_does_not_make_another_call(stack, tmp_path, capsys):
    call = ("reconstruct", stack, "--span", 180, "--axis", 24, "-o", tmp_path / "x.npy", "--no-report")  # fmt: skip
    assert soct(*call) == ExitCode.OK
    assert soct(*call, "--memory", "2MB") == ExitCode.OK
    assert "complete already" in capsys.readouterr().err


def test_a_finished_folder_is_looked_at(stack, tmp_path, capsys):
    call = ("align", stack, "--span", 180, "-o", tmp_path / "out", "--slices", 1)
    assert soct(*call) == ExitCode.OK
    page = tmp_path / "out" / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert soct(*call) == ExitCode.OK
    assert page.read_bytes() == before
    assert "report is missing" in capsys.readouterr().err
    with (tmp_path / "out" / "shifts.csv").open("a") as file:
        file.write("garbage\n")
    assert soct(*call) == ExitCode.INPUT
    assert "changed by something else" in capsys.readouterr().err


def test_an_axis_that_is_hardly_known_is_not_found(tmp_path, capsys):
    noise = np.random.default_rng(0).normal(size=(N, ROWS, COLS))
    np.save(tmp_path / "noise.npy", noise.astype(np.float32))
    assert soct("rotation-axis", tmp_path / "noise.npy", "--span", 180, "--line-integrals") == ExitCode.INPUT  # fmt: skip
    told = capsys.readouterr()
    assert "--pick" in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("value", "deviation", "said"),
    [
        (63.81, 0.00662, "63.8100 +- 0.0066"),
        (63.81234, 0.123, "63.81 +- 0.12"),
        (63.8, 12.3, "64 +- 12"),
        (63.8, 0.0, "63.8000 +- <0.0001"),
        (63.8, np.inf, "63.80 +- unknown"),
    ],
)
def test_an_uncertainty_has_two_digits(value, deviation, said):
    assert with_uncertainty(value, deviation) == said


def test_keywords_of_functions_are_told_as_options():
    assert in_options("in the unit that theta_unit says?") == "in the unit that --angle-unit says?"
    assert in_options("Give axis=62.5 to leave it") == "Give --axis 62.5 to leave it"
    assert in_options("than pixtol (0.001 px): raise maxit (30)") == "than --pixtol (0.001 px): raise --maxit (now 30)"  # fmt: skip


def test_a_finished_reconstruction_is_looked_at(stack, tmp_path, capsys):
    out = tmp_path / "x.npy"
    call = ("reconstruct", stack, "--span", 180, "--rows", "4:6", "-o", out)
    assert soct(*call) == ExitCode.OK
    before = out.with_suffix(".html").read_bytes()
    out.with_suffix(".html").unlink()
    assert soct(*call) == ExitCode.OK
    assert out.with_suffix(".html").read_bytes() == before
    with out.open("ab") as file:
        file.write(b"more")
    assert soct(*call) == ExitCode.INPUT
    assert "changed by something else" in capsys.readouterr().err


def test_half_an_acquisition_is_completed_and_edges_are_padded(stack, tmp_path):
    call = ("reconstruct", stack, "--rows", "5:6", "--axis", 6, "--no-report")
    assert soct(*call, "--span", 360, "--extended", "-o", tmp_path / "wide.npy") == ExitCode.OK
    assert np.load(tmp_path / "wide.npy").shape == (1, 83, 83)
    assert json.loads((tmp_path / "wide.json").read_text())["shape"] == [1, 83, 83]
    assert soct(*call, "--span", 180, "--extended", "-o", tmp_path / "no.npy") == ExitCode.USAGE
    for how in ("zero", "edge"):
        assert soct(*call, "--span", 180, "--padding", how, "-o", tmp_path / f"{how}.npy") == 0
    assert not np.array_equal(np.load(tmp_path / "zero.npy"), np.load(tmp_path / "edge.npy"))


def test_projections_that_warnings_name_have_their_numbers_in_the_file():
    kept = [0, 1, 3, 4, 7]
    said = "2 of 5 projections do not fit the others, and their shifts may be wrong: 2, 4"
    assert renumbered([said], kept)[0].endswith("may be wrong: 3, 7")
    assert renumbered(["2 projections (0, 4) fit"], kept) == ("2 projections (0, 7) fit",)


def test_fields_of_the_file_that_do_not_fit_stand_in_nobodys_way(counts, tmp_path):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["exchange/data"] = np.load(counts)
        file["exchange/data_white"] = np.full((2, ROWS - 1, COLS), 5100)
    with pytest.raises(InputError, match="differ in size") as caught:
        opened(tmp_path / "c.h5", span=180.0)
    assert "--flats" in caught.value.hint
    np.save(tmp_path / "flat.npy", np.full((ROWS, COLS), 5100))
    assert opened(tmp_path / "c.h5", span=180.0, flats=tmp_path / "flat.npy").values == "counts"
    assert opened(tmp_path / "c.h5", span=180.0, values="line-integrals").values == "line integrals"
