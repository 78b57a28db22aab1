"""``RUN/ratings/``: what people said of the run, one file for each rating; none is ever written over."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from soct.errors import InputError
from soct.formats.atomic import write_bytes
from soct.report.model import RatingView, RunView
from soct.report.ratings import FORMAT, MAX_BYTES, check_run, parse_rating

FOLDER = "ratings"
_MOST = 1000


def keep_rating(folder: Path, file: Path, view: RunView) -> Path:
    """Check a rating and keep it with the run.

    Parameters
    ----------
    folder : Path
        The run folder.
    file : Path
        As the report's form saves it, or written by hand.
    view : RunView
        The run.

    Returns
    -------
    Path
        The file in ``ratings/``; the same rating given twice is one file.

    Raises
    ------
    InputError
        The file cannot be read, is no rating, or is one of another run.
    """
    rating = parse_rating(_read(file), str(file))
    check_run(rating, view, str(file))
    path = folder / FOLDER / _name(rating)
    if not path.exists():
        now = datetime.now(UTC).isoformat(timespec="seconds")
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, _content(replace(rating, time=rating.time or now)))
    return path


def read_ratings(folder: Path) -> tuple[tuple[RatingView, ...], tuple[str, ...]]:
    """Return the ratings of a run folder in the order of their file names, and what could not be read."""
    ratings, faults = [], []
    try:
        found = sorted((folder / FOLDER).glob("*.json"))
    except OSError:
        return (), ()
    for path in found[:_MOST]:
        try:
            ratings.append(parse_rating(_read(path), path.name))
        except InputError as error:
            faults.append(f"{path.name}: {error.found or error.message}")
    return tuple(ratings), tuple(faults)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            "the rating file cannot be read", file=file, found=error.strerror or str(error)
        ) from None


def _content(rating: RatingView) -> bytes:
    document = {"format": FORMAT, **asdict(rating)}
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _name(rating: RatingView) -> str:
    """Return a file name that tells the rater and differs wherever anything in the rating does."""
    rater = re.sub(r"[^A-Za-z0-9]+", "-", rating.rater).strip("-")[:40] or "rater"
    return f"{rater}_{hashlib.sha256(_content(rating)).hexdigest()[:12]}.json"
