"""Fetching an atlas from BrainGlobe's file server: the only code of soct that uses the network.

The server holds ``last_versions.conf`` and one ``{name}_v{version}.tar.gz`` per atlas. A download goes on where
it was cut off; the archive is unpacked under a hidden name, checked, given ``SHA256SUMS``, and renamed.
"""

from __future__ import annotations

import configparser
import gzip
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from soct.errors import InputError, ResourceError, UsageError
from soct.formats.atlases import open_atlas, sha256_of, write_checksums
from soct.formats.atomic import fsync_folder
from soct.formats.tiles import shown

BASE_URL = "https://gin.g-node.org/brainglobe/atlases/raw/master"
VERSIONS_NAME = "last_versions.conf"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,80}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,3}")
_TIMEOUT_S = 60
_BLOCK_BYTES = 1 << 20
_MAX_TEXT_BYTES = 1 << 20
_MAX_UNPACKED_BYTES = 64 << 30
_MAX_MEMBERS = 100_000
Progress = Callable[[int, int | None], None]


def _quiet(done: int, total: int | None) -> None:
    """Say nothing."""


def fetch_atlas(
    name: str,
    folder: Path,
    *,
    base_url: str = BASE_URL,
    version: str | None = None,
    sha256: str = "",
    progress: Progress = _quiet,
) -> Path:
    """Download an atlas, unless it is here already.

    Parameters
    ----------
    name : str
        Such as ``allen_mouse_25um``.
    folder : Path
        Where atlases are kept.
    base_url : str
        The server: http, https or file.
    version : str, optional
        None: the newest.
    sha256 : str
        What the archive must have; empty: the server's ``{archive}.sha256``, where it has one.
    progress : callable
        Told the bytes that are here, and how many there will be (None: unknown).

    Returns
    -------
    Path
        The atlas's folder.

    Raises
    ------
    InputError
        The server cannot be reached, has no such atlas, or sent something else.
    """
    if not _NAME.fullmatch(name) or (version is not None and not _VERSION.fullmatch(version)):
        raise UsageError(
            "This is no name of an atlas",
            expected="letters, digits and _, such as allen_mouse_25um",
            found=shown(name),
        )
    base = base_url.rstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    newest = version or _newest_version(name, base)
    target = folder / f"{name}_v{newest}"
    if target.exists():
        open_atlas(target)
        return target
    archive = folder / f".{name}_v{newest}.tar.gz.part"
    url = f"{base}/{name}_v{newest}.tar.gz"
    _download(url, archive, progress)
    wanted = (sha256 or _published_sha256(f"{url}.sha256")).strip().lower()
    if wanted and sha256_of(archive) != wanted:
        found = sha256_of(archive)
        archive.unlink()
        raise InputError(
            "The archive is not what its checksum says",
            file=url,
            expected=f"sha256 {wanted[:16]}...",
            found=f"sha256 {found[:16]}...",
            hint="Run the command again; if that doesn't help, ask where the checksum comes from.",
        )
    _unpack(archive, target, url)
    archive.unlink()
    return target


def _open(url: str, start: int = 0) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "soct"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    if not url.startswith(("http://", "https://", "file://")):
        raise UsageError("The server's address must begin with https, http or file", found=url)
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)


def _unreachable(url: str, error: BaseException) -> InputError:
    reason = getattr(error, "reason", None) or error
    return InputError(
        "The atlas server cannot be reached",
        file=shown(url),
        found=shown(str(reason))[:200],
        hint="`soct atlas fetch` is the only command that needs the network. Without one, copy an atlas folder "
        "from another machine and give its path as align_to_ras.template.",
    )


def _text(url: str) -> str:
    with closing(_open(url)) as answer:
        data = answer.read(_MAX_TEXT_BYTES + 1)
    if len(data) > _MAX_TEXT_BYTES:
        raise InputError(
            "The atlas server sent something else", file=shown(url), found="a long text"
        )
    return str(data.decode("utf-8", "replace"))


