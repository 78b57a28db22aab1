"""Apptainer.def and the Dockerfile make the same image, and use nothing that is not there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch

import pytest

import soct
from soct.compute import instruction_set
from tests.containers.recipes import (
    CONTAINERS,
    ROOT,
    Definition,
    Instruction,
    arguments,
    command_line,
    labels,
    read_definition,
    read_dockerfile,
    read_lock,
)

SCRIPTS = sorted(CONTAINERS.glob("*.sh"))
VARIANTS = ("cpu", "cuda12", "cuda13")


@pytest.fixture(scope="module")
def definition() -> Definition:
    return read_definition()


@pytest.fixture(scope="module")
def dockerfile() -> list[Instruction]:
    return read_dockerfile()


def test_the_definition_has_every_section_and_its_arguments_are_those_that_it_uses(definition):
    wanted = {"arguments", "files", "post", "environment", "runscript", "test", "labels", "help"}
    assert set(definition.sections) == wanted
    used = set(re.findall(r"\{\{ (\w+) \}\}", definition.text))
    assert used == set(definition.arguments)
    assert definition.header == {"Bootstrap": "{{ BOOTSTRAP }}", "From": "{{ BASE }}"}


def test_the_dockerfile_declares_the_arguments_that_it_uses_in_the_stage_that_uses_them(dockerfile):
    for i in dockerfile:
        declared = {
            d.rest.split("=")[0] for d in dockerfile if d.word == "ARG" and d.stage == i.stage
        }
        if i.word == "FROM":
            declared = {d.rest.split("=")[0] for d in dockerfile if d.word == "ARG" and not d.stage}
        assert set(re.findall(r"\$\{(\w+)\}", i.rest)) <= declared, i


def test_the_dockerfile_uses_only_what_every_builder_knows(dockerfile):
    known = {"ARG", "FROM", "COPY", "RUN", "LABEL", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "CMD"}
    assert {i.word for i in dockerfile} <= known
    for i in dockerfile:
        assert not re.search(r"--(mount|link|chmod|security|network)\b|<<", i.rest), i


def test_both_start_from_the_same_image_with_the_same_variants_and_labels(definition, dockerfile):
    other = arguments(dockerfile)
    mine = definition.arguments
    assert mine.pop("BOOTSTRAP") == "docker"
    assert mine == other
    assert definition.labels == {
        name: re.sub(r"\$\{(\w+)\}", r"{{ \1 }}", value)
        for name, value in labels(dockerfile).items()
    }


def test_the_labels_say_this_version_and_its_licence(definition):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert definition.arguments["VERSION"] == soct.__version__
    assert definition.labels["org.opencontainers.image.licenses"] == project["license"]
    assert definition.labels["org.opencontainers.image.description"] == project["description"]


def calls_of_script(lines: list[str]) -> list[list[str]]:
    """The words that install.sh is called with."""
    split = [shlex.split(line) for line in lines if "containers/install.sh" in line]
    return [words[words.index("containers/install.sh") + 1 :] for words in split]


def test_both_call_the_same_script_and_install_nothing_themselves(definition, dockerfile):
    runs = [i.rest for i in dockerfile if i.word == "RUN"]
    post = definition.sections["post"]
    in_docker = [word for words in calls_of_script(runs) for word in words]
    # Docker leaves the stage behind that had the tools; Apptainer tidies up.
    assert calls_of_script(post) == [[*in_docker, "tidy"]]
    assert len(calls_of_script(runs)) == len(runs)
    allowed = ("export VARIANT=", "cd /opt/soct-source", "containers/", "rm -rf /opt/soct-source")
    assert all(line.startswith(allowed) for line in post)


def test_both_put_soct_into_the_same_place_and_find_it_there(definition, dockerfile):
    assert "PREFIX=/opt/soct" in definition.sections["post"][0]
    assert any("PREFIX=/opt/soct " in i.rest for i in dockerfile if i.word == "RUN")
    assert "COPY --from=build /opt/soct /opt/soct" in [f"{i.word} {i.rest}" for i in dockerfile]
    assert "PREFIX=${PREFIX:-/opt/soct}" in (CONTAINERS / "install.sh").read_text("utf-8")
    (env,) = [i.rest for i in dockerfile if i.word == "ENV"]
    environment = "\n".join(definition.sections["environment"])
    for setting in ("LC_ALL=C.UTF-8", "PYTHONNOUSERSITE=1"):
        assert setting in env
        assert setting in environment
    assert env.startswith("PATH=/opt/soct/bin:")
    assert 'PATH="/opt/soct/bin:$PATH"' in environment
    assert "export PYTHONPATH= PYTHONHOME=" in environment
    assert definition.sections["test"] == ["/opt/soct/share/soct/check.sh"]
    assert definition.sections["runscript"] == ['exec soct "$@"']
    assert command_line(dockerfile, "ENTRYPOINT") == ["soct"]


def test_the_docker_image_is_not_run_by_root(dockerfile):
    (user,) = [i.rest for i in dockerfile if i.word == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number: clusters know no names"


def test_both_copy_the_same_and_what_they_copy_is_there_and_not_ignored(definition, dockerfile):
    copied = set()
    for i in dockerfile:
        if i.word == "COPY" and not i.rest.startswith("--from"):
            *sources, target = i.rest.split()
            assert target.startswith("/opt/soct-source/")
            copied |= set(sources)
    within = {c for c in copied if any(c.startswith(f"{other}/") for other in copied)}
    copied -= within
    assert copied == set(definition.copied)
    for source, target in definition.copied.items():
        assert target == f"/opt/soct-source/{source}"
        assert (ROOT / source).exists()
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert kept == copied


def test_wheels_that_lie_in_the_folder_do_not_get_into_the_docker_image(dockerfile):
    bases = {i.rest for i in dockerfile if i.word == "FROM" and i.stage == dockerfile[-1].stage}
    assert bases == {"system"}
    copied = [i.rest for i in dockerfile if i.word == "COPY" and "--from" not in i.rest]
    build = next(i.stage for i in dockerfile if i.word == "FROM" and i.rest.endswith(" AS build"))
    of_image = [i.rest for i in dockerfile if i.rest in copied and i.stage != build]
    assert not [rest for rest in of_image if "containers" in rest.split()]
    # Apptainer keeps no layers: what is removed there is gone.
    assert "rm -rf /opt/soct-source" in (CONTAINERS / "Apptainer.def").read_text("utf-8")


def test_what_is_copied_is_all_that_the_wheel_is_made_of(definition):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        *wheel["packages"],
        *wheel["force-include"],
        project["project"]["readme"],
        *project["project"]["license-files"],
        "pyproject.toml",
    }
    for path in needed:
        assert any(fnmatch(path, f"{c}*") for c in definition.copied), path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_valid_shell(script):
    assert script.stat().st_mode & 0o111, "it can be run"
    subprocess.run(["bash", "-n", script], check=True, timeout=120)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, script], check=True, timeout=240)


def test_every_variant_has_a_lock_file_with_the_versions_that_development_has():
    development = read_lock(ROOT / "requirements.lock")
    image = read_lock(CONTAINERS / "locks" / "cpu.lock") | read_lock(
        CONTAINERS / "locks" / "build.lock"
    )
    assert {path.stem for path in (CONTAINERS / "locks").glob("*")} == {*VARIANTS, "build"}
    shared = image.keys() & development.keys()
    differing = {name for name in shared if not image[name] <= development[name]}
    assert not differing, "run `make lock`"


def test_the_lock_files_hold_all_that_soct_needs_and_no_tools_of_development():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dask"]
    names = {re.split(r"[<>=\[]", text)[0].lower() for text in wanted}
    cpu = read_lock(CONTAINERS / "locks" / "cpu.lock")
    assert names <= cpu.keys()
    assert not cpu.keys() & {"pytest", "mypy", "ruff", "hypothesis", "ipython"}
    for variant in VARIANTS[1:]:
        gpu = read_lock(CONTAINERS / "locks" / f"{variant}.lock")
        assert f"cupy-{variant}x" in gpu
        assert not gpu.keys() & cpu.keys(), "the two are installed together"


def test_the_script_knows_the_variants_and_refuses_others():
    for words, variables, told in (
        (["soct"], {"VARIANT": "cuda11"}, "VARIANT is cpu, cuda12 or cuda13, not 'cuda11'"),
        (["everything"], {}, "unknown: everything (system, tools, soct, tidy)"),
        ([], {}, "what? system, tools, soct, tidy"),
    ):
        done = run_script(words, variables)
        assert done.returncode == 1
        assert told in done.stderr


def test_the_script_refuses_to_run_anywhere_but_in_the_project(tmp_path):
    done = subprocess.run(
        [CONTAINERS / "install.sh", "soct"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "run it in the root of the project" in done.stderr


def run_script(words: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CONTAINERS / "install.sh", *words],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_the_script_makes_an_installation_that_works_by_itself(tmp_path):
    """All of it but Debian's packages, the download of dependencies and the compilation of kernels."""
    prefix = tmp_path / "soct"
    variables = {"DEPENDENCIES": "present", "KERNELS": "none"}
    done = run_script(["soct"], variables | {"PREFIX": str(prefix), "PYTHON": sys.executable})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2].endswith(f"soct {soct.__version__}")
    assert (prefix / "share" / "soct" / "check.sh").stat().st_mode & 0o111
    (package,) = prefix.rglob("site-packages/soct")
    assert (package / "profiles" / "conservative.yaml").is_file()
    compiled = list(package.rglob("*.pyc"))
    assert len(compiled) == len(list(package.rglob("*.py")))
    # Bytes 4 to 7: 1, a checksum instead of a date; not 3, which would have the source read at every start.
    assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\x00\x00\x00"}
    where = subprocess.run(
        [prefix / "bin" / "python", "-Ic", "import soct; print(soct.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert where.stdout.startswith(str(prefix))


def test_the_level_that_images_are_compiled_for_is_the_one_that_the_docs_state():
    text = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    assert instruction_set.LEVEL in text
