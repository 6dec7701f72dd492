# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Export a trained model: ``python -u tools/export.py -m mind/config.yaml --out DIR``."""

import sys

from paddlerec_milvus.export.cli import main

if __name__ == "__main__":
    sys.exit(main())
