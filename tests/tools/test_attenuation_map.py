"""Maps of a slice whose attenuation is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from soct.cli.main import main
from soct.errors import InputError
from soct.formats.ome_zarr import open_volume
from soct.tools.attenuation_map import MapOptions, write_attenuation
from tests.steps.frames import write_frame


@pytest.mark.parametrize("method", ["li", "smith", "liu"])
@pytest.mark.parametrize("mu", [1.0, 3.0])
def test_a_known_attenuation_comes_back_within_eight_percent(
    tmp_path: Path, method: str, mu: float
) -> None:
    source = write_frame(tmp_path / "a.ome.zarr", mu_per_mm=mu, agarose=0.0)
    found = write_attenuation(source, tmp_path / "mu.ome.zarr", MapOptions(method=method))  # type: ignore[arg-type]
    stored = open_volume(tmp_path / "mu.ome.zarr").read()[35:90]
    assert np.median(stored[stored > 0]) == pytest.approx(mu, rel=0.08)
    assert found.surface.startswith("interface")
    assert found.noise_floor == pytest.approx(0.002, rel=0.5)


def test_the_surface_may_be_the_first_valid_sample(tmp_path: Path) -> None:
    source = write_frame(tmp_path / "a.ome.zarr", mu_per_mm=2.0, agarose=0.0)
    options = MapOptions(method="liu", surface="top", noise_floor=0.002)
    found = write_attenuation(source, tmp_path / "mu.ome.zarr", options)
    assert found.surface.startswith("first valid sample")
    assert np.isfinite(found.mean).all()


def test_the_command_writes_map_and_picture_and_says_the_median(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_frame(tmp_path / "a.ome.zarr", mu_per_mm=2.0, agarose=0.0)
    out = tmp_path / "mu.ome.zarr"
    with pytest.raises(SystemExit) as ended:
        main(["compute-attenuation", str(source), str(out), "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["median_per_mm"] == pytest.approx(2.0, rel=0.15)
    assert (tmp_path / "mu.png").is_file()
    with pytest.raises(InputError, match="exists"):
        write_attenuation(source, out)
