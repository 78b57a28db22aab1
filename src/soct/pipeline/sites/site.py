"""The machine that a run may use: processors, memory, time. None of it changes a byte of any result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from soct.pipeline.profiles.quantities import parse_dask, parse_duration, parse_size
from soct.pipeline.sites.slurm_settings import SlurmSite

# Words that are about the machine in other tools' configurations; told apart from a plain typing mistake.
MACHINE_WORDS = frozenset(
    (
        "threads", "workers", "processes", "n_processes", "n_cpus", "n_jobs", "num_workers", "max_cpus",
        "use_gpu", "enable_cpu_limits", "reserved_cpus", "reserved_memory", "executor", "queue",
        "partition", "account", "walltime", "time", "tmp", "tmpdir", "cache", "log", "debug",
    )
)  # fmt: skip


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _dask(value: Any) -> Any:
    return parse_dask(value) if isinstance(value, str) else value


def _extra(unit: str | None = None, text: str | None = None) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if unit is not None:
        extra["unit"] = unit
    if text is not None:
        extra["text"] = text
    return extra


class Site(BaseModel):
    """Machine settings, from a site file, ``SOCT_SITE__*`` variables or options of the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    cpus: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Processors to use over all workers; null: all that the process may use.",
    )
    memory: Annotated[int | None, BeforeValidator(_size)] = Field(
        None,
        ge=64 << 20,
        description="Peak memory over all processes of a run; null: three quarters of what is free.",
        json_schema_extra=_extra("bytes", "a size of at least 64MiB, such as 8GB"),
    )
    gpu: Literal["auto", "off", "require"] = Field(
        "auto", description="Use a GPU where there is one, never, or refuse to run without."
    )
    max_runtime: Annotated[float | None, BeforeValidator(_duration)] = Field(
        None,
        gt=0,
        description="Stop cleanly before this time is over (exit code 75); null: no limit.",
        json_schema_extra=_extra("s", "a duration such as 2h or 90m"),
    )
    dask: Annotated[str | None, BeforeValidator(_dask)] = Field(
        None,
        description="Compute on a Dask cluster: its address, a scheduler file, local or slurm; "
        "null or off: processes of soct's own.",
        json_schema_extra=_extra(text="tcp://HOST:PORT, FILE.json, local, slurm or off"),
    )
    dask_wait: Annotated[float | None, BeforeValidator(_duration)] = Field(
        None,
        gt=0,
        description="How long to wait while no Dask worker can take a unit; null: 5 minutes.",
        json_schema_extra=_extra("s", "a duration such as 5m or 2h"),
    )
    scratch: Path | None = Field(
        None, description="Folder for temporary files; null: the system's temporary folder."
    )
    cache: Path | None = Field(
        None, description="Folder for compiled kernels; null: the first writable of the usual ones."
    )
    log_level: Literal["error", "warning", "info", "debug"] = Field(
        "info", description="How much is told on the terminal."
    )
    slurm: SlurmSite = Field(
        SlurmSite(), description="What `soct slurm` asks of the cluster, and how jobs start soct."
    )
