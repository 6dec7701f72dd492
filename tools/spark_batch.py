# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The lists of all users by Spark: ``spark-submit tools/spark_batch.py --export DIR …``."""

import sys

from paddlerec_milvus.batch.spark_lists import main

if __name__ == "__main__":
    sys.exit(main())
