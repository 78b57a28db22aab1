"""The finished volume of a run folder: for the report, the end of a run, and tools that take a volume or a run."""

from __future__ import annotations

from pathlib import Path

from soct.errors import InputError
from soct.formats.tiles import shown
from soct.pipeline.folder.outputs import OutputRecord
from soct.pipeline.folder.records import Record, RecordStore
from soct.pipeline.folder.run_folder import FILE_NAME, RunDocument, read_run
from soct.steps.declaration import Unit
from soct.steps.finished_volume import VOLUME_STEPS, newest_volume


def find_volume(path: Path) -> Path:
    """Return the newest volume of a run folder; any other path as it is.

    Raises
    ------
    InputError
        The run has no finished volume yet.
    """
    if not (path / FILE_NAME).is_file():
        return path
    document = read_run(path)
    if document is None:
        raise InputError("A run folder's run.json cannot be read", file=shown(path / FILE_NAME))
    found = newest_output(path, document)
    if found is not None:
        return path / found[1].path
    raise InputError(
        "The run has no finished volume",
        file=shown(path),
        expected="a finished step stack",
        hint="Finish the run first: `soct run` continues it.",
    )


def newest_output(folder: Path, document: RunDocument) -> tuple[Record, OutputRecord] | None:
    """Return the newest volume of a run folder with its step's record, or None before there is one."""
    store = RecordStore(folder)
    stack = store.read(Unit(VOLUME_STEPS[0]))
    since = stack.ended if isinstance(stack, Record) else ""

    def find(step: str) -> tuple[Record, OutputRecord] | None:
        # A step that is switched off by now, or was not run since the stack, left the volume of an older stack.
        record = store.read(Unit(step)) if step in document.steps else None
        if not isinstance(record, Record) or record.ended < since:
            return None
        volumes = (o for o in record.outputs if o.name == "volume" and (folder / o.path).exists())
        return next(((record, volume) for volume in volumes), None)

    return newest_volume(find)
