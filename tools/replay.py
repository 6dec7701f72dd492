# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Compare two configurations: ``python -u tools/replay.py --a "-m mind/config.yaml" --b …``."""

import sys

from paddlerec_milvus.evaluation.replay_cli import main

if __name__ == "__main__":
    sys.exit(main())
