# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""tools/rank.py and tools/infer.py --rank on a log split by time: channels, quotas, and leaks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from paddlerec_milvus.data.cli import main as prepare
from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.prepared import ITEM_TIMES, META
from paddlerec_milvus.evaluation.cli import main as infer
from paddlerec_milvus.ranking.channels import CHANNELS, QUOTAS
from paddlerec_milvus.ranking.cli import main as rank
from paddlerec_milvus.ranking.features import ALL_FEATURES, FEATURES
from paddlerec_milvus.ranking.files import FOLDER, read_manifest
from paddlerec_milvus.training.cli import main as train

pytestmark = pytest.mark.slow

USERS, GROUPS, CLICKS = 200, 10, 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prepared data and a trained model: users walk in a group of items."""
    folder, rng = tmp_path_factory.mktemp("times"), np.random.default_rng(0)
    lines = ["user,item,time"]
    for user in range(USERS):
        seconds = np.sort(rng.integers(1_600_000_000, 1_608_000_000, CLICKS)).tolist()
        items = 1 + 10 * (user % GROUPS) + rng.integers(0, 10, CLICKS)
        items[-5:] = 101 + rng.integers(0, 10, 5)  # late ones that are new to all
        lines += [f"{user},B{item},{time}" for item, time in zip(items, seconds, strict=True)]
    (folder / "log.csv").write_text("\n".join(lines))
    log = ["--interactions", str(folder / "log.csv"), "--out", str(folder / "data")]
    assert prepare([*log, "--split", "time", "--test-from", "2020-12-04", "--min-count", "2"]) == 0
    options = [f"runner.model_save_path={folder / 'out'}", "runner.epochs=1"]
    assert train(arguments(folder, options=(*options, "runner.train_batch_size=64"))) == 0
    return folder


def arguments(run: Path, *flags: str, options: tuple[str, ...] = ()) -> list[str]:
    own = ("hyper_parameters.neg_samples=50", f"runner.infer_load_path={run / 'out'}")
    return ["-m", "mind/config.yaml", "--data", str(run / "data"), *flags, "-o", *own, *options]


def ranked(run: Path, *flags: str, options: tuple[str, ...] = ()) -> int:
    few = ("--ranker", "trees", "--rounds", "3", *flags)
    return rank(arguments(run, *few, options=options))


def measured(run: Path) -> list[str]:
    """The channels of a report; no quota is among the options."""
    report = run / "report.json"
    assert infer(arguments(run, "--exact", "--best", "--rank", "--report", str(report))) == 0
    return list(json.loads(report.read_text())["ranking"]["channels"])


def test_rising_and_new_items_are_channels_and_the_quotas_are_the_rankers(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ranked(run, "--without", "interests") == 0
    manifest = read_manifest(run / "out" / "best" / FOLDER)
    assert manifest.channels == list(CHANNELS)
    assert manifest.features == list(ALL_FEATURES)
    assert {"item_age", "item_trend"} <= set(manifest.used)
    assert measured(run) == list(CHANNELS)
    quotas = ("ranking.quotas.new=0", "ranking.quotas.interests=0", "ranking.quotas.popular=7")
    capsys.readouterr()
    assert ranked(run, "--show", "1", options=quotas) == 0
    assert "item B1" in capsys.readouterr().out  # the log's own ids, of items without a title
    manifest = read_manifest(run / "out" / "best" / FOLDER)
    assert manifest.quotas == {"transitions": 200, "neighbours": 200, "popular": 7, "rising": 50}
    assert measured(run) == manifest.channels == list(manifest.quotas)


def test_valid_users_from_elsewhere_or_a_folder_of_before_leave_them_out(
    run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run / "data" / "valid", tmp_path / "valid")
    assert ranked(run, options=(f"runner.valid_data_dir={tmp_path / 'valid'}",)) == 0
    assert read_manifest(run / "out" / "best" / FOLDER).features == list(FEATURES)
    before = Path(shutil.copytree(run, tmp_path / "before"))
    meta = json.loads((before / "data" / META).read_text())
    del meta["files"][ITEM_TIMES]
    (before / "data" / META).write_text(json.dumps(meta))
    assert ranked(before) == 0  # the data are the same for the model
    assert measured(before) == list(QUOTAS)


def test_a_table_that_knows_later_clicks_trains_no_ranker(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = Path(shutil.copytree(run, tmp_path / "leaking"))
    file, meta_file = leaking / "data" / ITEM_TIMES, leaking / "data" / META
    head, first, *rows = file.read_text().splitlines()
    item, *others, last = first.split(",")
    file.write_text("\n".join([head, ",".join([item, *others, str(int(last) + 2)]), *rows]))
    meta = json.loads(meta_file.read_text())
    meta["files"][ITEM_TIMES]["sha256"] = sha256_of(file)
    meta_file.write_text(json.dumps(meta))
    capsys.readouterr()
    assert ranked(leaking) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{ITEM_TIMES}: item 1 has a click that is none of train/" in message
    assert "a ranker would learn from what it is to predict" in message
