"""A request with its input opened: units, keys and what was found on disk; reads, never writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soct.errors import InputError
from soct.pipeline.folder.outputs import hash_stream
from soct.pipeline.folder.records import RecordStore
from soct.pipeline.graph import Graph, build_graph, in_reading_order, slices_left_out
from soct.pipeline.keys import KeyMaker, digest_of
from soct.pipeline.planning.plan import Plan, make_plan
from soct.pipeline.request import Fingerprint, RunRequest
from soct.steps.declaration import Params, Step

if TYPE_CHECKING:
    from pathlib import Path

    from soct.formats.acquisition import Acquisition


@dataclass(frozen=True)
class Prepared:
    """A request with its input opened and its units known."""

    request: RunRequest
    acquisition: Acquisition
    fingerprint: Fingerprint
    raw: Mapping[int, Mapping[str, str]]
    graph: Graph
    keys: KeyMaker
    store: RecordStore

    @property
    def slice_digests(self) -> dict[str, str]:
        """``slice -> digest of its raw files' fingerprint``."""
        return {str(slice_id): digest_of(dict(files)) for slice_id, files in self.raw.items()}

    def plan(self) -> Plan:
        """Compare what is on disk now with what would be computed."""
        return make_plan(self.graph, self.request.params, self.keys, self.store, self.acquisition)


def prepare(request: RunRequest) -> Prepared:
    """Open the input of a request and expand its steps to units.

    Raises
    ------
    InputError
        The input cannot be read, or holds no slice that can be used.
    ConfigurationError, UsageError
        As `soct.pipeline.graph.build_graph`.
    """
    steps = in_reading_order(request.steps)
    acquisition, fingerprint = request.acquisition, request.fingerprint
    if acquisition is None or fingerprint is None:
        from soct.formats.acquisition import fingerprint_slice, open_acquisition

        acquisition = acquisition or open_acquisition(request.input)
        fingerprint = fingerprint or fingerprint_slice
    left_out = slices_left_out(steps, request.params, acquisition)
    graph = build_graph(steps, request.params, acquisition.slices, request.selection, left_out)
    if left_out and not graph.slices:
        slice_id, why = next(iter(left_out.items()))
        raise InputError(
            "No slice of the input can be used",
            file=request.input,
            found=f"{len(left_out)} slices; slice {slice_id}: {why}",
        )
    raw = {s: fingerprint(acquisition.slices[s]) for s in graph.slices}
    tables = {name: _content_digest(path) for name, path in acquisition.tables.items()}
    for name, step in graph.steps.items():
        if step.check is not None:
            step.check(request.params[name], request.params)
    keys = KeyMaker(
        graph,
        request.params,
        request.subject,
        raw,
        session=acquisition.session,
        tables=tables,
        files={name: _files(step, request.params[name]) for name, step in graph.steps.items()},
    )
    store = RecordStore(request.folder)
    return Prepared(request, acquisition, fingerprint, raw, graph, keys, store)


def _files(step: Step[Any], params: Params) -> dict[str, str]:
    """Return the digests of the files outside of the run that a step's parameters name."""
    if step.files is None:
        return {}
    return {path.name: _content_digest(path) for path in step.files(params)}


def _content_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hash_stream(stream)
