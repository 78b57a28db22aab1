"""The content key of a unit: what its outputs depend on, kept in clear.

Two keys are equal exactly when their components are, so the reason why a unit runs again is the difference
of two dictionaries. Threads, memory, executor, paths and log level are no components: they must not change
a byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from soct.errors import InputError
from soct.formats.tiles import shown
from soct.pipeline.graph import Graph
from soct.steps.declaration import Params, Scope, Step, Unit

MAX_CONTENT_BYTES = 1 << 20
"""Of one file whose content is part of a key."""


@dataclass(frozen=True)
class Key:
    """A unit's key and the components that it is the hash of."""

    digest: str
    components: Mapping[str, Any]


def canonical_json(value: object) -> bytes:
    """Return the one JSON text of a value: sorted keys, no blanks, no NaN; paths become text."""
    return json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
        default=str,
    ).encode()


def digest_of(value: object) -> str:
    """Return the sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def keyed_values(params: BaseModel) -> dict[str, Any]:
    """Return the parameters that can change an output, JSON-able."""
    values = params.model_dump(mode="json")
    for name, info in type(params).model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("keyed", True) is False:
            del values[name]
            continue
        patterns = extra.get("content") if isinstance(extra, dict) else None
        if isinstance(patterns, list) and values[name]:
            values[name] = fingerprint_folder(Path(values[name]), [str(p) for p in patterns])
        inner = getattr(params, name)
        if isinstance(inner, BaseModel):
            values[name] = keyed_values(inner)
    return values


def fingerprint_folder(folder: Path, patterns: list[str]) -> dict[str, str]:
    """Return ``relative name -> start of its sha256`` of the files that match.

    Raises
    ------
    InputError
        There is no such folder, a file in it cannot be read, or one is implausibly large.
    """
    if not folder.is_dir():
        raise InputError("A folder that the profile names is not there", file=shown(folder))
    found = {}
    for path in sorted(p for pattern in patterns for p in folder.glob(pattern) if p.is_file()):
        try:
            if path.stat().st_size > MAX_CONTENT_BYTES:
                raise InputError(
                    "A file is too large for what it should be",
                    file=shown(path),
                    expected=f"at most {MAX_CONTENT_BYTES} bytes",
                )
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(
                "A file cannot be read", file=shown(path), found=error.strerror
            ) from error
        found[path.relative_to(folder).as_posix()] = digest[:16]
    return found


def session_of(session: Mapping[str, Any], scope: Scope, slices: tuple[int, ...]) -> dict[str, Any]:
    """Return the part of an acquisition's metadata that a unit may see: of single slices, its own only."""
    if scope is Scope.RUN or not isinstance(session.get("slices"), Mapping):
        return dict(session)
    own = {name: value for name, value in session["slices"].items() if int(name) in slices}
    return {**session, "slices": own}


def names_subject(step: Step[Any]) -> bool:
    """Whether the subject is part of the step's output names, and so of its keys."""
    return any("{subject}" in output.template for output in step.outputs)


