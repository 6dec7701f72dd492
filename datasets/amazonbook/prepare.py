# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Prepare a click log for training and evaluation; ``--help`` shows how."""

import sys

from paddlerec_milvus.data.cli import main

if __name__ == "__main__":
    sys.exit(main())
