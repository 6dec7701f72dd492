# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Lists of a few test users as a table: ranked beside the model's own order, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from itertools import zip_longest

import numpy as np
from tabulate import tabulate

from paddlerec_milvus.data.catalogue import Catalogue, read_catalogue
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.id_map import IdMap, read_item_ids
from paddlerec_milvus.encoder import loaded_encoder
from paddlerec_milvus.ranking.channels import CHANNELS, INTERESTS
from paddlerec_milvus.ranking.contributions import main_groups_text
from paddlerec_milvus.ranking.ranking_model import RankedList, RankingModel
from paddlerec_milvus.ranking.samples import SearchedUser, held_out_moments, searched_users
from paddlerec_milvus.retrieval.exact import ExactRetriever
from paddlerec_milvus.trained_model import TrainedModel

LENGTH, WIDTH, CLICKS = 10, 36, 3  # items of a list, letters of a title, last clicks that are named
HEADERS = ("", "ranked", "before", "what moved it", "follows", "the model's own order")


def shown_lists(model: RankingModel, trained: TrainedModel, users: int) -> str:
    """Both orders for the first ``users`` of the test users, ten items each.

    DataError: there are no test users.
    """
    held_out = read_held_out(trained.settings.path("test_data_dir"))
    vectors, encoder = model.traits.vectors, loaded_encoder(*trained)
    catalogue = read_catalogue(trained.data, len(vectors) - 1)
    ids = read_item_ids(trained.data)
    retriever = ExactRetriever(vectors[1:], np.arange(1, len(vectors)), "IP")
    moments = held_out_moments(held_out)[:users]
    tables = []
    most = model.channels.searched
    for user in searched_users(moments, encoder.interests, encoder.maxlen, retriever, most):
        excluded = set(user.moment.history.tolist())
        arguments = (user.clicks, user.interests, user.hits, excluded, LENGTH)
        best = model.rank(*arguments, explain=True)
        tables.append(_table(user, best, partial(_name, catalogue=catalogue, ids=ids)))
    return "\n\n".join(tables)


def _table(user: SearchedUser, best: RankedList, name_of: Callable[[int], str]) -> str:
    """``before``: the place in the model's own order; empty: another channel brought it."""
    before = best.ranks[:, CHANNELS.index(INTERESTS)].tolist()
    why = [] if best.contributions is None else map(main_groups_text, best.contributions)
    columns = (
        range(1, LENGTH + 1),
        map(name_of, best.items.tolist()),
        [place or "" for place in before],
        why,
        map(name_of, best.follows.tolist()),
        map(name_of, user.hits.items[:LENGTH].tolist()),
    )
    rows = zip_longest(*columns, fillvalue="")
    clicks = "; ".join(map(name_of, user.clicks[-CLICKS:].tolist()))
    table = tabulate(rows, headers=HEADERS, disable_numparse=True)
    return f"after {clicks}\n{table}"


def _name(item: int, catalogue: Catalogue, ids: IdMap) -> str:
    title = catalogue.titles.get(item) or f"item {ids.own(item)}"
    return textwrap.shorten(title, WIDTH, placeholder="…") if item else ""
