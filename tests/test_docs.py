"""The pages for users say what is there: their commands run, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tests.quick_soct import folder_of_soct

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])

_BLOCK = re.compile(
    r"(?P<reason><!-- not run: [^>]+ -->\n)?^(?P<indent> *)```(?P<kind>\w+)\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"!?\[[^]]*\]\((?P<target>[^)\s]+)\)")
_STEP_PAGES = [page for page in PAGES if page.parent.name == "steps" and page.stem != "README"]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    kind: str
    lines: tuple[str, ...]
    is_run: bool


def blocks(page: Path) -> Iterator[Block]:
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        indent = len(found["indent"])
        lines = tuple(line[indent:] for line in found["body"].splitlines())
        yield Block(found["kind"], lines, is_run=found["reason"] is None)


def commands(page: Path) -> list[str]:
    """Every command of a page that is to be run, in order."""
    return [
        line.removeprefix("$ ")
        for block in blocks(page)
        if block.kind == "console" and block.is_run
        for line in block.lines
        if line.startswith("$ ")
    ]


WITH_COMMANDS = [page for page in PAGES if commands(page)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Shell:
    """Runs commands as a user does: in one folder, with soct on the PATH."""

    def __init__(self, folder: Path, *programs: Path) -> None:
        self.folder = folder
        self.programs = (*programs, Path(sys.executable).parent)

    def __call__(self, command: str) -> None:
        # A cluster that this machine happens to belong to has other partitions than the pages' one.
        no_slurm = self.folder.parent / "no_slurm"
        no_slurm.mkdir(exist_ok=True)
        (no_slurm / "sinfo").write_text("#!/bin/sh\nexit 1\n")
        (no_slurm / "sinfo").chmod(0o755)
        path = os.pathsep.join(map(str, [no_slurm, *self.programs, os.environ["PATH"]]))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SOCT_S")}
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env={**kept, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"


def prepare(folder: Path) -> None:
    shell = Shell(folder)
    shell("soct simulate made --preset tiny --slices 2")
    (folder / "made" / "raw").rename(folder / "INPUT")
    shell("soct run INPUT RUN")
    shell("soct atlas phantom ATLAS")


@pytest.fixture(scope="session")
def prepared(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A folder with INPUT, a small acquisition, RUN, what the README's first command makes of it, and ATLAS."""
    return once("docs", prepare)


@pytest.fixture
def shell(prepared: Path, tmp_path: Path) -> Shell:
    """A shell in a folder that looks like `prepared`, where soct starts quickly."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return Shell(tmp_path, folder_of_soct())


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in WITH_COMMANDS if page not in _STEP_PAGES], ids=name_of
)
def test_every_command_of_a_page_runs(page, shell):
    for block in blocks(page):
        if block.kind == "yaml" and block.lines[0].startswith("# "):
            name = block.lines[0].removeprefix("# ")
            (shell.folder / name).write_text("\n".join(block.lines) + "\n", encoding="utf-8")
    for command in commands(page):
        shell(command)


@pytest.mark.slow
def test_the_command_of_every_step_runs(shell):
    assert len(_STEP_PAGES) > 10
    for page in _STEP_PAGES:
        for command in commands(page):
            shell(command)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file(page):
    targets = [found["target"] for found in _LINK.finditer(page.read_text(encoding="utf-8"))]
    local = [t.partition("#")[0] for t in targets if not t.startswith(("https://", "#"))]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert not missing


def test_the_pages_of_the_steps_are_those_that_their_declarations_make():
    pages = step_pages().make_pages()
    written = {page.name: page.read_text(encoding="utf-8") for page in (DOCS / "steps").glob("*")}
    stale = [name for name in pages if written.get(name) != pages[name]]
    assert not stale, "run `make docs`"
    assert set(written) == set(pages), "run `make docs`"


def test_every_option_that_a_sentence_names_beside_its_command_is_there():
    import click
    import typer.main

    from soct.cli.app import build_app

    app = typer.main.get_command(build_app())
    unknown, seen = [], 0
    for page in (page for page in PAGES if page.name != "CHANGELOG.md"):
        sentences = _BLOCK.sub("", page.read_text(encoding="utf-8"))
        for words in map(str.split, re.findall(r"`soct ([a-z][^`]*)`", sentences)):
            command, rest = app, words
            while hasattr(command, "resolve_command") and rest:
                _, command, rest = command.resolve_command(click.Context(command), rest)
            known = {o for p in command.params for o in (*p.opts, *p.secondary_opts, "--help")}
            options = {word.partition("=")[0] for word in rest if word.startswith("--")}
            unknown += [(page.name, *words)] if options - known else []
            seen += len(options)
    assert seen > 10
    assert not unknown


def test_the_page_of_sites_has_every_key_of_a_site_file():
    page = (DOCS / "sites.md").read_text(encoding="utf-8")
    assert step_pages().site_page.make_page() == page, "run `make docs`"


def test_every_line_that_troubleshooting_offers_is_a_parameter():
    from soct.steps.registry import load_steps

    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    lines = re.findall(r"`([a-z_0-9]+)\.([a-z_]+)(?:: [^`]+)?`", text)
    assert len(lines) > 12
    steps = load_steps()
    unknown = [f"{s}.{k}" for s, k in lines if s in steps and k not in steps[s].params.model_fields]
    assert not unknown


PICTURES = DOCS / "images" / "steps"


@pytest.mark.slow
def test_every_step_has_a_picture():
    from soct.steps.registry import STEP_IDS

    # What needs an atlas cannot be drawn from a simulated run.
    drawn = [name for name in STEP_IDS if name != "align_to_ras"]
    missing = [name for name in drawn if not (PICTURES / f"{name}.png").exists()]
    assert not missing, (
        "run `make pictures` (a function in docs/step_pictures.py says what is drawn)"
    )


def test_every_picture_of_a_step_is_small_800_pixels_wide_and_says_what_it_shows():
    from PIL import Image

    from soct.steps.registry import STEP_IDS

    for path in PICTURES.glob("*.png"):
        assert path.stem in STEP_IDS, "a step that is gone"
        assert path.stat().st_size <= 60_000, path.name
        with Image.open(path) as picture:
            assert picture.width == 800, path.name
            assert len(str(picture.info.get("Description", ""))) > 20, path.name


def test_the_readme_lists_every_exit_code():
    from soct.errors import ExitCode

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = [row.split("|")[1] for row in text.splitlines() if row.startswith("| ")]
    listed = {int(number) for cell in table for number in re.findall(r"\d+", cell)}
    assert listed == {int(code) for code in ExitCode}


def test_the_pages_name_every_shipped_profile():
    shipped = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}
    text = (DOCS / "profiles.md").read_text(encoding="utf-8")
    assert {name for name in shipped if f"| `{name}` |" in text} == shipped


def step_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("step_pages", DOCS / "step_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
