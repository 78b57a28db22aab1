"""``soct profiles``: list, show, validate, schema."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from soct.cli import options


def build_profiles() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(
        help="Profiles: list, show with origins, check, JSON schema for editors.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
    )
    for function in (show, validate, schema):
        app.command(function.__name__)(function)
    app.command("list")(list_profiles)
    return app


_Name = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="A shipped profile or a YAML file.")
]


def list_profiles() -> None:
    """List the shipped profiles and sites."""
    from soct.cli.terminal import data
    from soct.pipeline.profiles.store import shipped_profiles, shipped_sites
    from soct.pipeline.profiles.strict_yaml import read_document

    for kind, found in (("profile", shipped_profiles()), ("site", shipped_sites())):
        for name, path in found.items():
            text = read_document(path).value.get("description", "")
            data(f"{kind:<8} {name:<13} {text}")


def show(
    name: _Name = "default",
    sets: options.Sets = None,
    site: options.Site = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Print every value of a profile, with all layers applied, as a profile file."""
    from soct.cli.terminal import data, data_json, words
    from soct.pipeline.profiles.profile import load_profile

    profile = load_profile(name, site, sets or ())
    for note in profile.notes:
        words(f"note: {note}")
    if as_json:
        data_json(profile.record())
        return
    resolved = profile.resolved()
    data(*_lines(resolved, (), profile.origin if origin else None))


def _lines(values: dict[str, Any], path: tuple[str, ...], origin: Any) -> list[str]:
    lines = []
    indent = "  " * len(path)
    for key, value in values.items():
        here = (*path, key)
        if isinstance(value, dict) and value and len(path) < 3:
            if not path:
                lines.append("")
            lines.append(f"{indent}{key}:")
            lines += _lines(value, here, origin)
            continue
        text = f"{indent}{key}: {_yaml(value)}"
        lines.append(f"{text:<48} # {origin(*here)}" if origin is not None else text)
    return lines


def _yaml(value: Any) -> str:
    """Return a value as one line of YAML 1.2, which JSON is a part of; text without need unquoted."""
    import json
    import re

    if isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_./ -]*[A-Za-z0-9.]", value):
        plain = value.lower() not in ("true", "false", "null")
        return value if plain else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)


def validate(
    name: _Name,
    site: options.Site = None,
) -> None:
    """Check a profile (and a site); all problems are told at once."""
    from soct.cli.terminal import words
    from soct.pipeline.profiles.profile import load_profile

    profile = load_profile(name, site)
    for note in profile.notes:
        words(f"note: {note}")
    words(f"{name}: valid")


def schema(
    of_site: Annotated[
        bool, typer.Option("--site", help="Of site files instead of profiles.")
    ] = False,
) -> None:
    """Print the JSON schema, with ranges, units and descriptions."""
    from soct.cli.terminal import data_json
    from soct.pipeline.profiles.schema import profile_schema, site_schema
    from soct.quality.limits import QualityLimits
    from soct.steps.registry import load_steps

    data_json(site_schema() if of_site else profile_schema(load_steps(), QualityLimits))
