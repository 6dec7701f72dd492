# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How much memory an index will need, said before it is built."""

from __future__ import annotations

from paddlerec_milvus.retrieval.indexes import (
    SQ_BITS,
    AutoIndex,
    DiskAnn,
    Hnsw,
    HnswSq,
    Index,
    Ivf,
    IvfPq,
    IvfSq8,
    Scann,
)

MIB = 2**20
ID_BYTES = 8
# Of a row beside its vector: id, timestamp, category, the ways to find them, and what a load leaves
# behind. Measured: a 2.3.5 server grew by 110 to 200 more than its index has, with 7 indexes of
# 100,000 to 600,000 rows of 64 values.
ROW_BYTES = 150


def estimate_mib(index: Index, rows: int, dimension: int) -> float:
    """MiB that a server keeps for ``rows`` vectors of ``dimension`` D in ``index``, loaded.

    A row's vector takes 4 D bytes as float32 (FLAT, IVF_FLAT, HNSW), D in IVF_SQ8, m * nbits / 8
    in IVF_PQ, 4 D and 4 bits for two values in SCANN (the codes, and the vectors to compare
    again), D / 2 to 2 D in HNSW_SQ. An IVF index (faiss' inverted lists) adds an id of 8 bytes a
    row and ``nlist`` centres of 4 D bytes; PQ codes need 2^nbits entries of 4 D bytes. HNSW adds
    what :func:`_graph_bytes` counts; AUTOINDEX is 2.3.5's, HNSW with M 18. DISKANN is rough:
    Milvus' defaults are codes of an eighth of the vectors and a cache of a tenth, the rest is on
    disk. All rows add ``ROW_BYTES``. The server itself is left out (some 200 MiB empty), and what
    building takes. At 367,982 x 64 it was 5 to 21 % below what a 2.3.5 server added, started anew.
    """
    row = ROW_BYTES + _vector_bytes(index, dimension)
    whole = 0.0
    if isinstance(index, Ivf):
        row += ID_BYTES
        whole += 4.0 * index.nlist * dimension
    if isinstance(index, IvfPq | Scann):
        bits = index.nbits if isinstance(index, IvfPq) else 4
        whole += 2.0**bits * 4 * dimension
    if isinstance(index, Hnsw):
        row += _graph_bytes(index.M)
    if isinstance(index, AutoIndex):
        row += _graph_bytes(18)
    return (rows * row + whole) / MIB


def _vector_bytes(index: Index, dimension: int) -> float:
    """Of a row's vector, in whatever form it is kept."""
    raw = 4.0 * dimension
    if isinstance(index, IvfSq8):
        return float(dimension)
    if isinstance(index, IvfPq):
        return index.m * index.nbits / 8
    if isinstance(index, Scann):
        return raw + dimension / 4
    if isinstance(index, HnswSq):
        return dimension * SQ_BITS[index.sq_type] / 8
    if isinstance(index, DiskAnn):
        return raw / 8 + raw / 10
    return raw


def _graph_bytes(links: int) -> float:
    """Of a row in a graph of ``M`` = links, as hnswlib lays it out.

    On the lowest layer 2 M links of 4 bytes, their count and an id; M links and a count for each
    higher layer, of which a row has 1 / (M - 1) on average; a lock of 40 bytes, the row's level
    and the address of its higher links.
    """
    lowest = 4 * (2 * links + 1) + ID_BYTES
    higher = 4 * (links + 1) / (links - 1)
    return lowest + higher + 40 + 4 + 8
