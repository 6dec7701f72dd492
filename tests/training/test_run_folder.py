# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Runs do not mix: each checkpoint says what it came from, and other runs' move aside."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from runs import run, stopped, write_valid
from support import checkpoint_bits, generic_folder, mind_folder, write_log

from paddlerec_milvus.checkpoint import evaluated_checkpoints, load_parameters
from paddlerec_milvus.checkpoint_record import read_record
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.data.files import sha256_of
from paddlerec_milvus.data.fingerprint import fingerprint_of
from paddlerec_milvus.errors import CheckpointError

FIRST = ("runner.infer_start_epoch=0", "runner.infer_end_epoch=1")


@pytest.fixture
def generic(tmp_path: Path) -> Path:
    return generic_folder(tmp_path / "generic")


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    return mind_folder(tmp_path / "mind")


def names(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir())


def test_a_checkpoint_says_what_it_came_from(generic: Path, tmp_path: Path) -> None:
    out = run(generic, tmp_path / "out", "runner.epochs=2", "runner.seed=7")
    record = read_record(out / "1")
    assert record is not None
    assert (record.format, record.model, record.epoch, record.seed) == (1, "generic", 1, 7)
    assert record.data.fingerprint == fingerprint_of(generic.parent / "data")
    assert record.settings["runner.epochs"] == 2
    assert record.settings["hyper_parameters.width"] == 16
    assert "paddlepaddle" in record.versions
    for name in ("rec.pdparams", "rec.pdopt", "rec.pdstate"):
        assert record.files[name] == sha256_of(out / "1" / name)
    first = read_record(out / "0")
    assert first is not None
    assert first.run == record.run


