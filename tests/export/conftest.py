# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Exports are served by the helpers of tests/serving."""

from __future__ import annotations

import sys

from support import ROOT

sys.path.append(str(ROOT / "tests" / "serving"))
