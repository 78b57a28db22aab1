"""The Apptainer image that jobs start soct from, and its binds: what can be checked before they do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from soct.errors import ConfigurationError

_LAUNCH = b"#!/usr/bin/env run-singularity\n"
_SIF_AT, _SIF = 32, b"SIF_MAGIC"
_SQUASHFS = (b"hsqs", b"sqsh")
_EXT_AT, _EXT = 1080, b"\x53\xef"
_IN_A_SANDBOX = (".singularity.d", "bin", "usr")


def check_image(path: Path) -> None:
    """Raise ConfigurationError where a file or folder is none that Apptainer could start: by its first bytes."""
    if path.is_dir():
        if not any((path / name).exists() for name in _IN_A_SANDBOX):
            raise _no_image(path, "a folder that holds no system (neither bin nor usr)")
        return
    try:
        with path.open("rb") as stream:
            start = stream.read(_EXT_AT + len(_EXT) + len(_LAUNCH))
    except OSError as error:
        raise _no_image(path, error.strerror or "it cannot be read") from error
    if start[_SIF_AT:].startswith(_SIF):
        return
    # Images of old begin with a line that starts them as programs.
    inner = start.removeprefix(_LAUNCH)
    if inner.startswith(_SQUASHFS) or inner[_EXT_AT:].startswith(_EXT):
        return
    raise _no_image(path, "an empty file" if not start else "a file of another kind")


def _no_image(path: Path, found: str) -> ConfigurationError:
    return ConfigurationError(
        "This is no container image",
        file=path,
        expected="slurm.container: a .sif file, a squashfs or ext3 image, or a sandbox folder",
        found=found,
        hint="Correct slurm.container in the site file, or build the image.",
    )


def missing_sources(binds: Iterable[str]) -> list[str]:
    """Return the folders among binds (``SOURCE[:DESTINATION[:OPTIONS]]``) that do not exist on this machine."""
    sources = [bind.partition(":")[0] for bind in binds]
    return [source for source in sources if not Path(source).exists()]
