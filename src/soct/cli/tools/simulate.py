"""Write a simulated acquisition in the raw format, with its truth.

The command is generated from the models of the simulator.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from soct.cli.model_options import (
    as_yaml,
    build_command,
    give_signature,
    keyword,
    options_of_field,
    typed_values,
)

PANEL_SIZE = "Acquisition"
PANEL_FAULTS = "Faults"
_NOT_OPTIONS = ("name", "brain", "faults")
_TEXT = (
    "Write a simulated acquisition in the raw format, with its truth.\n\n"
    "A brain drawn by a program is imaged by a microscope with every fault of a real one. "
    "Give OUT/raw to `soct run` and score the volume with `soct evaluate`."
)


def build() -> Any:
    """Return the command, importing the simulator's models."""
    from soct.simulate.faults import Faults
    from soct.simulate.spec import AcquisitionSpec

    sizes = [key for key in AcquisitionSpec.model_fields if key not in _NOT_OPTIONS]
    faults = list(Faults.model_fields)

    def command(
        out: Path, preset: str, perfect: bool, threads: int | None, data_type: str, **given: Any
    ) -> None:
        typed = typed_values(given, {key: key for key in (*sizes, *faults)})
        _run(out, preset, data_type, perfect=perfect, threads=threads, typed=typed)

    parameters = [
        keyword(
            "out",
            Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
            inspect.Parameter.empty,
        ),
        keyword(
            "preset",
            Annotated[str, typer.Option("--preset", metavar="demo|tiny|large", help="Start here.")],
            "demo",
        ),
        keyword(
            "perfect",
            Annotated[
                bool, typer.Option("--perfect", help="No faults but those given as options.")
            ],
            False,
        ),
        keyword(
            "threads",
            Annotated[int | None, typer.Option("--threads", min=1, max=4096, metavar="N")],
            None,
        ),
        keyword(
            "data_type",
            Annotated[
                str,
                typer.Option(
                    "--data-type",
                    metavar="oct|psoct",
                    help="psoct: also store the tiles as Thorlabs .oct files, in OUT/psoct.",
                ),
            ],
            "oct",
        ),
        *(p for key in sizes for p in options_of_field(AcquisitionSpec, key, key, PANEL_SIZE)),
        *(p for key in faults for p in options_of_field(Faults, key, key, PANEL_FAULTS)),
    ]
    return build_command("simulate", _TEXT, give_signature(command, parameters))


def _run(
    out: Path,
    name: str,
    data_type: str,
    *,
    perfect: bool,
    threads: int | None,
    typed: Mapping[str, Any],
) -> None:
    from soct.cli.terminal import data, telling_progress, words
    from soct.compute import caches
    from soct.pipeline.profiles.quantities import format_size

    caches.prepare()
    from soct.errors import UsageError
    from soct.pipeline.folder.run_folder import telling_of_writes
    from soct.simulate.microscope import simulate
    from soct.simulate.thorlabs import store_as_oct

    if data_type not in ("oct", "psoct"):
        raise UsageError("--data-type is not known", expected="oct or psoct", found=data_type)
    if data_type == "psoct":
        # Such microscopes record no return lines.
        typed = {"n_extra": "0", "galvo_return_px": "null", **typed}
    spec = _spec(name, perfect, typed)
    with telling_of_writes(out):
        made = simulate(spec, out, progress=telling_progress(), threads=threads)
        raw = made.raw
        if data_type == "psoct":
            raw = out / "psoct"
            if not raw.exists():
                store_as_oct(made.raw, raw)
    state = "was there already" if made.reused else "written"
    words(f"{made.slices} slices, {made.tiles} tiles, {format_size(made.raw_bytes)}: {state}")
    data(str(raw))


def _spec(name: str, perfect: bool, typed: Mapping[str, Any]) -> Any:
    """Return the preset with the options applied; every complaint is a usage error."""
    from soct.errors import UsageError
    from soct.pipeline.profiles.layers import Origin, Setting, merge
    from soct.pipeline.profiles.strict_yaml import parse_value
    from soct.pipeline.profiles.validation import validate_section
    from soct.simulate.faults import Faults
    from soct.simulate.spec import AcquisitionSpec, preset

    start = preset(name)  # type: ignore[arg-type]
    values = start.model_dump(mode="json", exclude={"faults"})
    faults = Faults.none() if perfect else start.faults
    origin = Origin("shipped", f"preset {name}")
    settings = [Setting((key,), value, origin) for key, value in values.items()]
    settings += [
        Setting(("faults", key), value, origin)
        for key, value in faults.model_dump(mode="json").items()
    ]
    for key, value in typed.items():
        model, path = (
            (Faults, ("faults", key)) if key in Faults.model_fields else (AcquisitionSpec, (key,))
        )
        flag = f"--{key.replace('_', '-')}"
        text = as_yaml(model, key, value)
        settings.append(Setting(path, parse_value(text, flag), Origin("command line", flag), text))
    checked = validate_section(AcquisitionSpec, list(merge(settings).values()), 0, "options")
    if checked.problems:
        raise UsageError("\n".join(str(problem) for problem in checked.problems))
    return checked.model
