"""Members of a ZIP archive read in place, after their names and sizes were checked; nothing is ever extracted."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Self

from soct.errors import InputError
from soct.formats.tiles import shown

MAX_MEMBERS = 10_000
# Deflate reaches 1032:1 on zeros; samples of a detector stay below 20:1.
MAX_RATIO = 100
_SMALL_BYTES = 64 << 20
_FAULTS = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError
)  # fmt: skip


def _refused(path: Path, name: str, why: str) -> InputError:
    return InputError(
        "An archive holds a member that is not safe to read",
        file=shown(path),
        expected="plain files below the archive's own root",
        found=f"{shown(name)[:120]}: {why}",
        hint="The file was damaged or made to do harm; restore it from the microscope.",
    )


def _check_name(path: Path, info: zipfile.ZipInfo, name: str) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name or (parts and ":" in parts[0]):
        raise _refused(path, name, "a name that leaves the archive")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise _refused(path, name, "a symbolic link")
    if info.flag_bits & 1:
        raise _refused(path, name, "encrypted")
    if info.file_size > _SMALL_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise _refused(
            path, name, f"{info.file_size} bytes from {info.compress_size}: a bomb, not samples"
        )


def _index(path: Path, archive: zipfile.ZipFile) -> Mapping[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise _refused(path, "", f"{len(infos)} members, at most {MAX_MEMBERS}")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        name = info.filename.replace("\\", "/")
        _check_name(path, info, name)
        if members.setdefault(name.lower(), info) is not info:
            raise _refused(path, name, "the same name twice")
    return members


class Archive:
    """A ZIP file open for reading; every name and size was checked. A context manager.

    Members are found by their names in any case, with either kind of slash, as Windows software writes them.

    Raises
    ------
    InputError
        The file is no archive, or holds a member whose name leaves it, a symbolic link, an encrypted
        member, a name twice, or a bomb.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except _FAULTS as error:
            raise self._broken(error) from error
        try:
            self._members = _index(path, self._archive)
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._archive.close()

    def _broken(self, error: Exception, name: str = "") -> InputError:
        where = f"{shown(self.path)}: {name}" if name else shown(self.path)
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return InputError(
            "An archive is damaged or truncated",
            file=where,
            expected="a whole ZIP file",
            found=shown(reason)[:200],
        )

    def size(self, name: str) -> int | None:
        """Size of a member as the archive states it, None where there is no such member."""
        info = self._members.get(name.lower())
        return None if info is None else info.file_size

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Yield a member as a stream; damage that shows while it is read is an `InputError`."""
        info = self._members.get(name.lower())
        if info is None:
            raise InputError(
                "An archive lacks a member",
                file=shown(self.path),
                expected=name,
                found=shown(", ".join(sorted(self._members)))[:200] or "an empty archive",
            )
        try:
            with self._archive.open(info) as stream:
                yield stream
        except _FAULTS as error:
            raise self._broken(error, name) from error

    def read_small(self, name: str, limit: int) -> bytes:
        """Return the content of a small member.

        Raises
        ------
        InputError
            It is absent, damaged, or larger than `limit`, whatever the archive states.
        """
        with self.open(name) as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise _refused(self.path, name, f"more than {limit} bytes")
        return content
