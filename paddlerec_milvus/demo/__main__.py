# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``python -m paddlerec_milvus.demo``: the demo, as ``make demo`` calls it."""

import sys

from paddlerec_milvus.demo.cli import main

if __name__ == "__main__":
    sys.exit(main())
