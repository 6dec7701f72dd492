# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What each index and its parameters cost in latency, memory and relevance: see ``--help``."""

import sys

if __name__ == "__main__":
    from paddlerec_milvus.bench.cli import main  # not in client processes, which import this file

    sys.exit(main())
