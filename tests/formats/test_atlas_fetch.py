"""An atlas is fetched whole or not at all, goes on where it was cut off, and never leaves its folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from soct.errors import InputError, UsageError
from soct.formats.atlas_fetch import fetch_atlas
from soct.formats.atlases import open_atlas, verify_atlas
from soct.simulate.atlas import write_phantom_atlas

NAME = "soct_phantom_200um"


class Server:
    """BrainGlobe's layout on 127.0.0.1, with faults."""

    def __init__(self, files):
        self.files = files
        self.asked = []
        self.cut_at = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.lstrip("/")
                outer.asked.append((name, self.headers.get("Range")))
                data = outer.files.get(name)
                if data is None:
                    self.send_error(404)
                    return
                start = int((self.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
                if start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                body = data[start:]
                if outer.cut_at is not None and name.endswith("gz"):
                    body, outer.cut_at = body[: outer.cut_at], None
                    self.wfile.write(body)
                    self.wfile.flush()
                    self.connection.close()
                    return
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def archive_of(folder):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path):
    source = tmp_path / f"{NAME}_v1.0"
    write_phantom_atlas(source, 200.0)
    (source / "SHA256SUMS").unlink()
    files = {
        "last_versions.conf": f"[atlases]\n{NAME} = 1.0\nother_atlas = 2.1\n".encode(),
        f"{NAME}_v1.0.tar.gz": archive_of(source),
    }
    running = Server(files)
    yield running
    running.close()


def test_an_atlas_is_fetched_checked_and_found_again(server, tmp_path):
    cache = tmp_path / "cache"
    path = fetch_atlas(NAME, cache, base_url=server.url)
    assert path == cache / f"{NAME}_v1.0"
    assert "agree with SHA256SUMS" in verify_atlas(open_atlas(path))
    assert [p.name for p in cache.iterdir()] == [path.name]
    before = len(server.asked)
    assert fetch_atlas(NAME, cache, base_url=server.url, version="1.0") == path
    assert len(server.asked) == before


def test_a_download_that_was_cut_off_goes_on(server, tmp_path):
    cache = tmp_path / "cache"
    server.cut_at = 2000
    with pytest.raises(InputError, match=r"cut off|cannot be reached"):
        fetch_atlas(NAME, cache, base_url=server.url)
    assert not (cache / f"{NAME}_v1.0").exists()
    open_atlas(fetch_atlas(NAME, cache, base_url=server.url))
    ranges = [r for n, r in server.asked if n.endswith("gz")]
    assert ranges == [None, "bytes=2000-"]


def test_a_checksum_is_held_whoever_gives_it(server, tmp_path):
    cache = tmp_path / "cache"
    archive = f"{NAME}_v1.0.tar.gz"
    with pytest.raises(InputError, match="not what its checksum says"):
        fetch_atlas(NAME, cache, base_url=server.url, sha256="0" * 64)
    server.files[f"{archive}.sha256"] = f"{'1' * 64}  {archive}\n".encode()
    with pytest.raises(InputError, match="not what its checksum says"):
        fetch_atlas(NAME, cache, base_url=server.url)
    digest = hashlib.sha256(server.files[archive]).hexdigest()
    server.files[f"{archive}.sha256"] = f"{digest}  {archive}\n".encode()
    assert fetch_atlas(NAME, cache, base_url=server.url).exists()


def test_a_folder_is_a_server_too(server, tmp_path):
    place = tmp_path / "mirror"
    place.mkdir()
    for name, data in server.files.items():
        (place / name).write_bytes(data)
    assert fetch_atlas(NAME, tmp_path / "cache", base_url=place.as_uri()).exists()


def test_an_absent_server_or_atlas_is_one_clear_error(server, tmp_path):
    with pytest.raises(InputError, match="has no atlas nothing"):
        fetch_atlas("nothing", tmp_path, base_url=server.url)
    with pytest.raises(InputError, match="cannot be reached"):
        fetch_atlas(NAME, tmp_path, base_url="http://127.0.0.1:9")
    with pytest.raises(UsageError, match="no name"):
        fetch_atlas("../../x", tmp_path, base_url=server.url)


def evil(name, kind=tarfile.REGTYPE):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        member.size = 0
        tar.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data", [evil("../out.txt"), evil("/tmp/out.txt"), evil("link", tarfile.SYMTYPE), b"no archive"]
)
def test_an_archive_that_would_leave_its_folder_is_refused(server, tmp_path, data):
    cache = tmp_path / "cache"
    server.files[f"{NAME}_v1.0.tar.gz"] = data
    with pytest.raises(InputError, match="no atlas archive"):
        fetch_atlas(NAME, cache, base_url=server.url)
    assert list(cache.iterdir()) == []
    assert not (tmp_path / "out.txt").exists()
