"""``soct <step>``: a subcommand generated from the declaration of a step."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soct.cli import options
from soct.cli.model_options import (
    as_yaml,
    build_command,
    give_signature,
    keyword,
    options_of_field,
    typed_values,
)
from soct.pipeline.profiles.quantities import parse_unit
from soct.steps.registry import STEP_IDS, load_step

if TYPE_CHECKING:
    from soct.pipeline.profiles.profile import Profile
    from soct.pipeline.single_step import Inputs, SingleResult
    from soct.steps.declaration import Params, Step, Unit

PANEL_PARAMETERS = "Parameters"
PANEL_FILES = "Files"

# Names of the options that every step has; a parameter of that name gets the step's id in front.
_RESERVED = (
    "in",
    "from_run",
    "raw",
    "out",
    "unit",
    "profile",
    "set",
    "threads",
    "memory",
    "gpu",
    "help",
)


def build_step_command(step_id: str) -> Any:
    """Return the command of one step, importing that step and what it reads.

    Parameters
    ----------
    step_id : str
        One of `soct.steps.registry.STEP_IDS`.

    Returns
    -------
    Command
        As typer builds it from a function.
    """
    step = load_step(step_id)
    return build_command(step.command, _help(step), _callback(step))


def _help(step: Step[Any]) -> str:
    scope = {"run": "all slices together", "slice": "each slice", "pair": "each pair of slices"}
    reads = [i.step + (" (optional)" if i.optional else "") for i in step.inputs]
    reads += ["raw tiles"] if step.reads_raw else []
    writes = [o.template for o in step.outputs]
    parts = [
        step.summary,
        f"Works on {scope[step.scope]}.",
        f"Reads {', '.join(reads)}." if reads else "",
        f"Writes {', '.join(writes)}." if writes else "",
    ]
    return "\n\n".join((parts[0], " ".join(part for part in parts[1:] if part)))


def _callback(step: Step[Any]) -> Any:
    names = {key: _option_name(step, key) for key in step.params.model_fields}

    own = [
        p for k, n in names.items() for p in options_of_field(step.params, k, n, PANEL_PARAMETERS)
    ]

    def command(**given: Any) -> None:
        typed = typed_values(given, names)
        for parameter in own:
            given.pop(parameter.name)
        _run(step, typed, **given)

    return give_signature(command, [*own, *_file_parameters(step), *_machine_parameters()])


def _option_name(step: Step[Any], key: str) -> str:
    return f"{step.id}_{key}" if key in _RESERVED else key


def _file_parameters(step: Step[Any]) -> list[inspect.Parameter]:
    out = typer.Option(
        "--out", metavar="FOLDER", help="Where to write.", rich_help_panel=PANEL_FILES
    )
    found = [keyword("out", Annotated[Path, out], inspect.Parameter.empty)]
    if step.reads_raw:
        found.append(keyword("raw", _path_option("--raw", "FOLDER", "The raw tiles."), None))
    if step.inputs:
        text = "An upstream output: a file, or a folder that is searched; may be repeated."
        found += [
            keyword(
                "from_run", _path_option("--from-run", "RUN", "Read what a run published."), None
            ),
            keyword(
                "inputs",
                Annotated[
                    list[str] | None,
                    typer.Option(
                        "--in", metavar="STEP.OUTPUT=PATH", help=text, rich_help_panel=PANEL_FILES
                    ),
                ],
                None,
            ),
        ]
    return found


def _path_option(name: str, metavar: str, text: str) -> Any:
    return Annotated[
        Path | None, typer.Option(name, metavar=metavar, help=text, rich_help_panel=PANEL_FILES)
    ]


def _machine_parameters() -> list[inspect.Parameter]:
    unit = typer.Option(
        "--unit",
        metavar="N[,M]",
        help="One slice or pair (3 or 3,4); may be repeated. Without it: all.",
        rich_help_panel=PANEL_FILES,
    )
    subject = typer.Option(
        "--subject", metavar="NAME", help="Name in the outputs' names.", rich_help_panel=PANEL_FILES
    )
    threads = typer.Option(
        "--threads", metavar="N", min=1, max=4096, help="Threads to use.",
        rich_help_panel=options.PANEL_MACHINE,
    )  # fmt: skip
    return [
        keyword("unit", Annotated[list[str] | None, unit], None),
        keyword("subject", Annotated[str | None, subject], None),
        keyword("profile", options.Profile, "default"),
        keyword("sets", options.Sets, None),
        keyword("threads", Annotated[int | None, threads], None),
        keyword("memory", options.Memory, None),
        keyword("gpu", options.Gpu, None),
    ]


def _run(
    step: Step[Any],
    typed: Mapping[str, Any],
    *,
    out: Path,
    unit: list[str] | None,
    subject: str | None,
    profile: str,
    sets: list[str] | None,
    threads: int | None,
    memory: int | None,
    gpu: str | None,
    raw: Path | None = None,
    from_run: Path | None = None,
    inputs: list[str] | None = None,
) -> None:
    from soct.compute.threads import available_cpus
    from soct.pipeline.resources import check_gpu
    from soct.pipeline.single_step import SingleStep, run_single_step

    check_gpu(gpu or "off")
    params, name = _params(step, profile, sets, typed, subject)
    units = None if not unit else tuple(_unit(text) for text in unit)
    given = _inputs(step, from_run, inputs or [])
    count = threads or available_cpus()
    _prepare_threads(count)
    request = SingleStep(
        step=step,
        params=params,
        inputs=given,
        folder=out,
        subject=name,
        acquisition=_acquisition(raw),
        units=units,
        threads=count,
        memory_bytes=memory or 2 << 30,
        gpu=gpu or "off",  # type: ignore[arg-type]
        progress=_Percent(),
    )
    for done in run_single_step(request):
        _tell(done)


def _params(
    step: Step[Any],
    profile: str,
    sets: list[str] | None,
    typed: Mapping[str, Any],
    subject: str | None,
) -> tuple[Params, str]:
    """Return the step's parameters: the profile's, changed by the options. Complaints about options are 2."""
    from soct.errors import ConfigurationError, UsageError
    from soct.pipeline.profiles.profile import load_profile

    def load(more: list[str]) -> Profile:
        steps = {step.id: step}
        return load_profile(profile, sets=[*(sets or ()), *more], steps=steps, unchecked=STEP_IDS)

    loaded = load([])
    own = [f"{step.id}.{key}={as_yaml(step.params, key, value)}" for key, value in typed.items()]
    if subject is not None:
        own.append(f"subject={subject}")
    if own:
        try:
            loaded = load(own)
        except ConfigurationError as error:
            hint = f"`soct {step.command} --help` lists the ranges."
            raise UsageError(error.message, hint=hint) from None
    return loaded.step(step.id), loaded.subject


def _unit(text: str) -> tuple[int, ...]:
    from soct.errors import UsageError

    try:
        return parse_unit(text)
    except ValueError as error:
        raise UsageError(f"--unit: {error}") from None


def _inputs(step: Step[Any], from_run: Path | None, given: list[str]) -> Inputs:
    from soct.errors import UsageError
    from soct.pipeline.single_step import inputs_from_paths, inputs_from_run

    steps = {i.step: load_step(i.step) for i in step.inputs if i.step in STEP_IDS}
    found = inputs_from_run(step, steps, from_run) if from_run is not None else {}
    pairs = []
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise UsageError(f"--in {text!r} is not STEP.OUTPUT=PATH.")
        pairs.append((name.strip(), Path(path)))
    for key, paths in inputs_from_paths(step, steps, pairs).items():
        found[key] = {**found.get(key, {}), **paths}
    return found


def _acquisition(raw: Path | None) -> Any:
    if raw is None:
        return None
    from soct.formats.acquisition import open_acquisition

    return open_acquisition(raw)


def _prepare_threads(count: int) -> None:
    import os

    from soct.compute import caches
    from soct.compute.threads import worker_environment

    caches.prepare()
    os.environ.update(worker_environment(count))


class _Percent:
    """Tells of a long unit at most every 30 seconds."""

    def __init__(self) -> None:
        import time

        self._clock = time.monotonic
        self._next = self._clock() + 30

    def __call__(self, unit: Unit, fraction: float) -> None:
        from soct.cli.terminal import words

        if self._clock() >= self._next:
            self._next = self._clock() + 30
            words(f"{unit}: {fraction:.0%}")


def _tell(done: SingleResult) -> None:
    from soct.cli.terminal import data, words

    words(str(done.unit))
    for metric in done.result.metrics:
        value = f"{metric.value:.6g}" if isinstance(metric.value, float) else str(metric.value)
        words(f"  {metric.name}: {value} {metric.unit}".rstrip())
    result = done.result
    for text in (*result.warnings, *result.notices, *result.fallbacks):
        words(f"  warning: {text}")
    data(*(str(path) for path in done.outputs.values()))
