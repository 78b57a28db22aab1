"""The batch script of a run: one bash file that submits its phases and is what they run.

Everything that differs from run to run stands at its top, as assignments in quotes; the rest is the same for all,
``body.sh``, which `shellcheck` reads as it is.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soct import __version__
from soct.pipeline.planning.phases import Phase
from soct.pipeline.profiles.quantities import format_duration
from soct.pipeline.sites.slurm_settings import SlurmSite

_BODY = Path(__file__).with_name("body.sh")
_LAUNCHER_MINUTES = 15


@dataclass(frozen=True)
class JobScript:
    """What a batch script is made of; all paths absolute."""

    subject: str
    folder: Path
    """The run folder."""
    here: Path
    """Where the command was typed: relative paths in a profile start there."""
    arguments: tuple[str, ...]
    """Of ``soct run``: input, run folder and science, without machine settings."""
    phases: tuple[Phase, ...]
    site: SlurmSite
    soct: tuple[str, ...]
    """How soct is started on a node."""
    soct_on_gpu: tuple[str, ...] | None = None
    """The same with a GPU, where that differs."""
    gpu: str = "auto"
    """``--gpu`` of the phases that have one."""
    until: str | None = None
    """Where the last phase stops; None: at the end of what the arguments select."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings that came from the environment."""

    def text(self) -> str:
        """Return the script."""
        lines = [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in self._options()),
            f"# Written by soct {__version__} slurm. To start, on a machine that submits jobs, either",
            "#   bash THIS_FILE      submits the phases below, or",
            "#   sbatch THIS_FILE    submits a short job that does the same.",
            "# To continue after whatever happened, the same. It may be changed by hand.",
            "",
            "set -u",
            *self._assignments(),
        ]
        return "\n".join(lines) + "\n" + _BODY.read_text(encoding="utf-8")

    def _options(self) -> list[str]:
        """Return the options that all jobs share; those of a phase stand on its own sbatch line."""
        site = self.site
        given = (("partition", site.partition), ("account", site.account), ("qos", site.qos))
        return [
            "--job-name=soct",
            *(f"--{name}={value}" for name, value in given if value is not None),
            "--nodes=1",
            "--ntasks=1",
            "--cpus-per-task=1",
            "--mem=512M",
            f"--time={_LAUNCHER_MINUTES}",
            "--output=soct-%j.log",
            *site.sbatch,
        ]

    def _assignments(self) -> list[str]:
        requeue = self.site.requeue
        lines = [
            f"run={quoted(str(self.folder))}",
            f"here={quoted(str(self.here))}",
            "script=${BASH_SOURCE[0]}",
            f"requeue={'yes' if requeue else 'no'}",
            f"requeue_option=({'--requeue' if requeue else '--no-requeue'})",
            f"gpu_use={quoted(self.gpu)}",
            f"gpu_options=({array(self._gpu_options())})",
            *(f"export {name}={quoted(text)}" for name, text in sorted(self.environment.items())),
            "",
            "# How a node starts soct, and what it is asked for.",
            f"soct_command=({array(self.soct)})",
        ]
        if self.soct_on_gpu is not None:
            lines.append(f"soct_command_gpu=({array(self.soct_on_gpu)})")
        lines += [f"arguments=({array(self.arguments)})", "", "prepare() {"]
        lines += [f"  {command}" for command in self.site.before or (":",)]
        return [*lines, "}", "", *self._table()]

    def _gpu_options(self) -> list[str]:
        partition = self.site.gpu_partition
        return [] if partition is None else [f"--partition={partition}"]

    def _table(self) -> list[str]:
        rows: list[tuple[str, ...]] = [("name", "until", "tasks", "cpus", "memory", "time", "gpus")]
        rows += [self._row(phase, phase.last_step) for phase in self.phases[:-1]]
        rows.append(self._row(self.phases[-1], self.until or "-"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        laid = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return [f"#  {laid[0]}", "phases=(", *(f"  {quoted(row)}" for row in laid[1:]), ")"]

    def _row(self, phase: Phase, until: str) -> tuple[str, ...]:
        at_once = self.site.at_once
        many = f"%{at_once}" if at_once is not None and at_once < phase.tasks else ""
        return (
            phase.name,
            until,
            f"1-{phase.tasks}{many}",
            str(phase.cpus),
            f"{phase.memory_bytes >> 20}M",
            slurm_time(phase.time_s),
            (self.site.gpus or "-") if phase.gpu else "-",
        )


def slurm_time(seconds: float) -> str:
    """Return a time limit as sbatch takes it: ``1-02:30:00``."""
    minutes = max(1, math.ceil(seconds / 60))
    days, minutes = divmod(minutes, 24 * 60)
    clock = f"{minutes // 60:02d}:{minutes % 60:02d}:00"
    return f"{days}-{clock}" if days else clock


def quoted(text: str) -> str:
    """Return text as one word of bash; what could act on a terminal is written as escapes."""
    if text.isprintable() and not any("\ud800" <= character <= "\udfff" for character in text):
        return shlex.quote(text)
    escaped = []
    for character in text:
        if character in "'\\":
            escaped.append("\\" + character)
        elif character.isprintable():
            escaped.append(character)
        else:
            # Octal, three digits: bash reads no more than these.
            escaped += [f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape")]
    return "$'" + "".join(escaped) + "'"


def array(words: Sequence[str]) -> str:
    """Return words as the inside of a bash array."""
    return " ".join(quoted(word) for word in words)


def container_command(
    image: str, options: Sequence[str], *, with_gpu: bool = False
) -> tuple[str, ...]:
    """Return how soct is started in an Apptainer image.

    Parameters
    ----------
    image : str
        File or address.
    options : sequence of str
        Such as those of `bind_options`.
    with_gpu : bool
        Let it see the GPU's driver.
    """
    return ("apptainer", "exec", *(["--nv"] if with_gpu else []), *options, image, "soct")


def bind_options(
    path: Path, source: Path | None = None, *, read_only: bool = False
) -> tuple[str, str]:
    """Return the options that let a container see a folder or file.

    Parameters
    ----------
    path : Path
        Within the container.
    source : Path, optional
        Outside of it; by default the same.
    read_only : bool
        Let nobody write to it.
    """
    texts = (str(source or path), str(path))
    if not any(character in text for text in texts for character in ':,"\\'):
        bind = texts[0] if texts[0] == texts[1] and not read_only else ":".join(texts)
        return ("--bind", f"{bind}:ro" if read_only else bind)
    # What means something within --bind can be said only with --mount, which takes fields as in a CSV table.
    escaped = [text.replace('"', '""') for text in texts]
    mount = f'type=bind,"source={escaped[0]}","destination={escaped[1]}"'
    return ("--mount", f"{mount},ro" if read_only else mount)


def told(phase: Phase) -> str:
    """Return a line about a phase for whoever looks before submitting."""
    return (
        f"{phase.name:<10} {phase.units:>6} units, {phase.tasks} x {phase.cpus} cpus, "
        f"{phase.memory_bytes / (1 << 30):.0f} GiB, limit {slurm_time(phase.time_s)} "
        f"(estimated {format_duration(phase.expected_s)}), until {phase.last_step}"
    )
