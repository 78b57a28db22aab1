"""The server for viewers gives away one folder, to one page, and nothing else."""

from __future__ import annotations

import http.client
import json
import threading
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soct.formats.store_server import VIEWER, StoreServer, neuroglancer_link, parse_range
from tests.formats.fuzzing import FUZZ


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    store = folder / "a b.ome.zarr"
    (store / "0" / "c").mkdir(parents=True)
    (store / "zarr.json").write_text("{}")
    (store / "0" / "c" / "0").write_bytes(bytes(range(256)) * 10)
    (folder / "secret").write_text("secret")
    (store / "link").symlink_to(folder / "secret")
    with StoreServer(store) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", host=None, **headers):
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{port}")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def base(server) -> str:
    return urlsplit(server.url).path


def test_files_and_parts_of_files_are_served(served):
    data = bytes(range(256)) * 10
    assert ask(served, f"{base(served)}/zarr.json")[:2] == (200, b"{}")
    path = f"{base(served)}/0/c/0"
    assert ask(served, path)[1] == data
    status, body, headers = ask(served, path, Range="bytes=10-19")
    assert (status, body, headers["Content-Range"]) == (206, data[10:20], "bytes 10-19/2560")
    assert ask(served, path, Range="bytes=-4")[1] == data[-4:]
    assert ask(served, path, Range="bytes=2550-")[1] == data[2550:]
    assert ask(served, path, Range="bytes=2560-")[0] == 416
    status, body, headers = ask(served, path, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "2560")


@pytest.mark.parametrize(
    "tail",
    [
        "/../secret", "/%2e%2e/secret", "/..%2fsecret", "/0/../../secret", "//secret", "/link", "/",
        "", "/0", "/0/c/", "/%00", "/..\\secret", "/0/c/0/", "/absent",
    ],
)  # fmt: skip
def test_nothing_outside_of_the_folder_is_reached(served, tail):
    status, body, _ = ask(served, base(served) + tail)
    assert status == 404
    assert b"secret" not in body


def test_the_word_in_the_path_is_needed(served):
    name = base(served).rsplit("/", 1)[1]
    for path in ("/", f"/{name}/zarr.json", f"/wrong/{name}/zarr.json", "/zarr.json"):
        assert ask(served, path)[0] == 404


def test_a_foreign_host_name_that_leads_here_is_refused(served):
    assert ask(served, f"{base(served)}/zarr.json", host="evil.example:80")[0] == 403


def test_only_the_viewers_page_may_read(served):
    path = f"{base(served)}/zarr.json"
    assert ask(served, path, Origin=VIEWER)[2]["Access-Control-Allow-Origin"] == VIEWER
    assert "Access-Control-Allow-Origin" not in ask(served, path, Origin="https://evil.example")[2]
    status, _, headers = ask(served, path, "OPTIONS", Origin=VIEWER)
    assert status == 204
    assert headers["Access-Control-Allow-Headers"] == "Range"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_written(served, method):
    assert ask(served, f"{base(served)}/zarr.json", method)[0] == 501
    assert (served.root / "zarr.json").read_text() == "{}"


def test_it_listens_on_this_machine_alone(served):
    assert served.server_address[0] == "127.0.0.1"


@FUZZ
@given(text=st.text(max_size=40), size=st.integers(0, 10**6))
def test_any_range_lies_inside_of_the_file(text, size):
    for asked in (text, f"bytes={text}"):
        try:
            found = parse_range(asked, size)
        except ValueError:
            continue
        assert found is None or 0 <= found[0] < found[1] <= size


def test_the_link_says_source_version_and_window(served):
    link = neuroglancer_link(served.url, 3, (0.5, 2.0), "brain")
    state = json.loads(unquote(link.partition("#!")[2]))
    assert link.startswith(f"{VIEWER}/#!")
    (layer,) = state["layers"]
    assert layer["source"] == f"zarr3://{served.url}"
    assert "range=[0.5, 2]" in layer["shader"]
