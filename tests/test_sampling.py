# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rows that stand for all reach from the first to the last."""

from paddlerec_milvus.sampling import evenly_spread


def test_spread_covers_both_ends():
    assert evenly_spread(10, 100).tolist() == list(range(10))
    assert evenly_spread(1000, 3).tolist() == [0, 499, 999]
