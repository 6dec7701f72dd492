# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Train channels and a ranker: ``python -u tools/rank.py -m mind/config.yaml``."""

import sys

from paddlerec_milvus.ranking.cli import main

if __name__ == "__main__":
    sys.exit(main())
