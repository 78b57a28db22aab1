"""An event loop in a thread of its own, with something open in it for as long as a block runs."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

_T = TypeVar("_T")
CLOSE_S = 15.0
"""How long closing may take before the thread is left behind."""


@contextmanager
def opened_in_thread(
    make: Callable[[], AbstractAsyncContextManager[_T]],
) -> Iterator[tuple[asyncio.AbstractEventLoop, _T]]:
    """Enter an asynchronous context in a new loop; leave it, and end the loop, after the block.

    SIGINT and SIGTERM are blocked in the thread, and so in processes that are started from it: what to do
    about them is the main thread's to say.

    Yields
    ------
    tuple
        The loop, and what the context gives.
    """
    opened: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, _T]] = Future()

    async def hold() -> None:
        done = asyncio.Event()
        async with make() as value:
            opened.set_result((asyncio.get_running_loop(), done, value))
            await done.wait()

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            asyncio.run(hold())
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever opens
            if not opened.done():
                opened.set_exception(error)

    thread = threading.Thread(target=work, name="soct-dask", daemon=True)
    thread.start()
    loop, done, value = opened.result()
    try:
        yield loop, value
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(CLOSE_S)
