# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What comes to --out while a run works is left alone, as what was there before it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from paddlerec_milvus.data.dataset import Dataset
from paddlerec_milvus.data.prepare import prepare
from paddlerec_milvus.data.sources import Interactions, Sample
from paddlerec_milvus.errors import DataError, SettingsError

MAKE_ROWS = Path(__file__).parents[2] / "datasets" / "din" / "make_rows.py"


class SlowSample(Sample):
    """A sample, while which is read ``meanwhile`` happens."""

    meanwhile: ClassVar[Callable[[], object]]

    def dataset(self, *arguments: Any) -> Dataset:
        type(self).meanwhile()
        return super().dataset(*arguments)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_comes_to_out_while_a_run_works_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "out"
    if overwrite:
        prepare(Sample(60, 40, 800), out)
    SlowSample.meanwhile = lambda: (out.mkdir(exist_ok=True), (out / "notes").write_text("mine"))
    with pytest.raises(DataError, match=r"not made by prepare\.py|prepare\.py did not write"):
        prepare(SlowSample(60, 40, 700), out, overwrite=overwrite)
    assert (out / "notes").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_prepared_otherwise_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Sample(60, 40, 800), tmp_path / "other")
    SlowSample.meanwhile = lambda: (tmp_path / "other").rename(out)
    with pytest.raises(DataError, match="was prepared otherwise"):
        prepare(SlowSample(60, 40, 700), out)
    assert json.loads((out / "meta.json").read_text())["recipe"]["source"]["clicks"] == 800


def test_rows_for_din_leave_alone_what_comes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("make_rows", MAKE_ROWS)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    data, out, read_held_out = tmp_path / "data", tmp_path / "out", script.read_held_out
    prepare(Sample(60, 40, 700), data)

    def slowly(part: Path) -> Any:
        out.mkdir()
        (out / "notes").write_text("mine")
        return read_held_out(part)

    monkeypatch.setattr(script, "read_held_out", slowly)
    with pytest.raises(SettingsError, match="out: is there already"):
        script.write_rows(data, out, per_user=2, maxlen=5, seed=1)
    assert (out / "notes").read_text() == "mine"


def test_a_damaged_meta_json_is_not_to_be_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(Sample(60, 40, 700), out)
    (out / "meta.json").write_text("damaged")
    with pytest.raises(DataError, match="remove the folder, or name another folder") as caught:
        prepare(Sample(60, 40, 700), out, overwrite=True)
    assert "--overwrite" not in str(caught.value)


def test_a_log_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("paddlerec_milvus.data.sources.log_files", refuse)
    logs = tmp_path / "logs"
    logs.mkdir()
    with pytest.raises(DataError, match="logs: cannot be used: Permission denied"):
        prepare(Interactions(logs), tmp_path / "out")
