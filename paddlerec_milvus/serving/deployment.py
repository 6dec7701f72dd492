# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Which model answers: a tower and a retriever that holds its item vectors.

Both belong to one checkpoint, by its fingerprint, and a request uses one pair from its beginning to
its end.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from paddlerec_milvus.data.catalogue import Catalogue
from paddlerec_milvus.data.id_map import IdMap, Kind
from paddlerec_milvus.errors import RefusedError, RetrievalError
from paddlerec_milvus.ranking.ranking_model import RankingModel
from paddlerec_milvus.retrieval.base import Retriever
from paddlerec_milvus.retrieval.build import BuildTimes
from paddlerec_milvus.serving.health import AWAY, READY, UNUSABLE, Health
from paddlerec_milvus.serving.hidden_items import HiddenItems
from paddlerec_milvus.serving.item_categories import ItemCategories
from paddlerec_milvus.serving.item_ids import ItemIds
from paddlerec_milvus.serving.item_index import IndexVersion
from paddlerec_milvus.serving.model_cache import ServingModel
from paddlerec_milvus.serving.observability import Metrics
from paddlerec_milvus.serving.tower import UserTower
from paddlerec_milvus.trained_model import ModelIdentity


@runtime_checkable
class WritableRetriever(Protocol):
    """A retriever whose items can be changed one by one."""

    def upsert(
        self, vectors: ArrayLike, ids: ArrayLike, categories: list[str] | None = None
    ) -> int:
        """Store ``vectors`` [n, D] under new or known ``ids`` [n]; returns n."""
        ...

    def delete(self, ids: ArrayLike) -> None:
        """Delete the items ``ids`` [n]; one that is not stored is no error."""
        ...


class ServedVersion(NamedTuple):
    """A model and what holds its item vectors."""

    model: ServingModel
    retriever: Retriever
    """On this version alone."""
    version: IndexVersion

    @property
    def writable(self) -> WritableRetriever:
        """The retriever, to change items; RefusedError: it takes none."""
        if not isinstance(self.retriever, WritableRetriever):
            raise RefusedError(
                f"this service searches a {type(self.retriever).__name__}, whose items cannot be "
                "changed: give create_app() a retriever with upsert and delete"
            )
        return self.retriever


class Deployment(Protocol):
    """What a service serves, and how that is changed. Safe to use from several threads."""

    health: Health
    model: ServingModel
    """The model that answers, or would if Milvus did."""
    served: ServedVersion | None
    """What answers while :attr:`health` is ready."""
    collection: str
    """The name that clients of Milvus search by."""
    own: ModelIdentity
    """What the service was started with, or inserted since."""
    stored: ModelIdentity
    """Whose item vectors are stored, at the last probe."""

    def start(self) -> None:
        """Find out what serves; called once."""

    def refresh(self) -> None:
        """Probe the retriever, and follow what serves now."""

    def insert(self) -> tuple[ServingModel, BuildTimes]:
        """Store the vectors of the checkpoint that is on disk now, and serve them."""
        ...

    def roll_back(self) -> IndexVersion:
        """Serve the version before again."""
        ...

    def previous(self) -> IndexVersion | None:
        """The version that :meth:`roll_back` goes back to; None: there is none."""
        ...

    def before(self) -> ServedVersion | None:
        """That version with its model, loaded now if need be, to be compared; None: it has none."""
        ...

    def delete(self) -> int | None:
        """Delete all stored item vectors; returns how many there were, if that is known."""
        ...

    def count(self) -> int:
        """The exact number of stored item vectors."""
        ...

    def close(self) -> None:
        """Close what was opened; what is stored stays."""


class FixedDeployment:
    """One model and one retriever for as long as the service runs: no Milvus, no checkpoint."""

    collection = ""

    def __init__(
        self,
        retriever: Retriever,
        tower: UserTower,
        catalogue: Catalogue | None,
        metrics: Metrics,
        item_ids: IdMap | None = None,
        user_kind: Kind = "int",
        ranking: RankingModel | None = None,
    ) -> None:
        self.health = Health(metrics)
        catalogue = catalogue or Catalogue(tower.items)
        ids = ItemIds(item_ids or IdMap(), tower.items)
        self.model = ServingModel(
            *(tower, catalogue, ids, ItemCategories(catalogue), HiddenItems()),
            user_kind=user_kind,
            ranking=ranking,
        )
        version = IndexVersion("", "", tower.fingerprint)
        self.model.follow(retriever, version)
        self.own = self.stored = ModelIdentity(digest=tower.fingerprint)
        self.served: ServedVersion | None = ServedVersion(self.model, retriever, version)
        self._retriever = retriever

    def start(self) -> None:
        """Probe the retriever."""
        self.refresh()

    def refresh(self) -> None:
        """Whether the retriever answers a search decides whether this is ready."""
        try:
            self._retriever.search(np.ones((1, self.model.tower.dimension), np.float32), 1)
        except RetrievalError as error:
            refused = isinstance(error, RefusedError)
            self.health.change(UNUSABLE if refused else AWAY, str(error))
        else:
            self.health.change(READY)

    def insert(self) -> NoReturn:
        """RefusedError: there is no Milvus."""
        raise self._without_milvus("nothing can be inserted")

    def roll_back(self) -> NoReturn:
        """RefusedError: there is no Milvus."""
        raise self._without_milvus("there is no version before")

    def previous(self) -> None:
        """None: there is one version alone."""

    def before(self) -> None:
        """None, as :meth:`previous`."""

    def delete(self) -> NoReturn:
        """RefusedError: there is no Milvus."""
        raise self._without_milvus("not all items can be deleted at once")

    def count(self) -> int:
        """What the retriever counts, else the items of the model."""
        count = getattr(self._retriever, "count", None)
        return int(count()) if count else self.model.tower.items

    def close(self) -> None:
        """Nothing: the retriever is its owner's to close."""

    def _without_milvus(self, what: str) -> RefusedError:
        return RefusedError(
            f"{what}: this service was started with a retriever of its own and without Milvus; "
            "create_app(settings) alone uses the Milvus of the settings"
        )
