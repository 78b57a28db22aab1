"""`soct` in processes that are forked from one that has imported it already: all that a command does, without its start.

A command that takes a moment takes a second or two to import what it needs, and tests start hundreds. Each of them
is still a process of its own, with its own arguments, folder, environment, streams and exit code. What tests promise
of the start itself (imports, the terminal, encodings, folders of caches) they try on the real one.

`python -m tests.quick_soct ADDRESS` is the process that others are forked from.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]
_CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({address!r})
    socket.send_fds(line, [b"!"], [0, 1, 2])
    line.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    line.shutdown(socket.SHUT_WR)
    code = int(line.makefile().readline())
sys.exit(code)
"""
_THIRD_PARTIES = ("zarr", "h5py", "numba", "SimpleITK")
"""What commands import late, beside the modules of soct."""


@functools.cache
def folder_of_soct() -> Path:
    """Return a folder for the PATH, with a `soct` in it; the first call starts the process behind it."""
    if not hasattr(os, "pidfd_open"):
        return Path(sys.executable).parent
    folder = Path(tempfile.mkdtemp(prefix="soct-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    address = str(folder / "line")
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.quick_soct", address],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(server.communicate)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    command = folder / "bin" / "soct"
    command.parent.mkdir()
    command.write_text(_CLIENT.format(python=sys.executable, address=address))
    command.chmod(0o755)
    return command.parent


def run_soct(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str], timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `soct ARGUMENTS` to its end."""
    return subprocess.run(
        [folder_of_soct() / "soct", *map(str, arguments)],
        cwd=cwd,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def _import_everything() -> None:
    import soct
    from soct.compute import caches

    caches.prepare()
    for module in pkgutil.walk_packages(soct.__path__, "soct."):
        if "dask" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _THIRD_PARTIES:
        importlib.import_module(name)


def _listen(address: str) -> bool:
    """Fork a process for every call; True in such a process, False in this one when nobody can call any more."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        print("ready", flush=True)
        callers: dict[int, tuple[int, socket.socket]] = {}
        while True:
            ready, _, _ = select.select([door, 0, *callers], [], [])
            if 0 in ready:
                return False
            for ended in callers.keys() & set(ready):
                _tell_end(*callers.pop(ended))
                os.close(ended)
            if door in ready:
                line, _ = door.accept()
                _, streams, _, _ = socket.recv_fds(line, 1, 3)
                with warnings.catch_warnings():
                    # Libraries of linear algebra have threads, which they end before a fork.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    child = os.fork()
                if child == 0:
                    _become_a_command(line, streams)
                    return True
                for stream in streams:
                    os.close(stream)
                callers[os.pidfd_open(child)] = (child, line)


def _tell_end(child: int, line: socket.socket) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with line, contextlib.suppress(OSError):  # who asked may be gone
        line.sendall(f"{code if code >= 0 else 128 - code}\n".encode())


def _become_a_command(line: socket.socket, streams: Sequence[int]) -> None:
    with line.makefile() as asked:
        arguments, folder, environment = json.load(asked)
    line.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["soct", *arguments]


def _main() -> NoReturn:
    _import_everything()
    from soct.cli.main import main

    # Workers import the main module, too.
    here = sys.modules["__main__"]
    here.__spec__, here.__file__ = None, str(Path(sys.executable).with_name("soct"))
    # Of what is here before the fork, no page is to be copied because objects are looked through.
    gc.collect()
    gc.freeze()
    code = 0
    if _listen(sys.argv[1]):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        # The end of the interpreter, short of taking everything apart.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _main()
