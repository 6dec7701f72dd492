# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What benchmarks/training_speed.py measures beside the two trainers, each a process of its own."""
