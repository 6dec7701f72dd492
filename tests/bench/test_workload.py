# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A checkpoint with its test users: the same relevance as tools/infer.py, and a tuned setting."""

import json

import pytest
import yaml

from paddlerec_milvus.bench.cli import main as benchmark
from paddlerec_milvus.bench.results import RELEVANCE, SearchResult
from paddlerec_milvus.bench.results_file import read_rows
from paddlerec_milvus.bench.tune_cli import main as tune
from paddlerec_milvus.evaluation.cli import main as infer


def sweep_of(trained, place, /, **checkpoint):
    options = [f"runner.infer_load_path={trained.checkpoints}", "hyper_parameters.neg_samples=128"]
    given = {"name": "planted", "folder": str(trained.data), "options": options, "epoch": 0}
    file = place / "planted.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "data": {"checkpoint": given | checkpoint},
                "server": "lite",
                "k": 20,
                "indexes": [{"type": "FLAT"}, {"type": "HNSW", "search": {"ef": 20}}],
                "measure": {"requests": 10, "clients": [1], "seconds": 0.1, "batches": [8]},
            }
        )
    )
    return file


@pytest.mark.slow
def test_relevance_is_that_of_infer(trained, tmp_path, capsys):
    report = tmp_path / "out" / "report.json"
    arguments = trained.arguments("index.type=FLAT")
    assert infer([*arguments[:6], "--report", str(report), *arguments[6:]]) == 0
    wanted = json.loads(report.read_text())
    out = tmp_path / "bench"
    assert benchmark(["-s", str(sweep_of(trained, tmp_path)), "--out", str(out)]) == 0
    flat, hnsw = (row for row in read_rows(out) if isinstance(row, SearchResult))
    relevance = flat.measured.quality.relevance
    assert relevance is not None
    for metric in RELEVANCE:
        expected = pytest.approx(wanted[f"{metric}@20"], abs=1e-9)
        assert relevance.index.mean(metric) == expected
        assert relevance.exact.mean(metric) == expected
        assert relevance.loss.of(metric).mean == 0
    assert hnsw.measured.quality.relevance is not None
    assert flat.provenance.data.users == 60
    assert flat.provenance.data.split == "split by users 8:1:1"
    assert "interests each, IP, split by users 8:1:1; Milvus" in (out / "report.md").read_text()
    assert "recall@20" in capsys.readouterr().out


def test_some_users_are_drawn_with_the_seed(trained, tmp_path, capsys):
    file = sweep_of(trained, tmp_path, users=25)
    assert benchmark(["-s", str(file), "--plan"]) == 0
    assert "300 items x 128, 25 users with 4 interests, IP" in (said := capsys.readouterr().out)
    assert "; split by users 8:1:1" in said


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        ({"epoch": 7}, "there is no such checkpoint"),
        ({"folder": "nowhere"}, "no such folder"),
        ({"model": "mnid/config.yaml"}, "did you mean 'mind/config.yaml'?"),
        ({"options": ["hyper_parameters.hidden=3"]}, "unknown key 'hyper_parameters.hidden'"),
    ],
)
def test_data_that_cannot_be_used(trained, tmp_path, capsys, checkpoint, said):
    file = sweep_of(trained, tmp_path, **checkpoint)
    assert benchmark(["-s", str(file), "--out", str(tmp_path / "bench")]) == 2
    assert said in capsys.readouterr().err


def test_a_checkpoint_without_a_test_set(trained, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    options = [
        f"runner.infer_load_path={trained.checkpoints}",
        "hyper_parameters.neg_samples=128",
        f"runner.test_data_dir={empty}",
    ]
    file = sweep_of(trained, tmp_path, options=options)
    assert benchmark(["-s", str(file), "--out", str(tmp_path / "bench")]) == 2
    assert str(empty) in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.server
def test_tuning_ends_with_a_sentence(server, trained, tmp_path, capsys):
    asked = trained.arguments()[:4]
    asked += ["-o", *trained.arguments()[7:9], "--epoch", "0", "--recall", "0.9", "--k", "20"]
    file = tmp_path / "advice.json"
    more = ["--server", server.uri, "--clients", "1", "--json", str(file)]
    assert tune([*asked, *more]) == 0
    told = capsys.readouterr()
    assert "probe on 300 items: norm skew 1.0" in told.err
    assert "HNSW M 16, efConstruction 200: about" in told.err
    assert "Use " in told.out
    assert "The target holds on as many other users with a probability of" in told.out
    found = json.loads(file.read_text())
    assert found["settings"][0]["quality"]["index_recall"] >= 0.9
    assert tune([*asked[:-4], "--k", "20"]) == 2
    assert "give a target" in capsys.readouterr().err
