"""The names and summaries of steps and tools for ``soct --help``, read without importing any of them.

Importing every module would cost more than the rest of the command line, so their declarations are read
from the syntax tree. A test compares this with the real ones.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import soct
from soct.cli.tools import TOOLS
from soct.steps.registry import STEP_IDS


@dataclass(frozen=True)
class StepEntry:
    """One step as the list of commands shows it."""

    id: str
    command: str
    summary: str


@dataclass(frozen=True)
class ToolEntry:
    """One tool as the list of commands shows it."""

    name: str
    """As typed: one word, or the group's name and the command's."""
    module: str
    summary: str


@cache
def read_step_index() -> dict[str, StepEntry]:
    """Return the entries of all steps by command name, in pipeline order."""
    folder = Path(soct.__file__).parent / "steps"
    entries = (_read_entry(folder / f"{step}.py", step) for step in STEP_IDS)
    return {entry.command: entry for entry in entries}


@cache
def read_tool_index() -> dict[str, ToolEntry]:
    """Return the entries of all tools by name, in the order in which they are listed."""
    return {name: _read_tool(name) for name in TOOLS}


def _read_tool(name: str) -> ToolEntry:
    module = name.replace(" ", "_").replace("-", "_")
    tree = _parse(Path(__file__).parent / "tools" / f"{module}.py")
    text = ast.get_docstring(tree) or "" if tree is not None else ""
    return ToolEntry(name, f"soct.cli.tools.{module}", " ".join(text.split("\n\n")[0].split()))


def _read_entry(file: Path, step: str) -> StepEntry:
    declared = _declaration(file)
    command = declared.get("cli_name") or step.replace("_", "-")
    return StepEntry(step, command, declared.get("summary", ""))


def _parse(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError):
        return None


def _declaration(file: Path) -> dict[str, str]:
    """Return the constant keywords of the ``Step(...)`` call in a step module."""
    tree = _parse(file)
    for statement in tree.body if tree is not None else ():
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
