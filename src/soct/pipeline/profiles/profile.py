"""A profile: every scientific choice of a run, typed, checked, and with the origin of each value.

Layers, each over the one before: the defaults that the steps declare, the shipped profile ``default``, the
shipped profile that the file extends, the file, ``SOCT_SET__step__key`` variables, ``--set step.key=value``.
Machine settings never stand in a profile: they are the `soct.pipeline.sites.site.Site`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from soct.pipeline.profiles.aliases import translate
from soct.pipeline.profiles.layers import (
    SETTING_PREFIX,
    Origin,
    Setting,
    merge,
    settings_of_document,
    settings_of_environment,
    settings_of_options,
)
from soct.pipeline.profiles.store import DEFAULT_PROFILE, find_profile, shipped_profiles, suggest
from soct.pipeline.profiles.strict_yaml import Document, Problem, read_document, refuse
from soct.pipeline.profiles.validation import validate_section
from soct.pipeline.sites.site import MACHINE_WORDS, Site
from soct.pipeline.sites.site_file import load_site
from soct.steps.declaration import Params, Step
from soct.steps.registry import load_steps

if TYPE_CHECKING:
    from pathlib import Path

    from soct.quality.limits import QualityLimits

QUALITY = "quality"
_MACHINE = "a machine setting: it belongs in a site file (--site), not in a profile"


class ProfileHead(BaseModel):
    """The keys of a profile that belong to no step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("", max_length=100, description="Name of the profile, for the report.")
    description: str = Field("", max_length=2000, description="What the profile is for.")
    extends: str | None = Field(
        None, description="The shipped profile that this one changes; `default` where it says none."
    )
    subject: str = Field(
        "sample",
        min_length=1,
        max_length=80,
        pattern=r"^[^\s/\\.:*?\"'<>|{}$`\-\x00-\x1f\x7f][^/\\:*?\"'<>|{}$`\x00-\x1f\x7f]*$",
        description="Name of the specimen: the final volume is {subject}.ome.zarr.",
        json_schema_extra={
            "text": "text without / \\ : * ? \" ' < > | { } $ ` that starts with no . - or space"
        },
    )


@dataclass(frozen=True)
class Profile:
    """All that a run is told about its science, resolved."""

    name: str
    description: str
    subject: str
    params: Mapping[str, Params]
    """Parameters by step id, in pipeline order."""
    quality: QualityLimits
    site: Site
    origins: Mapping[tuple[str, ...], Origin] = field(repr=False)
    notes: tuple[str, ...] = ()
    """One sentence for each key that came under an older name."""

    def step(self, step_id: str) -> Params:
        """Return the parameters of one step.

        Raises
        ------
        KeyError
            If there is no such step.
        """
        return self.params[step_id]

    def origin(self, *path: str) -> Origin:
        """Return where a value comes from: ``origin("stack", "blend")`` or ``origin("stack.blend")``."""
        keys = tuple(part for key in path for part in key.split("."))
        while keys:
            if keys in self.origins:
                return self.origins[keys]
            keys = keys[:-1]
        return Origin("default")

    def resolved(self) -> dict[str, Any]:
        """Return every value, JSON-able, in the layout of a profile file."""
        return {
            "name": self.name,
            "description": self.description,
            "subject": self.subject,
            QUALITY: self.quality.model_dump(mode="json"),
            **{step: params.model_dump(mode="json") for step, params in self.params.items()},
        }

    def record(self) -> dict[str, Any]:
        """Return what a run keeps of its profile: the resolved values, and the origin of those set."""
        origins = {".".join(path): str(origin) for path, origin in self.origins.items()}
        return {"values": self.resolved(), "origins": origins, "notes": list(self.notes)}


@dataclass(frozen=True)
class _Known:
    """What may stand in a profile."""

    steps: Mapping[str, Step[Any]]
    quality: type[BaseModel]

    @property
    def sections(self) -> list[str]:
        return [QUALITY, *self.steps]

    def keys(self, section: str) -> list[str]:
        model = self.quality if section == QUALITY else self.steps[section].params
        return list(model.model_fields)

    def owners(self, key: str) -> list[str]:
        return [step for step in self.steps if key in self.keys(step)]


def load_profile(
    name_or_path: str | Path = DEFAULT_PROFILE,
    site: str | Path | None = None,
    sets: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    *,
    site_options: Mapping[str, Any] | None = None,
    steps: Mapping[str, Step[Any]] | None = None,
    quality_model: type[BaseModel] | None = None,
    unchecked: Iterable[str] = (),
) -> Profile:
    """Read a profile with all its layers and check every value.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped name (``default``, ``conservative``, ...) or a YAML file.
    site : str or Path, optional
        A shipped site or a YAML file with machine settings.
    sets : iterable of str
        ``step.key=value``, the last layer.
    env : mapping, optional
        Environment variables; None is `os.environ`.
    site_options : mapping, optional
        Machine settings of the command line by key of `Site`, over all others.
    steps : mapping, optional
        Declarations by id; None is `soct.steps.registry.load_steps`.
    quality_model : type, optional
        None is `soct.quality.limits.QualityLimits`.
    unchecked : iterable of str
        Sections to pass over, for whoever needs the parameters of a few `steps` only.

    Returns
    -------
    Profile
        Complete and valid.

    Raises
    ------
    ConfigurationError
        With one line ``file:line: section.key: what is wrong, what is allowed`` for every problem.
    """
    environment = os.environ if env is None else env
    documents = _documents(find_profile(name_or_path))
    known = _Known(load_steps() if steps is None else steps, quality_model or _quality_model())
    given = [
        *(s for layer, document in documents for s in settings_of_document(document, layer)),
        *settings_of_environment(environment, SETTING_PREFIX),
        *settings_of_options(sets),
    ]
    passed_over = set(unchecked) - set(known.steps)
    given = [s for s in given if s.path[0] not in passed_over]
    translated = translate(given, {section: known.keys(section) for section in known.sections})
    settings = merge(s for s in translated.settings if not _is_empty_section(s, known))
    loaded = _Loader(known, [document for _, document in documents], settings)
    head, params, quality = loaded.validate(str(name_or_path))
    return Profile(
        name=head.name or str(name_or_path),
        description=head.description,
        subject=head.subject,
        params=params,
        quality=quality,
        site=load_site(site, environment, site_options, science=known.sections),
        origins={path: setting.origin for path, setting in settings.items()},
        notes=translated.notes,
    )


