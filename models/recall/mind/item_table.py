# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The items of a recall network: their embeddings, with side features or not, as they are searched.

Letters: D dimensions, F feature columns, V rows of the table (row 0 is padding).
"""

from __future__ import annotations

import math

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F  # noqa: N812 - paddle's own idiom
from features import FeatureEmbeddings


def to_unit(vectors):
    """``vectors`` [..., D] at length 1 (``F.normalize``'s gradient is far slower on a CPU)."""
    return vectors * paddle.rsqrt(paddle.sum(vectors * vectors, axis=-1, keepdim=True) + 1e-12)


def squash(z):
    """Shrink each vector of ``z`` [..., D] to a length below 1, direction kept (MIND, eq. 6)."""
    squared = paddle.sum(z * z, axis=-1, keepdim=True)
    return z * (squared / (1.0 + squared) / paddle.sqrt(squared + 1e-9))


def on_cpu(tensor):
    """Whether the numbers of ``tensor`` are at hand on a CPU; those of a static graph are not."""
    return paddle.in_dynamic_mode() and tensor.place.is_cpu_place()


def distinct(ids):
    """The distinct of ``ids`` [n] int64, below 2^31, rising, and each one's place among them."""
    packed = np.sort((ids << 32) | np.arange(len(ids)))  # several times as fast as np.unique
    ordered = packed >> 32
    first = np.append(True, ordered[1:] != ordered[:-1])
    places = np.empty_like(ids)
    places[packed & 0xFFFFFFFF] = np.cumsum(first) - 1
    return ordered[first], places


def lookup_rows(table, *ids):
    """What ``table`` has for each of ``ids`` [...]: [..., D].

    On a CPU by one look-up of the distinct ids, so that the optimizer sees each row once.
    """
    if not on_cpu(ids[0]):
        return [table(part) for part in ids]
    rows, places = distinct(np.concatenate([part.numpy().reshape(-1) for part in ids]))
    vectors, of_ids, start = table(paddle.to_tensor(rows)), [], 0
    for part in ids:
        stop = start + math.prod(part.shape)
        place = paddle.to_tensor(places[start:stop]).reshape(part.shape)
        of_ids.append(F.embedding(place, vectors))
        start = stop
    return of_ids


class ItemTable(nn.Layer):
    """The part of a network that holds its items; a network derives from it.

    ``item_codes`` [V, F] int64 are the items' side features, where the model has them.
    """

    def __init__(self, item_count, embedding_dim, emb_init_std, normalize, item_codes=None):
        super().__init__()
        self.normalize = normalize
        self.item_emb = nn.Embedding(
            item_count,
            embedding_dim,
            padding_idx=0,
            sparse=True,
            weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, emb_init_std)),
        )
        self.item_features = None
        if item_codes is not None:
            sizes = (item_codes.max(axis=0) + 1).tolist()
            self.register_buffer("item_codes", paddle.to_tensor(item_codes))
            self.item_features = FeatureEmbeddings(sizes, embedding_dim, emb_init_std)

    def unit(self, vectors):
        """``vectors`` [..., D] at length 1 when the model is normalised, else as they are."""
        return to_unit(vectors) if self.normalize else vectors

    def items(self, ids):
        """Vectors [..., D] of item ``ids``: the item's own embedding, or where there are features
        the mean of it and of those that are known (MIND's paper, section 3.2).
        """
        vectors = self.item_emb(ids)
        if self.item_features is not None:
            features, known = self.item_features(self.item_codes[ids])
            vectors = (vectors + features) / (1.0 + known)
        return self.unit(vectors)

    def item_vectors(self):
        """What is searched: [V, D] float32, row 0 is padding and not an item."""
        if self.item_features is None:
            return self.unit(self.item_emb.weight)
        return self.items(paddle.arange(self.item_emb.weight.shape[0]))

    def lookup(self, *ids):
        """Vectors [..., D] of each of ``ids`` [...]."""
        return lookup_rows(self.items, *ids)

    def vectors_of_features(self, ids, codes):
        """Vectors [n, D] of items by the ``codes`` [n, F] int64 of their features; 0 is unknown.

        An item of the table (``ids`` [n] int64) brings its own embedding too; of any other the
        features are all that is known. None: the model has no item features. ValueError: codes of
        another table, or an item of which nothing is known.
        """
        if self.item_features is None:
            return None
        sizes = np.array([len(table.weight) for table in self.item_features.tables])
        if codes.shape[1:] != sizes.shape or ((codes < 0) | (codes >= sizes)).any():
            raise ValueError(f"codes of item features must be below {sizes.tolist()}, from 0")
        lost = ((ids < 1) | (ids >= len(self.item_emb.weight))) & ~(codes > 0).any(axis=1)
        if lost.any():
            raise ValueError(
                f"item {ids[lost][0]} is new, and the model knows none of its features"
            )
        return self.vectors_by_codes(paddle.to_tensor(ids), paddle.to_tensor(codes))

    def vectors_by_codes(self, ids, codes):
        """The same of tensors, unchecked: what is exported."""
        own = paddle.logical_and(ids >= 1, ids < self.item_emb.weight.shape[0])
        features, known = self.item_features(codes)
        rows = paddle.where(own, ids, paddle.zeros_like(ids))  # row 0 is no vector
        parts = known + own.unsqueeze(1).astype("float32")
        return self.unit((self.item_emb(rows) + features) / parts)
