"""What people say of a run: the rating file, its check, and how far raters agree."""

from __future__ import annotations

import difflib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from soct.errors import InputError
from soct.report.identity import run_key
from soct.report.model import RatingView, RunView

FORMAT = "soct rating 1"
RATINGS: dict[str, str] = {
    "accept": "accept: to be used as it is",
    "conditional": "conditional: to be used with care, or in part (say how below)",
    "reject": "reject: not to be used",
}
ARTEFACTS: dict[str, str] = {
    "banding": "banding",
    "misplaced_slices": "misplaced slices",
    "seams": "seams between tiles",
    "missing_tissue": "missing tissue",
    "out_of_focus": "out of focus",
    "other": "other",
}
GRADE_OF = {"accept": "PASS", "conditional": "REVIEW", "reject": "FAIL"}
"""The computed verdict that says the same as a rating."""
MAX_BYTES = 65_536
_LONGEST = {"rater": 200, "comment": 20_000, "subject": 1000, "soct_version": 100, "computed": 20}
_NEEDED = ("format", "run", "rater", "rating")
_KEYS = (*_NEEDED, "artefacts", "comment", "time", "subject", "soct_version", "computed")


@dataclass(frozen=True)
class Agreement:
    """What the latest ratings of all raters come to."""

    counts: Mapping[str, int]
    """Rating -> raters, in the order of `RATINGS`, those that were given only."""
    pairs: int
    agreeing_pairs: int
    as_computed: int
    """Raters who say what the computed verdict says."""
    artefacts: Mapping[str, int]

    @property
    def raters(self) -> int:
        """Number of raters."""
        return sum(self.counts.values())

    @property
    def unanimous(self) -> bool:
        """Whether all say the same."""
        return len(self.counts) == 1


def parse_rating(content: bytes, file: str) -> RatingView:
    """Return a rating from the content of its file.

    Raises
    ------
    InputError
        It is no rating; every fault is named.
    """
    document = _load(content, file)
    faults = list(_faults(document))
    if faults:
        raise InputError(
            "the rating file cannot be taken" + (f": {len(faults)} faults" if faults[1:] else ""),
            file=file,
            found="; ".join(faults),
            hint="correct it, or download it again from the report's section on rating",
        )
    return RatingView(
        rater=document["rater"].strip(),
        rating=document["rating"],
        run=document["run"],
        artefacts=tuple(name for name in ARTEFACTS if name in document.get("artefacts", ())),
        comment=document.get("comment", "").strip(),
        time=document.get("time", ""),
        computed=document.get("computed", ""),
        soct_version=document.get("soct_version", ""),
    )


def check_run(rating: RatingView, view: RunView, file: str) -> None:
    """Raise InputError where a rating is of another run, or of this one with other settings."""
    if rating.run != run_key(view):
        raise InputError(
            "the rating is of another run",
            file=file,
            expected=f'"run": "{run_key(view)}", the key of this run',
            found=f'"run": "{rating.run}"',
            hint="give the run folder whose report was rated; after a change of settings or raw data a run "
            "has to be rated again",
        )


