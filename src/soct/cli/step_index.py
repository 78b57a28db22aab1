"""The steps' names and summaries for ``soct --help``, read without importing any step.

Importing the sixteen modules would cost more than the rest of the command line, so their declarations are
read from the syntax tree. A test compares this with the real ones.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import soct
from soct.steps.registry import STEP_IDS


@dataclass(frozen=True)
class StepEntry:
    """One step as the list of commands shows it."""

    id: str
    command: str
    summary: str


@cache
def read_step_index() -> dict[str, StepEntry]:
    """Return the entries of all steps by command name, in pipeline order."""
    folder = Path(soct.__file__).parent / "steps"
    entries = (_read_entry(folder / f"{step}.py", step) for step in STEP_IDS)
    return {entry.command: entry for entry in entries}


def _read_entry(file: Path, step: str) -> StepEntry:
    declared = _declaration(file)
    command = declared.get("cli_name") or step.replace("_", "-")
    return StepEntry(step, command, declared.get("summary", ""))


def _declaration(file: Path) -> dict[str, str]:
    """Return the constant keywords of the ``Step(...)`` call in a step module."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError):
        return {}
    for statement in tree.body:
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Call) and _name(value.func) == "Step":
            return {
                keyword.arg: keyword.value.value
                for keyword in value.keywords
                if keyword.arg
                and isinstance(keyword.value, ast.Constant)
                and isinstance(keyword.value.value, str)
            }
    return {}


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
