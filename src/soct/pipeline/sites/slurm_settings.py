"""What a site file says of its Slurm: where jobs go, what they may ask for, how soct is started on a node."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from soct.pipeline.profiles.quantities import parse_duration, parse_size

OWN_OPTIONS = {
    "array": "tasks and at_once",
    "dependency": "nothing: soct sets it",
    "cpus-per-task": "cpus",
    "mem": "memory",
    "time": "time",
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "gres": "gpus",
    "requeue": "requeue",
    "no-requeue": "requeue",
    "ntasks": "tasks",
    "nodes": "tasks",
    "output": "nothing: logs lie in RUN/slurm",
    "job-name": "nothing: soct sets it",
    "chdir": "nothing: soct sets it",
}
"""Options of sbatch that soct writes itself, and the key that decides each."""

_WORD = r"^[A-Za-z0-9_.,:+@%/-]+$"
_OPTION = re.compile(r"--([a-z][a-z-]*)(?:[= ].*)?|-[A-Za-z].*")


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("it must be one line of text")
    return text


def _sbatch_option(text: str) -> str:
    option = _one_line(text).strip().removeprefix("#SBATCH").strip()
    match = _OPTION.fullmatch(option)
    if match is None:
        raise ValueError("it must be an option of sbatch such as --constraint=avx2")
    if match[1] in OWN_OPTIONS:
        raise ValueError(
            f"soct writes --{match[1]} itself; the key for it: {OWN_OPTIONS[match[1]]}"
        )
    return option


def _bind(text: str) -> str:
    if not _one_line(text).startswith("/"):
        raise ValueError("it must be an absolute path, or PATH:PATH_INSIDE")
    return text


class SlurmSite(BaseModel):
    """The section ``slurm`` of a site file, for ``soct slurm``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    partition: str | None = Field(
        None, pattern=_WORD, description="Where jobs go; null: the cluster's default."
    )
    account: str | None = Field(None, pattern=_WORD, description="Whom the time is charged to.")
    qos: str | None = Field(None, pattern=_WORD, description="Quality of service.")
    time: Annotated[float | None, BeforeValidator(_duration)] = Field(
        None,
        ge=120,
        description="Time limit of a job; null: by the plan's estimates, at most what the partition allows.",
        json_schema_extra={"unit": "s", "text": "a duration of at least 2 minutes, such as 12h"},
    )
    cpus: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Processors of a task; null: 8, for the whole run 16, or what the nodes have.",
    )
    memory: Annotated[int | None, BeforeValidator(_size)] = Field(
        None,
        ge=512 << 20,
        description="Memory of a task; null: what the plan's estimates say, with a margin.",
        json_schema_extra={"unit": "bytes", "text": "a size of at least 512MiB, such as 64GB"},
    )
    tasks: int = Field(16, ge=1, le=10_000, description="Tasks of a phase at most.")
    at_once: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Tasks that run at a time; null: as many as Slurm starts.",
    )
    gpus: Annotated[str | None, BeforeValidator(_text)] = Field(
        None,
        pattern=r"^([A-Za-z0-9_.-]+:)?[1-9][0-9]*$",
        description="GPUs of a task of a phase that can use one, such as 1 or a100:1; null: none.",
    )
    gpu_partition: str | None = Field(
        None, pattern=_WORD, description="Where phases with a GPU go; null: as all others."
    )
    sbatch: tuple[Annotated[str, AfterValidator(_sbatch_option)], ...] = Field(
        (), description="Further options of sbatch, such as --constraint=avx2."
    )
    before: tuple[Annotated[str, AfterValidator(_one_line)], ...] = Field(
        (), description="Shell commands on a node before soct, such as module load apptainer."
    )
    container: Annotated[str, AfterValidator(_one_line)] | None = Field(
        None, description="Apptainer image that holds soct; null: the soct that wrote the script."
    )
    binds: tuple[Annotated[str, AfterValidator(_bind)], ...] = Field(
        (), description="Folders that the container sees besides input and run folder."
    )
    requeue: bool = Field(
        True, description="Whether a task that ran out of time goes back into the queue by itself."
    )
