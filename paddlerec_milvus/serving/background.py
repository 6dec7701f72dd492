# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The service in a thread of a program that goes on meanwhile, a notebook say."""

from __future__ import annotations

import socket
import threading

from paddlerec_milvus.errors import UserError
from paddlerec_milvus.serving.app import create_app
from paddlerec_milvus.serving.auth import Keys
from paddlerec_milvus.serving.gate import require_keys
from paddlerec_milvus.serving.server import AnsweringServer, address_of, listening_socket
from paddlerec_milvus.serving.settings import ServiceSettings
from paddlerec_milvus.trained_model import TrainedModel

POLL_SECONDS = 0.05


class BackgroundServer:
    """A server that answers until :meth:`stop`, or the end of a ``with`` block."""

    def __init__(self, server: AnsweringServer, listening: socket.socket, url: str) -> None:
        self.url = url
        """The page's address; ``url + "docs"`` describes all calls."""
        self._server, self._listening = server, listening
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)

    def start(self) -> None:
        """Return when it answers. What made the start fail is raised."""
        self._thread.start()
        while self._thread.is_alive() and not self._server.answering.wait(POLL_SECONDS):
            pass
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Stay until Ctrl-C, and stop then."""
        try:
            while not self._ended.wait(1):  # a join that Ctrl-C cuts off takes the thread for ended
                pass
        except KeyboardInterrupt:
            self.stop()

    def stop(self) -> None:
        """Finish the answers under way, and end."""
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._listening:
                self._server.run(sockets=[self._listening])
        except UserError as error:
            self._failure = UserError(getattr(self._server.app.state, "refused", str(error)))
        except BaseException as error:
            self._failure = error
        finally:
            self._ended.set()

    def __enter__(self) -> BackgroundServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"BackgroundServer({self.url})"


def serve_model(trained: TrainedModel, host: str, port: int, keys: str = "") -> BackgroundServer:
    """Serve ``trained`` by the Milvus of its settings; returns when it answers.

    Where its vectors do not lie there they are inserted first. ``keys`` are those of
    ``SERVING_KEYS``, which addresses need that others can reach.

    Raises:
        SettingsError: the port is in use, or keys are missing.
        UserError: the model or its Milvus cannot be used.
    """
    settings = ServiceSettings(
        model=trained.settings,
        checkpoint=trained.checkpoint,
        keys=Keys.parse(keys),
        insert_missing=True,
    )
    require_keys(settings, host)
    listening = listening_socket(host, port)
    try:
        url = address_of(host, listening)
        server = BackgroundServer(AnsweringServer(create_app(settings), url), listening, url)
        server.start()
    except BaseException:
        listening.close()
        raise
    return server
