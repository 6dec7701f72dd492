# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Check a model folder by running it: ``python tools/check_model.py -m mind/config.yaml``."""

import sys

from paddlerec_milvus.contributing.check_cli import main

if __name__ == "__main__":
    sys.exit(main())
