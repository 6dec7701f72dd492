# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The lists of all users: ``python -u tools/batch.py -m mind/config.yaml --out DIR``."""

import sys

from paddlerec_milvus.batch.cli import main

if __name__ == "__main__":
    sys.exit(main())
