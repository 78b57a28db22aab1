"""How the jobs of ``soct slurm`` start soct: as it was started here, or in an image that sees what the run needs."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from soct.cli.terminal import words
from soct.errors import ConfigurationError

if TYPE_CHECKING:
    from soct.cli.job_run import Asked
    from soct.pipeline.request import RunRequest
    from soct.pipeline.sites.site import Site
    from soct.pipeline.sites.slurm_settings import SlurmSite
    from soct.pipeline.slurm.outside import Outside

_ADDRESS = re.compile(r"[a-z]+://.+")


def soct_commands(
    asked: Asked, site: Site, request: RunRequest, outside: Outside
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return how soct is started on a node, and how where there is a GPU if that differs.

    Raises
    ------
    ConfigurationError
        The image is not there or none, or what it is to see cannot be known.
    """
    from soct.pipeline.slurm.script import bind_options, container_command

    image = _named_image(site.slurm, outside)
    if image is None and image_around() is None:
        return _this_soct(), None
    seen = _seen_by_run(asked, site, request)
    options = [] if image is not None else _inherited(outside, seen)
    options += [option for bind in site.slurm.binds for option in ("--bind", bind)]
    options += [
        option
        for path, read_only in seen.items()
        for option in bind_options(path, outside.path(path), read_only=read_only)
    ]
    here = Path.cwd()
    if outside.path(here) != here:
        options += ["--pwd", str(here)]
    command = image or image_around() or ""
    return (
        container_command(command, options),
        container_command(command, options, with_gpu=True),
    )


def _named_image(site: SlurmSite, outside: Outside) -> str | None:
    """Return the image that the site file names."""
    from soct.pipeline.slurm.image import check_image

    if site.container is None or _ADDRESS.fullmatch(site.container):
        return site.container
    path = Path(site.container).expanduser().absolute()
    if not path.exists():
        raise ConfigurationError(
            "There is no such container image",
            file=path,
            expected="slurm.container: a file, or an address such as docker://...",
            hint="Correct slurm.container in the site file, or build the image.",
        )
    check_image(path)
    return str(outside.path(path))


def image_around() -> str | None:
    """Return the image of the Apptainer container that this runs in, None outside of one."""
    from soct.compute.containers import find_container

    container = find_container()
    return container.image or None if container is not None else None


def find_outside(site: SlurmSite) -> Outside:
    """Return how paths of here are called where the jobs start: differently in a container with ``--bind A:B``."""
    from soct.pipeline.slurm.outside import Outside, look_outside

    if image_around() is None:
        return Outside()
    binds = os.environ.get("APPTAINER_BIND", os.environ.get("SINGULARITY_BIND", ""))
    return Outside(look_outside(binds), site.binds)


def _inherited(outside: Outside, seen: dict[Path, bool]) -> list[str]:
    """Return the options that bind what is bound here, and say where the source is only supposed.

    What the run binds itself is left to that (Apptainer takes no place twice), and stays read-only where it is here.
    """
    from soct.pipeline.slurm.outside import source_of
    from soct.pipeline.slurm.script import bind_options

    supposed = [str(bind.inside) for bind in outside.inherited if bind.guessed]
    if supposed:
        words(
            f"note: {', '.join(supposed)}: the jobs bind what has this name on the nodes; whether it was "
            "bound from elsewhere cannot be seen within the container (then: slurm.binds: "
            f"[SOURCE:{supposed[0]}] in the site file)"
        )
    for bind in outside.inherited:
        if bind.inside in seen:
            seen[bind.inside] |= bind.read_only
    return [
        option
        for bind in outside.inherited
        if bind.inside not in seen
        for option in bind_options(bind.inside, source_of(bind), read_only=bind.read_only)
    ]


def _this_soct() -> tuple[str, ...]:
    """Return the program that is running, so that a node needs no activated environment."""
    started = Path(sys.argv[0])
    if started.name == "soct" and started.exists():
        return (str(started.absolute()),)
    found = shutil.which("soct")
    if found is not None:
        return (found,)
    return (sys.executable, "-c", "from soct.cli.main import main; main()")


def _seen_by_run(asked: Asked, site: Site, request: RunRequest) -> dict[Path, bool]:
    """Return what the container must see, and whether read-only: input, run folder, and files that are named anywhere."""
    return {
        asked.input.absolute(): True,
        asked.output.absolute(): False,
        **{path.absolute(): True for path in _named_files(asked, request)},
        **{path.absolute(): False for path in (site.scratch, site.cache) if path is not None},
    }


def _named_files(asked: Asked, request: RunRequest) -> list[Path]:
    from soct.pipeline.graph import is_enabled

    named = [Path(by_path(name)) for name in (asked.profile, asked.site) if name is not None]
    for name, step in request.steps.items():
        if step.files is not None and is_enabled(request.params[name]):
            named += step.files(request.params[name])
    return [path for path in named if path.exists()]


def by_path(name: str) -> str:
    """Return a profile or site as typed, or its absolute path if it is a file of the user's."""
    path = Path(name)
    is_file = path.name != name or path.suffix in (".yaml", ".yml")
    return str(path.absolute()) if is_file else name
