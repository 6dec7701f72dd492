# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""benchmarks/zoo_speed.py: what is compared with what, and the table."""

from __future__ import annotations

import json
from pathlib import Path

from peers.runs import Contender
from zoo_speed import BATCH, pairs, table

from paddlerec_milvus.config import load_settings


def test_both_of_a_pair_have_the_same_sizes(data, tmp_path):
    listed = list(pairs(data, Path("REMI"), "python", tmp_path))
    for own, other in listed:
        ours = load_settings(own.command[-1]).hyper_parameters | own.hyper
        theirs = json.loads(other.command[3])
        assert (own.batch, own.negatives) == (other.batch, other.negatives)
        width, length = (
            next(theirs[name] for name in names if name in theirs)
            for names in (("hidden_size", "n_factors"), ("maxlen", "session_max_len"))
        )
        assert (ours["embedding_dim"], ours["maxlen"]) == (width, length)
        assert ours["item_count"] == theirs["item_count"] == data.item_count
        assert ours.get("max_k") in (None, theirs.get("interest_num"))
    assert len({own.title for own, _ in listed}) == len(listed)
    assert (tmp_path / "clicks.npz").exists()


def test_the_table_compares_medians():
    def run_of(rate: float) -> dict[str, float]:
        return {"rate": rate, "step": BATCH / rate, "reader": 0.0, "peak_mb": 1.0}

    def measured(title: str, *rates: float) -> Contender:
        return Contender(title, [], BATCH, 1280, {}, {}, 1.0, [run_of(rate) for rate in rates])

    text = table([(measured("a", 100, 300, 200), measured("b", 90, 80, 1000))], "github")
    assert "| a      | b        | 200 (100, 300)                | 90 (80, 1,000) | 2.22" in text
