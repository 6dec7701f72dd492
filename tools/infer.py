# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Evaluate through Milvus: ``python -u tools/infer.py -m mind/config.yaml -top_n 50``."""

import sys

from paddlerec_milvus.evaluation.cli import main

if __name__ == "__main__":
    sys.exit(main())
