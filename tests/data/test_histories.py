# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.errors import SettingsError


@given(st.lists(st.lists(st.integers(1, 99), max_size=9), max_size=6), st.integers(1, 6))
def test_the_last_clicks_stand_left_and_zeros_right(histories: list[list[int]], maxlen: int):
    padded, lengths = pad_histories(histories, maxlen)
    assert padded.shape == (len(histories), maxlen)
    for history, row, length in zip(histories, padded.tolist(), lengths.tolist(), strict=True):
        assert row == history[-maxlen:] + [0] * (maxlen - length)
    of_arrays, _ = pad_histories([np.array(history, np.int64) for history in histories], maxlen)
    assert (of_arrays == padded).all()


def test_no_place_for_a_click_is_refused():
    with pytest.raises(SettingsError, match="maxlen is 0; expected 1 or more"):
        pad_histories([[1]], 0)
