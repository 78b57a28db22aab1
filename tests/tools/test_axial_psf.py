"""Focus and Rayleigh length of slices whose optics are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from soct.cli.main import main
from soct.errors import InputError
from soct.tools.axial_psf import RAYLEIGH_UM, estimate_psf
from tests.steps.frames import write_frame


def test_focus_and_rayleigh_length_come_back_from_agarose(tmp_path: Path) -> None:
    slices = [
        write_frame(tmp_path / f"{k}.ome.zarr", focus_um=330.0, rayleigh_um=400.0, seed=k)
        for k in range(2)
    ]
    found = estimate_psf(slices)
    assert found.measured_on == "agarose"
    assert found.focus_um == pytest.approx(330, abs=25)
    assert found.rayleigh_um == pytest.approx(400, rel=0.1)
    assert found.slices == 2
    assert found.residual < 0.05


def test_tissue_alone_gives_the_focus_beside_its_attenuation(tmp_path: Path) -> None:
    source = write_frame(
        tmp_path / "a.ome.zarr", focus_um=300.0, rayleigh_um=250.0, mu_per_mm=1.0, agarose=0.0
    )
    found = estimate_psf([source], rayleigh_um=300.0, material="tissue")
    assert found.measured_on == "tissue"
    assert found.focus_um == pytest.approx(300, abs=60)
    assert found.rayleigh_um == pytest.approx(250, rel=0.3)


def test_start_values_are_those_of_the_objectives() -> None:
    assert RAYLEIGH_UM == {"3x": 610.0, "10x": 1060.0}


def test_the_command_prints_both_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_frame(tmp_path / "a.ome.zarr", focus_um=330.0, rayleigh_um=400.0)
    with pytest.raises(SystemExit) as ended:
        main(["estimate-psf", str(source), "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["rayleigh_um"] == pytest.approx(400, rel=0.15)


def test_a_slice_without_an_interface_is_an_error(tmp_path: Path) -> None:
    source = write_frame(tmp_path / "a.ome.zarr", nz=18)
    with pytest.raises(InputError):
        estimate_psf([source])
