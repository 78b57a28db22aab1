"""``state/session.json``: what processes that work together agreed on.

A session begins with the first process that finds nobody at work, and is over when everything is computed,
failed or blocked, or when nobody is left. Who joins meanwhile must want the same. A failure belongs to its
session: nobody tries the unit again before the next one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from soct.errors import LockedError
from soct.formats.atomic import write_bytes
from soct.pipeline.folder.run_folder import RunDocument
from soct.pipeline.keys import digest_of
from soct.pipeline.planning.plan import Action, Plan
from soct.pipeline.preparation import Prepared
from soct.pipeline.request import RunRequest
from soct.pipeline.together.holder import Holder


@dataclass(frozen=True)
class Session:
    """What processes that work together agreed on."""

    id: str
    wanted: str
    """Digest of all that decides what is computed (`wanted_by`)."""
    limits_changed: bool
    """Whether metrics are to be judged anew at the end."""
    joined: int = 0
    """How many processes have joined so far."""
    members: tuple[str, ...] = ()
    """Ids of those that joined and did not say that they left."""
    closed_by: str = ""
    """The id of the process that writes tables and report, once everything is over."""
    is_over: bool = False
    """Whether that process has nothing left to write but the report."""


def wanted_by(prepared: Prepared, planned: Plan) -> str:
    """Return a digest of all that must be the same for processes that work together.

    Parameters of the machine are no part of it. Nor is the selection, as long as nothing that is out of date
    is used as it is.
    """
    kept = {
        str(source): planned.units[source].digest
        for unit in planned.to_compute
        for source in planned.graph.upstream[unit.unit]
        if planned.units[source].action is Action.KEEP and planned.units[source].reasons
    }
    return digest_of([prepared.keys.all_components, prepared.request.assess_digest, kept])


def new_session(wanted: str, *, limits_changed: bool) -> Session:
    """Begin a session."""
    return Session(secrets.token_hex(8), wanted, limits_changed)


def joined_by(session: Session, process: Holder) -> Session:
    """Return the session with one more process."""
    members = (*session.members, process.origin)
    return replace(session, joined=session.joined + 1, members=members)


def left_by(session: Session, process: Holder) -> Session:
    """Return the session without a process."""
    members = tuple(m for m in session.members if m != process.origin)
    return replace(session, members=members)


def at_work(session: Session | None, processes: Iterable[Holder]) -> list[Holder]:
    """Return those processes that have joined the session."""
    members = session.members if session is not None and not session.closed_by else ()
    return [p for p in processes if p.origin in members]


def read_session(run_folder: Path) -> Session | None:
    """Return the last session of a run folder; None where there was none."""
    try:
        document = json.loads(_path(run_folder).read_bytes())
        return Session(**{**document, "members": tuple(document["members"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_session(run_folder: Path, session: Session) -> None:
    """Publish what was agreed on; only while holding the claim of those who are alone."""
    path = _path(run_folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, json.dumps(asdict(session)).encode())


def _path(run_folder: Path) -> Path:
    return run_folder / "state" / "session.json"


def refuse(request: RunRequest, document: RunDocument | None, others: Iterable[Holder]) -> None:
    """Raise LockedError: others are at work who want something else."""
    differing = sorted(_differences(request, document)) if document is not None else []
    shown = "; ".join(differing[:5]) or "another part of the run, other limits or another input"
    if len(differing) > 5:
        shown += f" and {len(differing) - 5} more"
    raise LockedError(
        "Other processes work in this run folder, with other settings",
        file=request.folder,
        expected="the settings of " + "; ".join(str(other) for other in list(others)[:2]),
        found=shown,
        hint="Join with their command line, or wait until they are done, or use another run folder.",
    )


def _differences(request: RunRequest, document: RunDocument) -> Iterable[str]:
    if document.subject != request.subject:
        yield f"subject {request.subject} instead of {document.subject}"
    for step, params in request.params.items():
        theirs = document.params.get(step, {})
        for name, value in params.model_dump(mode="json").items():
            if name in theirs and theirs[name] != value:
                yield f"{step}.{name} is {json.dumps(value)} instead of {json.dumps(theirs[name])}"
