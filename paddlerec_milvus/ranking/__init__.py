# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""From several channels of candidates to one ranked list, the same online as offline."""
