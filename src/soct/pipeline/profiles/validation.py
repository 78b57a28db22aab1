"""From pydantic's errors to lines that a person can act on: where, what, the allowed range, the likely word."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from soct.pipeline.profiles.layers import Setting, nest
from soct.pipeline.profiles.store import suggest
from soct.pipeline.profiles.strict_yaml import Problem

M = TypeVar("M", bound=BaseModel)
_YES = frozenset(("yes", "on", "y"))
_NO = frozenset(("no", "off", "n"))


@dataclass(frozen=True)
class Checked:
    """A section after validation: the model unless there are problems."""

    model: BaseModel | None
    problems: tuple[Problem, ...] = ()


def validate_section(
    model: type[BaseModel], settings: Sequence[Setting], depth: int, where: str
) -> Checked:
    """Validate the settings of one section strictly: text is never taken for a number.

    Parameters
    ----------
    model : type
        The pydantic model of the section.
    settings : sequence of Setting
        Those that share the first `depth` keys.
    depth : int
        1 for ``section.key``, 0 where the keys stand at the top.
    where : str
        Source to name when nothing else is known.

    Returns
    -------
    Checked
        With a problem for every key that is wrong.
    """
    unusable = [s for s in settings if len(s.path) <= depth]
    if unusable:
        return Checked(None, tuple(s.problem("expected keys with values") for s in unusable))
    try:
        return Checked(_validate(model, settings, depth))
    except ValidationError as error:
        typed = _as_typed(error, settings, depth)
        if typed is not None:
            return validate_section(model, typed, depth, where)
        return Checked(None, tuple(_problems(error, model, settings, depth, where)))


def _validate(model: type[M], settings: Iterable[Setting], depth: int) -> M:
    # By way of JSON, because strict validation of Python objects would refuse a list for a tuple.
    return model.model_validate_json(json.dumps(nest(settings, depth)), strict=True)


def _as_typed(
    error: ValidationError, settings: Sequence[Setting], depth: int
) -> list[Setting] | None:
    """Return the settings with the typed text where text is wanted, if that changes anything.

    ``--set step.label=12`` is the text "12" for a key that holds text.
    """
    wanted = {
        _path(part) for part in error.errors(include_url=False) if part["type"] == "string_type"
    }
    changed = [
        replace(s, value=s.text)
        if s.path[depth:] in wanted and s.text is not None and s.value != s.text
        else s
        for s in settings
    ]
    return changed if changed != list(settings) else None


def _path(part: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(key) for key in part["loc"])


def _problems(
    error: ValidationError,
    model: type[BaseModel],
    settings: Sequence[Setting],
    depth: int,
    where: str,
) -> list[Problem]:
    schema = model.model_json_schema()
    by_path = {s.path[depth:]: s for s in settings}
    problems: dict[tuple[str, ...], Problem] = {}
    for part in error.errors(include_url=False):
        setting = _nearest(by_path, _path(part))
        text = _explain(part, schema, setting)
        if setting is not None and part["type"] == "extra_forbidden":
            setting = replace(setting, path=(*setting.path[:depth], *_path(part)))
        if setting is None:
            problems.setdefault((text,), _of_section(part, text, settings, depth, where))
        else:
            problems.setdefault(setting.path, setting.problem(text))
    return list(problems.values())


def _of_section(
    part: Mapping[str, Any], text: str, settings: Sequence[Setting], depth: int, where: str
) -> Problem:
    """Return a problem that no single setting has, at the line of one that its message names."""
    section = list(settings[0].path[:depth]) if settings else []
    key = ".".join([*section, *_path(part)])
    text = f"{key}: {text}" if key else text
    named = [s for s in settings if s.path[-1] in part["msg"]] or list(settings)
    if not named:
        return Problem(where, 0, text)
    return Problem(named[-1].origin.source, named[-1].origin.line, text)


def _nearest(by_path: Mapping[tuple[str, ...], Setting], loc: tuple[str, ...]) -> Setting | None:
    """Return the setting at a path, at the longest part of it, or below it."""
    for length in range(len(loc), 0, -1):
        if loc[:length] in by_path:
            return by_path[loc[:length]]
    return next((s for path, s in by_path.items() if loc and path[: len(loc)] == loc), None)


def _explain(part: Mapping[str, Any], schema: Mapping[str, Any], setting: Setting | None) -> str:
    kind = part["type"]
    if kind == "extra_forbidden":
        near = suggest(_path(part)[-1], list(_properties(schema, part["loc"][:-1])))
        return "unknown key" + (f"; {near}" if near else "")
    if kind in ("value_error", "assertion_error"):
        found = f"found {_shown(setting.value)}; " if setting is not None and part["loc"] else ""
        return found + str(part["msg"]).split(", ", 1)[-1]
    if kind == "missing":
        return "this key is needed"
    found = _shown(setting.value if setting is not None else part.get("input"))
    field = find_field(schema, part["loc"])
    text = f"found {found}; allowed: {describe_allowed(field, schema)}"
    likely = _likely(setting, field)
    return f"{text}; {likely}" if likely else text


def _likely(setting: Setting | None, field: Mapping[str, Any]) -> str:
    if setting is None or not isinstance(setting.value, str):
        return ""
    word = setting.value.lower()
    if field.get("type") == "boolean" and word in _YES | _NO:
        return f"did you mean {'true' if word in _YES else 'false'}?"
    options = [str(v) for v in field.get("enum", ())]
    return suggest(setting.value, options)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:60] + "..."


def _resolve(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = field.get("$ref")
    if reference is None and len(field.get("allOf", ())) == 1:
        reference = field["allOf"][0].get("$ref")
    if reference is None:
        return field
    return schema.get("$defs", {}).get(str(reference).rsplit("/", 1)[-1], field)


def _properties(schema: Mapping[str, Any], loc: Sequence[Any]) -> Mapping[str, Any]:
    inner: Mapping[str, Any] = schema
    for key in loc:
        inner = _resolve(inner.get("properties", {}).get(key, {}), schema)
    return inner.get("properties", {})


def find_field(schema: Mapping[str, Any], loc: Sequence[Any]) -> Mapping[str, Any]:
    """Return the JSON schema of the field at a path of keys, as far as the schema names them."""
    field: Mapping[str, Any] = schema
    for key in loc:
        properties = _resolve(field, schema).get("properties", {})
        if key not in properties:
            break
        field = {**_resolve(properties[key], schema), **properties[key]}
    return field


def describe_allowed(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return what a field may hold in words: ``a number from 0 to 35 deg``, ``mask | fail``."""
    if "text" in field:
        return str(field["text"])
    options = field.get("anyOf") or field.get("oneOf")
    if options:
        resolved = [{**field, **_resolve(o, schema)} for o in options]
        for option in resolved:
            option.pop("anyOf", None)
            option.pop("oneOf", None)
        return " or ".join(describe_allowed(option, schema) for option in resolved)
    field = {**_resolve(field, schema), **field}
    if "enum" in field:
        return " | ".join(str(v) for v in field["enum"])
    if "const" in field:
        return str(field["const"])
    return _describe_type(field, schema)


