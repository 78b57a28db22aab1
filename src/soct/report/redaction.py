"""A report without names: paths, hosts, users and the subject taken out of everything that is said of a run.

Two rules work together. Fields that are known to hold a path, a host or a name are replaced as a whole. All
other text is searched for folders (of which nothing stays, the file's own name does) and for every name that
the run knows: subject, hosts, users, raters, and the folders of its paths. Words that soct itself uses in every
report (``raw``, ``stack``) are left where they stand alone in a text: they tell nothing of this run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from soct.report.identity import run_key
from soct.report.model import (
    AcquisitionView,
    InvocationView,
    LedgerRow,
    MetadataView,
    ParameterView,
    RatingView,
    RunView,
)

REMOVED = "(removed)"
CUT = "…/"
"""Stands where folders stood before a file's name."""
_FOLDER = "(folder)"
_SURE_LENGTH = 5
"""Names of this length are removed also inside longer words."""
_KEPT_VALUES = frozenset(
    ("--set", "--cpus", "--memory", "--gpu", "--max-runtime", "--slices", "--from", "--until", "--only", "--unit")
)  # fmt: skip
_PLAIN = re.compile(
    r"tile_x\d+_y\d+_z\d+|(?:slice_)?z\d+(?:_z\d+)?|mosaic_grid_3d_z\d+\.ome\.zarr|tiles|soct|cli|compute|formats|"
    r"geometry|intensity|mosaic|pipeline|quality|registration|report|reportlets|simulate|steps|tools"
)
"""Names of folders that soct or the microscope gives, not a person."""
_ABSOLUTE = re.compile(
    r"(?<![\w.…])(?:[A-Za-z]:[\\/]|~[\w.-]*[\\/]|[\\/]{1,2})"
    r"(?:[^\s\"'<>|:,;()\[\]\\/]+[\\/]+)+[^\s\"'<>|:,;()\[\]\\/]*"
)
_RELATIVE = re.compile(
    r"(?<![\w./\\…])(?:[^\s\"'<>|:,;()\[\]\\/…]+[\\/]+)+[^\s\"'<>|:,;()\[\]\\/]+\.[A-Za-z]\w{0,7}\b"
)
_FILE = re.compile(r".*\.(?:ya?ml|json|csv|tsv|toml|txt|tfm)", re.IGNORECASE)
"""Files that a command may name: their folders are taken out, their names stay."""
_WORD = re.compile(r"[^\W_]+(?:[_-][^\W_]+)*")
_COMMON = frozenset(
    [
        "acquisition",
        "acquisitions",
        "analysis",
        "brain",
        "brains",
        "data",
        "home",
        "human",
        "input",
        "inputs",
        "lab",
        "media",
        "mice",
        "mnt",
        "mount",
        "mouse",
        "nfs",
        "opt",
        "out",
        "output",
        "outputs",
        "project",
        "projects",
        "rat",
        "rats",
        "raw",
        "result",
        "results",
        "root",
        "run",
        "runs",
        "sample",
        "samples",
        "scratch",
        "share",
        "shared",
        "srv",
        "storage",
        "test",
        "tiles",
        "tmp",
        "user",
        "users",
        "usr",
        "var",
        "volume",
        "volumes",
        "work",
        "workspace",
    ]
)
"""Names of folders that tell nothing of anybody, and that texts need."""


def redact(view: RunView, also: Sequence[RunView] = ()) -> RunView:
    """Return a run without paths, hosts, users and its subject's name.

    Parameters
    ----------
    view : RunView
    also : sequence of RunView
        Other runs in the same report: their names are taken out of this one, too.

    Returns
    -------
    RunView
        The same numbers and pictures; `run_key` stays, so a rating of the redacted report fits the run.
    """
    return _Redactor((view, *also)).redact(view)


def pseudonym(view: RunView) -> str:
    """Return a name for the subject that the same raw data always gives, and that holds nothing of the name."""
    prints = sorted(value for _, value in view.acquisition.fingerprints)
    if not prints:
        return "subject-unknown"
    return f"subject-{hashlib.sha256(chr(10).join(prints).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class _Name:
    text: str
    instead: str


