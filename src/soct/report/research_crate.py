"""The run for archives and search engines: an RO-Crate that describes ``report_data/``.

RO-Crate 1.1 with the profile Process Run Crate 0.5: the run is a ``CreateAction``, with soct as its instrument,
the raw data as its object and what it made as its result. The crate's root is ``report_data/``, so its files are
data entities; raw data and outputs lie outside and are described, not contained. Nothing is made up: who ran it
and under which licence the data stand is not known to soct, and the crate says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from soct.formats.documents import without_infinities
from soct.report.identity import run_key
from soct.report.markup import visible
from soct.report.model import RunView, StepView

if TYPE_CHECKING:
    from soct.report.reportlet import Page

METADATA = "ro-crate-metadata.json"
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_CONTEXT = (f"{_SPECIFICATION}/context", {"sha256": "http://schema.org/sha256"})
_MEDIA_TYPES = {".tsv": "text/tab-separated-values", ".json": "application/json"}
_STATUS = {
    "complete": "http://schema.org/CompletedActionStatus",
    "failed": "http://schema.org/FailedActionStatus",
    "partial": "http://schema.org/FailedActionStatus",
}
"""The profile knows these two; a run that goes on has none yet."""
_LICENCE = (
    "Licence unknown: the run does not say under which licence these data may be used. "
    "Ask the people who acquired them."
)
_Entity: TypeAlias = dict[str, Any]


def make_crate(page: Page, files: Mapping[str, bytes], described: Mapping[str, str]) -> bytes:
    """Return the crate's metadata file.

    Parameters
    ----------
    page : Page
        The run.
    files : mapping of str to bytes
        The other files of ``report_data/``.
    described : mapping of str to str
        What is in each file.
    """
    view = page.view
    outputs = [_output(step) for step in view.steps if any(u.outputs for u in step.units)]
    slices = list(_slices(view))
    packages = list(_packages(view))
    graph = [
        _descriptor(),
        _root(page, sorted(files)),
        {
            "@id": _PROFILE,
            "@type": "CreativeWork",
            "name": "Process Run Crate",
            "version": "0.5",
        },
        {"@id": "#licence", "@type": "CreativeWork", "name": "Licence unknown", "description": _LICENCE},
        _action(page, [o["@id"] for o in outputs], sorted(files)),
        _software(view, [p["@id"] for p in packages]),
        _input(view, [s["@id"] for s in slices]),
        *(_file(name, files[name], described.get(name, "")) for name in sorted(files)),
        *outputs,
        *slices,
        *packages,
    ]  # fmt: skip
    document = without_infinities({"@context": list(_CONTEXT), "@graph": [_said(e) for e in graph]})
    return (json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()


def _said(entity: _Entity) -> _Entity:
    """Drop what is not known, and make every text inert."""
    return {
        name: visible(value) if isinstance(value, str) else value
        for name, value in entity.items()
        if value not in ("", None, [])
    }


def _refer(ids: list[str]) -> list[dict[str, str]]:
    return [{"@id": name} for name in ids]


def _descriptor() -> _Entity:
    return {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": _SPECIFICATION},
        "about": {"@id": "./"},
    }


def _root(page: Page, names: list[str]) -> _Entity:
    view = page.view
    last = view.invocations[-1] if view.invocations else None
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Quality report of {view.subject}",
        "description": f"Numbers of the quality report that soct made of one brain: {page.verdict.grade.value}. "
        "The page itself stands beside this folder; raw data and volume are described, not contained.",
        "datePublished": (last.ended or last.started) if last else "",
        "license": {"@id": "#licence"},
        "conformsTo": {"@id": _PROFILE},
        "identifier": f"soct run {run_key(view)}",
        "hasPart": _refer(names),
        "mentions": {"@id": "#run"},
    }  # fmt: skip


def _action(page: Page, outputs: list[str], names: list[str]) -> _Entity:
    view = page.view
    calls = view.invocations
    failures = [u.failure for u in view.units() if u.failure is not None and u.state == "failed"]
    inputs = ["#input", *(name for name in names if name == "parameters.tsv")]
    return {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"soct run of {view.subject}, profile {view.profile}",
        "description": "\n".join(call.command for call in calls),
        "startTime": calls[0].started if calls else "",
        "endTime": calls[-1].ended if calls else "",
        "actionStatus": _STATUS.get(view.state, ""),
        "error": "; ".join(f"{f.kind}: {f.message}" for f in failures[:5]),
        "instrument": {"@id": "#soct"},
        "object": _refer(inputs),
        "result": _refer([*(name for name in names if name not in inputs), *outputs]),
    }


def _software(view: RunView, packages: list[str]) -> _Entity:
    container = f" Container image: {view.container}." if view.container else ""
    return {
        "@id": "#soct",
        "@type": "SoftwareApplication",
        "name": "soct",
        "softwareVersion": view.soct_version or "unknown",
        "description": "Turns the raw tiles of a serial-sectioning OCT microscope into one aligned volume."
        + container,
        "softwareRequirements": _refer(packages),
    }


def _packages(view: RunView) -> Iterator[_Entity]:
    for name, version in view.packages:
        if name != "soct":
            yield {
                "@id": f"#package-{_fragment(name)}",
                "@type": "SoftwareApplication",
                "name": name,
                "softwareVersion": version,
            }


def _input(view: RunView, slices: list[str]) -> _Entity:
    found = view.acquisition
    what = "Raw tiles" if found.kind == "raw" else "Mosaic grids"
    return {
        "@id": "#input",
        "@type": "CreativeWork",
        "name": f"{what} of {view.subject}",
        "description": f"{len(found.slices)} slices, as they lay in {found.path or 'an unknown folder'}",
        "contentSize": str(found.raw_bytes) if found.raw_bytes else "",
        "identifier": _refer(slices),
    }


def _slices(view: RunView) -> Iterator[_Entity]:
    for i, (name, value) in enumerate(view.acquisition.fingerprints):
        yield {
            "@id": f"#input-{i}",
            "@type": "PropertyValue",
            "name": f"fingerprint of the files of slice {name}",
            "value": value,
        }


def _output(step: StepView) -> _Entity:
    made = [output for unit in step.units for output in unit.outputs]
    return {
        "@id": f"#output-{_fragment(step.id)}",
        "@type": "CreativeWork",
        "name": f"{step.id}/ in the run folder",
        "description": f"{len(made)} outputs of {step.id} (version {step.version}), each with its checksum in "
        f"outputs.tsv. {step.summary}".strip(),
        "contentSize": str(sum(output.bytes for output in made)),
    }  # fmt: skip


def _file(name: str, content: bytes, what: str) -> _Entity:
    ending = name[name.rfind(".") :] if "." in name else ""
    return {
        "@id": name,
        "@type": "File",
        "name": name,
        "description": what,
        "encodingFormat": _MEDIA_TYPES.get(ending, "text/plain"),
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _fragment(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)
