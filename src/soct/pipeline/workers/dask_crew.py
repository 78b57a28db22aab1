"""The workers of a Dask cluster that a run may use: who is there, who was looked at, who is gone.

Everything here runs in the one thread of an event loop, except what is said to be read from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

import soct
from soct.pipeline.events import Notice
from soct.pipeline.resources import WORKER_BYTES, shown
from soct.pipeline.workers.dask_worker import DaskSession, greet, leave, pack
from soct.pipeline.workers.executors import Place
from soct.pipeline.workers.worker_probe import Sight, confirm

LOOK_S = 1.0
"""How often the list of workers is asked for."""
GREET_S = 120.0
"""How long a worker may take to import soct and look at the files."""
REST_S = 60.0
"""After which a worker that was good and then failed is looked at anew."""
DASK_BYTES = 150 << 20
"""Resident memory of a Dask worker itself."""
_QUIET_NOTICES = 4
"""More workers than these that come at a time are told as a number."""


@dataclass
class Member:
    """A Dask worker that was found good."""

    address: str
    sight: Sight
    place: Place
    pid: int
    """Of the process that computes."""
    busy: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __str__(self) -> str:
        return f"{self.address} on {self.sight.host}"


class Crew:
    """Keeps the list of workers.

    Parameters
    ----------
    client : distributed.Client
        An asynchronous one, of the loop that runs this.
    session : DaskSession
    """

    def __init__(self, client: Client, session: DaskSession) -> None:
        self.client = client
        self.session = session
        self.tell: Callable[[Any], None] = lambda message: None
        """Called, from the loop's thread, with notices and with what units send."""
        self.refused: dict[str, str] = {}
        """Address -> why the worker is not used."""
        self.pending: set[str] = set()
        """Those that are being looked at."""
        self._members: dict[str, Member] = {}
        self._resting: dict[str, float] = {}
        self._packed = pack(session)
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None

    def members(self) -> list[Member]:
        """Return the workers that can be used; from any thread."""
        return list(self._members.values())

    @property
    def is_closed(self) -> bool:
        """Whether the connection to the scheduler is lost for good; from any thread."""
        return self.client.status in ("closing", "closed")

    async def begin(self) -> None:
        """Start to look for workers."""
        self.client.subscribe_topic(self.session.name, self._hear)
        await self._look()
        self._watching = asyncio.create_task(self._watch())

    async def end(self) -> None:
        """Say goodbye to all workers."""
        tasks = [task for task in (self._watching, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        addresses = list(self._members)
        if addresses and not self.is_closed:
            with contextlib.suppress(Exception):  # who cannot hear it is gone
                async with asyncio.timeout(3):
                    goodbye = self.client.run(
                        leave, self.session.name, workers=addresses, on_error="ignore"
                    )
                    await goodbye

    def dismiss(self, member: Member, why: str) -> None:
        """Give no work to a worker for a while."""
        if self._members.get(member.address) is member:
            del self._members[member.address]
            member.gone.set()
            self.refused[member.address] = why
            self._resting[member.address] = time.monotonic() + REST_S
            self._warn(f"Dask worker {member} is not used any more: {why}")

    def _hear(self, event: tuple[float, bytes]) -> None:
        with contextlib.suppress(Exception):  # progress is of no consequence
            self.tell(pickle.loads(event[1]))

    def _warn(self, text: str) -> None:
        self.tell(Notice("warning", text))

    async def _watch(self) -> None:
        while not self.is_closed:
            await asyncio.sleep(LOOK_S)
            await self._look()
        self._take_leave(set(self._members), "the connection to the Dask scheduler is lost")

    async def _look(self) -> None:
        """Compare the scheduler's list with ours."""
        try:
            async with asyncio.timeout(30):
                found = (await self.client.scheduler.identity())["workers"]
        except (OSError, TimeoutError, AttributeError, RuntimeError):
            # The client tries to connect again by itself; units that run end by their own cancelled futures.
            return
        self._take_leave(self._members.keys() - found.keys(), "it left the cluster")
        now = time.monotonic()
        rested = {address for address, end in self._resting.items() if end < now}
        for address in (self.refused.keys() - found.keys()) | rested:
            self.refused.pop(address, None)
            self._resting.pop(address, None)
        known = self._members.keys() | self.pending | self.refused.keys()
        for address in found.keys() - known:
            if found[address].get("status", "running") == "running":
                self.pending.add(address)
                task = asyncio.create_task(self._greet(address, found[address]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _take_leave(self, addresses: set[str], why: str) -> None:
        for address in addresses:
            member = self._members.pop(address)
            member.gone.set()
            self._warn(f"Dask worker {member} is gone: {why}")

    async def _greet(self, address: str, identity: dict[str, Any]) -> None:
        try:
            trouble = await self._look_at(address, identity)
        finally:
            self.pending.discard(address)
        if trouble:
            self.refused[address] = trouble
            self._warn(f"Dask worker {address} is not used: {trouble}")

    async def _look_at(self, address: str, identity: dict[str, Any]) -> str:
        """Take a worker into the crew, or say why not."""
        name = "".join(c if c.isalnum() else "-" for c in address)
        future = self.client.submit(
            greet, soct.__version__, name, self._packed, workers=[address], pure=False, retries=0
        )
        try:
            async with asyncio.timeout(GREET_S):
                sight = await future.result()
        except TimeoutError:
            return f"it did not answer within {GREET_S:.0f} s"
        except ModuleNotFoundError as error:
            return f"it has no soct, or another one ({error})"
        except Exception as error:  # noqa: BLE001 - whatever keeps it from answering
            return f"it cannot be used ({type(error).__name__}: {error})"
        finally:
            future.release()
        trouble = sight if isinstance(sight, str) else sight.trouble
        if trouble:
            return str(trouble)
        trouble = await asyncio.to_thread(confirm, self.session.probe, name)
        if not trouble:
            self._admit(address, identity, sight)
        return trouble

    def _admit(self, address: str, identity: dict[str, Any], sight: Sight) -> None:
        threads = int(identity["nthreads"])
        limit = int(identity["memory_limit"] or 0) or sight.free_bytes * 3 // 4
        member = Member(
            address,
            sight,
            Place(threads, max(limit - DASK_BYTES - WORKER_BYTES, 0)),
            sight.pid,
        )
        self._members[address] = member
        if sight.libraries:
            versions = ", ".join(f"{k} {v or 'absent'}" for k, v in sight.libraries.items())
            self._warn(f"Dask worker {member} has other libraries ({versions}): results may differ")
        if len(self._members) <= _QUIET_NOTICES or not self.pending - {address}:
            self.tell(
                Notice(
                    "info",
                    f"Dask worker {member}: {threads} threads, {shown(limit)}; "
                    f"{len(self._members)} in all",
                )
            )
