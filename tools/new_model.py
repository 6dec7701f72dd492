# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Make a model folder that trains at once: ``python tools/new_model.py NAME``."""

import sys

from paddlerec_milvus.contributing.new_cli import main

if __name__ == "__main__":
    sys.exit(main())
