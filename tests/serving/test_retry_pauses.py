# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What failed is tried again, ever more seldom."""

from __future__ import annotations

from paddlerec_milvus.serving.retry_pauses import RetryPauses


def test_a_pause_is_twice_the_one_before_up_to_the_longest():
    now = 100.0
    pauses = RetryPauses(2.0, 5.0, clock=lambda: now)
    assert pauses.is_due("a")
    for pause in (2.0, 4.0, 5.0, 5.0):
        pauses.postpone("a")
        now += pause - 0.5
        assert not pauses.is_due("a")
        assert pauses.is_due("b")
        now += 0.5
        assert pauses.is_due("a")
