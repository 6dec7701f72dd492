# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The benchmarks' own modules can be imported, as from a script that lies beside them."""

import sys

from support import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