def _describe_type(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    kind = field.get("type")
    if kind in ("number", "integer"):
        noun = "a number" if kind == "number" else "a whole number"
        span = describe_range(field)
        unit = str(field.get("unit", ""))
        if not span:
            return f"{noun} in {unit}" if unit else noun
        comma = "" if span.startswith("from") else ","
        return f"{noun}{comma} {span} {unit}".rstrip()
    if kind == "array":
        items: Mapping[str, Any] = field.get("items") or next(
            iter(field.get("prefixItems", ())), {}
        )
        count = field.get("minItems") if field.get("minItems") == field.get("maxItems") else None
        return f"a list of {count or 'values'}: {describe_allowed(items, schema)}"
    words = {
        "boolean": "true or false",
        "string": "text",
        "null": "null",
        "object": "keys and values",
    }
    return words.get(str(kind), "see `soct profiles schema`")


def describe_range(field: Mapping[str, Any]) -> str:
    """Return the range of a number in words: ``from 0 to 35``, ``above 0, at most 1``."""
    low, high = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"from {_number(low)} to {_number(high)}"
    parts = []
    if low is not None:
        parts.append(f"at least {_number(low)}")
    if above is not None:
        parts.append(f"above {_number(above)}")
    if high is not None:
        parts.append(f"at most {_number(high)}")
    if below is not None:
        parts.append(f"below {_number(below)}")
    return ", ".join(parts)


def _number(value: float) -> str:
    return f"{value:g}"
