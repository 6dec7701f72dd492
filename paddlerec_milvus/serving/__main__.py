# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.serving``: the service, with vectors, and its page's address."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import warnings

import uvicorn

from paddlerec_milvus.command import run
from paddlerec_milvus.errors import SettingsError

warnings.filterwarnings("ignore", "No ccache found")  # paddle's, of no concern to a user

from paddlerec_milvus.serving.app import create_app  # noqa: E402
from paddlerec_milvus.serving.logs import log_json_lines  # noqa: E402
from paddlerec_milvus.serving.settings import (  # noqa: E402
    VARIABLES,
    settings_from_environment,
)

EPILOG = f"""\
settings: the model's yaml and the environment variables MILVUS_URI, MILVUS_TOKEN and
  {", ".join(VARIABLES)}
the same service without an insert at its start: uvicorn --app-dir serving main:app"""


def main() -> int:
    """Exit code 2 for a user's mistake, 130 for Ctrl-C before it runs."""
    parser = argparse.ArgumentParser(
        prog="python -m paddlerec_milvus.serving",
        description="Serve candidates. Where Milvus holds no vectors of a model that is here, "
        "those of the checkpoint are inserted first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="(127.0.0.1: this machine alone)")
    parser.add_argument("--port", type=int, default=8000, help="(8000)")
    given = parser.parse_args()
    return run(lambda: _serve(given.host, given.port))


def _serve(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # without it an answer's body waits 40 ms for the receipt of its head
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"{host}:{port}: {error.strerror}; give another --port, or end what listens there"
            ) from error
        log_json_lines()
        settings = settings_from_environment(os.environ)
        app = create_app(settings.model_copy(update={"insert_missing": True}))
        port = listening.getsockname()[1]
        print(f"starting; the page: http://{host}:{port}/   the calls: /docs", file=sys.stderr)
        config = uvicorn.Config(app, log_level="warning")
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    sys.exit(main())
