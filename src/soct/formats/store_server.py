"""Serving one store to a viewer in a browser on this machine: read-only, one folder, nothing else.

The server listens on 127.0.0.1 alone, below a path that holds a random word, and answers only requests that
name this machine as their host: neither other users nor a page that happens to be open in the browser can guess
or reach what it serves. Byte ranges are answered, as readers of shards ask for them.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

VIEWER = "https://neuroglancer-demo.appspot.com"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_BLOCK_BYTES = 1 << 20


class StoreServer(ThreadingHTTPServer):
    """Serves the files below one folder.

    Parameters
    ----------
    root : Path
        The folder.
    port : int
        0 lets the system choose.
    origins : sequence of str
        Web pages that may read it.
    """

    daemon_threads = True

    def __init__(self, root: Path, port: int = 0, origins: Sequence[str] = (VIEWER,)) -> None:
        self.root = root.resolve(strict=True)
        self.origins = frozenset(origins)
        self.word = secrets.token_urlsafe(12)
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """Where the folder is served."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.word}/{quote(self.root.name)}"

    def find(self, target: str) -> Path | None:
        """Return the file that a request names; None where there is none, or where it would leave the folder."""
        prefix = f"/{self.word}/{self.root.name}/"
        path = unquote(urlsplit(target).path)
        if not path.startswith(prefix) or "\0" in path or "\\" in path:
            return None
        parts = path.removeprefix(prefix).split("/")
        if any(part in ("", ".", "..") for part in parts):
            return None
        try:
            file = self.root.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError, ValueError):
            return None
        return file if file.is_relative_to(self.root) and file.is_file() else None

    def names_this_machine(self, host: str) -> bool:
        """Whether a request's Host header is this server's: a foreign name that resolves here is not."""
        port = self.server_address[1]
        return host in (f"127.0.0.1:{port}", f"localhost:{port}")


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and one past the last that a Range header asks for.

    Returns
    -------
    (int, int) or None
        None where the range cannot be satisfied.

    Raises
    ------
    ValueError
        There is no range that this server understands: the whole file is the answer.
    """
    found = _RANGE.fullmatch((text or "").strip())
    if found is None or found[0] == "bytes=-":
        raise ValueError(text)
    if not found[1]:
        n = min(int(found[2]), size)
        return (size - n, size) if n else None
    start = int(found[1])
    stop = min(int(found[2]) + 1, size) if found[2] else size
    return (start, stop) if start < stop else None


class _Handler(BaseHTTPRequestHandler):
    """Answers GET, HEAD and OPTIONS; every other method is an error that the base class writes."""

    server: StoreServer
    server_version = "soct"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_: Any) -> None:
        """Keep requests off the terminal."""

    def end_headers(self) -> None:
        """Let the viewer's page, and no other, read the answer."""
        origin = self.headers.get("Origin", "") if self.headers else ""
        if origin in self.server.origins:
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
            self.send_header("Access-Control-Allow-Headers", "Range")
            self.send_header("Access-Control-Expose-Headers", "Content-Range, Content-Length")
            self.send_header("Access-Control-Allow-Private-Network", "true")
        self.send_header("Vary", "Origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_OPTIONS(self) -> None:
        """Answer a browser that asks whether it may."""
        self._refuse(HTTPStatus.NO_CONTENT)

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Answer with a file or a part of it."""
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        if not self.server.names_this_machine(self.headers.get("Host", "")):
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        file = self.server.find(self.path)
        if file is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        try:
            self._send(file, with_body=with_body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _send(self, file: Path, *, with_body: bool) -> None:
        with file.open("rb") as stream:
            size = file.stat().st_size
            try:
                part = parse_range(self.headers.get("Range"), size)
            except ValueError:
                part, status = (0, size), HTTPStatus.OK
            else:
                status = HTTPStatus.PARTIAL_CONTENT
            if part is None:
                self._refuse(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, Content_Range=f"bytes */{size}"
                )
                return
            start, stop = part
            self.send_response(status)
            is_text = file.suffix == ".json" or file.name.startswith(".z")
            kind = "application/json" if is_text else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(stop - start))
            if status is HTTPStatus.PARTIAL_CONTENT:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.end_headers()
            if with_body:
                stream.seek(start)
                self._copy(stream, stop - start)

    def _copy(self, stream: Any, n: int) -> None:
        if n <= _BLOCK_BYTES:
            self.wfile.write(stream.read(n))
            return
        while n > 0 and (block := stream.read(min(n, _BLOCK_BYTES))):
            self.wfile.write(block)
            n -= len(block)


def neuroglancer_link(url: str, version: int, window: tuple[float, float] | None, name: str) -> str:
    """Return the address that shows a served store in neuroglancer.

    Parameters
    ----------
    url : str
        Where the store is served.
    version : {2, 3}
        Of Zarr.
    window : (float, float) or None
        Values shown black and white.
    name : str
        Of the layer.
    """
    control = "#uicontrol invlerp normalized"
    if window is not None:
        control += f"(range=[{window[0]:.6g}, {window[1]:.6g}])"
    layer = {
        "type": "image",
        "name": name,
        "source": f"zarr{version}://{url}",
        "shader": f"{control}\nvoid main() {{ emitGrayscale(normalized()); }}\n",
    }
    state = {"layers": [layer], "layout": "4panel"}
    return f"{VIEWER}/#!{quote(json.dumps(state, separators=(',', ':')))}"


def has_napari() -> bool:
    """Whether napari can be started on this machine."""
    import importlib.util

    return importlib.util.find_spec("napari") is not None