class KeyMaker:
    """Makes keys of one graph, unit by unit, upstream first.

    Parameters
    ----------
    graph : Graph
    params : mapping
        Parameters by step id.
    subject : str
    raw : mapping
        Slice number -> fingerprint of its raw files (relative name -> text).
    session : mapping
        The acquisition's metadata.
    tables : mapping
        Name -> digest of the tables that the input brings; only run-scope units see them.
    files : mapping
        Step -> name -> digest of the files outside of the run that its parameters name.
    """

    def __init__(
        self,
        graph: Graph,
        params: Mapping[str, Params],
        subject: str,
        raw: Mapping[int, Mapping[str, str]],
        session: Mapping[str, Any] | None = None,
        tables: Mapping[str, str] | None = None,
        files: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._graph = graph
        self._session = session or {}
        self._tables = tables or {}
        self._files = files or {}
        self._subject = subject
        self._raw = raw
        self._raw_digests = {slice_id: digest_of(dict(files)) for slice_id, files in raw.items()}
        self._params = {name: keyed_values(params[name]) for name in graph.steps}

    @property
    def all_components(self) -> dict[str, Any]:
        """Everything that keys are made of; two makers with the same make the same keys."""
        return {
            "versions": {name: step.version for name, step in self._graph.steps.items()},
            "params": self._params,
            "slices": list(self._graph.slices),
            "subject": self._subject,
            "raw": self._raw_digests,
            "session": dict(self._session),
            "tables": dict(self._tables),
            "files": {name: dict(files) for name, files in self._files.items()},
        }

    def key(self, unit: Unit, upstream: Mapping[Unit, str]) -> Key:
        """Return the key of a unit, given the key digests of the units that it reads."""
        step = self._graph.steps[unit.step]
        components: dict[str, Any] = {
            "step": step.id,
            "version": step.version,
            "params": self._params[step.id],
            "slices": list(self._graph.slices if step.scope is Scope.RUN else unit.slices),
            "upstream": {str(source): upstream[source] for source in self._graph.upstream[unit]},
        }
        if names_subject(step):
            components["subject"] = self._subject
        if self._files.get(step.id):
            components["files"] = dict(self._files[step.id])
        if step.reads_raw:
            components["raw"] = self._raw_component(step.scope, unit)
            components["session"] = digest_of(session_of(self._session, step.scope, unit.slices))
        return Key(digest_of(components), components)

    def _raw_component(self, scope: Scope, unit: Unit) -> dict[str, Any]:
        """Name every file where the unit reads few slices; one digest per slice where it reads all."""
        if scope is Scope.RUN:
            digests = {f"slice {s}": self._raw_digests[s] for s in self._graph.slices}
            return {**digests, **self._tables}
        return {name: text for s in unit.slices for name, text in self._raw[s].items()}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Say in words how two keys' components differ, the causes before their consequences."""
    found: list[str] = []
    if old.get("version") != new.get("version"):
        found.append(f"step version: {old.get('version')} -> {new.get('version')}")
    found += _value_changes(old.get("params"), new.get("params"))
    if old.get("subject") != new.get("subject"):
        found.append(f"subject: {old.get('subject')} -> {new.get('subject')}")
    if old.get("slices") != new.get("slices"):
        found.append(_set_change("slices", old.get("slices"), new.get("slices")))
    found += _changed_names("file", old.get("files"), new.get("files"))
    found += _changed_names("raw file", old.get("raw"), new.get("raw"))
    if old.get("session") != new.get("session"):
        found.append("the acquisition's metadata changed")
    found += _upstream_changes(_as_dict(old.get("upstream")), _as_dict(new.get("upstream")))
    return tuple(found)


def _upstream_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name the step, and of its units as many as can be read at a glance."""
    by_step: dict[str, list[str]] = {}
    for name in [*new, *(n for n in old if n not in new)]:
        if old.get(name, _ABSENT) != new.get(name, _ABSENT):
            step, _, unit = name.partition(":")
            by_step.setdefault(step, []).append(unit)
    return [
        f"upstream {step} changed"
        + ("" if units == ["run"] else f" ({', '.join(units[:4])}{_rest(units, 4)})")
        for step, units in by_step.items()
    ]


def _rest(names: list[str], shown: int) -> str:
    return f" and {len(names) - shown} more" if len(names) > shown else ""


def _value_changes(old: object, new: object) -> list[str]:
    before, after = _as_dict(old), _as_dict(new)
    return [
        f"{name}: {_shown(before, name)} -> {_shown(after, name)}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name, _ABSENT) != after.get(name, _ABSENT)
    ]


_ABSENT = object()


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name]) if name in values else "(absent)"


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _set_change(what: str, old: object, new: object) -> str:
    before = set(old) if isinstance(old, list) else set()
    after = set(new) if isinstance(new, list) else set()
    parts = [f"+{s}" for s in sorted(after - before)] + [f"-{s}" for s in sorted(before - after)]
    return f"{what}: {', '.join(parts)}"


def _changed_names(what: str, old: object, new: object, shown: int = 5) -> list[str]:
    before, after = _as_dict(old), _as_dict(new)
    if before == after:
        return []
    found = [
        f"{what} {name} changed"
        for name in before
        if after.get(name, _ABSENT) != before[name] and name in after
    ]
    found += [f"{what} {name} is new" for name in after if name not in before]
    found += [f"{what} {name} is gone" for name in before if name not in after]
    rest = len(found) - shown
    return found[:shown] + ([f"and {rest} more {what} changes"] if rest > 0 else [])
