# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The fastest index setting that meets a target on a model's own vectors: see ``--help``."""

import sys

if __name__ == "__main__":
    from paddlerec_milvus.bench.tune_cli import main  # not in client processes

    sys.exit(main())
