# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``uvicorn paddlerec_milvus.serving.main:app``: the service of the SERVING_… variables."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings

from paddlerec_milvus.errors import UserError

warnings.filterwarnings("ignore", "No ccache found")  # paddle's, of no concern to a user

from paddlerec_milvus.serving.app import create_app  # noqa: E402
from paddlerec_milvus.serving.gate import require_keys  # noqa: E402
from paddlerec_milvus.serving.observability import log_json_lines  # noqa: E402
from paddlerec_milvus.serving.process_resources import limit_resources  # noqa: E402
from paddlerec_milvus.serving.settings import settings_from_environment  # noqa: E402
from paddlerec_milvus.subcommands import as_typed  # noqa: E402

logger = logging.getLogger("paddlerec_milvus.serving")

# uvicorn's; where another server keeps its address elsewhere, the first request is refused
options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
options.add_argument("--host", default=os.environ.get("UVICORN_HOST", "127.0.0.1"))
options.add_argument("--workers", default=os.environ.get("WEB_CONCURRENCY", "1"))
started = options.parse_known_args()[0]

log_json_lines()
limit_resources()
if started.workers != "1":
    logger.warning(
        "one of %s worker processes: each counts for itself, and a scrape of /metrics reaches one "
        "of them by chance; watch services of one process each",
        started.workers,
    )
try:
    settings = settings_from_environment()
    require_keys(settings, started.host)
    app = create_app(settings)
except UserError as error:
    sys.exit(f"error: {as_typed(str(error))}")
