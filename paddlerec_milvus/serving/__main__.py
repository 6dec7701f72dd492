# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.serving``: the service, with vectors, and its page's address."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Mapping, Sequence

import uvicorn
from fastapi import FastAPI

from paddlerec_milvus.command import run
from paddlerec_milvus.errors import SettingsError, UserError

warnings.filterwarnings("ignore", "No ccache found")  # paddle's, of no concern to a user

from paddlerec_milvus.serving.app import create_app  # noqa: E402
from paddlerec_milvus.serving.gate import require_keys  # noqa: E402
from paddlerec_milvus.serving.observability import log_json_lines  # noqa: E402
from paddlerec_milvus.serving.server_limits import limit_server  # noqa: E402
from paddlerec_milvus.serving.settings import (  # noqa: E402
    VARIABLES,
    settings_from_environment,
)
from paddlerec_milvus.subcommands import CommandParser  # noqa: E402

EPILOG = f"""\
examples:
  python -m paddlerec_milvus.serving
  python -m paddlerec_milvus.serving -m mind/config.yaml --data datasets/mine --port 8080

settings: the model's yaml and the environment variables MILVUS_URI, MILVUS_TOKEN and
  {", ".join(VARIABLES)}
the same service without an insert at its start:
  uvicorn paddlerec_milvus.serving.main:app"""

logger = logging.getLogger("paddlerec_milvus.serving")

GRACE_SECONDS = 5  # for the answers under way, at the end; each has a shorter deadline
MORE_SECONDS = 3.0  # until a thread that goes on, a build's, is not waited for any more


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2 for a user's mistake, 130 for Ctrl-C before it answers, 0 for Ctrl-C after."""
    parser = CommandParser(
        prog="python -m paddlerec_milvus.serving",
        description="Serve candidates. Where Milvus holds no vectors of a model that is here, "
        "those of the checkpoint are inserted first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="(127.0.0.1: this machine alone); others need keys"
    )
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one (8000)")
    parser.add_argument("-m", dest="yaml", metavar="YAML", help="in place of SERVING_YAML")
    parser.add_argument("--data", metavar="DIR", help="in place of SERVING_DATA")
    arguments = parser.parse_args(argv)
    own = {"SERVING_YAML": arguments.yaml, "SERVING_DATA": arguments.data}
    environment = {**os.environ, **{name: value for name, value in own.items() if value}}
    return run(lambda: _serve(arguments.host, arguments.port, environment))


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _serve(host: str, port: int, environment: Mapping[str, str]) -> None:
    log_json_lines()
    with _listening(host, port) as listening:
        settings = settings_from_environment(environment)
        require_keys(settings, host)
        app = create_app(settings.model_copy(update={"insert_missing": True}))
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{listening.getsockname()[1]}/"
        print(f"starting; then the page is {url} and all calls are at {url}docs", file=sys.stderr)
        _run(_Server(app, url), listening)


def _run(server: _Server, listening: socket.socket) -> None:
    """Serve until a signal; UserError, or exit code 1 where it is no user's mistake."""
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        if not server.started:
            raise
    except UserError as error:
        raise UserError(getattr(server.app.state, "refused", str(error))) from None
    except Exception as error:
        logger.exception("the service failed")
        sys.exit(f"error: the service failed with {type(error).__name__}: see the line above")


def _listening(host: str, port: int) -> socket.socket:
    """A socket with this address; SettingsError: it is in use, or not this machine's."""
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


def _unusable(address: str, error: OSError) -> SettingsError:
    reason = error.strerror or error
    return SettingsError(
        f"{address}: {reason}; give another --host or --port, or end what listens there"
    )


class _Server(uvicorn.Server):
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
    """False for the traceback of a call that :meth:`_Server.shutdown` has given up."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, asyncio.CancelledError)


def _end(number: int) -> None:
    text = f"ended by {signal.Signals(number).name}; the next start drops what is half built\n"
    os.write(sys.stderr.fileno(), text.encode())  # print may be interrupted in itself
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
