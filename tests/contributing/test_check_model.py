# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""``tools/check_model.py``: our MIND is green, and each planted fault is found by its own check."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from small_folders import checked, edit, mind_zoo

from paddlerec_milvus.contributing.check_cli import main

FORWARD = "return dy_model(history, lengths, profiles=profiles)"


def vectors_become(change: str) -> tuple[str, str, str]:
    """An edit of the vectors that ``infer_forward`` gives."""
    made = "vectors, weights = dy_model(history, lengths, profiles=profiles)"
    return "dygraph_model.py", FORWARD, f"{made}\n        return {change}, weights"


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    return mind_zoo(tmp_path)


def test_all_is_well(mind: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in mind.parent.rglob("*") if path.is_file()}
    report = tmp_path / "report" / "check.json"
    code = main(["-m", str(mind), "--steps", "8", "--json", str(report)])
    printed = capsys.readouterr().out
    assert code == 0, printed
    lines = printed.splitlines()
    assert re.fullmatch(r"mind: 2[01] ok, 0 failed, [01] not run", lines[-1])  # by the devices
    rows = json.loads(report.read_text())
    assert rows["ok"] is True
    assert [f"{row['status']:<8}{row['name']}: {row['detail']}" for row in rows["checks"]] == lines[
        :-1
    ]
    files = {path for path in mind.parent.rglob("*") if path.is_file()}
    assert {path for path in files if "__pycache__" not in path.parts} == set(before)
    assert {path: path.read_bytes() for path in before} == before


FAULTS = {
    "a reader that repeats itself": (
        "the train reader's samples",
        (
            "click_log.py",
            "order = rng.permutation(self.samples)",
            "order = np.resize(rng.permutation(self.samples)[:16], len(self.samples))",
        ),
        r"320 samples, \d+ of them distinct; the log has 320.*it repeats some",
    ),
    "a reader that is not seeded": (
        "the train reader's order",
        (
            "click_log.py",
            "np.random.default_rng([self.seed, self.epoch])",
            "np.random.default_rng()",
        ),
        "one seed and epoch give different samples: draw from",
    ),
    "a truth that is cut": (
        "the infer reader's truths",
        ("mind_infer_reader.py", "self._padded(truths, ", "self._padded(truths[:2], "),
        "has 3 truths in the file, and 2 come out",
    ),
    "a state that is not saved": (
        "resumes",
        (
            "net.py",
            "        if self.routing_penalty:\n            spread",
            "        self.steps = getattr(self, 'steps', 0) + 1\n"
            "        loss = loss * (1.0 + 0.1 * self.steps)\n"
            "        if self.routing_penalty:\n            spread",
        ),
        "stopped and resumed, training ends elsewhere: .*register_buffer",
    ),
    "padding that leaks by its number": (
        "padding",
        (
            "capsules.py",
            "weights / (paddle.sum(weights, axis=1, keepdim=True) + 1e-9)",
            "weights / history.shape[1]",
        ),
        r"when \d of the padded places are left away",
    ),
    "padding that leaks by its embedding": (
        "padding",
        ("mind_infer_reader.py", "", ""),
        r"with the embedding of id 0, which is padding: mask",
    ),
    "a unit vector that is not": (
        "unit length",
        vectors_become("1.5 * vectors"),
        "normalize is True, but user vectors have lengths from 1.5000 to 1.5000",
    ),
    "a model that learns nothing": (
        "trains",
        ("recall_model.py", "return base * (0.5", "return -base * (0.5"),
        r"the loss does not fall: that of the first batches is \d",
    ),
    "company in a batch": (
        "company in a batch",
        vectors_become("vectors - vectors.mean(axis=0, keepdim=True)"),
        "change by .* when the user comes alone",
    ),
    "not a number from the tower": (
        "vectors",
        vectors_become("(0.0 * vectors).log() * 0.0"),
        "user vectors hold NaN or infinite values",
    ),
    "another width": (
        "vectors",
        vectors_become("vectors[:, :, :4]"),
        r"have the shape \[12, 4, 4\], expected \[12, K, 8\]",
    ),
    "a row of item vectors that lacks": (
        "vectors",
        ("recall_model.py", "return dy_model.item_vectors()", "return dy_model.item_vectors()[1:]"),
        r"item vectors have the shape \[40, 8\], expected \[41, D\]",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault(fault: str, mind: Path, tmp_path: Path) -> None:
    name, (file, before, after), message = FAULTS[fault]
    if before:
        edit(mind.parent / file, before, after)
    else:  # a padded place weighs as a click, and its embedding is not held at zero
        edit(
            mind.parent / "capsules.py",
            '(age >= 0).astype("float32")',
            '(age >= -9).astype("float32")',
        )
        edit(mind.parent / "item_table.py", "            padding_idx=0,\n", "")
    results = checked(mind, tmp_path / "place", name)
    assert results[name].status == "FAILED", results
    assert [n for n, result in results.items() if result.status == "FAILED"] == [name]
    assert re.search(message, results[name].detail), results[name]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "neg_sample",
            r"unknown key 'hyper_parameters.neg_sample' \(did you mean 'neg_samples'\?\)",
        ),
        ("soft", "read by nothing: hyper_parameters.soft; take the key out"),  # a value, not a key
    ],
)
def test_a_key_that_nothing_reads(key: str, message: str, mind: Path, tmp_path: Path) -> None:
    sections = yaml.safe_load(mind.read_text())
    sections["hyper_parameters"][key] = 5
    mind.write_text(yaml.safe_dump(sections))
    results = checked(mind, tmp_path / "place", "trains")
    assert results["every key is read"].status == "FAILED"
    assert re.search(message, results["every key is read"].detail)
    assert str(results["trains"]) == "not run trains: needs 'every key is read'"