def _newest_version(name: str, base: str) -> str:
    url = f"{base}/{VERSIONS_NAME}"
    try:
        text = _text(url)
    except (urllib.error.URLError, OSError) as error:
        raise _unreachable(url, error) from error
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        versions = dict(parser["atlases"])
    except (configparser.Error, KeyError) as error:
        raise InputError(
            "The atlas server sent something else",
            file=shown(url),
            expected="a section [atlases] with name = version",
            found=shown(text[:80]),
        ) from error
    version = versions.get(name.lower(), "")
    if not _VERSION.fullmatch(version):
        near = [n for n in versions if name.lower()[:5] in n][:12] or list(versions)[:12]
        raise InputError(
            f"The server has no atlas {shown(name)}",
            file=shown(url),
            expected=f"for example {', '.join(near)}",
            found=shown(version) or "nothing of that name",
        )
    return version


def _published_sha256(url: str) -> str:
    """Return the checksum that the server publishes beside an archive; empty where it doesn't."""
    try:
        words = _text(url).split()
    except (urllib.error.URLError, OSError):
        return ""
    return words[0] if words and re.fullmatch(r"[0-9a-fA-F]{64}", words[0]) else ""


def _download(url: str, archive: Path, progress: Progress) -> None:
    """Download a file, going on where an earlier attempt ended."""
    start = archive.stat().st_size if archive.exists() else 0
    try:
        answer = _open(url, start)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # all of it is here
            return
        raise _unreachable(url, error) from error
    except (urllib.error.URLError, OSError) as error:
        raise _unreachable(url, error) from error
    with closing(answer):
        goes_on = start > 0 and getattr(answer, "status", None) == 206
        done = start if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        try:
            with archive.open("ab" if goes_on else "wb") as file:
                while block := answer.read(_BLOCK_BYTES):
                    file.write(block)
                    done += len(block)
                    progress(done, total)
                file.flush()
                os.fsync(file.fileno())
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise _unreachable(url, error) from error
        except OSError as error:
            raise ResourceError(
                "The atlas cannot be stored", file=shown(archive), found=error.strerror
            ) from error
    if total is not None and done < total:
        raise InputError(
            "The download was cut off",
            file=shown(url),
            expected=f"{total} bytes",
            found=f"{done} bytes",
            hint="Run the same command again: it goes on from there.",
        )


def _unpack(archive: Path, target: Path, url: str) -> None:
    """Unpack under a hidden name, check, rename."""
    hidden = target.with_name(f".{target.name}.unpacked")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    try:
        _extract(archive, hidden)
        inner = [p for p in hidden.iterdir() if p.is_dir() and (p / "metadata.json").exists()]
        source = inner[0] if inner else hidden
        open_atlas(source)
        write_checksums(source)
        source.rename(target)
        fsync_folder(target.parent)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        archive.unlink(missing_ok=True)
        raise InputError(
            "What the server sent is no atlas archive",
            file=shown(url),
            expected="a tar.gz with metadata.json, reference.tiff and annotation.tiff",
            found=shown(str(error))[:200],
            hint="Run the command again: it begins anew.",
        ) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    """Write the plain files of an archive below a folder; anything that would leave it is refused."""
    total = 0
    with tarfile.open(archive, "r:gz") as tar:
        for count, member in enumerate(tar):
            parts = Path(member.name).parts
            if count > _MAX_MEMBERS or not (member.isfile() or member.isdir()):
                raise ValueError(f"member {member.name[:80]!r}")
            if member.name.startswith("/") or ".." in parts:
                raise ValueError(f"member {member.name[:80]!r} leaves the folder")
            total += max(member.size, 0)
            if total > min(_MAX_UNPACKED_BYTES, 1100 * max(archive.stat().st_size, 1)):
                raise ValueError("more bytes than it can hold")
            place = folder.joinpath(*parts)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            stream = tar.extractfile(member)
            if stream is None:
                raise ValueError(f"member {member.name[:80]!r}")
            with stream, place.open("wb") as file:
                shutil.copyfileobj(stream, file, _BLOCK_BYTES)
