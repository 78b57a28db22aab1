"""YAML for configuration files: strict, bounded, and with the line of every value.

PyYAML's stock loaders read ``1e-3`` as text, ``no`` as false and ``010`` as eight, keep the last of two
equal keys, and die of recursion on deep input. Here the events of its parser are composed by the YAML 1.2
core schema instead, so ``no`` is text and ``010`` is ten; tags, duplicate keys, non-finite numbers and
invisible characters are refused; and size, depth and the number of values (each alias counted with all that
it stands for) are capped, so a hostile file costs well under a second.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from soct.errors import ConfigurationError
from soct.pipeline.folder.inert_text import make_inert

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_VALUES = 10_000
MAX_ALIASES = 100
MAX_DIGITS = 40

KeyPath = tuple[str | int, ...]

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# Control characters except tab, line feed and carriage return; the line breaks that YAML 1.1 knows and 1.2
# does not, which would shift line numbers; and the byte order mark.
_INVISIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_TAB_INDENT = re.compile(r"^ *\t[ \t]*\S", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a configuration: where, and what."""

    source: str
    line: int
    """1-based; 0 where a line makes no sense (an environment variable)."""
    text: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return make_inert(f"{place}: {self.text}")


def refuse(problems: list[Problem], hint: str | None = None) -> None:
    """Raise one `ConfigurationError` that lists every problem, one line each; do nothing without any.

    Raises
    ------
    ConfigurationError
        If there is at least one problem.
    """
    if not problems:
        return
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    raise ConfigurationError("\n".join(lines), hint=hint)


