"""``state/<step>/<unit>.json``: what a finished unit is the result of, and what it published.

The order of writes is the argument. The old record goes first, then outputs are written under hidden names,
checked, flushed and renamed, then the new record is written in one step. Killed at any point, a unit has
either a record that is true, or none and is computed again; the arrays themselves never say whether they are
complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from soct.errors import NewerStateError
from soct.formats.atomic import fsync_folder, write_bytes
from soct.pipeline.events import Failure
from soct.pipeline.folder.outputs import FileRecord, OutputRecord
from soct.pipeline.keys import Key, digest_of
from soct.steps.declaration import Decision, Metric, Result, Unit

STATE_FORMAT = 1
"""Raised when an older soct could not read what this one writes into a run folder."""


@dataclass(frozen=True)
class Record:
    """A finished unit."""

    unit: Unit
    key: Key
    outputs: tuple[OutputRecord, ...]
    result: Result
    reasons: tuple[str, ...]
    """Why it ran."""
    started: str
    """ISO time, UTC."""
    ended: str
    seconds: float
    peak_memory_bytes: int
    threads: int
    host: str
    pid: int
    soct_version: str

    @property
    def output_bytes(self) -> int:
        """Bytes of all outputs."""
        return sum(output.size for output in self.outputs)


@dataclass(frozen=True)
class Unusable:
    """A record file that is there and cannot be trusted."""

    reason: str


@dataclass(frozen=True)
class FailureRecord:
    """The last failure of a unit that has not succeeded since."""

    failure: Failure
    ended: str
    seconds: float
    session: str = ""
    """Of the processes that worked together when it failed; empty for one that worked alone."""


class RecordStore:
    """The records of one run folder.

    Parameters
    ----------
    run_folder : Path
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self._folder = run_folder / "state"

    def path(self, unit: Unit) -> Path:
        """Return the record file of a unit."""
        return self._folder / unit.step / f"{unit.name}.json"

    def _failure_path(self, unit: Unit) -> Path:
        return self._folder / unit.step / f"{unit.name}.failed.json"

    def read(self, unit: Unit) -> Record | Unusable | None:
        """Return a unit's record, why it cannot be used, or None where there is none.

        Raises
        ------
        NewerStateError
            A newer soct wrote it.
        """
        path = self.path(unit)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Unusable(f"its record cannot be read ({error.strerror})")
        document = _parse(content)
        if isinstance(document, Unusable):
            return document
        check_format(document, path)
        return _decode(document, unit)

    def read_failure(self, unit: Unit) -> FailureRecord | None:
        """Return the failure of a unit that has not succeeded since, if any."""
        try:
            document = json.loads(self._failure_path(unit).read_bytes())
            return FailureRecord(
                Failure(unit=unit, **document["failure"]),
                document["ended"],
                document["seconds"],
                document.get("session", ""),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, record: Record) -> None:
        """Publish a record in one step."""
        path = self.path(record.unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, encode_record(record))

    def write_failure(self, failed: FailureRecord) -> None:
        """Keep a failure until the unit succeeds."""
        path = self._failure_path(failed.failure.unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = asdict(failed.failure)
        del parts["unit"]
        document = {
            "failure": parts,
            "ended": failed.ended,
            "seconds": failed.seconds,
            "session": failed.session,
        }
        write_bytes(path, json.dumps(document, indent=1).encode())

    def forget(self, unit: Unit) -> None:
        """Remove a unit's record, durably, before anything of it is written anew."""
        for path in (self.path(unit), self._failure_path(unit)):
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            fsync_folder(path.parent)

    def forget_failure(self, unit: Unit) -> None:
        """Remove a failure that a success has overtaken."""
        self._failure_path(unit).unlink(missing_ok=True)


def check_format(document: Mapping[str, Any], path: Path) -> None:
    """Raise NewerStateError where a state file was written by a newer soct."""
    found = document.get("format")
    if isinstance(found, int) and found > STATE_FORMAT:
        raise NewerStateError(
            "This run folder was written by a newer soct; nothing was changed",
            file=path,
            expected=f"state format up to {STATE_FORMAT}",
            found=f"{found}, by soct {document.get('soct_version', '(unknown)')}",
            hint="Use that version, or another run folder.",
        )


def encode_record(record: Record) -> bytes:
    """Return the content of a record file."""
    body: dict[str, Any] = {
        "step": record.unit.step,
        "unit": record.unit.name,
        "soct_version": record.soct_version,
        "key": record.key.digest,
        "components": dict(record.key.components),
        "outputs": [
            {
                "name": output.name,
                "path": output.path,
                "folder": output.is_folder,
                "bytes": output.size,
                "sha256": output.sha256,
                "files": {
                    name: [file.size, file.mtime_ns, file.sha256]
                    for name, file in output.files.items()
                },
            }
            for output in record.outputs
        ],
        "metrics": [_metric_body(metric) for metric in record.result.metrics],
        "warnings": list(record.result.warnings),
        "notices": list(record.result.notices),
        "decisions": [asdict(decision) for decision in record.result.decisions],
        "fallbacks": list(record.result.fallbacks),
        "backend": record.result.backend,
        "reasons": list(record.reasons),
        "started": record.started,
        "ended": record.ended,
        "seconds": record.seconds,
        "peak_memory_bytes": record.peak_memory_bytes,
        "threads": record.threads,
        "host": record.host,
        "pid": record.pid,
    }
    # Metrics may be NaN, which JSON has no word for; json's own NaN is read back by json.
    text = json.dumps(body)
    document = f'{{"format": {STATE_FORMAT}, "check": "{_check(text)}", "record":\n{text}\n}}\n'
    return document.encode()


def _check(text: str) -> str:
    return digest_of(text)[:32]


def _parse(content: bytes) -> dict[str, Any] | Unusable:
    if not content.strip():
        return Unusable("its record was empty")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return Unusable("its record was truncated or is not a record")
    if not isinstance(document, dict) or "format" not in document:
        return Unusable("its record was not written by soct")
    inner = document.get("record")
    version = inner.get("soct_version") if isinstance(inner, dict) else None
    return {**document, "soct_version": version or document.get("soct_version", "(unknown)")}


def _decode(document: Mapping[str, Any], unit: Unit) -> Record | Unusable:
    body = document.get("record")
    if not isinstance(body, dict) or document.get("check") != _check(json.dumps(body)):
        return Unusable("its record was changed by something else than soct")
    if (body.get("step"), body.get("unit")) != (unit.step, unit.name):
        return Unusable(f"its record belongs to {body.get('step')}:{body.get('unit')}")
    try:
        return _record(body, unit)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Unusable("its record lacks what this soct needs")


def _metric_body(metric: Metric) -> dict[str, Any]:
    """Return a metric for its record; few have a tile or places, so the rest does not speak of them."""
    body = asdict(metric)
    return {k: v for k, v in body.items() if k not in ("tile", "places") or v}


def _metric(body: Mapping[str, Any]) -> Metric:
    row_column = body.get("tile")
    tile = None if row_column is None else (int(row_column[0]), int(row_column[1]))
    places = tuple(tuple(int(i) for i in place) for place in body.get("places", ()))
    return Metric(**{**body, "tile": tile, "places": places})


def _record(body: Mapping[str, Any], unit: Unit) -> Record:
    return Record(
        unit=unit,
        key=Key(body["key"], body["components"]),
        outputs=tuple(
            OutputRecord(
                output["name"],
                output["path"],
                {name: FileRecord(*parts) for name, parts in output["files"].items()},
                output["folder"],
            )
            for output in body["outputs"]
        ),
        result=Result(
            tuple(_metric(metric) for metric in body["metrics"]),
            tuple(body["warnings"]),
            tuple(Decision(**decision) for decision in body["decisions"]),
            tuple(body["fallbacks"]),
            body["backend"],
            tuple(body.get("notices", ())),
        ),
        reasons=tuple(body["reasons"]),
        started=body["started"],
        ended=body["ended"],
        seconds=body["seconds"],
        peak_memory_bytes=body["peak_memory_bytes"],
        threads=body["threads"],
        host=body["host"],
        pid=body["pid"],
        soct_version=body["soct_version"],
    )
