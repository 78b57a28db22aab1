"""From a loaded profile and a selection to the request that the runner takes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from soct.compute.threads import available_cpus
from soct.pipeline.request import DASK_WAIT_S, Resources, RunRequest, Selection, Status
from soct.steps.declaration import Metric
from soct.steps.registry import SCIENCE, STEP_IDS, load_steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from soct.pipeline.profiles.profile import Profile
    from soct.quality.limits import QualityLimits
    from soct.steps.declaration import Step

WORKER_MODULES = (*SCIENCE, *(f"soct.steps.{name}" for name in STEP_IDS))


class Assessment:
    """Judges metrics by a profile's limits."""

    def __init__(self, limits: QualityLimits) -> None:
        self.limits = limits

    def __call__(self, step: str, metric: Metric) -> Status:
        """Return the status of one metric; limits go by the metric's name, whatever the step."""
        from soct.quality.limits import metric_status

        return metric_status(metric.name, metric.value, self.limits).value

    @property
    def digest(self) -> str:
        """Changes whenever a limit does."""
        text = json.dumps(self.limits.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def request_run(
    profile: Profile,
    source: Path,
    folder: Path,
    *,
    selection: Selection | None = None,
    command: str = "",
    steps: Mapping[str, Step[Any]] | None = None,
) -> RunRequest:
    """Return the request of a run.

    Parameters
    ----------
    profile : Profile
        With the machine settings of its site.
    source, folder : Path
        Input and run folder.
    selection : Selection, optional
        The part of the graph to run.
    command : str
        The command line, for the history.
    steps : mapping, optional
        Declarations; None is `soct.steps.registry.load_steps`.
    """
    site = profile.site
    dask = None if site.dask == "off" else site.dask
    if dask is not None:
        # Workers elsewhere have another current folder.
        source, folder = source.absolute(), folder.absolute()
    assess = Assessment(profile.quality)
    return RunRequest(
        input=source,
        folder=folder,
        subject=profile.subject,
        params=profile.params,
        steps=load_steps() if steps is None else steps,
        selection=selection or Selection(),
        resources=Resources(
            cpus=site.cpus or available_cpus(),
            memory_bytes=site.memory,
            gpu=site.gpu,
            max_runtime_s=site.max_runtime,
            preload=WORKER_MODULES,
            dask=dask,
            dask_wait_s=DASK_WAIT_S if site.dask_wait is None else site.dask_wait,
        ),
        profile=profile.record(),
        assess=assess,
        assess_digest=assess.digest,
        command=command,
    )
