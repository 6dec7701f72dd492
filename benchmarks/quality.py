# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Relevance of every model of the zoo against tuned baselines on real logs: see ``--help``."""

import sys

from quality_table.cli import main

if __name__ == "__main__":
    sys.exit(main())
