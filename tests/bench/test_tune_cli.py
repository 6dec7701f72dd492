# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The tuner's command: what it serves side by side, and what it tells the tuner."""

import json

import pytest
from pydantic import ValidationError

from paddlerec_milvus.bench import tune_cli, tuner
from paddlerec_milvus.bench.client_pool import Load, clients_for
from paddlerec_milvus.bench.measure_build import BenchServer
from paddlerec_milvus.bench.probe import Probe
from paddlerec_milvus.bench.tune_results import TuningReport
from paddlerec_milvus.bench.tuner import TunedSetting, Tuning
from paddlerec_milvus.bench.workload import synthetic_workload
from paddlerec_milvus.retrieval.indexes import Flat, Hnsw
from paddlerec_milvus.retrieval.milvus import MilvusRetriever

K = 10
WORK = synthetic_workload(
    items=2_000, dimension=8, users=40, interests=2, clusters=50, spread=0.7, norm_skew=0.0,
    metric="IP", seed=1,
)  # fmt: skip
BROKEN = Probe(2_000, 9.0, 0.5, 0.4, 128, 0.6, "IP")


@pytest.fixture
def tune(monkeypatch):
    """The command on ``WORK``; a catalogue of its size counts as a large one."""
    monkeypatch.setattr("paddlerec_milvus.bench.workload.trained_workload", lambda *given: WORK)
    monkeypatch.setattr(tuner, "SMALL", 100)
    return lambda *given: tune_cli.main(["-m", "mind/config.yaml", "--k", str(K), *given])


@pytest.mark.slow
@pytest.mark.parametrize("where", ["lite", pytest.param("server", marks=pytest.mark.server)])
def test_indexes_stand_side_by_side_and_are_gone_at_the_end(request, tmp_path, where):
    place = "lite" if where == "lite" else request.getfixturevalue("server").uri
    names = []
    with (
        clients_for(place, WORK, 1) as clients,
        tune_cli.serving(WORK, place, tmp_path, clients) as serve,
    ):
        with serve(Flat()) as first, serve(Hnsw()) as second:
            for index, served in [(Flat(), first), (Hnsw(ef=50), second)] * 2:
                found = served.retriever.search_with(index, WORK.queries, K)
                assert (found.ids > 0).all()
                outcome = served.loads.run([Load(index, K, requests=5)])
                assert (outcome.requests, outcome.failures) == (5, 0)
                assert served.times.rows == len(WORK.ids)
            retrievers = [first.retriever, second.retriever]
            names = [each.collection for each in retrievers if isinstance(each, MilvusRetriever)]
            assert len(set(names)) == 2
        with serve(Flat()) as third:
            assert isinstance(third.retriever, MilvusRetriever)
            asked = third.retriever._connection
            assert not any(asked.call("has_collection", name) for name in names)


@pytest.mark.slow
@pytest.mark.server
def test_what_the_probe_warns_of_decides_what_is_tried(tune, server, tmp_path, monkeypatch, capsys):
    file = tmp_path / "advice.json"
    asked = ["--recall", "0.9", "--server", server.uri, "--clients", "1", "--json", str(file)]
    monkeypatch.setattr(tune_cli, "probe", lambda *given: BROKEN)
    assert tune(*asked) == 0
    assert "or use FLAT or IVF_FLAT" in capsys.readouterr().err
    told = json.loads(file.read_text())
    kinds = {each["index"].split(" ")[0] for each in told["settings"]}
    assert kinds == {"FLAT", "IVF_FLAT", "HNSW"}


@pytest.mark.slow
@pytest.mark.server
def test_a_lean_graph_that_does_is_all_that_is_built(tune, server, tmp_path, capsys):
    file = tmp_path / "advice.json"
    asked = ["--recall", "0.9", "--server", server.uri, "--clients", "1", "--json", str(file)]
    assert tune(*asked) == 0
    told = json.loads(file.read_text())
    assert [each["index"] for each in told["settings"]] == ["HNSW M 16, efConstruction 200, ef 10"]
    assert "HNSW M 32, efConstruction 200: not built: M 16 meets the target" in told["failed"][0]
    assert told["machine_state"]["cores"] >= 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "-o index.type=HNSW index.M=16 index.efConstruction=200 index.ef=10"


def test_a_list_longer_than_the_catalogue_is_said_before_anything_is_built(
    tune, monkeypatch, capsys
):
    monkeypatch.setattr(BenchServer, "__enter__", None)  # no server is started
    for k in ("0", "2001"):
        assert tune("--recall", "0.9", "--k", k) == 2
        assert f"--k {k}: expected 1 to 2,000, as there are 2,000 items" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--clients", "4", "0"], "--clients 0: expected 1 or more"),
        (["--seed", "-1"], "--seed -1: expected 0 or more"),
    ],
)
def test_a_number_that_cannot_be_is_said_before_anything_is_read(monkeypatch, capsys, given, said):
    monkeypatch.setattr("paddlerec_milvus.bench.workload.trained_workload", None)
    assert tune_cli.main(["-m", "mind/config.yaml", "--recall", "0.9", *given]) == 2
    assert said in capsys.readouterr().err


def test_a_file_has_the_names_of_the_table_and_is_read_again():
    setting = TunedSetting(Hnsw(ef=50), 0.9, {"index_recall": 0.97}, 120.0, 4, 8.5, 60.0, 1.5)
    report = tune_cli.report_of(Tuning([setting], ["FLAT: no"]), K, WORK)
    told = json.loads(json.dumps(report.model_dump(by_alias=True)))
    assert told["settings"] == [
        {
            "index": "HNSW M 16, efConstruction 200, ef 50",
            "index_recall": 0.97,
            "sure": 0.9,
            "users/s": 120.0,
            "clients": 4,
            "p99 ms": 8.5,
            "estimated MiB": 1.5,
            "server grew by MiB": None,
            "seconds": 60.0,
            "quality": {"index_recall": 0.97},
        }
    ]
    assert told["failed"] == ["FLAT: no"]
    assert {"format", "data", "machine", "versions"} <= told.keys()
    assert TuningReport.model_validate(told) == report
    with pytest.raises(ValidationError):
        TuningReport.model_validate(told | {"setings": []})


def test_help_says_what_is_chosen(capsys):
    with pytest.raises(SystemExit):
        tune_cli.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "the one with the highest throughput (users a second) is chosen" in told
    assert "cheapest" not in told
