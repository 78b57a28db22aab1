"""Machine settings from a site file, the environment and the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from soct.pipeline.profiles.layers import (
    SITE_PREFIX,
    Origin,
    Setting,
    merge,
    settings_of_document,
    settings_of_environment,
)
from soct.pipeline.profiles.store import find_site, suggest
from soct.pipeline.profiles.strict_yaml import Problem, read_document, refuse
from soct.pipeline.profiles.validation import validate_section
from soct.pipeline.sites.site import Site

_HEAD = ("name", "description")
_SCIENCE = "a science setting: it belongs in a profile (--profile), not in a site file"
_PROFILE_KEYS = ("quality", "subject", "extends")


def load_site(
    name_or_path: str | Path | None,
    env: Mapping[str, str],
    options: Mapping[str, Any] | None = None,
    science: Iterable[str] = (),
) -> Site:
    """Return the machine settings.

    Parameters
    ----------
    name_or_path : str or Path, optional
        A shipped site or a YAML file.
    env : mapping
        ``SOCT_SITE__cpus=4`` and the like replace what the file says.
    options : mapping, optional
        What the command line says, by key of `Site`; None values are left out.
    science : iterable of str
        Sections of a profile, to tell a misplaced one from a mistyped one.

    Raises
    ------
    ConfigurationError
        With one line for every problem; a science setting names the profile as its place.
    """
    settings: list[Setting] = []
    if name_or_path is not None:
        settings += settings_of_document(read_document(find_site(name_or_path)), "site")
    settings += settings_of_environment(env, SITE_PREFIX)
    settings += [
        Setting(
            (key,),
            str(value) if isinstance(value, Path) else value,
            Origin("command line", f"--{key.replace('_', '-')}"),
        )
        for key, value in (options or {}).items()
        if value is not None
    ]
    merged = [s for path, s in merge(settings).items() if path[0] not in _HEAD]
    misplaced = [s for s in merged if s.path[0] not in Site.model_fields]
    checked = validate_section(Site, [s for s in merged if s not in misplaced], 0, "site")
    sections = {*science, *_PROFILE_KEYS}
    refuse(sorted({*(_misplaced(s, sections) for s in misplaced), *checked.problems}))
    assert isinstance(checked.model, Site)
    return checked.model


def _misplaced(setting: Setting, science: set[str]) -> Problem:
    if setting.path[0] in science:
        return setting.problem(_SCIENCE)
    known = list(Site.model_fields)
    near = suggest(setting.path[0], known)
    return setting.problem(f"unknown key; {near or 'allowed: ' + ', '.join(known)}")
