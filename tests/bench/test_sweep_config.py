# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A sweep's yaml: what it asks for, and every mistake in it named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from paddlerec_milvus.bench import cli
from paddlerec_milvus.bench.cli import main
from paddlerec_milvus.bench.sweep_config import builds_of, check_fits, load_workload, read_sweep
from paddlerec_milvus.errors import SettingsError
from tests.support import ROOT

SYNTHETIC = {"items": 300, "dimension": 8, "users": 10, "interests": 2, "clusters": 5}
PLAIN: dict[str, Any] = {"data": {"synthetic": SYNTHETIC}, "indexes": [{"type": "FLAT"}]}


def written(folder: Path, **changed: Any) -> Path:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(PLAIN | changed))
    return file


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "sweeps").glob("*.yaml")))
def test_every_sweep_that_ships_can_be_read(file):
    sweep = read_sweep(file)
    assert builds_of(sweep)
    assert sweep.name == file.stem


def test_lists_are_tried_in_every_combination(tmp_path):
    grid = {
        "type": "HNSW",
        "build": {"M": [8, 16], "efConstruction": 100},
        "search": {"ef": [50, 100, 200]},
    }
    builds = builds_of(read_sweep(written(tmp_path, indexes=[grid, {"type": "FLAT"}])))
    assert [build.index.label for build in builds] == [
        {"type": "HNSW", "M": 8, "efConstruction": 100},
        {"type": "HNSW", "M": 16, "efConstruction": 100},
        {"type": "FLAT"},
    ]
    assert [index.search_params(50) for index in builds[1].searches] == [
        {"ef": 50},
        {"ef": 100},
        {"ef": 200},
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"indexs": []}, "unknown key 'indexs' (did you mean 'indexes'?)"),
        ({"measure": {"request": 5}}, "'measure.request' (did you mean 'requests'?)"),
        ({"data": {"synthetic": {**SYNTHETIC, "itms": 3}}}, "(did you mean 'items'?)"),
        ({"data": {}}, "give one of 'checkpoint' and 'synthetic'"),
        ({"k": 0}, "k: input should be greater than or equal to 1 (given 0)"),
        ({"k": "50"}, "k: input should be a valid integer (given '50')"),
        ({"indexes": []}, "indexes: list should have at least 1 item"),
        ({"floor": ["annoy"]}, "floor.0: input should be 'faiss' or 'hnswlib' (given 'annoy')"),
    ],
)
def test_a_mistake_in_a_key_or_a_value(tmp_path, changed, said):
    with pytest.raises(SettingsError) as raised:
        read_sweep(written(tmp_path, **changed))
    assert said in str(raised.value)
    assert "mine.yaml" in str(raised.value)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"type": "HNWS"}, "index.type: 'HNWS' is not known (did you mean 'HNSW'?)"),
        ({"type": "HNSW", "search": {"ef": [40, 64]}}, "ef 40 is below k 50, and Milvus refuses"),
        ({"type": "HNSW", "build": {"ef": 64}}, "ef cannot stand in 'build'"),
        ({"type": "HNSW", "search": {"M": 8}}, "M cannot stand in 'search'"),
        ({"type": "IVF_FLAT", "build": {"nlst": 4}}, "index.nlst: no index has this parameter"),
        (
            {"type": "IVF_FLAT", "build": {"nlist": 4}, "search": {"nprobe": 8}},
            "index.nprobe: 8 is more than index.nlist: 4",
        ),
        ({"type": "DISKANN", "search": {"search_list": 20}}, "search_list 20 is below k 50"),
        (
            {"type": "HNSW", "search": {"ef": [50, "1OO"]}},
            "indexes.0 (HNSW): index.ef: '1OO' cannot be used; a whole number from 1 to 32,768",
        ),
        (
            {"type": "IVF_FLAT", "build": {"M": 8}},
            "indexes.0 (IVF_FLAT): index.M: IVF_FLAT has no such parameter; it has: nlist, nprobe",
        ),
        ({"type": "IVF_PQ", "build": {"nlists": 8}}, "(did you mean 'nlist'?)"),
        ({"type": "IVF_FLAT", "search": {"nprob": 8}}, "'search' (did you mean 'nprobe'?)"),
        ({"type": "HNSW", "build": {"M": []}}, "indexes.0 (HNSW): M: an empty list"),
    ],
)
def test_a_mistake_in_an_index(tmp_path, grid, said):
    sweep = read_sweep(written(tmp_path, indexes=[grid]))
    with pytest.raises(SettingsError) as raised:
        builds_of(sweep)
    assert said in str(raised.value)


def test_more_neighbours_or_cells_than_items(tmp_path):
    sweep = read_sweep(written(tmp_path, k=301))
    with pytest.raises(SettingsError, match="k: 301 neighbours of 300 items"):
        check_fits(sweep, load_workload(sweep))
    grid = {"type": "IVF_FLAT", "build": {"nlist": 512}}
    sweep = read_sweep(written(tmp_path, indexes=[grid]))
    with pytest.raises(SettingsError, match="nlist 512 on 300 items"):
        check_fits(sweep, load_workload(sweep))


def test_rates_of_the_command_line(tmp_path, capsys):
    file = written(tmp_path, measure={"requests": 7, "rates": [5]})
    sweep = read_sweep(file, rates=[100, 200])
    assert (sweep.measure.rates, sweep.measure.requests) == ([100, 200], 7)
    assert read_sweep(file).measure.rates == [5]
    assert main(["-s", str(file), "--rate", "100", "0"]) == 2
    said = "measure.rates.1: input should be greater than or equal to 1 (given 0)"
    assert said in capsys.readouterr().err
    assert main(["-s", str(file), "--rate", "100", "--plan"]) == 0


def test_no_yaml(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        read_sweep(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(SettingsError, match="expected keys such as 'data:'"):
        read_sweep(tmp_path / "list.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(SettingsError, match="is not yaml"):
        read_sweep(tmp_path / "bad.yaml")


def test_the_same_seed_gives_the_same_vectors(tmp_path):
    sweep = read_sweep(written(tmp_path))
    again, other = load_workload(sweep), load_workload(read_sweep(written(tmp_path), seed=2))
    assert load_workload(sweep).fingerprint == again.fingerprint != other.fingerprint


def test_the_copy_of_the_yaml_names_the_options_that_changed_it(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "SweepRunner", lambda *given: lambda: None)
    monkeypatch.setattr(cli, "run_studies", lambda bench: None)
    file, out = written(tmp_path), tmp_path / "out"
    plain, copy = file.read_text(), out / "sweep.yaml"

    def run(*given: str) -> str:
        assert main([*given, "--out", str(out)]) == 2  # nothing was measured, so no report
        return copy.read_text()

    changed = ["--k", "20", "--seed", "0", "--rate", "100", "200"]
    assert run("-s", str(file), *changed) == f"# run with: {' '.join(changed)}\n{plain}"
    assert read_sweep(copy) == read_sweep(file, name="sweep")
    assert run("-s", str(copy), "--server", "lite") == f"# run with: --server lite\n{plain}"
    assert run("-s", str(file)) == plain
