"""A tiny pipeline with every scope, on an input of small text files; picklable, and runnable on its own.

`python -m tests.pipeline.fake_pipeline INPUT RUN '{"cut.amount": 2}'` runs it as a process that can be killed.

What is to happen while units are computed waits for no time: `read.gate` names a file without which none ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from soct.errors import InputError, UserError
from soct.formats.tiles import Acquisition, SliceRecord
from soct.pipeline.events import Listener, RunStopping, ignore
from soct.pipeline.request import Resources, RunOutcome, RunRequest, Selection
from soct.pipeline.runner import run
from soct.steps.declaration import (
    Context,
    Decision,
    Input,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

GATE_S = 240.0
"""After which a unit waits no longer for its gate: no process outlives a test that failed."""


class ReadParams(Params):
    gain: float = parameter(1.0, "Factor.", ge=0)
    chatter: int = parameter(0, "Changes nothing.", keyed=False)
    pause_s: float = parameter(0.0, "How long a unit takes.", unit="s", keyed=False)
    gate: str = parameter("", "A file that a unit waits for.", keyed=False)
    fail_slice: int = parameter(-1, "The slice that fails.", keyed=False)
    fail_how: str = parameter("bug", "bug, user, kill, kill_once, full or late.", keyed=False)


class CutParams(Params):
    enabled: bool = parameter(True, "Whether it runs.")
    amount: int = parameter(1, "How much.")


class PlainParams(Params):
    power: float = parameter(1.0, "Exponent.")


class RegisterParams(Params):
    power: float = parameter(1.0, "Exponent.")
    fail: bool = parameter(False, "Whether a slice that looks damaged is refused, always.")


def make_input(folder: Path, slices: tuple[int, ...] = (1, 2, 4, 5)) -> Path:
    folder.mkdir(parents=True)
    for number in slices:
        (folder / f"raw_{number:02d}.txt").write_text(f"slice {number}")
    return folder


def open_fake(folder: Path) -> Acquisition:
    slices = {
        int(path.stem[4:]): SliceRecord(int(path.stem[4:]), root=folder)
        for path in sorted(folder.glob("raw_*.txt"))
    }
    return Acquisition(folder, "raw", slices)


def raw_file(record: SliceRecord) -> Path:
    return record.root / f"raw_{record.slice_id:02d}.txt"


def fingerprint(record: SliceRecord) -> dict[str, str]:
    path = raw_file(record)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}


def _misbehave(context: Context, params: ReadParams) -> None:
    if context.slice_ids != (params.fail_slice,):
        return
    if params.fail_how == "bug":
        raise ZeroDivisionError("a bug")
    if params.fail_how == "user":
        raise InputError("A tile is bad", file="raw", expected="good", found="bad", hint="mend it")
    if params.fail_how == "full":
        raise OSError(28, "No space left on device")
    once = context.output("grid").parent.parent.parent / "killed-once"
    if params.fail_how == "kill" or (params.fail_how == "kill_once" and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _is_shut(gate: str) -> bool:
    return bool(gate) and not Path(gate).exists()


def read(context: Context, params: ReadParams) -> Result:
    assert context.acquisition is not None
    began = time.monotonic()
    while time.monotonic() < began + params.pause_s or _is_shut(params.gate):
        assert time.monotonic() < began + max(params.pause_s, GATE_S), "nobody opened the gate"
        time.sleep(0.01)
        context.progress(0.5)
    record = context.acquisition.slices[context.slice_ids[0]]
    text = raw_file(record).read_text()
    if params.fail_how == "late" and context.slice_ids == (params.fail_slice,):
        raw_file(record).write_text("other")
    _misbehave(context, params)
    folder = context.output("grid")
    (folder / "c").mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps({"gain": params.gain}))
    for chunk in range(3):
        (folder / "c" / str(chunk)).write_text(f"{text} x {params.gain} chunk {chunk}" * 50)
    return Result(
        metrics=(Metric("chunks", 3), Metric("level", float("nan"))),
        decisions=(Decision(context.slice_ids[0], "galvo_fix", True, "dark band"),),
    )


def shifts(context: Context, params: PlainParams) -> Result:
    assert context.acquisition is not None
    lines = [f"{s},{params.power}" for s in context.slice_ids]
    context.output("table").write_text("\n".join(lines))
    return Result()


def generate_slice_config(context: Context, params: PlainParams) -> Result:
    rows = "".join(f"{s:02d},true,\n" for s in context.slice_ids)
    context.output("table").write_text("slice_id,use,notes\n" + rows)
    return Result()


def _digest(paths: list[Path]) -> str:
    sums = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                sums.update(file.read_bytes())
    return sums.hexdigest()


def cut(context: Context, params: CutParams) -> Result:
    for chunk in (context.mine("read", "grid") / "c").iterdir():
        if not chunk.read_text().startswith("slice"):
            raise ValueError(f"checksum of {chunk.name}")
    digest = _digest([context.mine("read", "grid"), context.run("shifts", "table")])
    context.output("volume").write_text(f"{digest} {params.amount}")
    return Result(warnings=("thin",) if params.amount > 5 else ())


def register(context: Context, params: RegisterParams) -> Result:
    if params.fail:
        raise ValueError("something is wrong")
    fixed, moving = context.slice_ids
    source = "cut" if context.has("cut", "volume") else "read"
    name = "volume" if source == "cut" else "grid"
    paths = [context.of_slice(source, name, s) for s in (fixed, moving)]
    context.output("transform").write_text(f"{_digest(paths)} {params.power}")
    return Result(metrics=(Metric("ncc", 0.5 + fixed / 100),))


def stack(context: Context, params: PlainParams) -> Result:
    paths = list(context.all("register", "transform").values())
    folder = context.output("volume")
    folder.mkdir()
    (folder / "zarr.json").write_text(f"{_digest(paths)} {context.subject}")
    return Result()


STEPS: dict[str, Step[Any]] = {
    step.id: step
    for step in (
        Step(
            "read",
            1,
            Scope.SLICE,
            ReadParams,
            read,
            "Read.",
            outputs=(Output("grid", "grid_z{slice:02d}.zarr"), Output("note", "n.txt", True)),
            reads_raw=True,
        ),
        Step(
            "shifts",
            1,
            Scope.RUN,
            PlainParams,
            shifts,
            "Shifts.",
            outputs=(Output("table", "shifts.csv"),),
            reads_raw=True,
        ),
        Step(
            "generate_slice_config",
            1,
            Scope.RUN,
            PlainParams,
            generate_slice_config,
            "Ledger.",
            outputs=(Output("table", "slice_config.csv"),),
        ),
        Step(
            "cut",
            1,
            Scope.SLICE,
            CutParams,
            cut,
            "Cut.",
            inputs=(Input("read"), Input("shifts")),
            outputs=(Output("volume", "slice_z{slice:02d}.txt"),),
        ),
        Step(
            "register",
            1,
            Scope.PAIR,
            RegisterParams,
            register,
            "Register.",
            inputs=(Input("read"), Input("cut", optional=True)),
            outputs=(Output("transform", "slice_z{moving:02d}/from_z{fixed:02d}.tfm"),),
        ),
        Step(
            "stack",
            1,
            Scope.RUN,
            PlainParams,
            stack,
            "Stack.",
            inputs=(Input("register"), Input("cut", optional=True)),
            outputs=(Output("volume", "{subject}.zarr"),),
        ),
    )
}
N_UNITS = 4 + 1 + 1 + 4 + 5 + 1


def make_params(changes: dict[str, Any] | None = None) -> dict[str, Params]:
    values: dict[str, dict[str, Any]] = {name: {} for name in STEPS}
    for name, value in (changes or {}).items():
        step, field = name.split(".")
        values[step][field] = value
    return {name: STEPS[name].params(**values[name]) for name in STEPS}


def make_request(
    source: Path,
    folder: Path,
    changes: dict[str, Any] | None = None,
    *,
    cpus: int = 2,
    selection: Selection | None = None,
    processes: bool = False,
    **other: Any,
) -> RunRequest:
    """Ask for a run; in threads, which start faster, unless it must be in processes."""
    executor = None if processes else ThreadPoolExecutor
    resources = Resources(cpus=cpus, preload=(), executor=executor)
    request = RunRequest(
        input=source,
        folder=folder,
        subject="sub-01",
        params=make_params(changes),
        steps=STEPS,
        selection=selection or Selection(),
        resources=resources,
        command="soct run",
        acquisition=open_fake(source),
        fingerprint=fingerprint,
    )
    return replace(request, **other)


def run_fake(
    source: Path,
    folder: Path,
    changes: dict[str, Any] | None = None,
    listener: Listener = ignore,
    **other: Any,
) -> RunOutcome:
    return run(make_request(source, folder, changes, **other), listener)


def data_bytes(folder: Path) -> dict[str, bytes]:
    """Return every file of a run that must not depend on how it was computed."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.relative_to(folder).parts[0] not in ("state", "run.json", ".soct.lock")
        and "metrics" not in path.parts
    }


def say_stopping(event: object) -> None:
    """Tell whoever sent a signal that it has arrived."""
    if isinstance(event, RunStopping):
        print("dropping" if event.dropping else "stopping", file=sys.stderr, flush=True)


def main() -> int:
    join = sys.argv[-1] == "--join"
    arguments = sys.argv[1 : -1 if join else None]
    source, folder, changes, options = (*arguments, "{}", "{}")[:4]
    resources = Resources(**{"cpus": 2, "preload": (), **json.loads(options)})
    others = {"resources": resources, "join": join}
    try:
        outcome = run_fake(Path(source), Path(folder), json.loads(changes), say_stopping, **others)
    except UserError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return int(outcome.exit_code)


if __name__ == "__main__":
    # What a worker unpickles must come from the module's own name.
    from tests.pipeline.fake_pipeline import main as named_main

    sys.exit(named_main())
