"""The reports of `soct tomo` in a real browser, and the page for users."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from soct.tools.tomo_align import AlignOptions, align
from soct.tools.tomo_input import InputOptions, open_projections
from soct.tools.tomo_reconstruct import ReconstructOptions, reconstruct
from soct.tools.tomo_report import outliers
from soct.tools.tomo_simulate import ScanWish, write_scan
from tests.report.browser import Browser, find_browser, start_browser

PAGE = Path(__file__).parents[2] / "docs" / "tomography.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tomo")
    write_scan(path / "scan.h5", ScanWish(projections=48, rows=16, cols=48, shift_px=1.5))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on the PATH or in SOCT_BROWSER")
    with start_browser(program, tmp_path_factory.mktemp("profile")) as found:
        yield found


def check_page(browser: Browser, page: Path, *titles: str) -> None:
    with browser.open(page, requests=True) as tab:
        assert tab.errors() == []
        assert tab.requests() == []
        shown = tab.evaluate("[...document.querySelectorAll('h1, h2')].map(e => e.textContent)")
        assert set(titles) <= {title.strip() for title in shown}
        assert tab.evaluate("document.querySelectorAll('.failed').length") == 0
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


@pytest.mark.slow
def test_the_report_of_a_reconstruction_loads_nothing_and_shows_all(browser, folder):
    opened = open_projections(folder / "scan.h5", InputOptions())
    options = ReconstructOptions(shifts=folder / "scan.truth.csv")
    made = reconstruct(opened, folder / "slices.h5", options)
    assert len(made.files) == 3
    check_page(browser, folder / "slices.html", "slices.h5", "Rotation axis", "Shifts", "Method")


@pytest.mark.slow
def test_the_report_of_an_alignment_names_the_worst_projections(browser, folder):
    with h5py.File(folder / "scan.h5") as file:
        counts, theta = file["exchange/data"][()], file["exchange/theta"][()]
        flat, dark = file["exchange/data_white"][0], file["exchange/data_dark"][0]
    values = -np.log((counts - dark) / (flat - dark))
    # Something passed through the beam.
    values[21, :, 10:24] += 0.8
    np.save(folder / "spoilt.npy", values)
    np.save(folder / "theta.npy", theta)
    opened = open_projections(folder / "spoilt.npy", InputOptions(angles=folder / "theta.npy"))
    made = align(opened, folder / "out", AlignOptions(slices=2))
    assert made.alignment is not None
    page = folder / "out" / "report.html"
    check_page(browser, page, "out", "Shifts", "Sinogram", "Residuals", "Rotation axis", "Method")
    with browser.open(page) as tab:
        rows = tab.evaluate(
            "[...document.querySelectorAll('#residuals tbody tr')].map(r => r.innerText)"
        )
        assert rows[0].split()[0] == "21"
        assert "stands out" in rows[0]
        assert tab.evaluate("document.querySelectorAll('fieldset.flicker').length") == 2


@pytest.mark.slow
def test_the_script_of_the_page_runs(folder):
    text = PAGE.read_text(encoding="utf-8")
    script = next(
        s for s in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "shiftstack" in s
    )
    opened = open_projections(folder / "scan.h5", InputOptions())
    space = {
        "stack": opened.read(slice(None), slice(None)),
        "theta": np.degrees(opened.radians),
    }
    exec(script.replace("32", "8"), space)
    assert space["slice_8"].shape == (48, 48)  # type: ignore[attr-defined]
    assert space["axis"] == pytest.approx(24, abs=0.7)


def test_projections_that_stand_out_are_named_worst_first():
    values = np.full(60, 1.0) + 0.05 * np.random.default_rng(0).normal(size=60)
    assert outliers(values).size == 0
    values[[7, 30]] = 3.0, 5.0
    assert outliers(values).tolist() == [30, 7]
    assert outliers(np.zeros(60)).size == 0


def test_the_script_that_applies_shifts_gives_the_stack_that_is_written(tmp_path, monkeypatch):
    write_scan(tmp_path / "s.h5", ScanWish(projections=30, rows=12, cols=40, shift_px=1.0, seed=2))
    opened = open_projections(tmp_path / "s.h5", InputOptions(exclude=(4, 11)))
    align(opened, tmp_path / "aligned", AlignOptions(slices=1), stack_out=tmp_path / "a.npy", report=False)  # fmt: skip
    text = PAGE.read_text(encoding="utf-8")
    script = next(s for s in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "csv" in s)
    whole = open_projections(tmp_path / "s.h5", InputOptions())
    space: dict[str, np.ndarray] = {"stack": whole.read(slice(None), slice(None))}
    monkeypatch.chdir(tmp_path)
    exec(script, space)
    assert space["aligned"].shape == (28, 12, 40)
    assert np.abs(space["aligned"] - np.load(tmp_path / "a.npy")).max() < 1e-4
