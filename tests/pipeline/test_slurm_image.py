"""What is known of an image before a job starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from soct.errors import ConfigurationError
from soct.pipeline.slurm.image import check_image

LAUNCH = b"#!/usr/bin/env run-singularity\n"


@pytest.mark.parametrize(
    "start",
    [
        LAUNCH + b"\0SIF_MAGIC\x0001\0",
        bytes(32) + b"SIF_MAGIC\0",
        b"hsqs" + bytes(92),
        LAUNCH + b"hsqs" + bytes(92),
        bytes(1080) + b"\x53\xef" + bytes(100),
    ],
    ids=["sif", "sif without launcher", "squashfs", "squashfs with launcher", "ext3"],
)
def test_every_kind_of_image_is_taken(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "soct.img").write_bytes(start)
    check_image(tmp_path / "soct.img")


@pytest.mark.parametrize("start", [b"", b"name: here\n" * 200], ids=["empty", "yaml"])
def test_another_file_is_refused(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "soct.sif").write_bytes(start)
    with pytest.raises(ConfigurationError, match="no container image"):
        check_image(tmp_path / "soct.sif")


def test_a_folder_is_an_image_if_it_holds_a_system(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="neither bin nor usr"):
        check_image(tmp_path)
    (tmp_path / "usr").mkdir()
    check_image(tmp_path)
