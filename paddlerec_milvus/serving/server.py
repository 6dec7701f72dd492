# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""uvicorn as this service runs it: its socket, when it says that it answers, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import types

import uvicorn
from fastapi import FastAPI

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.serving.server_limits import limit_server

GRACE_SECONDS = 5  # for the answers under way, at the end; each has a shorter deadline
MORE_SECONDS = 3.0  # until a thread that goes on, a build's, is not waited for any more


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket with this address; SettingsError: it is in use, or not this machine's."""
    if not 0 <= port < 65_536:
        raise SettingsError(f"port: {port} is none; expected 0 to 65535, 0 for any that is free")
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # without it an answer's body waits 40 ms for the receipt of its head
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise _unusable(f"{host}:{port}", error) from error
    return listening


def address_of(host: str, listening: socket.socket) -> str:
    """``http://host:port/`` of a socket that is bound to ``host``."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/"


def _unusable(address: str, error: OSError) -> SettingsError:
    reason = error.strerror or error
    return SettingsError(
        f"{address}: {reason}; give another --host or --port, or end what listens there"
    )


class AnsweringServer(uvicorn.Server):
    """uvicorn, which says when it answers, and ends soon after it is told to.

    What made the start fail is raised by :meth:`run`. A build of vectors that is under way at the
    end is not waited for: the next start drops what is left of it.
    """

    def __init__(self, app: FastAPI, url: str) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",  # uvicorn would write a traceback and go on to exit code 0 or 3
            log_level="warning",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        config.load()
        limit_server(app, config)
        logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
        self.app, self._url = app, url
        self.answering = threading.Event()
        self._opened = contextlib.AsyncExitStack()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, then listen, then say so."""
        async with contextlib.AsyncExitStack() as opened:
            await opened.enter_async_context(self.app.router.lifespan_context(self.app))
            try:
                for one in sockets or ():
                    one.listen(self.config.backlog)  # uvloop's own keeps a failure to itself
            except OSError as error:  # another program was quicker
                raise _unusable(self._url, error) from error
            await super().startup(sockets)
            self._opened = opened.pop_all()
        self.answering.set()  # before anybody is told: what waits for it takes Ctrl-C from then on
        print(f"ready: {self._url}", file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the answers under way, then close the application."""
        try:
            await super().shutdown(sockets)
        finally:
            await self._opened.aclose()

    def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
        """End in order; at once where nobody has an answer to wait for, or when told again."""
        if self.should_exit or not self.started:
            _end(sig)
        end = threading.Timer(GRACE_SECONDS + MORE_SECONDS, _end, (sig,))
        end.daemon = True
        end.start()
        super().handle_exit(sig, frame)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """False for the traceback of a call that :meth:`AnsweringServer.shutdown` has given up."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, asyncio.CancelledError)


def _end(number: int) -> None:
    text = f"ended by {signal.Signals(number).name}; the next start drops what is half built\n"
    os.write(sys.stderr.fileno(), text.encode())  # print may be interrupted in itself
    os._exit(128 + number)