def test_what_lacks_and_what_upstream_would_refuse(mind: Path, tmp_path: Path) -> None:
    edit(mind.parent / "net.py", "import paddle\n", "import paddle\nimport polars\n")
    (mind.parent / "README.md").write_text("# MIND\n\nGood.\n")
    edit(mind.parent / "config_bigdata.yaml", "mind_items_all", "mind_items")
    other = mind.parent.parent / "other"
    other.mkdir()
    (other / "config.yaml").write_text(mind.read_text())
    names = [f"upstream: {name}" for name in ("imports", "README", "names")]
    results = checked(mind, tmp_path / "a", "a collection of its own", *names)
    assert "net.py imports polars: upstream does not install" in results[names[0]].detail
    assert "a paragraph that says what the model is" in results[names[1]].detail
    assert results[names[2]].status == "ok"
    assert "on one Milvus the later would replace" in results["a collection of its own"].detail
    (mind.parent / "README.md").unlink()
    results = checked(mind, tmp_path / "b")
    assert "lacks README.md" in results["the folder is whole"].detail
    assert {result.status for result in results.values()} == {"FAILED", "not run"}


def test_where_there_is_no_log_the_command_that_makes_one(mind: Path, tmp_path: Path) -> None:
    options = [f"runner.train_data_dir={tmp_path / 'none'}", "hyper_parameters.item_start=clicks"]
    detail = checked(mind, tmp_path / "place", "trains", options=options)[
        "every key is read"
    ].detail
    assert "none: no such folder; make the sample with 'python datasets/amazonbook/" in detail


def test_an_exception_of_the_folder_names_its_line(mind: Path, tmp_path: Path) -> None:
    edit(
        mind.parent / "net.py", "        ids = self.softmax.draw(labels)\n", "        ids = {}[7]\n"
    )
    detail = checked(mind, tmp_path / "place", "trains")["every key is read"].detail
    assert re.fullmatch(r"KeyError: 7 \(net.py:\d+\)", detail)


def test_exit_codes(mind: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mind.parent / "README.md").unlink()
    assert main(["-m", str(mind)]) == 1
    assert main(["-m", str(mind.parent / "no.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["-m", str(mind), "--steps", "0"]) == 2
    assert main(["-m", str(mind), "--json", "here.txt"]) == 2
