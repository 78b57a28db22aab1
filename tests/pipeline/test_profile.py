from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from soct.errors import ConfigurationError, ExitCode
from soct.pipeline.profiles.profile import Profile
from soct.pipeline.profiles.schema import profile_schema, site_schema
from soct.pipeline.profiles.store import shipped_folder, shipped_profiles, shipped_sites
from soct.quality.limits import QualityLimits
from tests.pipeline.profile_fakes import STEPS, load


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def writer(text: str, name: str = "p.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return writer


def complaints(path: Path | str, **more: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(path, **more)
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    prefix = f"{path}:"
    return [line.removeprefix(prefix) for line in caught.value.message.splitlines()]


def test_without_a_file_every_value_is_the_steps_own() -> None:
    profile = load()
    assert profile.step("stack").model_dump() == {"blend_um": 30.0}
    assert profile.origin("stack", "blend_um").layer == "default"
    assert profile.quality == QualityLimits()


BROKEN = """\
name: broken
register_pairwise:
  max_rotaton_deg: 3
  max_translation_um: -4
  transform: eular
  skip_unreliable: no
  overlap: lots
  levels_um: [1, x]
  label: 3
  kernel: 2.5
  blend_um: 3
stak:
  blend_um: 4
blend_um: 4
stack: 3
quality:
  nccc: {warning: 1}
  ncc: {warning: 0.3}
"""


def test_all_errors_are_told_at_once_with_line_range_and_likely_word(write: Any) -> None:
    told = complaints(write(BROKEN))
    expected = [
        ("3", "register_pairwise.max_rotaton_deg", "did you mean max_rotation_deg?"),
        ("4", "register_pairwise.max_translation_um", "found -4; allowed: a number, at least 0 um"),
        ("5", "register_pairwise.transform", "euler | affine; did you mean euler?"),
        ("6", "register_pairwise.skip_unreliable", 'found "no"; allowed: true or false'),
        ("7", "register_pairwise.overlap", "a number from 0 to 1 or auto"),
        ("8", "register_pairwise.levels_um", "a list of values: a number"),
        ("9", "register_pairwise.label", "found 3; allowed: text"),
        ("10", "register_pairwise.kernel", "a whole number from 1 to 99 px"),
        ("11", "register_pairwise.blend_um", "stack has a key of this name"),
        ("12", "stak", "did you mean stack?"),
        ("14", "blend_um", "it belongs under stack:"),
        ("15", "stack", "expected keys with values"),
        ("17", "quality.nccc", "did you mean ncc?"),
        ("18", "quality.ncc.warning", "must lie below the warning limit"),
    ]
    assert len(told) == len(expected)
    for line, (number, key, text) in zip(told, expected, strict=True):
        assert line.startswith(f"{number}: {key}: ")
        assert text in line


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "register_pairwise:\n  transform: affine\n  min_scale: 3\n",
            3,
            "must not exceed max_scale",
        ),
        ("register_pairwise:\n  kernel: 4\n", 2, "kernel must be odd, found 4"),
        ("register_pairwise:\n  max_rotation_deg: .nan\n", 2, "not a finite number"),
        ("register_pairwise:\n  max_rotation_deg: 1e400\n", 2, "too large"),
        ("register_pairwise:\n  max_rotation_deg: true\n", 2, "found true"),
        ("register_pairwise:\n  max_rotation_deg: '3'\n", 2, 'found "3"'),
        ("register_pairwise:\n  max_rotation_deg:\n", 2, "found null"),
        ("register_pairwise:\n  max_rotation_deg: {a: 1}\n", 2, "allowed: a number"),
        ("register_pairwise:\n  a: {b: 1}\n", 2, "register_pairwise.a: unknown key"),
        ("extends: conservativ\n", 1, "extends: found 'conservativ'"),
        ("extends: 3\n", 1, "extends: found 3"),
        ("subject: ../escape\n", 1, "subject"),
        ("subject: -dash\n", 1, "subject"),
        ('subject: "a\\nb"\n', 1, "subject"),
        ("name: [a]\n", 1, "name: found"),
    ],
)
def test_a_wrong_value_is_told_on_its_line(write: Any, text: str, line: int, words: str) -> None:
    told = complaints(write(text))
    assert told[0].startswith(f"{line}: ")
    assert words in told[0]


