"""``{step}/metrics/{unit}.json``: what a unit measured of itself, with a status by the profile's limits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from soct.formats.atomic import write_bytes
from soct.formats.documents import without_infinities
from soct.pipeline.folder.outputs import METRICS
from soct.pipeline.folder.records import Record
from soct.pipeline.request import Assess, Status
from soct.steps.declaration import Metric, Unit

_ORDER: tuple[Status, ...] = ("info", "ok", "warning", "error")


def worst(statuses: Iterable[Status]) -> Status:
    """Return the gravest status; ``info`` where nothing was judged."""
    return max(statuses, key=_ORDER.index, default="info")


def overall_status(step: str, metrics: Iterable[Metric], assess: Assess) -> Status:
    """Return the worst status of a unit's metrics; a unit without limits is ``ok``."""
    return worst(("ok", *(assess(step, metric) for metric in metrics)))


def metrics_path(run_folder: Path, unit: Unit) -> Path:
    """Return where a unit's metrics are written."""
    return run_folder / unit.step / METRICS / f"{unit.name}.json"


def write_metrics(run_folder: Path, record: Record, assess: Assess) -> None:
    """Write a unit's metrics, unless the file already says the same."""
    path = metrics_path(run_folder, record.unit)
    content = (json.dumps(_document(record, assess), indent=1, allow_nan=False) + "\n").encode()
    try:
        if path.read_bytes() == content:
            return
    except OSError:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)


def read_statuses(run_folder: Path, unit: Unit) -> dict[str, Status]:
    """Return ``metric name -> status`` as they were written; empty where nothing can be read."""
    try:
        document = json.loads(metrics_path(run_folder, unit).read_bytes())
        return {name: metric["status"] for name, metric in document["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _document(record: Record, assess: Assess) -> dict[str, Any]:
    step, result = record.unit.step, record.result
    return {
        "step_name": step,
        "unit": record.unit.name,
        "timestamp": record.ended,
        "overall_status": overall_status(step, result.metrics, assess),
        "metrics": {
            metric.name: {
                "value": without_infinities(metric.value),
                "unit": metric.unit,
                "description": metric.description,
                "status": assess(step, metric),
            }
            for metric in result.metrics
        },
        "warnings": [*result.warnings, *result.notices, *result.fallbacks],
        "errors": [],
    }
