# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
from __future__ import annotations

import subprocess
import sys

import pytest

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw, IvfFlat, index_from_settings


def test_milvus_spelling_of_parameters():
    assert index_from_settings("FLAT", {}) == Flat()
    ivf = index_from_settings("IVF_FLAT", {"nlist": 64, "nprobe": 8})
    assert (ivf, ivf.build_params(), ivf.search_params(50)) == (
        IvfFlat(64, 8),
        {"nlist": 64},
        {"nprobe": 8},
    )
    hnsw = index_from_settings("HNSW", {"M": 8, "efConstruction": 100, "ef": 64})
    assert hnsw == Hnsw(8, 100, 64)
    assert hnsw.build_params() == {"M": 8, "efConstruction": 100}
    assert hnsw.search_params(50) == {"ef": 64}
    # a yaml may list the parameters of all types
    assert index_from_settings("HNSW", {"M": 8, "nprobe": 3}) == Hnsw(8)
    assert hnsw.search_params(200) == {"ef": 200}  # Milvus refuses ef below k


def test_exact_ones():
    assert Flat().is_exact
    assert IvfFlat(64, 64).is_exact
    assert not IvfFlat(64, 63).is_exact
    assert not Hnsw().is_exact


@pytest.mark.parametrize(
    ("type_name", "params", "expected"),
    [
        ("HNWS", {}, "index.type: 'HNWS' is not known (did you mean 'HNSW'?)"),
        ("IVF_FLAT", {"nprobes": 3}, "index.nprobes: no index has this parameter (did you mean"),
        ("FLAT", {"nprobes": 3}, "FLAT has: none"),
        ("IVF_FLAT", {"nprobe": 0}, "index.nprobe: 0 cannot be used"),
        ("IVF_FLAT", {"nlist": 8, "nprobe": 9}, "index.nprobe: 9 is more than index.nlist: 8"),
        ("HNSW", {"efConstruction": "200"}, "index.efConstruction: '200' cannot be used"),
        ("HNSW", {"M": True}, "index.M: True cannot be used"),
        ("HNSW", {"M": 1}, "from 2 to 2,048"),
    ],
)
def test_errors_name_the_key_of_the_yaml(type_name, params, expected):
    with pytest.raises(SettingsError) as caught:
        index_from_settings(type_name, params)
    assert expected in str(caught.value)


def test_numpy_is_all_that_the_exact_half_imports():
    code = """
import sys
import paddlerec_milvus.retrieval.base, paddlerec_milvus.retrieval.exact
import paddlerec_milvus.retrieval.indexes, paddlerec_milvus.retrieval.merge
import paddlerec_milvus.retrieval.candidates, paddlerec_milvus.retrieval.server
heavy = {"pymilvus", "paddle", "fastapi", "grpc", "milvus", "milvus_lite"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
