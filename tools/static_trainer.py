# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""PaddleRec's name: says which command does it here."""

import sys

from paddlerec_milvus.paddlerec_names import main

if __name__ == "__main__":
    sys.exit(main("static_trainer.py"))
