# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A TCP proxy in a thread that can do what networks do: delay, cut, fall silent, refuse."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from enum import Enum
from typing import Any

PART = 1 << 16


class Fault(Enum):
    """What happens to connections, those that exist and those to come."""

    NONE = "all passes"
    DELAY = "each part waits ``delay`` seconds before it goes on"
    CUT = "connections are closed as soon as they exist"
    SILENT = "connections are accepted, and nothing comes back: a half-open one"
    REFUSE = "connections are closed, and the port does not listen"


class Proxy:
    """Passes what comes to its ``port`` on to ``target`` of this machine; a context manager."""

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self.port = 0
        self.delay = delay
        self._target = target
        self._fault = Fault.NONE
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._sound = asyncio.Event()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._do(self._listen())
        self._do(self._switch(Fault.NONE))
        return self

    def __exit__(self, *problem: object) -> None:
        self._do(self._switch(Fault.REFUSE))
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def uri(self) -> str:
        """The address for ``MilvusClient``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def fault(self) -> Fault:
        """What happens now; set it to another."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._do(self._switch(fault))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _switch(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.SILENT:
            self._sound.clear()
        else:
            self._sound.set()
        if fault in (Fault.CUT, Fault.REFUSE):
            for writer in list(self._open):
                writer.transport.abort()
        if fault is Fault.REFUSE and self._server is not None:
            self._server.close()
            self._server = None
        elif fault is not Fault.REFUSE and self._server is None:
            await self._listen()

    async def _end(self) -> None:
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        if self._fault is Fault.CUT:
            writer.transport.abort()
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        self._open.add(there[1])
        for source, sink in ((reader, there[1]), (there[0], writer)):
            pump = asyncio.ensure_future(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while part := await source.read(PART):
                if self._fault is Fault.DELAY:
                    await asyncio.sleep(self.delay)
                await self._sound.wait()
                sink.write(part)
                await sink.drain()
        sink.close()
        self._open.discard(sink)
