"""Options from the fields of a pydantic model: type, unit, range, description and default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.markup import escape

from soct.pipeline.profiles.validation import describe_allowed, find_field

NEGATED = "no__"


def options_of_field(
    model: type[BaseModel], key: str, name: str, panel: str
) -> list[inspect.Parameter]:
    """Return the keyword parameters that typer turns into options.

    A value is the text as typed (True or False for a flag), None when the option is not given; the model
    validates it later, so that options and profiles have one set of rules and messages. A flag has two
    options, ``--x`` and ``--no-x``, of which the help shows the one that changes the default.

    Parameters
    ----------
    model : type
        The model that has the field.
    key : str
        The field.
    name : str
        The option's name with underscores.
    panel : str
        Heading in the help.
    """
    schema = model.model_json_schema()
    field = find_field(schema, (key,))
    default = model.model_fields[key].get_default(call_default_factory=True)
    description = str(field.get("description", ""))
    flag = name.replace("_", "-")
    if field.get("type") == "boolean":
        states = ((name, f"--{flag}", not default), (NEGATED + name, f"--no-{flag}", bool(default)))
        return [
            keyword(parameter, _flag(option, description, panel, shown=shown), None)
            for parameter, option, shown in states
        ]
    text = f"{description} ({describe_allowed(field, schema)}; default {_shown(default)})"
    option = typer.Option(
        f"--{flag}", metavar=_metavar(field), help=escape(text), rich_help_panel=panel
    )
    return [keyword(name, Annotated[str | None, option], None)]


def _flag(option: str, description: str, panel: str, *, shown: bool) -> Any:
    negative = option.startswith("--no-")
    text = f"Switch off: {description}" if negative else description
    made = typer.Option(option, help=escape(text), rich_help_panel=panel, hidden=not shown)
    return Annotated[bool | None, made]


def typed_values(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return what was typed, by field; fields that were not given are left out.

    Parameters
    ----------
    given : mapping
        Values by parameter name, as typer passes them.
    names : mapping
        Field to option name.
    """
    typed = {}
    for key, name in names.items():
        if given.get(NEGATED + name):
            typed[key] = False
        elif given.get(name) is not None:
            typed[key] = given[name]
    return typed


def keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """Return a keyword-only parameter."""
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def give_signature(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> Any:
    """Return a function of ``**given`` with the signature that typer should see."""
    # Typer reads the one or the other, depending on its version.
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def build_command(name: str, text: str, function: Any) -> Any:
    """Return the command that typer builds from a function."""
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(name, help=escape(text))(function)
    return typer.main.get_command(app)


def as_yaml(model: type[BaseModel], key: str, value: Any) -> str:
    """Return an option's value as a profile would have it; a list may be typed without brackets."""
    if isinstance(value, bool):
        return str(value).lower()
    field = model.model_json_schema()["properties"][key]
    is_list = field.get("type") == "array" and not str(value).lstrip().startswith("[")
    return f"[{value}]" if is_list else str(value)


def _metavar(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return "CHOICE"
    unit = str(field.get("unit", ""))
    return unit.upper() if unit.isidentifier() else "VALUE"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return str(value)
