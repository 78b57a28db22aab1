"""The layers that a configuration is made of, and what each of them sets.

Every setting is a path of keys and a value with its origin; a later layer replaces the same path of an
earlier one. Mappings are split into their leaves, so two layers may each set a part of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from soct.pipeline.folder.inert_text import make_inert
from soct.pipeline.profiles.strict_yaml import Document, Problem, parse_value, refuse

SETTING_PREFIX = "SOCT_SET__"
SITE_PREFIX = "SOCT_SITE__"

Path = tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Where a value comes from."""

    layer: str
    """``default`` (the step's own), ``shipped``, ``extends``, ``site``, ``file``, ``environment`` or ``command line``."""
    source: str = ""
    """The file, variable or option."""
    line: int = 0
    """1-based; 0 where there is none."""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return make_inert(f"{self.layer} {place}".rstrip())


@dataclass(frozen=True)
class Setting:
    """One value for one path of keys."""

    path: Path
    value: Any
    origin: Origin
    text: str | None = None
    """As it was typed, when it comes from the environment or the command line."""

    @property
    def key(self) -> str:
        """``step.key``."""
        return ".".join(self.path)

    def problem(self, what: str) -> Problem:
        """Return the problem that this setting has."""
        return Problem(self.origin.source, self.origin.line, f"{self.key}: {what}")


def settings_of_document(document: Document, layer: str) -> list[Setting]:
    """Return every leaf of a file, in file order."""
    return list(_leaves(document, layer, (), document.value))


def _leaves(document: Document, layer: str, path: Path, value: Any) -> Iterator[Setting]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(document, layer, (*path, key), inner)
    else:
        yield Setting(path, value, Origin(layer, document.source, document.line(*path)))


def settings_of_environment(environment: Mapping[str, str], prefix: str) -> list[Setting]:
    """Return what variables set, sorted by name.

    Parameters
    ----------
    environment : mapping
        Such as `os.environ`. ``SOCT_SET__register_pairwise__max_rotation_deg=3`` sets a key of a profile,
        ``SOCT_SITE__cpus=4`` one of the site; two underscores part the keys, upper case is read as lower.
    prefix : str
        `SETTING_PREFIX` or `SITE_PREFIX`.

    Raises
    ------
    ConfigurationError
        If a value is not a YAML value.
    """
    settings = []
    for name in sorted(environment):
        if name.startswith(prefix):
            path = tuple(name.removeprefix(prefix).lower().split("__"))
            settings.append(_typed(path, environment[name], Origin("environment", name)))
    return settings


def settings_of_options(options: Iterable[str]) -> list[Setting]:
    """Return what ``--set step.key=value`` options set, in order.

    Raises
    ------
    ConfigurationError
        With every option that is not of that form.
    """
    settings = []
    problems = []
    for option in options:
        key, equals, text = option.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        source = f"--set {option}"
        if not equals or not all(path):
            problems.append(Problem(source, 0, "expected step.key=value"))
            continue
        settings.append(_typed(path, text, Origin("command line", source)))
    refuse(problems)
    return settings


def _typed(path: Path, text: str, origin: Origin) -> Setting:
    return Setting(path, parse_value(text, origin.source), origin, text)


def merge(settings: Iterable[Setting]) -> dict[Path, Setting]:
    """Return the last setting of every path; one at a path replaces all that lie below or above it."""
    merged: dict[Path, Setting] = {}
    below: dict[Path, set[Path]] = {}
    for setting in settings:
        path = setting.path
        parents = [path[:length] for length in range(1, len(path))]
        for other in (*parents, path, *below.pop(path, ())):
            merged.pop(other, None)
        merged[path] = setting
        for parent in parents:
            below.setdefault(parent, set()).add(path)
    return merged


def nest(settings: Iterable[Setting], depth: int = 0) -> dict[str, Any]:
    """Return the settings as nested mappings, without the first `depth` keys of each path."""
    nested: dict[str, Any] = {}
    for setting in settings:
        target = nested
        for key in setting.path[depth:-1]:
            target = target.setdefault(key, {})
        target[setting.path[-1]] = setting.value
    return nested
