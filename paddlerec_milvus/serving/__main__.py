# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.serving``: the service, with vectors, and its page's address."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
import warnings
from collections.abc import Mapping, Sequence

from paddlerec_milvus.command import run
from paddlerec_milvus.errors import UserError

warnings.filterwarnings("ignore", "No ccache found")  # paddle's, of no concern to a user

from paddlerec_milvus.serving.app import create_app  # noqa: E402
from paddlerec_milvus.serving.gate import require_keys  # noqa: E402
from paddlerec_milvus.serving.observability import log_json_lines  # noqa: E402
from paddlerec_milvus.serving.process_resources import limit_resources  # noqa: E402
from paddlerec_milvus.serving.server import (  # noqa: E402
    AnsweringServer,
    address_of,
    listening_socket,
)
from paddlerec_milvus.serving.settings import (  # noqa: E402
    VARIABLES,
    settings_from_environment,
)
from paddlerec_milvus.subcommands import CommandParser  # noqa: E402

EPILOG = f"""\
examples:
  python -m paddlerec_milvus.serving
  python -m paddlerec_milvus.serving -m mind/config.yaml --data datasets/mine --port 8080
  python -m paddlerec_milvus.serving --export exports/mind     # needs no paddle

settings: the model's yaml and the environment variables MILVUS_URI, MILVUS_TOKEN and
  {", ".join(VARIABLES)}
the same service without an insert at its start:
  uvicorn paddlerec_milvus.serving.main:app"""

logger = logging.getLogger("paddlerec_milvus.serving")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2 for a user's mistake, 130 for Ctrl-C before it answers, 0 for Ctrl-C after."""
    parser = CommandParser(
        prog="python -m paddlerec_milvus.serving",
        description="Serve candidates. Where Milvus holds no vectors of a model that is here, "
        "those of the checkpoint are inserted first, unless SERVING_INSERT_MISSING=0.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="(127.0.0.1: this machine alone); others need keys"
    )
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one (8000)")
    parser.add_argument("-m", dest="yaml", metavar="YAML", help="in place of SERVING_YAML")
    parser.add_argument("--data", metavar="DIR", help="in place of SERVING_DATA")
    parser.add_argument("--export", metavar="DIR", help="in place of SERVING_EXPORT")
    arguments = parser.parse_args(argv)
    own = {
        "SERVING_YAML": arguments.yaml,
        "SERVING_DATA": arguments.data,
        "SERVING_EXPORT": arguments.export,
    }
    environment = {"SERVING_INSERT_MISSING": "1", **os.environ}
    environment |= {name: value for name, value in own.items() if value}
    return run(lambda: _serve(arguments.host, arguments.port, environment))


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def _serve(host: str, port: int, environment: Mapping[str, str]) -> None:
    log_json_lines()
    limit_resources()
    with listening_socket(host, port) as listening:
        settings = settings_from_environment(environment)
        require_keys(settings, host)
        app = create_app(settings)
        url = address_of(host, listening)
        print(f"starting; then the page is {url} and all calls are at {url}docs", file=sys.stderr)
        _run(AnsweringServer(app, url), listening)


def _run(server: AnsweringServer, listening: socket.socket) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
