# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""benchmarks/service_faults.py: faults, with writes and requests meanwhile, a row for each kind."""
