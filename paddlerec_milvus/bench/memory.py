# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""How much memory an index will need, said before it is built."""

from __future__ import annotations

from paddlerec_milvus.retrieval.indexes import Index

MIB = 2**20
ID_BYTES = 8
ROW_BYTES = 4 * ID_BYTES  # id, timestamp, category and their places, kept beside the vectors


def estimate_mib(index: Index, rows: int, dimension: int) -> float:
    """MiB that a server keeps for ``rows`` vectors of ``dimension`` D in ``index``.

    Vectors are 4 D bytes a row in FLAT, IVF_FLAT and HNSW, D in the SQ8 ones, and codes of
    m * nbits bits in IVF_PQ; SCANN keeps 4-bit codes of D / 2 parts beside the vectors. IVF adds
    ``nlist`` centres of 4 D bytes and an id a row; HNSW 2 M links of 4 bytes a row on its lowest
    layer, M more for each of the 1 / (M - 1) rows that stand on a higher one, and a label
    (hnswlib's layout). DISKANN keeps codes of about a quarter of the vectors, the graph is on disk.
    AUTOINDEX is taken for HNSW with M 18. The server itself (some 200 MiB) is not in it.
    """
    params = index.build_params()
    name, raw = index.type_name, 4.0 * dimension
    centres = float(params.get("nlist", 0)) * raw
    links = int(params.get("M", 18 if name == "AUTOINDEX" else 0))
    graph = (4.0 * (2 * links + links / max(links - 1, 1)) + ID_BYTES + 4) if links else 0.0
    vector = {
        "IVF_SQ8": float(dimension),
        "HNSW_SQ": float(dimension),
        "IVF_PQ": int(params.get("m", 0)) * int(params.get("nbits", 8)) / 8,
        "SCANN": raw + dimension / 4,
        "DISKANN": raw / 4,
    }.get(name, raw)
    codebooks = 2.0 ** int(params.get("nbits", 0)) * raw if name == "IVF_PQ" else 0.0
    ids = ID_BYTES if centres else 0
    return (rows * (vector + graph + ids + ROW_BYTES) + centres + codebooks) / MIB