def test_one_epoch_over_four(mind: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The second run's folder holds its own epoch alone; the first one's are whole beside it."""
    valid = f"runner.valid_data_dir={write_valid(tmp_path / 'valid')}"
    out = run(mind, tmp_path / "out", "runner.epochs=4", valid)
    before = {epoch: checkpoint_bits(out / epoch) for epoch in "0123"}
    capsys.readouterr()
    run(mind, out, "runner.epochs=1", valid)
    assert names(out) == ["0", "best", "earlier-1"]
    assert names(out / "earlier-1") == ["0", "1", "2", "3", "best"]
    assert {epoch: checkpoint_bits(out / "earlier-1" / epoch) for epoch in "0123"} == before
    said = capsys.readouterr().err.splitlines()
    assert any(
        line.startswith("warning: ") and "0, 1, 2, 3" in line and "runner.epochs: 4 there" in line
        for line in said
    )
    assert f"warning: moved 0, 1, 2, 3, best to {out / 'earlier-1'}" in said
    places = [f"runner.infer_load_path={out}", valid]
    stale = load_settings(mind, [*places, "runner.infer_start_epoch=3", "runner.infer_end_epoch=4"])
    with pytest.raises(CheckpointError, match=r"out/3: .*holds: 0, best; .*--best") as raised:
        evaluated_checkpoints(stale)
    assert "infer_start_epoch=0" in str(raised.value)
    assert evaluated_checkpoints(stale, best=True) == [(0, out / "best")]


def test_a_second_log_of_equal_size_in_the_first_ones_folder(
    mind: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = run(mind, tmp_path / "out", "runner.epochs=1")
    other = write_log(tmp_path / "other", clicks=8)  # the same items
    onto = f"runner.train_data_dir={other}"
    with pytest.raises(CheckpointError, match=r"was trained on the data 'log' .*'other'"):
        run(mind, out, onto, "runner.epochs=2", resume=True)
    run(mind, out, onto, "runner.epochs=1")
    assert names(out) == ["0", "earlier-1"]
    assert "warning: " in capsys.readouterr().err
    options = [f"runner.infer_load_path={out}", *FIRST]
    assert evaluated_checkpoints(load_settings(mind, [*options, onto, "runner.test_data_dir="]))
    with pytest.raises(CheckpointError) as raised:
        evaluated_checkpoints(load_settings(mind, [*options, "runner.test_data_dir="]))
    message = str(raised.value)
    for log in ("log", "other"):
        folder = tmp_path / log
        assert f"'{log}' (fingerprint {fingerprint_of(folder)}, {folder})" in message


def test_the_same_run_again_keeps_one_that_ended(
    generic: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The new one may be stopped, and then the old one was all that there is."""
    out = run(generic, tmp_path / "out", "runner.epochs=2")
    before = checkpoint_bits(out / "1")
    stopped(generic, out, 8, "runner.epochs=2")
    assert names(out) == ["0", "earlier-1", "interrupted"]
    assert names(out / "earlier-1") == ["0", "1"]
    assert checkpoint_bits(out / "earlier-1" / "1") == before
    assert f"warning: {out} holds 0, 1 of this run, which ended" in capsys.readouterr().err
    stopped(generic, out, 8, "runner.epochs=2")  # over one that did not end
    assert names(out) == ["0", "earlier-1", "interrupted"]
    (out / "0" / "ranking").mkdir()  # for which somebody trained it
    stopped(generic, out, 2, "runner.epochs=2")
    assert names(out) == ["earlier-1", "earlier-2", "interrupted"]
    assert (out / "earlier-2" / "0" / "ranking").is_dir()


def test_a_run_that_patience_ended_is_kept(mind: Path, tmp_path: Path) -> None:
    options = ["runner.epochs=9", "runner.patience=1", "runner.valid_top_n=5"]
    options += [f"runner.valid_data_dir={write_valid(tmp_path / 'valid')}"]
    options += ["hyper_parameters.optimizer.learning_rate=1e-30"]  # nothing gets better
    out = run(mind, tmp_path / "out", *options)
    stopped(mind, out, 2, *options)
    assert names(out) == ["earlier-1", "interrupted"]
    assert names(out / "earlier-1") == ["0", "1", "best"]


def test_epochs_that_a_resume_trained_with_other_settings_are_kept(
    generic: Path, tmp_path: Path
) -> None:
    """They bear the name of the run that they went on with."""
    out = stopped(generic, tmp_path / "out", 8)
    rate = "hyper_parameters.optimizer.learning_rate=0.5"
    run(generic, out, rate, "runner.epochs=2", resume=True)
    stopped(generic, out, 2)
    assert names(out) == ["earlier-1", "interrupted"]
    assert names(out / "earlier-1") == ["0", "1"]


def test_another_start_in_the_same_place_is_another_run(generic: Path, tmp_path: Path) -> None:
    first = run(generic, tmp_path / "first", "runner.epochs=1")
    options = [f"runner.model_init_path={first / '0'}", "runner.epochs=1"]
    before = read_record(run(generic, tmp_path / "out", *options) / "0")
    run(generic, first, "runner.epochs=1", "runner.seed=2")
    after = read_record(run(generic, tmp_path / "again", *options) / "0")
    assert before is not None
    assert after is not None
    assert before.run != after.run
    (difference,) = before.differences(after)
    assert difference.startswith("runner.model_init_path.sha256: ")


def test_other_code_is_another_run(generic: Path, tmp_path: Path) -> None:
    out = run(generic, tmp_path / "out", "runner.epochs=1")
    net = generic.parent / "net.py"
    net.write_text(net.read_text() + "\n# changed\n")
    run(generic, out, "runner.epochs=1")
    assert names(out) == ["0", "earlier-1"]


def test_what_was_interrupted_moves_aside_too_and_nothing_before_a_save(
    generic: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = stopped(generic, tmp_path / "out", 8)
    stopped(generic, out, 2, "runner.seed=2")
    assert names(out) == ["earlier-1", "interrupted"]
    assert names(out / "earlier-1") == ["0", "interrupted"]
    stopped(generic, out, 9, "runner.seed=3")
    assert names(out) == ["0", "earlier-1", "earlier-2", "interrupted"]


def test_a_checkpoint_without_a_record(
    mind: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As PaddleRec's own trainer leaves it: it is evaluated, with that said, and moves aside."""
    out = run(mind, tmp_path / "out", "runner.epochs=1")
    (out / "0" / "rec.json").unlink()
    options = [f"runner.infer_load_path={out}", *FIRST]
    caplog.set_level("INFO")
    assert evaluated_checkpoints(load_settings(mind, options)) == [(0, out / "0")]
    assert "does not say what it was trained on" in caplog.text
    run(mind, out, "runner.epochs=1")
    assert names(out) == ["0", "earlier-1"]


def test_an_epoch_that_was_left_by_an_earlier_run(mind: Path, tmp_path: Path) -> None:
    """Copied there by hand, say."""
    old = run(mind, tmp_path / "old", "runner.epochs=2")
    out = run(mind, tmp_path / "out", "runner.epochs=1", "runner.seed=3")
    shutil.copytree(old / "1", out / "1")
    options = [f"runner.infer_load_path={out}", "runner.infer_end_epoch=2"]
    with pytest.raises(CheckpointError, match=r"left by an earlier run than epoch 0 beside it"):
        evaluated_checkpoints(load_settings(mind, [*options, "runner.infer_start_epoch=1"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"format": 1', '"format": 2'), "cannot be read"),
        (lambda text: text[:40], "cannot be read"),
        (
            lambda text: json.dumps(json.loads(text) | {"files": {"rec.pdparams": "0" * 64}}),
            "is not the file that training saved",
        ),
    ],
)
def test_a_record_that_does_not_fit(mind: Path, tmp_path: Path, change, message: str) -> None:
    from paddlerec_milvus.zoo import ModelFolder

    out = run(mind, tmp_path / "out", "runner.epochs=1")
    file = out / "0" / "rec.json"
    file.write_text(change(file.read_text()))
    settings = load_settings(mind)
    folder = ModelFolder(mind.parent)
    with folder.active():
        model = folder.dygraph_model().create_model(settings.dotted())
    with pytest.raises(CheckpointError, match=message):
        load_parameters(out / "0", model)


def test_parameters_of_other_data_are_a_start_that_is_said(
    mind: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first = run(mind, tmp_path / "first", "runner.epochs=1")
    start = f"runner.model_init_path={first / '0'}"
    run(mind, tmp_path / "same", start, "runner.epochs=1")
    assert "warning" not in capsys.readouterr().err
    other = f"runner.train_data_dir={write_log(tmp_path / 'other', clicks=8)}"
    run(mind, tmp_path / "out", start, other, "runner.epochs=1")
    assert "warning: runner.model_init_path: " in capsys.readouterr().err
