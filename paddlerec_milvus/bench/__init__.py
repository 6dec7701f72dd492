# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What an index setting costs in latency, throughput, memory and relevance."""
