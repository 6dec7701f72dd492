# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The estimate of an index' memory: by hand, and against what other libraries' indexes weigh."""

from __future__ import annotations

import numpy as np
import pytest

from paddlerec_milvus.retrieval.indexes import (
    SQ_BITS,
    TYPES,
    AutoIndex,
    DiskAnn,
    Flat,
    Hnsw,
    HnswSq,
    IvfFlat,
    IvfPq,
    IvfSq8,
    Scann,
    index_from_settings,
)
from paddlerec_milvus.retrieval.memory_estimate import MIB, ROW_BYTES, estimate_mib

ROWS, DIMENSION = 4_000, 32
VECTORS = np.random.default_rng(1).standard_normal((ROWS, DIMENSION), dtype=np.float32)


def index_bytes(index, rows=ROWS, dimension=DIMENSION):
    """Without what a server keeps of a row beside the index."""
    return estimate_mib(index, rows, dimension) * MIB - rows * ROW_BYTES


def test_by_hand():
    # 1,000,000 x 128 float32 = 512,000,000 bytes
    assert index_bytes(Flat(), 1_000_000, 128) == pytest.approx(512e6)
    # + 8 bytes a row, 1,024 centres of 512 bytes
    assert index_bytes(IvfFlat(1024, 8), 1_000_000, 128) == pytest.approx(520e6 + 524_288)
    assert index_bytes(IvfSq8(1024, 8), 1_000_000, 128) == pytest.approx(136e6 + 524_288)
    # 16 bytes of codes and 8 a row, the centres, 256 entries of 512 bytes
    pq = index_bytes(IvfPq(1024, 8, m=16, nbits=8), 1_000_000, 128)
    assert pq == pytest.approx(24e6 + 524_288 + 131_072)
    # vectors, 64 codes of 4 bits, 8 bytes; the centres, 16 entries of 512 bytes
    scann = index_bytes(Scann(1024, 8), 1_000_000, 128)
    assert scann == pytest.approx((512 + 32 + 8) * 1e6 + 524_288 + 8_192)
    # 33 x 4 + 8, 17 x 4 / 15, 40 + 4 + 8 bytes a row
    hnsw = index_bytes(Hnsw(M=16), 1_000_000, 128)
    assert hnsw == pytest.approx((512 + 140 + 68 / 15 + 52) * 1e6)
    assert hnsw - index_bytes(HnswSq(M=16), 1_000_000, 128) == pytest.approx(384e6)
    assert index_bytes(AutoIndex(), 10, 8) == pytest.approx(index_bytes(Hnsw(M=18), 10, 8))
    assert index_bytes(DiskAnn(), 1_000_000, 128) == pytest.approx(115.2e6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "factory"),
    [
        (Flat(), "Flat"),
        (IvfFlat(64, 8), "IVF64,Flat"),
        (IvfSq8(64, 8), "IVF64,SQ8"),
        (IvfPq(64, 8, m=8, nbits=8), "IVF64,PQ8x8"),
    ],
)
def test_faiss_indexes_weigh_as_much(index, factory):
    faiss = pytest.importorskip("faiss")
    other = faiss.index_factory(DIMENSION, factory)
    other.train(VECTORS)
    other.add(VECTORS)
    assert index_bytes(index) == pytest.approx(len(faiss.serialize_index(other)), rel=0.02)


@pytest.mark.parametrize("links", [4, 16, 48])
def test_hnswlib_indexes_weigh_as_much(links):
    hnswlib = pytest.importorskip("hnswlib")
    other = hnswlib.Index(space="ip", dim=DIMENSION)
    other.init_index(max_elements=ROWS, M=links, ef_construction=40)
    other.add_items(VECTORS)
    # its file has no locks, levels and addresses, but the length of each row's higher links
    expected = other.index_file_size() + ROWS * (40 + 4 + 8 - 4)
    assert index_bytes(Hnsw(M=links)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("type_name", TYPES)
def test_more_rows_need_more(type_name):
    index = index_from_settings(type_name, {})
    sizes = [estimate_mib(index, rows, 64) for rows in (1_000, 100_000, 10_000_000)]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] - sizes[1] == pytest.approx((sizes[1] - sizes[0]) * 100)


def test_fewer_bits_need_less():
    sizes = [estimate_mib(HnswSq(sq_type=name), ROWS, 64) for name in SQ_BITS]
    assert sizes == sorted(sizes)
    assert sizes[-1] < estimate_mib(Hnsw(), ROWS, 64)
