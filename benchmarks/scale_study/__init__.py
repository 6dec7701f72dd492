# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""benchmarks/scale.py: vectors in blocks → measured rows → fit → plan → page."""
