# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A fence between processes of one host, in microseconds; a collective takes 0.3 ms."""

from __future__ import annotations

import secrets
import socket

from paddlerec_milvus.training.processes import Processes

PATIENCE = 30.0  # seconds, as long as gloo's


class Fence:
    """Each tells the leader that it is here, and waits for the leader's word that all are."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        with socket.socket(socket.AF_UNIX) as own, processes.together():
            own.settimeout(PATIENCE)

            def listen() -> str:
                name = f"\0paddlerec-milvus-{secrets.token_hex(16)}"  # in no file system
                own.bind(name)
                own.listen(processes.world)
                return name

            name = processes.from_leader(listen)
            if processes.leads:
                self.others = [own.accept()[0] for _ in range(1, processes.world)]
            else:
                own.connect(name)
                self.others = [own.dup()]
        for other in self.others:
            other.settimeout(PATIENCE)

    def __call__(self) -> None:
        """Nobody goes on before all are here; TrainingError when one does not come."""
        with self.processes.together():
            if self.processes.leads:
                self._hear()
                self._tell()
            else:
                self._tell()
                self._hear()

    def _tell(self) -> None:
        for other in self.others:
            other.sendall(b"!")

    def _hear(self) -> None:
        for other in self.others:
            if not other.recv(1):
                raise ConnectionResetError("connection closed")
