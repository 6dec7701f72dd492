# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Train a model folder: ``python -u tools/trainer.py -m mind/config.yaml``."""

import sys

from paddlerec_milvus.training.cli import main

if __name__ == "__main__":
    sys.exit(main())