@pytest.mark.parametrize("subject", ["mouse 7", "S-12_left", "Gehirn Nr 3", "naïve"])
def test_a_subject_may_be_any_plain_name(write: Any, subject: str) -> None:
    assert load(write(f'subject: "{subject}"\n')).subject == subject


def test_layers_replace_each_other_in_order_and_each_value_keeps_its_origin(write: Any) -> None:
    path = write(
        "subject: from_file\n"
        "register_pairwise:\n"
        "  max_rotation_deg: 1\n"
        "  max_translation_um: 1\n"
        "  kernel: 7\n"
        "  levels_um: [1]\n"
    )
    profile = load(
        path,
        env={
            "SOCT_SET__register_pairwise__max_translation_um": "2",
            "SOCT_SET__REGISTER_PAIRWISE__KERNEL": "9",
            "SOCT_CACHE_DIR": "/elsewhere",
        },
        sets=["register_pairwise.kernel=11", "register_pairwise.kernel=13"],
    )
    params = profile.step("register_pairwise").model_dump()
    assert params["max_rotation_deg"] == 1
    assert params["max_translation_um"] == 2
    assert params["kernel"] == 13
    assert params["levels_um"] == (1,)
    assert str(profile.origin("register_pairwise", "max_rotation_deg")) == f"file {path}:3"
    origin = profile.origin("register_pairwise.max_translation_um")
    assert (origin.layer, origin.source) == (
        "environment",
        "SOCT_SET__register_pairwise__max_translation_um",
    )
    assert profile.origin("register_pairwise", "kernel").layer == "command line"
    assert profile.origin("register_pairwise", "transform").layer == "default"
    assert profile.record()["origins"]["subject"] == f"file {path}:1"


def test_a_part_of_a_quality_limit_may_be_given(write: Any) -> None:
    profile = load(write("quality:\n  ncc: {warning: 0.8}\n"), sets=["quality.ncc.error=0.6"])
    assert (profile.quality.ncc.warning, profile.quality.ncc.error) == (0.8, 0.6)
    assert profile.quality.ncc.higher_is_better
    assert profile.origin("quality", "ncc", "warning").layer == "file"
    assert profile.origin("quality", "ncc", "error").layer == "command line"


def test_an_empty_section_changes_nothing(write: Any) -> None:
    profile = load(write("stack:\nregister_pairwise: {}\n"))
    assert profile.resolved() | {"name": ""} == load().resolved() | {
        "name": "",
        "description": profile.description,
    }


def test_text_that_looks_like_a_number_stays_text_where_text_is_wanted() -> None:
    profile = load(sets=["register_pairwise.label=012", "subject=42"])
    assert profile.step("register_pairwise").model_dump()["label"] == "012"
    assert profile.subject == "42"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("stack", "expected step.key=value"),
        ("stack.=3", "expected step.key=value"),
        ("stack.blend_um=many", "allowed: a number, above 0 um"),
        ("stack.blnd_um=3", "did you mean blend_um?"),
        ("cpus=4", "machine setting"),
    ],
)
def test_a_wrong_set_option_names_itself(option: str, words: str) -> None:
    told = complaints("default", sets=[option])
    assert told[0].startswith(f"--set {option}: ")
    assert words in told[0]


def test_a_wrong_environment_variable_names_itself() -> None:
    told = complaints("default", env={"SOCT_SET__stack__blend_um": "0"})
    assert told == ["SOCT_SET__stack__blend_um: stack.blend_um: found 0; allowed: "
                    "a number, above 0 um"]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["cpus: 4\n", "memory: 8GB\n", "stack:\n  threads: 3\n", "site:\n  cpus: 3\n"]
)
def test_a_machine_setting_in_a_profile_is_sent_to_the_site_file(write: Any, text: str) -> None:
    told = complaints(write(text))
    assert len(told) == 1
    assert "a machine setting: it belongs in a site file (--site)" in told[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [("stack:\n  blend_um: 3\n", 2), ("quality:\n  ncc: 3\n", 2), ("subject: a\n", 1)],
)
def test_a_science_setting_in_a_site_file_is_sent_to_the_profile(
    write: Any, text: str, line: int
) -> None:
    site = write(text, "site.yaml")
    with pytest.raises(ConfigurationError, match="it belongs in a profile") as caught:
        load(site=site)
    assert caught.value.message.startswith(f"{site}:{line}: ")