def template(view: RunView, computed: str) -> str:
    """Return a rating file to be filled in by hand."""
    document = {
        "format": FORMAT,
        "run": run_key(view),
        "subject": view.subject,
        "soct_version": view.soct_version,
        "computed": computed,
        "time": "",
        "rater": "YOUR NAME",
        "rating": " or ".join(RATINGS),
        "artefacts": list(ARTEFACTS),
        "comment": "",
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def current_ratings(view: RunView) -> tuple[RatingView, ...]:
    """Return the latest rating of each rater that is of this run as it is, by time."""
    latest: dict[str, RatingView] = {}
    for rating in sorted(view.ratings, key=_moment):
        if rating.run == run_key(view):
            latest.pop(rating.rater.casefold(), None)
            latest[rating.rater.casefold()] = rating
    return tuple(latest.values())


def agree(ratings: Sequence[RatingView], computed: str) -> Agreement:
    """Compare raters with each other and with the computed verdict."""
    said = Counter(r.rating for r in ratings)
    pairs = list(itertools.combinations([r.rating for r in ratings], 2))
    artefacts = Counter(name for r in ratings for name in r.artefacts)
    return Agreement(
        counts={name: said[name] for name in RATINGS if said[name]},
        pairs=len(pairs),
        agreeing_pairs=sum(a == b for a, b in pairs),
        as_computed=sum(GRADE_OF[r.rating] == computed for r in ratings),
        artefacts={name: artefacts[name] for name in ARTEFACTS if artefacts[name]},
    )


def describe_agreement(found: Agreement, computed: str) -> str:
    """Return an agreement in one or two sentences."""
    if found.raters == 1:
        (rating,) = found.counts
        beside = "as computed" if found.as_computed else f"the computed verdict is {computed}"
        return f"One rater says {rating}; {beside}."
    if found.unanimous:
        (rating,) = found.counts
        text = f"All {found.raters} raters say {rating}."
    else:
        counts = ", ".join(f"{n} {rating}" for rating, n in found.counts.items())
        text = f"{found.raters} raters disagree: {counts}; {found.agreeing_pairs} of {found.pairs} pairs agree."
    return f"{text} {found.as_computed} of {found.raters} say what was computed ({computed})."


def _load(content: bytes, file: str) -> dict[str, Any]:
    if len(content) > MAX_BYTES:
        raise InputError(
            "the rating file is too large", file=file, expected=f"at most {MAX_BYTES} bytes"
        )
    try:
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the rating file is no JSON",
            file=file,
            expected="a JSON object as the report's section on rating shows it",
            found=str(error)[:300] or type(error).__name__,
        ) from None
    if not isinstance(document, dict):
        raise InputError(
            "the rating file holds no rating",
            file=file,
            expected="a JSON object",
            found=type(document).__name__,
        )
    return document


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    if repeated:
        msg = f"{repeated[0]!r} is given twice"
        raise ValueError(msg)
    return dict(pairs)


def _faults(document: Mapping[str, Any]) -> Iterator[str]:
    for name in _NEEDED:
        if name not in document:
            yield f'"{name}" is missing'
    for name in document:
        if name not in _KEYS:
            yield f'"{name}" is unknown{_meant(name, _KEYS)}'
    for name in _KEYS:
        if name != "artefacts" and not isinstance(document.get(name, ""), str):
            yield f'"{name}" is no text'
    yield from _wrong_values({k: v for k, v in document.items() if isinstance(v, str)})
    yield from _wrong_artefacts(document.get("artefacts", []))


def _wrong_values(texts: Mapping[str, str]) -> Iterator[str]:
    if texts.get("format", FORMAT) != FORMAT:
        yield f'"format" is {_short(texts["format"])}, not "{FORMAT}"'
    if texts.get("rating", "accept") not in RATINGS:
        yield f'"rating" is {_short(texts["rating"])}, not one of {", ".join(RATINGS)}{_meant(texts["rating"], tuple(RATINGS))}'
    if not texts.get("rater", "x").strip():
        yield '"rater" is empty'
    for name, longest in _LONGEST.items():
        if len(texts.get(name, "")) > longest:
            yield f'"{name}" is longer than {longest} characters'
    if texts.get("time") and _parse_time(texts["time"]) is None:
        yield f'"time" is {_short(texts["time"])}, not a time such as 2024-05-31T14:00:00Z'


def _wrong_artefacts(given: object) -> Iterator[str]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        yield '"artefacts" is no list of texts'
        return
    for name in given:
        if name not in ARTEFACTS:
            yield f"artefact {_short(name)} is unknown (known: {', '.join(ARTEFACTS)})"


def _meant(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _short(text: str) -> str:
    return json.dumps(text if len(text) <= 60 else text[:59] + "…", ensure_ascii=False)


def _parse_time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _moment(rating: RatingView) -> tuple[datetime, str]:
    return _parse_time(rating.time) or datetime.min.replace(tzinfo=UTC), rating.rater
