"""One unit at a time: lay out what it needs before it runs, publish what it made afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from soct.pipeline.folder.outputs import make_partial_folder, output_paths, publish, remove
from soct.pipeline.folder.records import FailureRecord, Record, RecordStore
from soct.pipeline.folder.unit_metrics import overall_status, write_metrics
from soct.pipeline.keys import Key, KeyMaker, names_subject, session_of
from soct.pipeline.planning.plan import Plan, unit_need
from soct.pipeline.request import Assess, Fingerprint, Status
from soct.pipeline.workers.worker import Task, progress_of
from soct.steps.declaration import Context, Need, Params, Scope, Unit

if TYPE_CHECKING:
    from typing import Literal

    from soct.formats.acquisition import Acquisition


@dataclass(frozen=True)
class Surroundings:
    """What is the same for all units of a run."""

    subject: str
    params: Mapping[str, Params]
    acquisition: Acquisition
    raw: Mapping[int, Mapping[str, str]]
    """Fingerprint of every slice's raw files."""
    fingerprint: Fingerprint
    gpu: Literal["auto", "off", "require"]
    assess: Assess


class Desk:
    """Prepares and publishes units of one run.

    Parameters
    ----------
    run_folder : Path
    plan : Plan
    keys : KeyMaker
    store : RecordStore
    surroundings : Surroundings
    """

    def __init__(
        self,
        run_folder: Path,
        plan: Plan,
        keys: KeyMaker,
        store: RecordStore,
        surroundings: Surroundings,
    ) -> None:
        self.run_folder = run_folder
        self._graph = plan.graph
        self._plan = plan
        self._keys = keys
        self._store = store
        self._around = surroundings
        self._published = {unit: dict(planned.outputs) for unit, planned in plan.units.items()}

    def key(self, unit: Unit) -> Key:
        """Return a unit's key."""
        digests = {s: self._plan.units[s].digest for s in self._graph.upstream[unit]}
        return self._keys.key(unit, digests)

    def need(self, unit: Unit) -> Need:
        """Return what a unit will take, by its step's estimate."""
        planned = self._plan.needs.get(unit)
        if planned is not None:
            return planned
        return unit_need(self._graph, self._around.params, self._around.acquisition, unit)

    def prepare(self, unit: Unit, threads: int, memory_bytes: int) -> Task:
        """Remove what is out of date of a unit and lay out all that it needs."""
        step = self._graph.steps[unit.step]
        folder = self.run_folder / unit.step
        names = output_paths(step, unit, self._around.subject)
        self._remove_misplaced(unit, {f"{unit.step}/{name}" for name in names.values()})
        self._store.forget(unit)
        partial = make_partial_folder(folder, unit)
        for name in names.values():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
        slices = self._graph.slices if step.scope is Scope.RUN else unit.slices
        context = Context(
            unit=unit,
            subject=self._around.subject if names_subject(step) else "",
            slice_ids=slices,
            input_paths=self._input_paths(unit),
            output_paths={name: partial / path for name, path in names.items()},
            acquisition=narrow_acquisition(self._around.acquisition, step.scope, slices)
            if step.reads_raw
            else None,
            threads=threads,
            memory_bytes=memory_bytes,
            gpu=self._around.gpu,
            progress=progress_of(unit),
        )
        return Task(
            step=step,
            params=self._around.params[unit.step],
            context=context,
            run_folder=self.run_folder,
            partial=partial,
            names=names,
            sources=self._graph.upstream[unit],
            raw={s: self._around.raw[s] for s in slices} if step.reads_raw else {},
            fingerprint=self._around.fingerprint if step.reads_raw else None,
        )

    def publish(self, task: Task, record: Record) -> Status:
        """Give outputs their names, then write metrics and record; return the unit's status."""
        unit = record.unit
        written = {output.name for output in record.outputs}
        publish(task.partial, self.run_folder / unit.step, task.names, written)
        write_metrics(self.run_folder, record, self._around.assess)
        self._store.write(record)
        self.adopt(record)
        self.discard(task)
        return overall_status(unit.step, record.result.metrics, self._around.assess)

    def adopt(self, record: Record) -> None:
        """Know the outputs of a unit that another process published."""
        self._published[record.unit] = {output.name: output.path for output in record.outputs}

    def keep_failure(self, failed: FailureRecord) -> None:
        """Store a failure until the unit succeeds."""
        self._store.write_failure(failed)

    def discard(self, task: Task) -> None:
        """Remove a unit's hidden folder with whatever is in it."""
        shutil.rmtree(task.partial, ignore_errors=True)

    def _remove_misplaced(self, unit: Unit, paths: set[str]) -> None:
        """Remove what the unit published under names that it does not use any more."""
        for path in self._published[unit].values():
            if path not in paths:
                remove(self.run_folder / path)

    def _input_paths(self, unit: Unit) -> dict[tuple[str, str], dict[tuple[int, ...], Path]]:
        paths: dict[tuple[str, str], dict[tuple[int, ...], Path]] = {}
        for source in self._graph.upstream[unit]:
            for name, path in self._published[source].items():
                paths.setdefault((source.step, name), {})[source.slices] = self.run_folder / path
        return paths


def narrow_acquisition(
    acquisition: Acquisition, scope: Scope, slices: tuple[int, ...]
) -> Acquisition:
    """Return the input as far as a unit's key knows it.

    Parameters
    ----------
    acquisition : Acquisition
    scope : Scope
        Of the unit's step.
    slices : tuple of int
        The slices that the unit covers.
    """
    return replace(
        acquisition,
        slices={s: acquisition.slices[s] for s in slices},
        problems=tuple(
            p for p in acquisition.problems if scope is Scope.RUN or p.slice_id in slices
        ),
        session=session_of(acquisition.session, scope, slices),
        tables=acquisition.tables if scope is Scope.RUN else {},
    )
