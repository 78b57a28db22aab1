"""A headless Chromium that tests drive over its DevTools pipe: standard library alone, no port, no network.

Commands are JSON objects ended by a zero byte, written to the browser's file descriptor 3 and answered on 4
(https://chromedevtools.github.io/devtools-protocol/). The script of a command runs whatever the page's content
security policy says, and also where the page itself may run none, so pages are examined as they are written.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
_FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--no-default-browser-check", "--disable-extensions", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--mute-audio", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
_PATIENCE_S = 240.0
A4_PX = 718
"""Width of an A4 page between Chromium's own margins, at 96 pixels per inch."""


def find_browser() -> str | None:
    """Return the browser's path: what ``SOCT_BROWSER`` names, or the first on the PATH."""
    if os.name != "posix":
        return None
    return os.environ.get("SOCT_BROWSER") or next(filter(None, map(shutil.which, _NAMES)), None)


@dataclass(eq=False)
class Browser:
    """One running browser. Use `start_browser`."""

    pid: int
    to: int
    back: int
    _count: int = 0
    _pending: bytes = b""
    _events: list[dict[str, Any]] = field(default_factory=list)

    def command(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come meanwhile are kept."""
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data) :]
        while True:
            found = self._read()
            if found.get("id") == number:
                assert "error" not in found, f"{method}: {found['error']}"
                return dict(found["result"])
            if "method" in found:
                self._events.append(found)

    def wait_for(self, method: str, session: str) -> None:
        """Return once an event has come."""
        while not any(e["method"] == method for e in self.events(session)):
            found = self._read()
            if "method" in found:
                self._events.append(found)

    def events(self, session: str) -> list[dict[str, Any]]:
        """Return what one tab has told so far."""
        return [e for e in self._events if e.get("sessionId") == session]

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self.back], [], [], max(0.0, until - time.monotonic()))
            block = os.read(self.back, 1 << 20) if ready else b""
            assert block, "the browser has ended" if ready else "the browser does not answer"
            self._pending += block
        first, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(first))

    @contextlib.contextmanager
    def open(
        self, path: Path, *, width: int = 1280, script: bool = True, media: str = "", requests: bool = False
    ) -> Iterator[Tab]:  # fmt: skip
        """Open a page in a tab of its own and wait until it has loaded.

        Parameters
        ----------
        path : Path
        width : int
            Of the window in pixels.
        script : bool
            Whether the page may run JavaScript.
        media : {"", "screen", "print"}
        requests : bool
            Whether requests are told; each picture's data are told with its own, so this is not for nothing.
        """
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, path.resolve().as_uri())
        for domain in ("Page", "Runtime", "Log", *(("Network",) if requests else ())):
            tab.command(f"{domain}.enable")
        tab.resize(width)
        tab.command("Emulation.setScriptExecutionDisabled", value=not script)
        tab.command("Emulation.setEmulatedMedia", media=media)
        tab.command("Page.navigate", url=tab.address)
        self.wait_for("Page.loadEventFired", session)
        try:
            yield tab
        finally:
            self.command("Target.closeTarget", targetId=target)
            self._events = [e for e in self._events if e.get("sessionId") != session]


@dataclass(frozen=True)
class Tab:
    """One open page."""

    browser: Browser
    session: str
    address: str

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to this tab."""
        return self.browser.command(method, self.session, **params)

    def processor_seconds(self) -> float:
        """Return the processor time that the page's process has taken so far."""
        self.command("Performance.enable")
        metrics = self.command("Performance.getMetrics")["metrics"]
        return next(float(m["value"]) for m in metrics if m["name"] == "ProcessTime")

    def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window in pixels."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page; a promise is waited for."""
        found = self.command(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def errors(self) -> list[str]:
        """Return what the console shows as errors: by scripts, the browser, the policy."""
        told = []
        for event in self.browser.events(self.session):
            params = event["params"]
            if event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                told.append(params["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in (
                "error",
                "assert",
            ):
                told.append(str(params["args"]))
            elif event["method"] == "Runtime.exceptionThrown":
                told.append(str(params["exceptionDetails"]))
        return told

    def requests(self) -> list[str]:
        """Return every address that was asked for, but the page itself and what is written within it."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.browser.events(self.session)
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if url != self.address and not url.startswith("data:")]

    def press(self, key: str, code: int) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, as it lies on the screen."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    def print_pdf(self) -> bytes:
        """Return the page as it is printed on A4."""
        found = self.command(
            "Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False, transferMode="ReturnAsBase64",
        )  # fmt: skip
        return base64.b64decode(found["data"])

    def screenshot(self, *, whole: bool = False) -> bytes:
        """Return a PNG of the window, or of the whole page."""
        found = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])


@contextlib.contextmanager
def start_browser(program: str, profile: Path) -> Iterator[Browser]:
    """Run a browser while the context lasts.

    Parameters
    ----------
    program : str
        See `find_browser`.
    profile : Path
        An empty folder for what it stores.
    """
    theirs_in, to = os.pipe()
    back, theirs_out = os.pipe()
    # Moved up first, so that neither can be overwritten while they take their places at 3 and 4.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 16) for end in (theirs_in, theirs_out)]
    pid = os.posix_spawn(
        program,
        [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, ends[0], 3),
            (os.POSIX_SPAWN_DUP2, ends[1], 4),
        ],
        setpgroup=0,
    )
    for end in (theirs_in, theirs_out, *ends):
        os.close(end)
    try:
        yield Browser(pid, to, back)
    finally:
        os.close(to)
        os.close(back)
        _end(pid)


def _end(pid: int) -> None:
    """End a browser and its helpers, which share its process group."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, how)
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.02)
