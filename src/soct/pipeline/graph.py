"""From step declarations and slice numbers to units and what each of them waits for.

A pair is ``(k, next)`` or ``(k, next but one)`` over the slices that are there: a missing slice is bridged,
its number never shifts. Steps that are switched off vanish with the optional inputs that name them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from soct.errors import ConfigurationError, UsageError
from soct.pipeline.profiles.quantities import parse_unit
from soct.pipeline.profiles.store import suggest
from soct.pipeline.request import Selection
from soct.steps.declaration import Params, Scope, Step, Unit

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition


@dataclass(frozen=True)
class Graph:
    """The units of a run in an order in which they could run one by one."""

    slices: tuple[int, ...]
    steps: Mapping[str, Step[Any]]
    """The steps that are switched on, in pipeline order."""
    inputs: Mapping[str, tuple[str, ...]]
    """``step -> steps that it reads``, those that are switched on."""
    units: Mapping[str, tuple[Unit, ...]]
    upstream: Mapping[Unit, tuple[Unit, ...]]
    """``unit -> units that it reads``; iterates in an order in which every unit follows what it reads."""
    selected: frozenset[str] | frozenset[Unit]
    """Steps (or, with ``--unit``, units) that may run."""

    def may_run(self, unit: Unit) -> bool:
        """Whether the selection lets this unit run."""
        return unit.step in self.selected or unit in self.selected

    def downstream(self) -> dict[Unit, list[Unit]]:
        """Return ``unit -> units that read it``."""
        readers: dict[Unit, list[Unit]] = {unit: [] for unit in self.upstream}
        for unit, read in self.upstream.items():
            for source in read:
                readers[source].append(unit)
        return readers


def slice_pairs(slices: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return (fixed, moving) for every slice with the next and the next but one, ascending."""
    return tuple(
        (slices[i], slices[i + step])
        for i in range(len(slices))
        for step in (1, 2)
        if i + step < len(slices)
    )


def build_graph(
    steps: Mapping[str, Step[Any]],
    params: Mapping[str, Params],
    slice_ids: Iterable[int],
    selection: Selection | None = None,
    left_out: Mapping[int, str] | None = None,
) -> Graph:
    """Expand steps to units.

    Parameters
    ----------
    steps : mapping
        Declarations by id, in pipeline order (`in_reading_order`).
    params : mapping
        Parameters by step id; a step whose parameters have ``enabled = False`` is switched off.
    slice_ids : iterable of int
        The slices that the input holds.
    selection : Selection, optional
        Which steps, slices or unit may run.
    left_out : mapping of int to str, optional
        Slices of the input that have no units, and why (`slices_left_out`).

    Raises
    ------
    ConfigurationError
        A step reads one that is switched off.
    UsageError
        The selection names a step, slice or unit that is not there.
    """
    selection = _with_ids(selection or Selection(), steps)
    left_out = left_out or {}
    present = tuple(sorted(set(slice_ids) - set(left_out)))
    slices = _chosen_slices(present, selection, left_out)
    active = {name: step for name, step in steps.items() if is_enabled(params[name])}
    inputs = {name: _inputs(step, steps, active) for name, step in active.items()}
    units = {name: _units(step.scope, name, slices) for name, step in active.items()}
    upstream = {
        unit: tuple(
            source
            for name in inputs[unit.step]
            for source in sources_of(unit, active[unit.step].scope, active[name].scope, units[name])
        )
        for step_units in units.values()
        for unit in step_units
    }
    return Graph(slices, active, inputs, units, upstream, _selected(selection, tuple(steps), units))


def slices_left_out(
    steps: Mapping[str, Step[Any]], params: Mapping[str, Params], acquisition: Acquisition
) -> dict[int, str]:
    """Return the slices that a step says cannot be part of a run, with its reasons."""
    found: dict[int, str] = {}
    for name, step in steps.items():
        if step.leaves_out is not None and is_enabled(params[name]):
            for slice_id, reason in step.leaves_out(acquisition, params[name]).items():
                found.setdefault(slice_id, reason)
    return found


def is_enabled(params: Params) -> bool:
    """Whether a step is switched on; steps without the field always are."""
    return bool(getattr(params, "enabled", True))


def in_reading_order(steps: Mapping[str, Step[Any]]) -> dict[str, Step[Any]]:
    """Return the steps so that each follows all that it reads, else in the order in which they come.

    Raises
    ------
    ValueError
        A step reads one that is not there, reads itself in a circle, or reads a scope that it cannot.
    """
    for name, step in steps.items():
        for source in step.inputs:
            if source.step in steps:
                if steps[source.step].scope is Scope.PAIR and step.scope is Scope.SLICE:
                    raise ValueError(f"{name} (slice) cannot read {source.step} (pair)")
            elif not source.optional:
                raise ValueError(f"{name} reads {source.step}, which is no step")
    left, ordered = dict(steps), dict[str, Step[Any]]()
    while left:
        free = [n for n, step in left.items() if not any(i.step in left for i in step.inputs)]
        if not free:
            raise ValueError(f"these steps read each other in a circle: {', '.join(left)}")
        ordered[free[0]] = left.pop(free[0])
    return ordered


def _chosen_slices(
    present: tuple[int, ...], selection: Selection, left_out: Mapping[int, str]
) -> tuple[int, ...]:
    if selection.slices is None:
        return present
    for slice_id in sorted(set(selection.slices) & set(left_out)):
        raise UsageError(
            f"Slice {slice_id} cannot be used: {left_out[slice_id]}",
            expected=f"slices among {_ranges(present)}",
            hint="Correct --slices, or mend the slice's files.",
        )
    absent = sorted(set(selection.slices) - set(present))
    if absent:
        raise UsageError(
            f"The input has no slice {', '.join(map(str, absent))}",
            expected=f"slices among {_ranges(present)}",
            hint="Correct --slices.",
        )
    return tuple(sorted(set(selection.slices)))


