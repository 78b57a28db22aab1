"""Write what a person needs to align slices by hand: images, sections and the transforms as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `soct run` wrote.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write; it must not hold anything.")
    ],
) -> int:
    """Write what a person needs to align slices by hand: images, sections and the transforms as they are.

    OUT gets aips/, aips_xz/, aips_yz/ (TIFF and PNG), transforms/slice_z{NN}/ and metadata.json. Change a
    transform.tfm, then run again with --set estimate_slice_poses.manual_transforms_dir=OUT/transforms: the slice and
    all that follow it move by what was changed, and only what depends on it is computed again.
    """
    from soct.cli.terminal import data, words
    from soct.errors import InputError
    from soct.formats.documents import read_document
    from soct.pipeline.folder.run_folder import read_run
    from soct.pipeline.single_step import inputs_from_run
    from soct.steps.registry import load_step, load_steps
    from soct.tools.manual_package import PackageInputs, write_package

    steps = load_steps()
    found = {
        **inputs_from_run(load_step("stack"), steps, run),
        **inputs_from_run(load_step("estimate_slice_poses"), steps, run),
    }
    poses = found.get(("estimate_slice_poses", "poses"), {})
    if () not in poses:
        raise InputError(
            "The run has no poses yet",
            file=run,
            expected="a run in which estimate_slice_poses is done",
            hint="Run `soct run` first; `soct status` says how far it is.",
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            "The folder to write holds something already",
            file=out,
            expected="a new or empty folder",
        )
    document = read_run(run)
    inputs = PackageInputs(
        read_document(poses[()]),
        {ids[0]: path for ids, path in found["compensate_attenuation", "slice"].items()},
        {
            (ids[0], ids[1]): path
            for ids, path in found.get(("register_pairwise", "pair"), {}).items()
        },
    )
    count = write_package(inputs, out, document.subject if document is not None else "")
    words(f"{count} slices; change OUT/transforms/slice_z{{NN}}/transform.tfm, then run again with")
    words(f"  --set estimate_slice_poses.manual_transforms_dir={out / 'transforms'}")
    data(str(out))
    return 0
