# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which processes on other hosts are still there: each tells the leader every few seconds.

A killed host or a cut network says nothing: an exchange with it waits, some of them for ever. The
leader holds a connection to every other process. Who is silent is lost; the leader tells the
others, and a process that is caught in an exchange meanwhile is ended with a message.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 25.0  # gloo gives up after 30: who is missing is known by then
CAUGHT_SECONDS = 10.0  # that an exchange goes on after a loss, before the process is ended
OPEN_SECONDS = 30.0
TOKEN_BYTES = 16
BEAT = struct.Struct("!H")  # 0, or the number of a lost process and 1


@dataclass
class Heartbeat:
    """The watch of one process over those that it has ``connections`` to, by their number.

    ``hosts`` are the names of all processes' hosts.
    """

    hosts: Sequence[str]
    connections: Mapping[int, socket.socket]
    lost: dict[int, str] = field(default_factory=dict)
    """Number -> what became of it, in words."""
    waiting_since: float | None = None
    """When the exchange began that this process is in."""

    def start(self, message: Callable[[], str]) -> None:
        """Watch from now on; ``message`` is the last word of a process that is ended."""
        threading.Thread(target=self._watch, args=(message,), daemon=True).start()

    def _watch(self, message: Callable[[], str]) -> None:
        heard = dict.fromkeys(self.connections, time.monotonic())
        lost_at: float | None = None
        while True:
            self._send()
            self._receive(heard)
            now = time.monotonic()
            for rank, last in heard.items():
                if now - last > SILENCE_SECONDS:
                    self._lose(rank, f"silent for {SILENCE_SECONDS:g} s: killed, or cut off")
            if not self.lost:
                continue
            lost_at = lost_at or now
            since = self.waiting_since
            if since is not None and now - max(since, lost_at) > CAUGHT_SECONDS:
                print(f"error: {message()}", file=sys.stderr, flush=True)
                os._exit(2)  # nothing else ends a wait inside of the backend

    def _send(self) -> None:
        beat = BEAT.pack(min(self.lost) + 1 if self.lost else 0)
        for rank, connection in self.connections.items():
            if rank not in self.lost:
                with contextlib.suppress(OSError):  # who has ended is seen when receiving
                    connection.send(beat, socket.MSG_DONTWAIT)

    def _receive(self, heard: dict[int, float]) -> None:
        """What comes within a beat; the time of the last of each in ``heard``."""
        end = time.monotonic() + BEAT_SECONDS
        while (left := end - time.monotonic()) > 0:
            open_now = {c: rank for rank, c in self.connections.items() if rank not in self.lost}
            if not open_now:
                time.sleep(left)
                return
            for connection in select.select(list(open_now), [], [], left)[0]:
                rank = open_now[connection]
                try:
                    said = connection.recv(BEAT.size, socket.MSG_WAITALL)
                except OSError:
                    said = b""
                if len(said) < BEAT.size:
                    self._lose(rank, "ended")
                    continue
                heard[rank] = time.monotonic()
                (other,) = BEAT.unpack(said)
                if other:
                    self._lose(other - 1, "lost, says process 0")

    def _lose(self, rank: int, how: str) -> None:
        self.lost.setdefault(rank, how)


def open_heartbeat(
    rank: int, hosts: Sequence[str], address: str, from_leader: Callable[..., tuple[int, bytes]]
) -> Heartbeat:
    """Connect all processes to the leader, who listens at ``address``. OSError: one does not come.

    ``from_leader`` gives all what its work gives in the leader: a port, and a word that a caller
    has to know.
    """
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.settimeout(OPEN_SECONDS)

        def listen() -> tuple[int, bytes]:
            server.bind((address, 0))
            server.listen(len(hosts))
            return server.getsockname()[1], secrets.token_bytes(TOKEN_BYTES)

        port, token = from_leader(listen)
        if rank:
            connection = socket.create_connection((address, port), OPEN_SECONDS)
            connection.sendall(token + BEAT.pack(rank))
            return Heartbeat(hosts, {0: connection})
        connections: dict[int, socket.socket] = {}
        while len(connections) < len(hosts) - 1:
            caller = server.accept()[0]
            caller.settimeout(OPEN_SECONDS)
            said = caller.recv(TOKEN_BYTES + BEAT.size, socket.MSG_WAITALL)
            if secrets.compare_digest(said[:TOKEN_BYTES], token):
                connections[BEAT.unpack(said[TOKEN_BYTES:])[0]] = caller
            else:
                caller.close()
        return Heartbeat(hosts, connections)
