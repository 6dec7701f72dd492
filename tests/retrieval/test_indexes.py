# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
from __future__ import annotations

import subprocess
import sys

import pytest

from paddlerec_milvus.errors import SettingsError
from paddlerec_milvus.retrieval.indexes import (
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
    build_keys,
    index_from_settings,
    index_of_name,
    search_keys,
)


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


@pytest.mark.parametrize(
    ("type_name", "params", "index", "build", "search"),
    [
        ("FLAT", {}, Flat(), {}, {}),
        ("IVF_SQ8", {"nlist": 64, "nprobe": 8}, IvfSq8(64, 8), {"nlist": 64}, {"nprobe": 8}),
        (
            "IVF_PQ",
            {"nlist": 64, "nprobe": 8, "m": 16, "nbits": 6},
            IvfPq(64, 8, 16, 6),
            {"nlist": 64, "m": 16, "nbits": 6},
            {"nprobe": 8},
        ),
        (
            "SCANN",
            {"nlist": 64, "nprobe": 8, "reorder_k": 99},
            Scann(64, 8, 99),
            {"nlist": 64},
            {"nprobe": 8, "reorder_k": 99},
        ),
        ("DISKANN", {"search_list": 70}, DiskAnn(70), {}, {"search_list": 70}),
        ("AUTOINDEX", {}, AutoIndex(), {}, {}),
        (
            "HNSW_SQ",
            {"M": 8, "efConstruction": 90, "sq_type": "SQ6", "ef": 70},
            HnswSq(8, 90, 70, "SQ6"),
            {"M": 8, "efConstruction": 90, "sq_type": "SQ6"},
            {"ef": 70},
        ),
    ],
)
def test_every_type_in_milvus_words(type_name, params, index, build, search):
    made = index_from_settings(type_name, params)
    assert made == index
    assert type(made) is type(index)
    assert (made.type_name, made.build_params(), made.search_params(50)) == (
        type_name,
        build,
        search,
    )
    assert build_keys(type_name) == tuple(build)
    assert search_keys(type_name) == tuple(search)
    assert type_name in TYPES


@pytest.mark.parametrize("index", [Hnsw(), HnswSq(), DiskAnn(), Scann()])
def test_what_has_to_reach_k_does(index):
    (key,) = {"ef", "search_list", "reorder_k"} & set(index.search_params(10))
    assert index.search_params(10)[key] == getattr(index, key)
    assert index.search_params(1_000)[key] == 1_000


def test_exact_ones():
    assert Flat().is_exact
    assert IvfFlat(64, 64).is_exact
    assert not IvfFlat(64, 63).is_exact
    for index in (IvfSq8(64, 64), IvfPq(64, 64), Scann(64, 64), Hnsw(), DiskAnn(), AutoIndex()):
        assert not index.is_exact


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
        ("IVF_SQ8", {"nlist": 8, "nprobe": 9}, "index.nprobe: 9 is more than index.nlist: 8"),
        ("IVF_PQ", {"m": 0}, "index.m: 0 cannot be used"),
        ("IVF_PQ", {"nbits": 17}, "index.nbits: 17 cannot be used; a whole number from 1 to 16"),
        ("SCANN", {"reorder_k": 0}, "index.reorder_k: 0 cannot be used"),
        ("DISKANN", {"search_list": 1.5}, "index.search_list: 1.5 cannot be used"),
        ("HNSW_SQ", {"sq_type": "sq8"}, "index.sq_type: 'sq8' is not known (did you mean 'SQ8'?)"),
        ("HNSW_SQ", {"ef": 0}, "index.ef: 0 cannot be used"),
        ("AUTOINDEX", {"efs": 1}, "AUTOINDEX has: none"),
    ],
)
def test_errors_name_the_key_of_the_yaml(type_name, params, expected):
    with pytest.raises(SettingsError) as caught:
        index_from_settings(type_name, params)
    assert expected in str(caught.value)


@pytest.mark.parametrize("keys", [build_keys, search_keys])
def test_keys_of_an_unknown_type(keys):
    with pytest.raises(SettingsError, match=r"'IVF_SQ' is not known \(did you mean 'IVF_SQ8'"):
        keys("IVF_SQ")


def test_numpy_is_all_that_the_exact_half_imports():
    code = """
import sys
import paddlerec_milvus.retrieval.base, paddlerec_milvus.retrieval.exact
import paddlerec_milvus.retrieval.indexes
import paddlerec_milvus.retrieval.candidates, paddlerec_milvus.retrieval.server
heavy = {"pymilvus", "paddle", "fastapi", "grpc", "milvus", "milvus_lite"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_stored_index_of_few_cells_is_searched_by_settings_for_more() -> None:
    params = {"nlist": 1024, "nprobe": 128}
    with pytest.raises(SettingsError, match="nprobe: 128 is more than"):
        index_of_name("IVF_FLAT nlist 64", params)
    index = index_of_name("IVF_FLAT nlist 64", params, fit=True)
    assert index.search_params(50) == {"nprobe": 64}
    assert index_of_name("HNSW M 16, efConstruction 200", params, fit=True).label["M"] == 16
