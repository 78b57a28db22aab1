"""A Slurm of one file for tests: ``sbatch`` runs the tasks of a job at once, one after the other, and notes what it was asked.

It takes options from ``#SBATCH`` lines and the command line, as the real one does. ``scontrol requeue TASK`` lets
that task run again; ``squeue`` and ``sinfo`` print a file.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

MOST_STARTS = 5


def install(folder: Path) -> Path:
    """Write the programs into a folder for the PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    # Without site packages, which would take most of the time.
    programs = {
        "sbatch": f'exec {sys.executable} -I -S {__file__} "$@"',
        "scontrol": '[ ! -e "$FAKE_SLURM/no-requeue" ] && : >"$FAKE_SLURM/requeue-$2" && kill -TERM $$',
        "squeue": 'cat "$FAKE_SLURM/squeue" 2>/dev/null',
        "sinfo": 'cat "$FAKE_SLURM/sinfo" 2>/dev/null',
    }
    for name, text in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    return folder


def read_directives(script: str) -> list[str]:
    """Return the options of a script's ``#SBATCH`` lines: those before its first command."""
    found = []
    for line in script.splitlines():
        if line.startswith("#SBATCH "):
            found += shlex.split(line.removeprefix("#SBATCH "))
        elif line and not line.startswith("#"):
            break
    return found


def _options(words: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (w.removeprefix("--").partition("=") for w in words)}


def sbatch(words: list[str], state: Path) -> int:
    split = next(i for i, word in enumerate(words) if not word.startswith("-"))
    given, (script, *arguments) = words[:split], words[split:]
    text = Path(script).read_text()
    options = _options(read_directives(text)) | _options(given)
    job = len(list(state.glob("job-*.json"))) + 100
    spool = state / f"script-{job}"
    spool.write_text(text)
    note = {"job": job, "options": options, "arguments": arguments, "tasks": []}
    print(job)
    sys.stdout.flush()
    (state / f"job-{job}.json").write_text(json.dumps(note))
    span = options.get("array", "0-0").partition("%")[0]
    first, _, last = span.partition("-")
    for task in range(int(first), int(last or first) + 1):
        note["tasks"] += _run_task(state, spool, arguments, options, job, task)
    (state / f"job-{job}.json").write_text(json.dumps(note))
    return 0


def _run_task(
    state: Path, spool: Path, arguments: list[str], options: dict[str, str], job: int, task: int
) -> list[int]:
    """Run one task, again as often as it is requeued, and return how it ended each time."""
    ends: list[int] = []
    environment = {
        **os.environ,
        "SLURM_JOB_ID": str(job * 1000 + task),
        "SLURM_ARRAY_JOB_ID": str(job),
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
        "SLURM_MEM_PER_NODE": options["mem"].rstrip("M"),
    }
    again = state / f"requeue-{job}_{task}"
    while not ends or (again.exists() and len(ends) < MOST_STARTS):
        again.unlink(missing_ok=True)
        log = options["output"].replace("%A", str(job)).replace("%a", str(task))
        place = Path(options.get("chdir", "."))
        with (place / log.replace("%j", str(job))).open("ab") as stream:
            done = subprocess.run(
                ["bash", str(spool), *arguments],
                cwd=place,
                env=environment,
                stdout=stream,
                stderr=stream,
                check=False,
            )
        ends.append(done.returncode)
    return ends


if __name__ == "__main__":
    sys.exit(sbatch(sys.argv[1:], Path(os.environ["FAKE_SLURM"])))
