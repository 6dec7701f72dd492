# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Packed texts and numbers answer as the dicts whose place they take."""

from __future__ import annotations

import random

import numpy as np
import pytest

from paddlerec_milvus.data.id_map import IdMap
from paddlerec_milvus.data.packed_texts import PackedTexts, SharedTexts, smallest_ints
from paddlerec_milvus.errors import DataError

PAIRS = [(3, "b"), (1, "Straße"), (9, "beyond"), (4, ""), (0, "padding"), (7, "挪威\nII"), (2, "b")]
PLAIN = {1: "Straße", 2: "b", 3: "b", 7: "挪威\nII"}


@pytest.mark.parametrize("kind", [PackedTexts, SharedTexts])
def test_as_a_dict(kind):
    texts = kind(iter(PAIRS), 7)
    assert dict(texts) == PLAIN
    assert len(texts) == 4
    assert [texts.get(n) for n in range(-1, 11)] == [PLAIN.get(n) for n in range(-1, 11)]
    assert texts.get(4, "none") == "none"
    assert 4 not in texts
    assert -1 not in texts
    with pytest.raises(KeyError):
        texts[9]
    assert not kind([], 0)
    assert dict(kind([(1, "\udc80")], 1)) == {1: "\udc80"}


def test_names_of_shared_texts():
    texts = SharedTexts(PAIRS, 7)
    assert texts.names == ["Straße", "b", "挪威\nII"]
    assert texts.by_number.tolist() == [-1, 0, 1, 1, -1, -1, -1, 2]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([], "uint8"),
        ([0, 255], "uint8"),
        ([-1, 127], "int8"),
        ([-1, 128], "int16"),
        ([-129, 0], "int16"),
        ([2**32], "uint64"),
        ([-(2**63), 2**63 - 1], "int64"),
    ],
)
def test_smallest_ints(values, kind):
    packed = smallest_ints(np.array(values, np.int64))
    assert packed.dtype == kind
    assert packed.tolist() == values


def test_int_ids():
    own = random.Random(1).sample(range(-(10**12), 10**12), 1_000)
    ids = IdMap("int", own, first=5)
    plain = {one: number for number, one in enumerate(own, 5)}
    assert dict(ids.numbers) == plain
    assert len(ids.numbers) == 1_000
    asked = [*own, 0, 2**70, -(2**70), "7", str(own[0])]
    assert [ids.number(one) for one in asked] == [plain.get(one) for one in asked]
    assert ids.own_ids(range(5, 1_005)) == own
    assert isinstance(ids.own(5), int)
    with pytest.raises(DataError, match="1 ids stand twice"):
        IdMap("int", [8, 3, 8])