def _inputs(
    step: Step[Any], steps: Mapping[str, Step[Any]], active: Mapping[str, Step[Any]]
) -> tuple[str, ...]:
    names = []
    for source in step.inputs:
        if source.step in active:
            names.append(source.step)
        elif not source.optional:
            state = "switched off" if source.step in steps else "not part of the pipeline"
            raise ConfigurationError(
                f"{step.id} needs {source.step}, which is {state}",
                hint=f"Set {source.step}.enabled: true, or {step.id}.enabled: false.",
            )
    return tuple(names)


def _units(scope: Scope, name: str, slices: tuple[int, ...]) -> tuple[Unit, ...]:
    if scope is Scope.RUN:
        return (Unit(name),)
    if scope is Scope.SLICE:
        return tuple(Unit(name, (s,)) for s in slices)
    return tuple(Unit(name, pair) for pair in slice_pairs(slices))


def sources_of(unit: Unit, reader: Scope, source: Scope, units: Sequence[Unit]) -> tuple[Unit, ...]:
    """Return the units of one step that a unit reads.

    Parameters
    ----------
    unit : Unit
    reader, source : Scope
        Scopes of the unit's step and of the step that it reads.
    units : sequence of Unit
        All units of the step that it reads.
    """
    if source is Scope.RUN or reader is Scope.RUN:
        return tuple(units)
    name = units[0].step
    if source is Scope.SLICE:
        return tuple(Unit(name, (s,)) for s in unit.slices)
    return (Unit(name, unit.slices),)


def _selected(
    selection: Selection, order: tuple[str, ...], units: Mapping[str, tuple[Unit, ...]]
) -> frozenset[str] | frozenset[Unit]:
    for option, name in (
        ("--from", selection.first),
        ("--until", selection.last),
        ("--only", selection.only),
    ):
        _check_step(option, name, order, units)
    if selection.unit is not None and selection.only is None:
        raise UsageError("--unit needs --only STEP")
    if selection.only is not None:
        return _only(selection.only, selection.unit, units)
    first = order.index(selection.first) if selection.first else 0
    last = order.index(selection.last) if selection.last else len(order) - 1
    if first > last:
        raise UsageError(f"--from {selection.first} comes after --until {selection.last}")
    return frozenset(name for name in order[first : last + 1] if name in units)


def _check_step(
    option: str, name: str | None, order: tuple[str, ...], units: Mapping[str, object]
) -> None:
    if name is None or name in units:
        return
    if name in order:
        raise UsageError(
            f"{option} {name}: this step is switched off", hint=f"Set {name}.enabled: true."
        )


def _only(
    step: str, slices: tuple[int, ...] | None, units: Mapping[str, tuple[Unit, ...]]
) -> frozenset[str] | frozenset[Unit]:
    if slices is None:
        return frozenset({step})
    unit = Unit(step, slices)
    if unit not in units[step]:
        shown = ", ".join(u.name for u in units[step][:6])
        raise UsageError(
            f"{step} has no unit {unit.name}",
            expected=f"{shown}{', ...' if len(units[step]) > 6 else ''}",
        )
    return frozenset({unit})


def unit_named(step: str, text: str) -> Unit:
    """Return the unit of a step by its name: ``run``, ``3``, ``z03``, ``3,4`` or ``z03_z04``.

    Raises
    ------
    UsageError
        The text is none of these.
    """
    try:
        return Unit(step, parse_unit(text))
    except ValueError as error:
        raise UsageError(str(error), expected="run, z03 or z03_z04") from None


def step_named(text: str, names: Iterable[str], commands: Mapping[str, str] | None = None) -> str:
    """Return the id of a step that a person named: by id, command, either with dashes, or a beginning that fits one.

    Parameters
    ----------
    text : str
    names : iterable of str
        Ids.
    commands : mapping, optional
        ``command -> id``.

    Raises
    ------
    UsageError
        There is no such step, or several begin so.
    """
    known = list(names)
    for candidate in (text, text.replace("-", "_")):
        if candidate in known:
            return candidate
    if commands and text.replace("_", "-") in commands:
        return commands[text.replace("_", "-")]
    begun = [name for name in known if text and name.startswith(text.replace("-", "_"))]
    if len(begun) == 1:
        return begun[0]
    hint = suggest(text.replace("-", "_"), [*known, *(commands or {})])
    raise UsageError(
        f"several steps begin with {text!r}" if begun else f"there is no step {text!r}",
        expected=", ".join(begun or known),
        hint=f"{hint[:1].upper()}{hint[1:]}" if hint and not begun else None,
    )


def _with_ids(selection: Selection, steps: Mapping[str, Step[Any]]) -> Selection:
    """Return the selection with every step by its id; a misspelt one is told with the option it was given to."""
    commands = {step.command: name for name, step in steps.items()}

    def found(option: str, text: str | None) -> str | None:
        if text is None:
            return None
        try:
            return step_named(text, steps, commands)
        except UsageError as error:
            raise UsageError(
                f"{option}: {error.message}", expected=error.expected, hint=error.hint
            ) from None

    return replace(
        selection,
        first=found("--from", selection.first),
        last=found("--until", selection.last),
        only=found("--only", selection.only),
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers as ``1, 3, 5-9``."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups)
