# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Write a model into PaddleRec: ``tools/contribute.py -m NAME/config.yaml --to PADDLEREC``."""

import sys

from paddlerec_milvus.contributing.contribute_cli import main

if __name__ == "__main__":
    sys.exit(main())
