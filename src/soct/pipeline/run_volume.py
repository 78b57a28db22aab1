"""The finished volume of a run folder, for the tools that take a volume or a run."""

from __future__ import annotations

from pathlib import Path

from soct.errors import InputError
from soct.formats.tiles import shown
from soct.pipeline.records import Record, RecordStore
from soct.pipeline.run_folder import FILE_NAME, read_run
from soct.steps.declaration import Unit
from soct.steps.finished_volume import VOLUME_STEPS


def find_volume(path: Path) -> Path:
    """Return the newest volume of a run folder; any other path as it is.

    Raises
    ------
    InputError
        The run has no finished volume yet.
    """
    if not (path / FILE_NAME).is_file():
        return path
    if read_run(path) is None:
        raise InputError("A run folder's run.json cannot be read", file=shown(path / FILE_NAME))
    store = RecordStore(path)
    for step in reversed(VOLUME_STEPS):
        record = store.read(Unit(step))
        if isinstance(record, Record):
            for output in record.outputs:
                if output.name == "volume" and (path / output.path).exists():
                    return path / output.path
    raise InputError(
        "The run has no finished volume",
        file=shown(path),
        expected="a finished step stack",
        hint="Finish the run first: `soct run` continues it.",
    )
