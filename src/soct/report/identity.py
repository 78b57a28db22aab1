"""Which run a report is of, also when names and paths have been taken out of it."""

from __future__ import annotations

import hashlib
import json

from soct.report.model import RunView

_LENGTH = 16


def run_key(view: RunView) -> str:
    """Return 16 hexadecimal digits that stand for the raw data, the steps and every parameter.

    A run that is continued with the same settings keeps its key; other settings or other raw data give
    another one. No path and no name goes into it, but what parameters hold.
    """
    if view.key:
        return view.key
    content = [
        sorted(view.acquisition.fingerprints),
        [(step.id, step.version) for step in view.steps],
        sorted((p.key, p.value) for p in view.parameters),
    ]
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
