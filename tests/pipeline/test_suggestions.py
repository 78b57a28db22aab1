"""Suggested values are those of the acquisition, and make a valid profile."""

from __future__ import annotations

import numpy as np
import pytest

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode, InputError
from soct.formats.acquisition import open_acquisition
from soct.pipeline.profiles import suggestions
from soct.pipeline.profiles.suggestions import as_profile, suggest, suggest_from_input
from soct.simulate.microscope import simulate
from soct.simulate.spec import preset
from tests.formats.raw_files import write_slice
from tests.pipeline.fake_pipeline import make_input, run_fake


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    spec = preset("tiny", slices=4, overlap=0.3, thickness_um=150.0, axial_um=8.0)
    return simulate(spec, tmp_path_factory.mktemp("made") / "a", threads=1).raw


def soct(*arguments: object) -> int:
    words = [str(a) for a in arguments]
    return run_guarded(lambda: run_app(words), words)


def test_an_input_tells_overlap_depth_sampling_and_cut(raw):
    found = {s.path[1]: s.value for s in suggest_from_input(open_acquisition(raw))}
    assert found["overlap_fraction"] == pytest.approx(0.3, abs=0.02)
    assert found["axial_resolution_um"] == 8.0
    assert found["slicing_interval_mm"] == pytest.approx(0.15, abs=0.01)


def test_an_input_that_says_nothing_gets_no_suggestion(tmp_path, capsys):
    write_slice(tmp_path, 0)
    assert suggest(tmp_path) == ()
    assert soct("suggest-params", tmp_path) == ExitCode.OK
    assert "Nothing to suggest" in capsys.readouterr().err


def test_the_printed_profile_is_valid_and_says_why(raw, tmp_path, capsys):
    assert soct("suggest-params", raw, "--extends", "conservative") == ExitCode.OK
    text = capsys.readouterr().out
    assert "# median of " in text
    (tmp_path / "lab.yaml").write_text(text)
    assert soct("profiles", "validate", tmp_path / "lab.yaml") == ExitCode.OK


def test_a_run_tells_its_limits_and_bounds(tmp_path, monkeypatch, capsys):
    source = make_input(tmp_path / "in")
    run_fake(source, tmp_path / "out")
    rng = np.random.default_rng(0)
    values = {
        ("register_pairwise", "translation_um"): list(np.hypot(*rng.normal(0, 40, (2, 500)))),
        ("register_pairwise", "rotation_deg"): list(rng.normal(0, 0.5, 500)),
        ("register_pairwise", "ncc"): list(rng.normal(0.9, 0.01, 500)),
        ("stack", "coverage"): [0.99],
    }
    monkeypatch.setattr(suggestions, "_values", lambda folder: values)
    found = {s.path: s.value for s in suggestions.suggest_from_run(tmp_path / "out")}
    assert found["estimate_slice_poses", "stage_step_um"] == pytest.approx(40, rel=0.1)
    assert found["register_pairwise", "max_translation_um"] == pytest.approx(300, rel=0.15)
    assert found["register_pairwise", "max_rotation_deg"] == pytest.approx(3, rel=0.15)
    assert 0.7 < found["quality", "ncc", "warning"] < 0.87
    assert not any("coverage" in path for path in found)
    text = as_profile(suggestions.suggest(tmp_path / "out"), "a run", "default")
    (tmp_path / "lab.yaml").write_text(text)
    assert soct("profiles", "validate", tmp_path / "lab.yaml") == ExitCode.OK


def test_a_folder_that_is_neither_is_an_input_error(tmp_path):
    with pytest.raises(InputError):
        suggest(tmp_path)
