# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Replace the model that serves: ``python -u tools/update.py -m … --exports DIR``."""

import sys

from paddlerec_milvus.update.cli import main

if __name__ == "__main__":
    sys.exit(main())
