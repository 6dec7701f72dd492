# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``uvicorn main:app`` in this folder, or ``uvicorn --app-dir serving main:app`` anywhere."""

from __future__ import annotations

import sys
import warnings

from paddlerec_milvus.errors import UserError

warnings.filterwarnings("ignore", "No ccache found")  # paddle's, of no concern to a user

from paddlerec_milvus.serving.app import create_app  # noqa: E402
from paddlerec_milvus.serving.observability import log_json_lines  # noqa: E402
from paddlerec_milvus.serving.settings import settings_from_environment  # noqa: E402

log_json_lines()
try:
    app = create_app(settings_from_environment())
except UserError as error:
    sys.exit(f"error: {error}")
