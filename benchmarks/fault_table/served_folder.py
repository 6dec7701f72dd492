# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Where training leaves its checkpoint and a service finds it, one epoch at a time; its lists."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.data.histories import pad_histories
from paddlerec_milvus.data.id_map import OwnId, read_item_ids
from paddlerec_milvus.retrieval.base import FloatArray
from paddlerec_milvus.retrieval.candidates import search_users
from paddlerec_milvus.retrieval.exact import ExactRetriever

YAML = "mind/config.yaml"
PARAMETERS = "rec.pdparams"


class ExpectedLists(NamedTuple):
    """Of some histories, by one model."""

    lists: list[list[OwnId | None]]
    interests: FloatArray
    """[n, D], those of all histories."""


class ServedFolder:
    """The epochs of ``checkpoints``, of which one lies in ``place`` for a service to insert.

    ``data`` is the prepared folder that they were trained on, ``options`` are further settings as a
    command line gives them.
    """

    def __init__(
        self, place: Path, checkpoints: Path, data: Path | None, options: Sequence[str] = ()
    ) -> None:
        self.place, self.data = place, data
        self.checkpoints, self.model_options = checkpoints, options
        self._newest = place / "newest"
        self.put(0)

    def put(self, epoch: int) -> None:
        """Write the checkpoint of ``epoch`` over the one that is there."""
        target = self._newest / "0"
        target.mkdir(parents=True, exist_ok=True)
        fresh = target / "fresh"
        shutil.copyfile(self.checkpoints / str(epoch) / PARAMETERS, fresh)
        fresh.replace(target / PARAMETERS)

    def options(self, collection: str) -> list[str]:
        """As a command line gives them; exact search, so that lists are known beforehand."""
        return [
            *self.model_options,
            f"runner.infer_load_path={self._newest}",
            f"milvus.collection={collection}",
            "index.type=FLAT",
        ]

    def environment(self, uri: str, collection: str, timeout: float) -> dict[str, str]:
        """Of a service on this folder."""
        return {
            "MILVUS_URI": uri,
            "SERVING_OPTIONS": shlex.join(self.options(collection)),
            "SERVING_KEPT": str(self.place / f"served_{collection}"),
            "SERVING_TIMEOUT": str(timeout),
            **({} if self.data is None else {"SERVING_DATA": str(self.data.resolve())}),
        }

    def expected(
        self, epoch: int, histories: Sequence[Sequence[OwnId]], top_k: int
    ) -> ExpectedLists:
        """What the model of ``epoch`` answers to ``histories``: by exact search, no service."""
        from paddlerec_milvus.encoder import Encoder  # paddle is slow to load
        from paddlerec_milvus.zoo import ModelFolder

        settings = settings_for(YAML, self.options("none"), self.data)
        encoder = Encoder(settings, ModelFolder(settings.model_dir))
        encoder.load(self.checkpoints / str(epoch))
        table: FloatArray = encoder.item_vectors()
        exact = ExactRetriever(table[1:], range(1, len(table)), settings.retrieval.metric)
        ids = read_item_ids(settings.path("train_data_dir").parent)
        lists, vectors = [], []
        for history in histories:
            numbers = [ids.number(item) or 0 for item in history]
            interests = encoder.interests(*pad_histories([numbers], encoder.maxlen))
            vectors += list(interests[0])
            nearest = search_users(exact, interests, top_k, [np.array(numbers)]).ids[0]
            lists.append([ids.own(number) for number in nearest.tolist()])
        return ExpectedLists(lists, np.stack(vectors))
