"""The shipped profiles fit the real steps, and change little."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from soct.pipeline.profiles.aliases import ALIASES
from soct.pipeline.profiles.profile import load_profile
from soct.pipeline.profiles.schema import profile_schema
from soct.pipeline.profiles.store import shipped_profiles, shipped_sites
from soct.quality.limits import QualityLimits
from soct.steps.registry import load_steps

NAMES = ("aggressive", "conservative", "default", "diagnostic", "minimal")


def test_five_profiles_are_shipped() -> None:
    assert tuple(shipped_profiles()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_valid_says_what_it_is_for_and_changes_few_keys(name: str) -> None:
    profile = load_profile(name, env={})
    default = load_profile(env={})
    changed = {
        f"{step}.{key}"
        for step, params in profile.params.items()
        for key, value in params.model_dump().items()
        if value != default.step(step).model_dump()[key]
    }
    assert profile.name == name
    assert profile.description
    assert bool(changed) == (name != "default")
    if name == "diagnostic":
        # It explains what the default does: nothing but diagnoses is switched on.
        assert all(key.endswith(".enabled") for key in changed)
    else:
        assert len(changed) <= 10
    layers = {profile.origin(key).layer for key in changed}
    assert layers <= {"shipped"}


@pytest.mark.parametrize("name", shipped_sites())
def test_each_site_is_valid(name: str) -> None:
    load_profile(site=name, env={})


def test_a_file_that_extends_a_shipped_profile_starts_from_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: minimal\nstack:\n  codec: none\n")
    profile = load_profile(path, env={})
    assert profile.step("estimate_slice_poses").model_dump()["motor_only"]
    assert profile.origin("estimate_slice_poses", "motor_only").layer == "extends"
    assert profile.origin("stack", "codec").layer == "file"


def test_every_alias_leads_to_a_key_and_hides_none() -> None:
    for alias in ALIASES:
        of_limits = alias.step == "quality"
        model = QualityLimits if of_limits else load_steps()[alias.step].params
        keys = model.model_fields
        assert alias.new in keys
        assert alias.old not in keys
        assert not alias.in_pixels or alias.new.endswith("_um")


def test_the_limit_that_is_called_filled_now_is_taken_under_its_older_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("quality:\n  coverage:\n    warning: 0.5\n    error: 0.25\n")
    profile = load_profile(path, env={})
    assert (profile.quality.filled.warning, profile.quality.filled.error) == (0.5, 0.25)
    assert any("quality.filled.warning in soct" in note for note in profile.notes)
    short = load_profile(sets=["quality.coverage.error=0.1"], env={})
    assert short.quality.filled.error == 0.1


def test_every_parameter_has_a_description_and_lengths_have_a_unit() -> None:
    units = {"_um": "um", "_mm": "mm", "_deg": "deg", "_px": "px"}
    for step in load_steps().values():
        for key, field in step.params.model_fields.items():
            assert field.description, f"{step.id}.{key}"
            assert field.description.endswith("."), f"{step.id}.{key}"
            extra = field.json_schema_extra
            for ending, unit in units.items():
                if key.endswith(ending):
                    assert isinstance(extra, dict)
                    assert extra.get("unit") == unit, f"{step.id}.{key}"


def test_the_schema_covers_every_step() -> None:
    schema = profile_schema(load_steps(), QualityLimits)
    assert set(load_steps()) < set(schema["properties"])


def test_the_wheel_holds_the_profiles() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"profiles": "soct/profiles"}
