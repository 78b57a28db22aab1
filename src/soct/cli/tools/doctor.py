"""Check this machine: processors, memory, disk, file locks, container, caches, GPU, Slurm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soct.cli import options
from soct.cli.terminal import data, data_json
from soct.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from soct.cli.checkup.finding import Finding

FORMAT = 1
"""Of the JSON; raised when a key changes its meaning or goes."""


def command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Where run folders will lie: disk, locks and binds are tried here.",
        ),
    ] = Path(),
    site: Annotated[
        bool,
        typer.Option("--site", help="Print a site file that fits this machine, and nothing else."),
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Check this machine: processors, memory, disk, file locks, container, caches, GPU, Slurm.

    Ends with 0 unless something keeps soct from working (8).
    """
    if site and as_json:
        raise UsageError(
            "--site and --json exclude each other",
            expected="one of them",
            hint="A site file is YAML; `soct profiles schema --site` prints its JSON schema.",
        )
    if site:
        from soct.cli.checkup.site_suggestion import suggest_site

        data(*suggest_site().splitlines())
        return ExitCode.OK
    return tell_health(folder, as_json=as_json)


def tell_health(folder: Path, *, as_json: bool) -> int:
    """Print all findings.

    Returns
    -------
    int
        0 unless a finding is an error, then that of missing resources.
    """
    findings = examine(folder)
    counts: Counter[str] = Counter(finding.status for finding in findings)
    worst = "error" if counts["error"] else "warning" if counts["warning"] else "ok"
    if as_json:
        checks = [asdict(finding) for finding in findings]
        data_json({"format": FORMAT, "status": worst, "checks": checks})
    else:
        for finding in findings:
            data(f"{finding.status:<8} {finding.name:<16} {finding.found}")
            if finding.hint:
                data(f"{'':<8} {'':<16} -> {finding.hint}")
        data(f"{_many(counts, 'error')}, {_many(counts, 'warning')}, {counts['ok']} ok")
    return ExitCode.RESOURCES if worst == "error" else ExitCode.OK


def _many(counts: Counter[str], word: str) -> str:
    return f"{counts[word]} {word}{'' if counts[word] == 1 else 's'}"


def examine(folder: Path) -> list[Finding]:
    """Run every check; one that fails to run is a finding itself."""
    from soct.cli.checkup import folders, processors, software
    from soct.cli.checkup.containers import look_at_container

    place = folders.nearest_existing(folder)
    folders.sweep(place)
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("soct", software.look_at_versions),
        ("folder", lambda: folders.look_at_folder(folder, place)),
        ("container", lambda: look_at_container(place)),
        ("processors", processors.look_at_processors),
        ("instruction set", processors.look_at_instructions),
        ("memory", processors.look_at_memory),
        ("limits", processors.look_at_limits),
        ("slurm", processors.look_at_slurm),
        ("writing", lambda: folders.look_at_writing(place)),
        ("disk", lambda: folders.look_at_disk(place)),
        ("files", lambda: folders.look_at_inodes(place)),
        ("file system", lambda: folders.look_at_file_system(place)),
    ]
    trials: list[tuple[str, Callable[[], Finding]]] = [
        ("disk speed", lambda: folders.look_at_speed(place)),
        ("file locks", lambda: folders.look_at_locks(place)),
        ("claims", lambda: folders.look_at_claims(place)),
    ]
    others: list[tuple[str, Callable[[], Finding]]] = [
        ("temporary files", folders.look_at_temporary),
        ("shared memory", folders.look_at_shared_memory),
        ("cache", software.look_at_cache),
        ("numba", software.look_at_numba),
        ("gpu", software.look_at_gpu),
        ("cupy", software.look_at_cupy),
        ("dask", software.look_at_dask),
        ("fonts", software.look_at_fonts),
    ]
    found = [_guarded(name, look) for name, look in looks]
    writable = any(f.name == "writing" and f.status == "ok" for f in found)
    found += [_guarded(name, look) if writable else _not_tried(name) for name, look in trials]
    return found + [_guarded(name, look) for name, look in others]


def _guarded(name: str, look: Callable[[], Finding]) -> Finding:
    from soct.cli.checkup.finding import Finding

    try:
        return look()
    except Exception as error:  # noqa: BLE001 - the other checks must run
        return Finding(name, "error", f"{type(error).__name__}: {error}")


def _not_tried(name: str) -> Finding:
    from soct.cli.checkup.finding import Finding

    return Finding(name, "warning", "not tried", "mend what `writing` says")