def test_machine_settings_come_from_site_environment_and_options(write: Any) -> None:
    site = write("name: lab\ncpus: 2\nmemory: 512MiB\nmax_runtime: 1h30m\ngpu: off\n", "s.yaml")
    loaded = load(site=site, env={"SOCT_SITE__CPUS": "3"}, site_options={"gpu": "require"}).site
    assert (loaded.cpus, loaded.memory, loaded.max_runtime, loaded.gpu) == (
        3,
        512 << 20,
        5400.0,
        "require",
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpu: 3\n", "did you mean cpus?"),
        ("cpus: 0\n", "a whole number from 1 to 4096"),
        ("memory: 8X\n", "not a size"),
        ("max_runtime: soon\n", "not a duration"),
        ("gpu: maybe\n", "auto | off | require"),
    ],
)
def test_a_wrong_site_file_is_told_on_its_line(write: Any, text: str, words: str) -> None:
    site = write(text, "s.yaml")
    with pytest.raises(ConfigurationError, match=r"s\.yaml:1: ") as caught:
        load(site=site)
    assert words in caught.value.message


def test_linumpy_pixels_become_micrometres_with_a_note(write: Any) -> None:
    path = write("register_pairwise:\n  max_translation_px: 20\n")
    profile = load(path)
    assert profile.step("register_pairwise").model_dump()["max_translation_um"] == 200
    assert profile.origin("register_pairwise", "max_translation_um").line == 2
    assert profile.notes == (
        f"{path}:2: register_pairwise.max_translation_px is register_pairwise.max_translation_um "
        "in soct; 20 px at 10 um are taken as 200.0 um",
    )


@pytest.mark.parametrize("name", ["nope", "nope.yaml", "a/b", "x" * 300, "x" * 300 + ".yaml"])
def test_an_absent_profile_is_a_configuration_error(name: str) -> None:
    with pytest.raises(ConfigurationError):
        load(name)


def test_a_mistyped_name_is_suggested() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load("defualt")
    assert caught.value.hint == "did you mean default?"


def test_a_file_without_suffix_is_not_mistaken_for_a_name(
    write: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("name: a\n", "mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        load("mine")
    assert caught.value.hint == "for the file of that name write ./mine"
    assert load("./mine").name == "a"


def test_what_show_prints_can_be_read_back(write: Any) -> None:
    from soct.cli.profiles import _lines

    first: Profile = load(sets=["register_pairwise.label=no: yes", "stack.blend_um=1e-3"])
    path = write("\n".join(_lines(first.resolved(), (), first.origin)))
    assert load(path).resolved() == first.resolved()


def test_the_schema_holds_every_key_with_unit_and_range() -> None:
    schema = profile_schema(STEPS, QualityLimits)
    assert set(schema["properties"]) == {
        "name", "description", "extends", "subject", "quality", "register_pairwise", "stack",
    }  # fmt: skip
    field = schema["$defs"]["RegisterParams"]["properties"]["max_rotation_deg"]
    assert field == {
        "default": 5.0,
        "description": "Largest rotation.",
        "maximum": 180,
        "minimum": 0,
        "title": "Max Rotation Deg",
        "type": "number",
        "unit": "deg",
    }
    site = site_schema()["properties"]
    assert {"type": "string"} in site["memory"]["anyOf"]
    assert "name" in site


def test_shipped_files_are_found_and_readable() -> None:
    assert shipped_folder().is_dir()
    assert "default" in shipped_profiles()
    assert set(shipped_sites()) == {"cluster", "gpu-node", "slurm-apptainer", "workstation"}
    for site in shipped_sites():
        assert load(site=site).site.gpu in ("auto", "require")
