# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Prepared folders: whole or absent, never over what somebody else wrote, and read back."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from paddlerec_milvus.data.cli import main
from paddlerec_milvus.data.held_out import read_held_out
from paddlerec_milvus.data.log import read_click_log
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.data.prepared import (
    open_prepared,
    read_categories,
    read_source_ids,
    read_titles,
)
from paddlerec_milvus.data.sources import Interactions, Sample
from paddlerec_milvus.errors import DataError

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "datasets" / "amazonbook" / "prepare.py"
SMALL = ["--sample", "--users", "60", "--items", "40", "--clicks", "700"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A child that runs ``code`` with this project on its path."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def strings_log(tmp_path: Path) -> Path:
    """Ten users with five clicks each; item names such that popularity is d, a, b, c, e."""
    path = tmp_path / "strings.csv"
    lines = ["user,item,time"]
    for user in range(10):
        lines += [f"user-{user},{item},{9 - place}" for place, item in enumerate("abcde")]
        lines.append(f"user-{user},d,0")
    path.write_text("\n".join(lines) + "\n")
    (tmp_path / "titles.csv").write_text('item,title,category\na,Ä title,Poems\nd,"D, ""q""",\n')
    return path


def test_files_formats_and_meta(strings_log: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    outcome = prepare(Interactions(strings_log, tmp_path / "titles.csv"), out)
    assert sorted(contents(out)) == [
        *("items.csv", "meta.json", "test/part-0", "train/clicks.csv", "users.csv", "valid/part-0")
    ]
    items = (out / "items.csv").read_text().splitlines()
    assert items[0] == "item,source_id,title,category"
    assert items[1] == '1,d,"D, ""q""",""'
    assert items[2:] == ["2,a,Ä title,Poems", '3,b,"",""', '4,c,"",""', '5,e,"",""']
    assert (out / "users.csv").read_text().splitlines()[:2] == ["uid,source_id", "0,user-0"]
    # in time order: d (time 0), then e d c b a (times 5 … 9)
    first = (out / "train" / "clicks.csv").read_text().splitlines()[:6]
    assert [line.split(",", 1)[1] for line in first] == ["1,0", "5,1", "1,2", "4,3", "3,4", "2,5"]
    # int(6 * 0.8) = 4 clicks of history
    test_line = (out / "test" / "part-0").read_text().splitlines()
    assert len(test_line) == 1
    assert test_line[0].split()[1:] == [
        *("target_item:0", "hist_item:1", "hist_item:5", "hist_item:1", "hist_item:4"),
        *("eval_item:3", "eval_item:2"),
    ]
    meta = json.loads((out / "meta.json").read_text())
    assert meta == outcome.meta
    assert (meta["item_count"], meta["users"], meta["clicks"]) == (6, 10, 60)
    assert [split["users"] for split in meta["splits"].values()] == [8, 1, 1]
    for name, record in meta["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == record["sha256"]
    source = meta["recipe"]["source"]
    assert source["sha256"] == hashlib.sha256(strings_log.read_bytes()).hexdigest()


def test_reading_back(strings_log: Path, tmp_path: Path) -> None:
    prepare(Interactions(strings_log, tmp_path / "titles.csv"), tmp_path / "out")
    prepared = open_prepared(tmp_path / "out")
    assert prepared.item_count == 6
    assert prepared.meta["recipe"]["seed"] == 1230
    assert read_titles(prepared.folder)[2] == "Ä title"
    assert set(read_titles(prepared.folder)) == {1, 2}
    assert read_categories(prepared.folder) == {2: "Poems"}
    assert read_source_ids(prepared.folder) == {1: "d", 2: "a", 3: "b", 4: "c", 5: "e"}
    assert len(read_click_log(prepared.train_dir).user_ids) == 8
    users = [read_held_out(part).user_ids for part in (prepared.valid_dir, prepared.test_dir)]
    assert [len(ids) for ids in users] == [1, 1]


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare(Sample(60, 40, 700), tmp_path / name, seed=5)
    prepare(Sample(60, 40, 700), tmp_path / "three", seed=6)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") != contents(tmp_path / "three")


def test_a_second_run_finds_it_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "python -u tools/trainer.py -m mind/config.yaml --data" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert main(arguments) == 0
    assert "already prepared" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_another_recipe_needs_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = [*SMALL, "--out", str(out)]
    assert main(arguments) == 0
    before = contents(out)
    assert main([*arguments, "--seed", "4"]) == 2
    message = capsys.readouterr().err
    assert "seed: 1230 there, 4 asked" in message
    assert "--overwrite" in message
    assert contents(out) == before
    assert main([*arguments, "--seed", "4", "--overwrite"]) == 0
    assert json.loads((out / "meta.json").read_text())["recipe"]["seed"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_moved_log_is_the_same_and_a_changed_one_is_not(
    strings_log: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prepare(Interactions(strings_log), out)
    moved = strings_log.rename(tmp_path / "moved.csv")
    assert prepare(Interactions(moved), out).already
    moved.write_text(moved.read_text() + "user-1,e,99\n")
    with pytest.raises(DataError, match="was prepared otherwise"):
        prepare(Interactions(moved), out)


def test_a_damaged_folder_is_not_called_prepared(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Sample(60, 40, 700), out)
    (out / "test" / "part-0").write_text("user_id:1\n")
    with pytest.raises(DataError, match="missing or changed since"):
        prepare(Sample(60, 40, 700), out)
    assert not prepare(Sample(60, 40, 700), out, overwrite=True).already
    assert prepare(Sample(60, 40, 700), out).already


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_folders_are_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"was not made by prepare\.py"):
        prepare(Sample(60, 40, 700), tmp_path, overwrite=overwrite)
    out = tmp_path / "out"
    prepare(Sample(60, 40, 700), out)
    (out / "train" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"train/notes\.txt, which prepare\.py did not write"):
        prepare(Sample(60, 40, 800), out, overwrite=overwrite)
    assert (out / "train" / "notes.txt").read_text() == "mine"
    with pytest.raises(DataError, match="is a file"):
        prepare(Sample(60, 40, 700), tmp_path / "thesis.txt", overwrite=overwrite)


def test_an_empty_folder_is_a_free_place(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    prepare(Sample(60, 40, 700), tmp_path / "out")
    assert open_prepared(tmp_path / "out").item_count == 41


def test_a_bad_log_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.csv"
    log.write_text("1,2,3\n1,2,x\n")
    assert main(["--interactions", str(log), "--out", str(tmp_path / "new" / "out")]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"error: {log}, line 2: found time 'x'")
    assert list((tmp_path / "new").iterdir()) == []


def test_titles_of_another_log_are_refused(strings_log: Path, tmp_path: Path) -> None:
    (tmp_path / "titles.csv").write_text("item,title\nzz,Nothing\n")
    with pytest.raises(DataError, match="none of its 1 items is in the log"):
        prepare(Interactions(strings_log, tmp_path / "titles.csv"), tmp_path / "out")


# -- ended from outside --------------------------------------------------------------------------

STALLS = """
import sys, time
from paddlerec_milvus.data import cli, dataset
def stall(path, users):
    path.parent.mkdir()
    path.write_text("half")
    print("ready", flush=True)
    for _ in range(600):  # short ones: a signal just before a sleep waits for its end
        time.sleep(0.1)
dataset.write_held_out = stall
sys.exit(cli.main(sys.argv[1:]))
"""


def stopped_by(number: signal.Signals, out: Path) -> tuple[int, str]:
    """Exit code and stderr of a run that got the signal between two files."""
    with python(STALLS, *SMALL, "--out", str(out)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert not out.exists()
        assert (out.with_name(".out.preparing") / "valid" / "part-0").read_text() == "half"
        child.send_signal(number)
        _, errors = child.communicate(timeout=30)
    return child.returncode, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_runs_leave_nothing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    returned, errors = stopped_by(number, tmp_path / "out")
    assert returned == code
    assert errors.splitlines()[-1] == "interrupted: nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_no_half_dataset_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    stopped_by(signal.SIGKILL, out)
    assert not out.exists()
    with pytest.raises(DataError, match="no such folder"):
        open_prepared(out)
    assert main([*SMALL, "--out", str(out)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "half" not in (out / "valid" / "part-0").read_text()


def test_two_runs_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with python(STALLS, *SMALL, "--out", str(out)) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert main([*SMALL, "--out", str(out)]) == 2
        assert "another run is preparing it just now" in capsys.readouterr().err
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
    assert list(tmp_path.iterdir()) == []


def test_a_replacement_killed_between_its_renames_is_undone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Sample(60, 40, 700), out)
    before = contents(out)
    out.rename(tmp_path / ".out.replaced")
    assert prepare(Sample(60, 40, 700), out).already
    assert contents(out) == before
    # killed after the second rename: the replaced one is what is left over
    (tmp_path / ".out.replaced").mkdir()
    assert prepare(Sample(60, 40, 700), out).already
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        "from paddlerec_milvus.data.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    with python(limited, *SMALL, "--out", str(tmp_path / "out")) as child:
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 2
    assert "error: cannot write" in errors
    assert "clicks.csv" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sample", "--items", "books.csv"], "--items books.csv: with --sample"),
        (["--sample", "--url", "http://x"], "--url does not go with --sample"),
        (["--interactions", "x", "--users", "5"], "--users does not go with --interactions"),
        (["--reviews", "x", "--string-ids"], "--string-ids does not go with --reviews"),
        (["--amazonbook", "--seed", "1"], "--seed, --min-count and --split do not go with --am"),
        (["--interactions", ""], "--interactions '': names nothing"),
        (["--reviews", ""], "--reviews '': names nothing"),
        (["--reviews", "absent.json"], "absent.json: no such file"),
        (["--sample", "--clicks", "10"], "--clicks 10 is too few"),
        (["--sample", "--min-count", "1"], "--min-count is 1"),
    ],
)
def test_mistakes_exit_with_2_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--sample", "--amazonbook"], ["--sampel"]])
def test_exactly_one_source(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert caught.value.code == 2


def test_the_script_and_its_help() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for word in ("--sample", "--interactions", "--reviews", "--amazonbook", "examples:"):
        assert word in done.stdout


def test_reading_needs_neither_paddle_nor_pymilvus() -> None:
    code = (
        "import sys, paddlerec_milvus.data.cli, paddlerec_milvus.data.prepared; "
        "print([m for m in ('paddle', 'pymilvus', 'pandas', 'pooch') if m in sys.modules])"
    )
    with python(code) as child:
        output, errors = child.communicate(timeout=60)
    assert (output.strip(), errors) == ("[]", "")