class _Redactor:
    """Knows the names of some runs, and takes them out of text."""

    def __init__(self, views: Sequence[RunView]) -> None:
        self._known = frozenset(word for view in views for word in _vocabulary(view)) | _COMMON
        self._steps = frozenset(step.id for view in views for step in view.steps)
        names = [name for view in views for name in _names(view)]
        hosts = list(dict.fromkeys(host for view in views for host in _hosts(view)))
        self._hosts = {host: f"host-{i}" for i, host in enumerate(hosts, 1)}
        raters = dict.fromkeys(r.rater for view in views for r in view.ratings)
        self._raters = {rater: f"rater-{i}" for i, rater in enumerate(raters, 1)}
        names += [_Name(host, alias) for host, alias in (self._hosts | self._raters).items()]
        self._instead = {
            n.text.casefold(): n.instead for n in reversed(names) if self._is_telling(n.text)
        }
        self._pattern = _any_of(self._instead)
        self._folders = _folder_pattern(path for view in views for path in _paths(view))

    def redact(self, view: RunView) -> RunView:
        """Return the view without names."""
        special = replace(
            view,
            subject=pseudonym(view),
            run_folder="run",
            key=run_key(view),
            redacted=True,
            private=(),
            container=_digest_only(view.container),
            acquisition=self._acquisition(view.acquisition),
            invocations=tuple(self._invocation(call) for call in view.invocations),
            ratings=tuple(self._rating(rating) for rating in view.ratings),
            rating_faults=tuple(f"rating file {i}" for i, _ in enumerate(view.rating_faults, 1)),
            parameters=tuple(self._parameter(p) for p in view.parameters),
            ledger=tuple(self._row(row) for row in view.ledger),
        )
        cleaned: RunView = self._clean(special)
        return cleaned

    def text(self, text: str) -> str:
        """Return text without folders and names."""
        found = text if self._folders is None else self._folders.sub(_cut, text)
        found = _ABSOLUTE.sub(lambda m: self.path(m[0]), found)
        found = _RELATIVE.sub(lambda m: self.path(m[0]), found)
        if self._pattern is None:
            return found
        return self._pattern.sub(lambda m: self._instead[m[0].casefold()], found)

    def path(self, path: str) -> str:
        """Return the last part of a path, with the plain folders before it, and a mark where others stood."""
        parts = [part for part in re.split(r"[\\/]+", path) if part and part != CUT[0]]
        if not parts:
            return path
        last = parts[-1]
        kept = [last if self._is_plain(last) or re.search(r"\.[A-Za-z]", last) else _FOLDER]
        for part in reversed(parts[:-1]):
            if not self._is_plain(part):
                break
            kept.insert(0, part)
        whole = len(kept) == len(parts) and not path.startswith(("/", "\\"))
        return ("" if whole else CUT) + "/".join(kept)

    def _is_plain(self, part: str) -> bool:
        return part in self._steps or _PLAIN.fullmatch(part) is not None

    def _is_telling(self, name: str) -> bool:
        return len(name) > 1 and name.casefold() not in self._known and not name.isdigit()

    def _clean(self, value: Any) -> Any:
        """Return the same structure with every text in it cleaned."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, tuple):
            return tuple(self._clean(item) for item in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return replace(value, **{k: self._field(value, k, v) for k, v in fields.items()})
        return value

    def _field(self, owner: Any, name: str, value: Any) -> Any:
        if name in _UNTOUCHED.get(type(owner).__name__, ()):
            return value
        if name == "file" and isinstance(value, str):
            return self.text(self.path(value)) if value else value
        if name == "worker" and isinstance(value, str):
            host, _, process = value.rpartition(":")
            return f"{self._hosts.get(host, 'host')}:{process}" if value else value
        if name == "path" and isinstance(value, str):
            return self._names_only(value)  # of an output: relative to the run, named by soct
        return self._clean(value)

    def _names_only(self, text: str) -> str:
        found = text if not _ABSOLUTE.match(text) else self.path(text)
        return found if self._pattern is None else self._pattern.sub(
            lambda m: self._instead[m[0].casefold()], found
        )  # fmt: skip

    def _acquisition(self, found: AcquisitionView) -> AcquisitionView:
        return replace(
            found,
            path=REMOVED if found.path else "",
            ignored=tuple(self.path(name) for name in found.ignored),
            metadata=tuple(self._metadata(m) for m in found.metadata),
        )

    def _metadata(self, found: MetadataView) -> MetadataView:
        """Numbers stay; a text may be anything that a person typed at the microscope."""
        plain = re.fullmatch(r"[-+\d.eE×x, ()\[\]]+|True|False|true|false", found.value)
        return found if plain else replace(found, value=REMOVED)

    def _invocation(self, call: InvocationView) -> InvocationView:
        return replace(
            call,
            command=self._command(call.command),
            host=self._hosts.get(call.host, call.host),
        )

    def _command(self, command: str) -> str:
        try:
            words = shlex.split(command)
        except ValueError:
            return REMOVED
        kept, places, option = words[1:2], iter(("INPUT", "OUTPUT")), ""
        for word in words[2:]:
            if word.startswith("--"):
                option, _, value = word.partition("=")
                kept.append(f"{option}={self._value(option, value)}" if value else option)
                option = "" if value else option
            elif option:
                kept.append(self._value(option, word))
                option = ""
            else:
                kept.append(next(places, REMOVED))
        return " ".join(["soct", *kept])

    def _value(self, option: str, value: str) -> str:
        named = option == "--profile" and not re.search(r"[./\\]", value)
        return self.text(value) if option in _KEPT_VALUES or named else REMOVED

    def _rating(self, rating: RatingView) -> RatingView:
        return replace(rating, rater=self._raters[rating.rater])

    def _parameter(self, found: ParameterView) -> ParameterView:
        value, origin = found.value, found.origin
        if re.search(r"[\\/]", value) and not re.search(r"[\[\]{},]", value):
            value = self.path(value)
        if re.search(r"[\\/]", origin) and " " not in origin:
            origin = self.path(origin)
        return replace(found, value=value, origin=origin)

    def _row(self, row: LedgerRow) -> LedgerRow:
        columns = {self.text(name): self.text(value) for name, value in row.columns.items()}
        return replace(row, columns=columns)


_UNTOUCHED = {
    "RunView": ("figures", "limits", "key", "subject", "packages", "soct_version", "private"),
    "StepView": ("id", "summary", "scope"),
    "UnitView": ("step", "state", "slices"),
    "MetricView": ("name", "unit", "status"),
    "AcquisitionView": ("fingerprints", "path"),
    "RatingView": ("run", "rating", "artefacts", "time", "rater"),
    "LedgerRow": ("columns",),
    "OutputView": ("checksum",),
}  # fmt: skip
"""Fields that soct fills with words of its own, or that are dealt with already."""


def _names(view: RunView) -> Iterable[_Name]:
    from soct.report.rendering import report_stem

    alias = pseudonym(view)
    stem = report_stem(view.subject).removesuffix("_quality_report")
    bare = view.subject.removeprefix("sub-")  # BIDS writes the prefix, people often do not
    yield from (_Name(text, alias) for text in (view.subject, stem, bare) if text)
    yield from (_Name(text, REMOVED) for text in (view.run_folder, *view.private) if text)
    for path in _paths(view):
        for part in re.split(r"[\\/]+", path):
            if not (_PLAIN.fullmatch(part) or _FILE.fullmatch(part)):
                yield from (_Name(text, REMOVED) for text in (part, *part.split()))


def _paths(view: RunView) -> Iterable[str]:
    """Yield the paths that a run knows, which may hold spaces."""
    yield from (view.acquisition.path, *view.private)
    for call in view.invocations:
        try:
            words = shlex.split(call.command)
        except ValueError:
            words = call.command.split()
        yield from (word.partition("=")[2] or word for word in words if re.search(r"[\\/]", word))


def _folder_pattern(paths: Iterable[str]) -> re.Pattern[str] | None:
    """Return what finds these folders and those that they lie in, down to two levels below the root."""
    found = set()
    for path in paths:
        parts = re.split(r"[\\/]+", path)
        if len(parts) > 1 and not parts[0]:
            found |= {"/".join(parts[:n]) for n in range(3, len(parts) + 1)}
    if not found:
        return None
    longest_first = sorted(found, key=lambda f: (-len(f), f))
    return re.compile("(?:" + "|".join(map(re.escape, longest_first)) + r")(/|(?![\w.-]))")


def _cut(found: re.Match[str]) -> str:
    return CUT if found[1] else REMOVED


def _hosts(view: RunView) -> Iterable[str]:
    yield from (call.host for call in view.invocations if call.host)
    yield from (u.worker.rpartition(":")[0] for u in view.units() if ":" in u.worker)


def _vocabulary(view: RunView) -> Iterable[str]:
    """Yield the words that soct writes into a report by itself, in small letters."""
    from soct.report.rendering import examine, render_html

    page = render_html(examine(RunView(subject="", state="running")))
    texts = [re.sub(r"<style>.*?</style>", "", page, flags=re.S)]
    texts += [f"{step.id} {step.summary}" for step in view.steps]
    texts += [f"{p.key} {p.description}" for p in view.parameters]
    texts += [f"{m.name} {m.unit}" for unit in view.units() for m in unit.metrics]
    for word in _WORD.findall(" ".join(texts)):
        yield word.casefold()
        yield from re.split(r"[_-]", word.casefold())


def _any_of(names: Mapping[str, str]) -> re.Pattern[str] | None:
    """Return what finds the names; short ones only where they stand alone. None when there are no names."""
    if not names:
        return None
    parts = [
        re.escape(name) if len(name) >= _SURE_LENGTH else rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
        for name in sorted(names, key=lambda n: (-len(n), n))
    ]
    return re.compile("|".join(parts), re.IGNORECASE)


def _digest_only(container: str) -> str:
    found = re.search(r"sha256:[0-9a-f]{12,64}", container)
    return found[0] if found else REMOVED if container else ""
