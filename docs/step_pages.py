"""Write docs/steps/*.md from the declarations of the steps, so that the pages cannot fall behind them.

Run ``make docs``; a test compares the committed pages with what this makes.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
import site_page
from step_graph import draw_graph

from soct.pipeline.profiles.validation import describe_allowed, find_field
from soct.steps.declaration import Input, Scope, Step
from soct.steps.registry import load_steps

FOLDER = Path(__file__).parent / "steps"
PICTURES = Path(__file__).parent / "images" / "steps"
_NOTE = "<!-- Made by `make docs` from the step's declaration: change it there. -->"
_UNITS = {Scope.RUN: "the whole run", Scope.SLICE: "each slice", Scope.PAIR: "each pair of slices"}
_EXAMPLE_UNIT = {Scope.RUN: "", Scope.SLICE: " --unit 0", Scope.PAIR: " --unit 0,1"}
_PLACEHOLDERS = {
    Scope.RUN: (),
    Scope.SLICE: ("`{slice:02d}` is the slice's number.\n",),
    Scope.PAIR: ("`{fixed:02d}` and `{moving:02d}` are the numbers of the two slices.\n",),
}


def make_pages() -> dict[str, str]:
    """Return file name -> text of every page, the index among them."""
    steps = load_steps()
    pages = {f"{step_id}.md": _page(step, steps) for step_id, step in steps.items()}
    return {"README.md": _index(steps), "graph.svg": draw_graph(steps), **pages}


def _index(steps: dict[str, Step[Any]]) -> str:
    rows = [
        f"| {place} | [{step_id}]({step_id}.md) | {_UNITS[step.scope]} | {_escape(step.summary)} |"
        for place, (step_id, step) in enumerate(steps.items(), 1)
    ]
    return _join(
        "# The steps",
        _NOTE,
        "In the order in which they run. Each is also a command of its own that computes the same bytes.",
        "![The steps from top to bottom, with arcs from each to those that read it](graph.svg)",
        "\n".join(["| | step | works on | what it does |", "|---|---|---|---|", *rows]),
    )


def _page(step: Step[Any], steps: dict[str, Step[Any]]) -> str:
    about = (inspect.getdoc(inspect.getmodule(step.run)) or "").split("\n\n")[0]
    reads = [_input(given, steps) for given in step.inputs]
    if step.reads_raw:
        reads.insert(0, "the raw tiles")
    outputs = [
        f"- `{step.id}/{output.template}`{' (optional)' if output.optional else ''}"
        for output in step.outputs
    ]
    return _join(
        f"# {step.id}",
        _NOTE,
        step.summary,
        " ".join(about.split()).replace("->", "→"),
        *_picture(step.id),
        f"Works on {_UNITS[step.scope]}. Reads {', '.join(reads) or 'nothing'}. Version {step.version}.",
        "## Outputs",
        "\n".join([*_PLACEHOLDERS[step.scope], *outputs]),
        "## Parameters",
        _parameters(step),
        "## Alone",
        f"In a finished run folder `RUN`, into a folder of its own:\n\n```console\n{_command(step)}\n```",
        "[All steps](README.md)",
    )


def _picture(step_id: str) -> list[str]:
    """Return the picture of a step with its caption, which the file holds; nothing where there is no picture."""
    path = PICTURES / f"{step_id}.png"
    if not path.exists():
        return []
    with Image.open(path) as picture:
        caption = str(picture.info.get("Description", "")) or f"What {step_id} does."
    alt = caption.replace("[", "(").replace("]", ")")
    return [f"![{alt}](../images/steps/{path.name})", f"*{caption}*"]


def _input(given: Input, steps: dict[str, Step[Any]]) -> str:
    name = f"[{given.step}]({given.step}.md)" if given.step in steps else given.step
    return f"{name} (when it is on)" if given.optional else name


def _parameters(step: Step[Any]) -> str:
    schema = step.params.model_json_schema()
    rows = []
    for name, field in step.params.model_fields.items():
        default = field.get_default(call_default_factory=True)
        allowed = describe_allowed(find_field(schema, (name,)), schema)
        cells = (f"`{name}`", f"`{_shown(default)}`", allowed, field.description or "")
        rows.append(f"| {' | '.join(_escape(cell) for cell in cells)} |")
    if not rows:
        return "None."
    return "\n".join(["| key | default | allowed | meaning |", "|---|---|---|---|", *rows])


def _command(step: Step[Any]) -> str:
    raw = " --raw INPUT" if step.reads_raw else ""
    run = " --from-run RUN" if step.inputs else ""
    more = f" {step.example}" if step.example else ""
    return f"$ soct {step.command}{raw}{run}{_EXAMPLE_UNIT[step.scope]}{more} --out alone/{step.command}"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _join(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"


def write_pages(folder: Path = FOLDER) -> None:
    """Write every page and remove those of steps that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = make_pages()
    for old in folder.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    if folder == FOLDER:
        site_page.write_page()


if __name__ == "__main__":
    write_pages()
    sys.stdout.write(f"{FOLDER}\n")