def _quality_model() -> type[BaseModel]:
    from soct.quality.limits import QualityLimits

    return QualityLimits


def _is_empty_section(setting: Setting, known: _Known) -> bool:
    return setting.path[0] in known.sections and setting.path[1:] == () and not setting.value


def _documents(path: Path) -> list[tuple[str, Document]]:
    """Return the layers of files, the lowest first."""
    shipped = shipped_profiles()
    documents: list[tuple[str, Document]] = []
    seen: set[Path] = set()
    following: Path | None = path
    while following is not None and following not in seen:
        seen.add(following)
        document = read_document(following)
        is_shipped = following in shipped.values()
        layer = "shipped" if is_shipped and not _below_file(documents) else "extends"
        documents.insert(0, (layer if is_shipped else "file", document))
        following = _base(document, following, shipped)
    return [
        ("shipped" if i == 0 and len(documents) > 1 else layer, document)
        for i, (layer, document) in enumerate(documents)
    ]


def _below_file(documents: Sequence[tuple[str, Document]]) -> bool:
    return any(layer == "file" for layer, _ in documents)


def _base(document: Document, path: Path, shipped: Mapping[str, Path]) -> Path | None:
    name = document.value.get("extends")
    if name is None:
        default = shipped.get(DEFAULT_PROFILE)
        return None if path == default else default
    if isinstance(name, str) and name in shipped:
        return shipped[name]
    near = suggest(str(name), list(shipped))
    text = f"extends: found {name!r}; allowed: {' | '.join(shipped)}" + (
        f"; {near}" if near else ""
    )
    refuse([Problem(document.source, document.line("extends"), text)])
    return None


class _Loader:
    """Checks the merged settings section by section and keeps every problem."""

    def __init__(
        self,
        known: _Known,
        documents: Sequence[Document],
        settings: Mapping[tuple[str, ...], Setting],
    ) -> None:
        self.known = known
        self.documents = {document.source: document for document in documents}
        self.problems: list[Problem] = []
        self.by_section: dict[str, list[Setting]] = {}
        for setting in settings.values():
            self.by_section.setdefault(setting.path[0], []).append(setting)

    def validate(self, where: str) -> tuple[ProfileHead, dict[str, Params], Any]:
        """Return head, parameters and quality limits, or raise with all problems."""
        heads = [s for key in ProfileHead.model_fields for s in self.by_section.pop(key, [])]
        head = self._section(ProfileHead, heads, 0, where)
        quality = self._section(self.known.quality, self.by_section.pop(QUALITY, []), 1, where)
        params = {
            step: self._section(declared.params, self._step_settings(step), 1, where)
            for step, declared in self.known.steps.items()
        }
        for section, settings in self.by_section.items():
            self._unknown_section(section, settings[0])
        refuse(sorted(self.problems), hint="`soct profiles schema` lists every key and its range.")
        return head, params, quality

    def _section(
        self, model: type[BaseModel], settings: Sequence[Setting], depth: int, where: str
    ) -> Any:
        checked = validate_section(model, settings, depth, where)
        self.problems.extend(checked.problems)
        return checked.model

    def _step_settings(self, step: str) -> list[Setting]:
        """Return the settings of a step without its unknown keys, each of which is noted once."""
        keys = self.known.keys(step)
        usable: list[Setting] = []
        unknown: dict[str, Setting] = {}
        for setting in self.by_section.pop(step, []):
            if len(setting.path) > 1 and setting.path[1] not in keys:
                unknown.setdefault(setting.path[1], setting)
            else:
                usable.append(setting)
        for key, setting in unknown.items():
            self._note(setting, (step, key), self._unknown_key(step, key))
        return usable

    def _unknown_key(self, step: str, key: str) -> str:
        if key in Site.model_fields or key in MACHINE_WORDS:
            return _MACHINE
        if owners := self.known.owners(key):
            return f"unknown key; {' and '.join(owners)} has a key of this name"
        near = suggest(key, self.known.keys(step))
        return f"unknown key; {near or 'allowed: ' + ', '.join(self.known.keys(step))}"

    def _unknown_section(self, section: str, setting: Setting) -> None:
        known = [*ProfileHead.model_fields, *self.known.sections]
        if section in Site.model_fields or section in MACHINE_WORDS or section == "site":
            text = _MACHINE
        elif owners := self.known.owners(section):
            text = f"unknown key; it belongs under {' or '.join(f'{o}:' for o in owners)}"
        else:
            near = suggest(section, known)
            text = f"unknown section; {near or 'allowed: ' + ', '.join(known)}"
        self._note(setting, (section,), text)

    def _note(self, setting: Setting, path: tuple[str, ...], text: str) -> None:
        """Keep a problem with the line of the key at `path`, not of what stands below it."""
        origin = setting.origin
        document = self.documents.get(origin.source)
        line = document.line(*path) if document is not None else origin.line
        self.problems.append(Problem(origin.source, line, f"{'.'.join(path)}: {text}"))
