"""One step by itself, outside a run folder: ``soct <step>``.

The same function runs on the same kind of context as in a pipeline, so its bytes are the same. Outputs are
written into a hidden folder and renamed when all of them are complete; there is no record and no resume.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from soct.errors import InputError, StepError, UsageError
from soct.pipeline.desk import narrow_acquisition
from soct.pipeline.folder.outputs import make_partial_folder, output_paths, publish, record_output
from soct.pipeline.folder.records import Record, RecordStore
from soct.pipeline.folder.run_folder import read_run, telling_of_writes
from soct.pipeline.graph import slice_pairs
from soct.pipeline.keys import names_subject
from soct.steps.declaration import Context, Output, Params, Result, Scope, Step, Unit

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition

Slices: TypeAlias = tuple[int, ...]
Inputs: TypeAlias = "dict[tuple[str, str], dict[Slices, Path]]"

_FIELD = re.compile(r"\{(\w+)(?::[^}]*)?\}")


@dataclass(frozen=True)
class SingleStep:
    """What is asked of one step.

    Build the inputs with `inputs_from_paths` or `inputs_from_run`.
    """

    step: Step[Any]
    params: Params
    inputs: Mapping[tuple[str, str], Mapping[Slices, Path]]
    """An output that is there without any path has no units: a single slice has no pairs."""
    folder: Path
    """Where the outputs go, under the names of their templates."""
    subject: str = "sample"
    acquisition: Acquisition | None = None
    units: tuple[Slices, ...] | None = None
    """The units to compute; None: all that the inputs allow."""
    threads: int = 1
    memory_bytes: int = 2 << 30
    gpu: Literal["auto", "off", "require"] = "off"
    progress: Callable[[Unit, float], None] = field(default=lambda unit, fraction: None)


@dataclass(frozen=True)
class SingleResult:
    """One unit that is done."""

    unit: Unit
    result: Result
    outputs: Mapping[str, Path]
    """``output name -> path`` of what was published."""


def run_single_step(request: SingleStep) -> Iterator[SingleResult]:
    """Compute the units of one step, one after the other.

    Parameters
    ----------
    request : SingleStep
        Step, parameters, inputs and where to write.

    Yields
    ------
    SingleResult
        After each unit, when its outputs have their final names.

    Raises
    ------
    UsageError
        An input is not given, or a unit is asked for that the inputs do not hold.
    StepError
        The step did not write what it declares.
    """
    _check_inputs(request)
    slice_ids = _slice_ids(request)
    for unit in _units(request, slice_ids):
        yield _run_unit(request, unit, slice_ids)


def _check_inputs(request: SingleStep) -> None:
    step = request.step
    if step.reads_raw and request.acquisition is None:
        raise UsageError(f"{step.id} reads raw tiles.", hint="Give their folder with --raw.")
    given = {name for name, _ in request.inputs}
    absent = [i.step for i in step.inputs if not i.optional and i.step not in given]
    if absent:
        raise UsageError(
            f"{step.id} reads {', '.join(absent)}, and no output of it was given.",
            hint="Give each with --in STEP.OUTPUT=PATH, or all with --from-run RUN.",
        )


def _slice_ids(request: SingleStep) -> tuple[int, ...]:
    if request.acquisition is not None:
        return tuple(sorted(request.acquisition.slices))
    found = {s for paths in request.inputs.values() for slices in paths for s in slices}
    return tuple(sorted(found))


def _units(request: SingleStep, slice_ids: tuple[int, ...]) -> list[Unit]:
    step = request.step
    possible = _possible(step.scope, slice_ids)
    wanted = possible if request.units is None else list(request.units)
    unknown = [slices for slices in wanted if slices not in possible]
    if unknown or not wanted:
        names = ", ".join(Unit(step.id, s).name for s in possible[:20]) or "none"
        raise UsageError(
            "There is no such unit." if unknown else "The inputs hold no slice.",
            expected=f"units of {step.id} in the inputs: {names}",
            found=", ".join(Unit(step.id, s).name for s in unknown) or None,
        )
    return [Unit(step.id, slices) for slices in wanted]


def _possible(scope: Scope, slice_ids: tuple[int, ...]) -> list[Slices]:
    if scope is Scope.RUN:
        return [()]
    if scope is Scope.SLICE:
        return [(s,) for s in slice_ids]
    return list(slice_pairs(slice_ids))


def _run_unit(request: SingleStep, unit: Unit, slice_ids: tuple[int, ...]) -> SingleResult:
    step = request.step
    names = output_paths(step, unit, request.subject)
    with telling_of_writes(request.folder):
        request.folder.mkdir(parents=True, exist_ok=True)
        partial = make_partial_folder(request.folder, unit)
    try:
        context = _context(request, unit, slice_ids, {n: partial / p for n, p in names.items()})
        result = step.run(context, request.params)
        written = _written(step.outputs, context.output_paths)
        publish(partial, request.folder, names, written)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return SingleResult(unit, result, {n: request.folder / names[n] for n in names if n in written})


def _context(
    request: SingleStep, unit: Unit, slice_ids: tuple[int, ...], paths: Mapping[str, Path]
) -> Context:
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    step, acquisition = request.step, request.acquisition
    slices = slice_ids if step.scope is Scope.RUN else unit.slices
    if acquisition is not None:
        acquisition = narrow_acquisition(acquisition, step.scope, slices)
    return Context(
        unit=unit,
        subject=request.subject if names_subject(step) else "",
        slice_ids=slices,
        input_paths=_inputs_of(request, unit),
        output_paths=paths,
        acquisition=acquisition if step.reads_raw else None,
        threads=request.threads,
        memory_bytes=request.memory_bytes,
        gpu=request.gpu,
        progress=lambda fraction: request.progress(unit, fraction),
    )


def _inputs_of(request: SingleStep, unit: Unit) -> Inputs:
    """Return what the pipeline would give to this unit: the outputs of the units that it depends on."""
    found: Inputs = {}
    for name, paths in request.inputs.items():
        own = {slices: path for slices, path in paths.items() if _is_read(unit.slices, slices)}
        if own:
            found[name] = own
    there = {step for step, _ in found}
    there |= {step for (step, _), paths in request.inputs.items() if not paths}
    absent = [i.step for i in request.step.inputs if not i.optional and i.step not in there]
    if absent:
        raise InputError(f"The inputs hold nothing of {', '.join(absent)} for {unit}.")
    return found


def _is_read(unit: Slices, source: Slices) -> bool:
    if not unit or not source or source == unit:
        return True
    return len(source) == 1 and source[0] in unit


def _written(outputs: Iterable[Output], paths: Mapping[str, Path]) -> set[str]:
    written = set()
    for output in outputs:
        path = paths[output.name]
        if os.path.lexists(path):
            record_output(output.name, path, path.name)
            written.add(output.name)
        elif not output.optional:
            raise StepError(f"The step did not write its output {output.name}.", file=path.name)
    return written


def inputs_from_paths(
    step: Step[Any], steps: Mapping[str, Step[Any]], given: Iterable[tuple[str, Path]]
) -> Inputs:
    """Return the inputs that ``--in STEP.OUTPUT=PATH`` options name.

    Parameters
    ----------
    step : Step
        The step that reads.
    steps : mapping
        Declarations of the steps that it reads, by id.
    given : iterable of (str, Path)
        ``STEP.OUTPUT`` and a file, or a folder that is searched by the output's template. An output of the
        whole run is one path; it may be that file itself under any name.

    Returns
    -------
    dict
        ``(step, output) -> unit slices -> path``.

    Raises
    ------
    UsageError
        The step does not read that output.
    InputError
        Nothing is there.
    """
    found: Inputs = {}
    for name, path in given:
        source, output = _declared(step, steps, name)
        paths = _search(steps[source].scope, output, path)
        if not paths:
            raise InputError(
                f"There is no {name} here.", file=path, expected=f"names like {output.template}"
            )
        found.setdefault((source, output.name), {}).update(paths)
    return found


def _declared(step: Step[Any], steps: Mapping[str, Step[Any]], name: str) -> tuple[str, Output]:
    outputs = {
        f"{i.step}.{o.name}": (i.step, o)
        for i in step.inputs
        if i.step in steps
        for o in steps[i.step].outputs
    }
    if name not in outputs:
        raise UsageError(
            f"{step.id} does not read {name!r}.", expected=f"one of {', '.join(outputs) or 'none'}"
        )
    return outputs[name]


def _search(scope: Scope, output: Output, path: Path) -> dict[Slices, Path]:
    pattern = _pattern(output.template)
    if match := pattern.fullmatch(path.name):
        return {_slices(match): path} if path.exists() else {}
    if scope is Scope.RUN and path.is_file():
        return {(): path}
    if not path.is_dir():
        return {}
    depth = output.template.count("/")
    found = {}
    for candidate in sorted(path.glob("/".join(["*"] * (depth + 1)))):
        if match := pattern.fullmatch(candidate.relative_to(path).as_posix()):
            found[_slices(match)] = candidate
    if not found and scope is Scope.RUN and path.suffix == Path(output.template).suffix:
        return {(): path}
    return found


def _pattern(template: str) -> re.Pattern[str]:
    """Return a pattern of the names that a template gives: digits for slices, anything for the subject."""
    parts = []
    end = 0
    for match in _FIELD.finditer(template):
        parts.append(re.escape(template[end : match.start()]))
        digits = match[1] in ("slice", "fixed", "moving")
        parts.append(rf"(?P<{match[1]}>\d{{1,6}})" if digits else r"[^/]+")
        end = match.end()
    return re.compile("".join([*parts, re.escape(template[end:])]))


def _slices(match: re.Match[str]) -> Slices:
    named = match.groupdict()
    return tuple(int(named[key]) for key in ("slice", "fixed", "moving") if key in named)


def inputs_from_run(step: Step[Any], steps: Mapping[str, Step[Any]], run_folder: Path) -> Inputs:
    """Return every published output of a run folder that a step reads.

    Only what a record names counts: a file without one may be half written.

    Parameters
    ----------
    step : Step
        The step that reads.
    steps : mapping
        Declarations of the steps that it reads, by id.
    run_folder : Path
        A folder that ``soct run`` wrote.

    Raises
    ------
    InputError
        It is no run folder.
    """
    if not (run_folder / "state").is_dir():
        raise InputError("This is not a run folder of soct.", file=run_folder)
    store = RecordStore(run_folder)
    found: Inputs = {}
    document = read_run(run_folder)
    for source in (i.step for i in step.inputs if i.step in steps):
        if document is not None and document.units.get(source) == []:
            found.update({(source, output.name): {} for output in steps[source].outputs})
        for file in sorted((run_folder / "state" / source).glob("*.json")):
            numbers = re.fullmatch(r"run|z(\d+)(?:_z(\d+))?", file.stem)
            if numbers is None:
                continue
            slices = tuple(int(n) for n in numbers.groups() if n is not None)
            record = store.read(Unit(source, slices))
            if isinstance(record, Record):
                for output in record.outputs:
                    found.setdefault((source, output.name), {})[slices] = run_folder / output.path
    return found