@dataclass(frozen=True)
class Document:
    """A parsed file: plain Python values and the line on which each of them stands."""

    source: str
    value: dict[str, Any]
    lines: dict[KeyPath, int] = field(repr=False)

    def line(self, *path: str | int) -> int:
        """Return the 1-based line of the value at a path, or of its nearest parent that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_document(path: Path) -> Document:
    """Read one configuration file.

    Parameters
    ----------
    path : Path
        A regular file of at most `MAX_BYTES` bytes, UTF-8 without a byte order mark.

    Returns
    -------
    Document
        Its top level is a mapping.

    Raises
    ------
    ConfigurationError
        With ``file:line: ...`` for each problem.
    """
    source = str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigurationError("A configuration must be a regular file.", file=source)
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot read the configuration: {error.strerror or error}.", file=source
        ) from None
    return parse_document(content, source)


def parse_document(content: bytes, source: str) -> Document:
    """Parse the bytes of a configuration file; as `read_document`."""
    if len(content) > MAX_BYTES:
        _stop(source, 1, f"larger than {MAX_BYTES} bytes: this is not a configuration file")
    text = _decode(content, source)
    composer = _Composer(source)
    value = composer.compose(text)
    refuse(sorted(composer.problems))
    if value is None:
        _stop(source, 1, "the file is empty; expected a mapping of keys to values")
    if not isinstance(value, dict):
        _stop(source, composer.lines.get((), 1), "expected a mapping of keys to values at the top")
    return Document(source, value, composer.lines)


def parse_value(text: str, source: str) -> Any:
    """Parse one value as it would stand behind a colon in a profile: ``1e-3``, ``[1, 2]``, ``text``.

    Parameters
    ----------
    text : str
        At most 10,000 characters.
    source : str
        Where it comes from, for the message.

    Raises
    ------
    ConfigurationError
        If it is not one YAML 1.2 value.
    """
    if len(text) > 10_000:
        _stop(source, 0, "the value is longer than 10,000 characters")
    if match := _INVISIBLE.search(text):
        _stop(source, 0, f"invisible character U+{ord(match.group()):04X}")
    composer = _Composer(source)
    value = composer.compose(text)
    refuse([Problem(p.source, 0, p.text) for p in composer.problems])
    return value


def _stop(source: str, line: int, text: str) -> NoReturn:
    refuse([Problem(source, line, text)])
    raise AssertionError


def _decode(content: bytes, source: str) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")):
        _stop(source, 1, "the file is UTF-16 or UTF-32; save it as UTF-8")
    if content.startswith(b"\xef\xbb\xbf"):
        _stop(source, 1, "the file starts with a byte order mark; save it as UTF-8 without BOM")
    if (nul := content.find(b"\x00")) >= 0:
        line = content.count(b"\n", 0, nul) + 1
        _stop(source, line, "a NUL byte; the file is UTF-16 or not text; save it as UTF-8")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        _stop(source, line, f"byte 0x{content[error.start]:02x} is not UTF-8; save it as UTF-8")
    if match := _INVISIBLE.search(text):
        line = text.count("\n", 0, match.start()) + 1
        _stop(source, line, f"invisible character U+{ord(match.group()):04X}")
    tabs = (match.start() for match in islice(_TAB_INDENT.finditer(text), 20))
    lines = [text.count("\n", 0, start) + 1 for start in tabs]
    refuse([Problem(source, line, "indented with a tab; use spaces") for line in lines])
    return text


class _Composer:
    """Builds Python values from parser events, at most `MAX_DEPTH` deep and `MAX_VALUES` large."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.lines: dict[KeyPath, int] = {}
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0
        self._aliases = 0
        self._events: Iterator[Event] = iter(())

    def compose(self, text: str) -> Any:
        """Return the value of the only document in `text`, or None where there is none."""
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        self._events = iter(yaml.parse(text, Loader=loader))
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(part for part in (error.context, error.problem) if part)
            self._stop(f"not valid YAML: {what}", mark.line + 1 if mark else 1)
        except yaml.YAMLError as error:
            self._stop(f"not valid YAML: {error}", 1)

    def _document(self) -> Any:
        value: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, StreamEndEvent):
                break
            if not isinstance(event, DocumentStartEvent):
                continue
            documents += 1
            line = _line(event)
            if documents > 1:
                self._stop("a second document; keep one per file", line)
            if event.tags:
                self._stop("a %TAG directive; tags are not allowed", line)
            if event.version not in (None, (1, 2)):
                self._stop("a %YAML directive other than 1.2", line)
            value = self._node(next(self._events), (), 0)
        return value

    def _stop(self, text: str, line: int) -> NoReturn:
        """Give up at once: going on would cost time or make no sense."""
        refuse(sorted([*self.problems, Problem(self.source, line, text)]))
        raise AssertionError

    def _note(self, text: str, event: Event) -> None:
        """Keep the problem and go on, so that all are told at once."""
        self.problems.append(Problem(self.source, _line(event), text))

    def _count(self, event: Event, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            self._stop(f"more than {MAX_VALUES} values, aliases expanded", _line(event))

    def _node(self, event: Event, path: KeyPath, depth: int) -> Any:
        line = _line(event)
        self.lines.setdefault(path, line)
        if isinstance(event, AliasEvent):
            return self._alias(event)
        if depth > MAX_DEPTH:
            self._stop(f"nested more than {MAX_DEPTH} deep", line)
        before = self._values
        self._count(event, 1)
        value = self._value(event, path, depth)
        anchor = event.anchor if isinstance(event, NodeEvent) else None
        if anchor is not None:
            self._anchors[anchor] = (value, self._values - before)
        return value

    def _alias(self, event: AliasEvent) -> Any:
        self._aliases += 1
        line = _line(event)
        if self._aliases > MAX_ALIASES:
            self._stop(f"more than {MAX_ALIASES} aliases", line)
        anchor = event.anchor or ""
        if anchor not in self._anchors:
            self._stop(f"alias *{anchor} has no complete value before it", line)
        value, size = self._anchors[anchor]
        self._count(event, size)
        return value

    def _value(self, event: Event, path: KeyPath, depth: int) -> Any:
        tag = getattr(event, "tag", None)
        # "!" is the non-specific tag that the parser gives to quoted text.
        if tag is not None and tag != "!":
            self._note(f"the tag {tag}: tags are not allowed", event)
        if isinstance(event, ScalarEvent):
            plain = event.style in (None, "") and tag is None
            return self._scalar(event) if plain else event.value
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path, depth)
        if isinstance(event, MappingStartEvent):
            return self._mapping(path, depth)
        self._stop(f"unexpected {type(event).__name__}", _line(event))

    def _sequence(self, path: KeyPath, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            values.append(self._node(event, (*path, len(values)), depth + 1))
        return values

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        first: dict[str, int] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            line = _line(event)
            key = self._key(event, depth)
            shown = ".".join(str(part) for part in (*path, key))
            if key in first:
                self._note(f"{shown}: duplicate key (first on line {first[key]})", event)
            else:
                first[key] = line
                self.lines[(*path, key)] = line
            values[key] = self._node(next(self._events), (*path, key), depth + 1)
        return values

    def _key(self, event: Event, depth: int) -> str:
        if isinstance(event, ScalarEvent):
            self._count(event, 1)
            if not event.value:
                self._note("an empty key", event)
            if event.tag not in (None, "!"):
                self._note(f"the tag {event.tag}: tags are not allowed", event)
            return event.value
        self._note("a key must be plain text", event)
        self._node(event, ("?",), depth + 1)
        return "?"

    def _scalar(self, event: ScalarEvent) -> Any:
        try:
            return _resolve(event.value)
        except ValueError as error:
            self._note(f"{_short(event.value)}: {error}", event)
            return 0


def _resolve(text: str) -> str | int | float | bool | None:
    """Return the value of a plain scalar by the YAML 1.2 core schema (chapter 10.3.2)."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _NOT_FINITE.fullmatch(text):
        raise ValueError("not a finite number")
    if len(text) > MAX_DIGITS:
        if _FLOAT.fullmatch(text) or _HEXADECIMAL.fullmatch(text) or _OCTAL.fullmatch(text):
            raise ValueError(f"a number of more than {MAX_DIGITS} characters")
        return text
    if _INTEGER.fullmatch(text):
        return int(text, 10)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8)
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        if math.isinf(number := float(text)):
            raise ValueError("too large for a number")
        return number
    return text


def _line(event: Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[:most] + "..."
