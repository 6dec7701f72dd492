# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the command lines share: options, and errors as one line and an exit code."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from support import mind_folder

from paddlerec_milvus import command
from paddlerec_milvus.errors import DataError


@pytest.fixture
def mind_yaml(tmp_path: Path) -> Path:
    return mind_folder(tmp_path / "mind")


class TestCommand:
    def arguments(self, *given: str) -> argparse.Namespace:
        return command.model_parser("Train.", "examples").parse_args(given)

    def test_o_may_be_given_twice(self, mind_yaml: Path) -> None:
        given = self.arguments("-m", str(mind_yaml), "-o", "runner.epochs=3", "-o", "runner.seed=1")
        settings = command.read_settings(given)
        assert (settings.runner.epochs, settings.runner.seed) == (3, 1)
        assert self.arguments("-m", "x").opt == []

    def test_data_points_a_run_at_a_prepared_folder(self, mind_yaml: Path, tmp_path: Path) -> None:
        # a folder as PaddleRec prepares it: item_count is the largest id of all files + 1
        for part, text in (
            ("train", "1,5,0\n1,6,1\n"),
            ("valid", "user_id:2 target_item:0 hist_item:7 eval_item:9\n"),
        ):
            (tmp_path / "books" / part).mkdir(parents=True)
            (tmp_path / "books" / part / "part-0").write_text(text)
        given = self.arguments("-m", str(mind_yaml), "--data", str(tmp_path / "books"))
        settings = command.read_settings(given)
        assert settings.path("train_data_dir") == tmp_path / "books" / "train"
        assert settings.dotted()["hyper_parameters.item_count"] == 10

    def test_o_wins_over_data(self, mind_yaml: Path, tmp_path: Path) -> None:
        (tmp_path / "a: b #c" / "train").mkdir(parents=True)
        (tmp_path / "a: b #c" / "valid").mkdir()
        (tmp_path / "a: b #c" / "train" / "part-0").write_text("1,5,0\n1,6,1\n")
        held_out = "user_id:2 target_item:0 hist_item:7 eval_item:9\n"
        (tmp_path / "a: b #c" / "valid" / "part-0").write_text(held_out)
        data = ["--data", str(tmp_path / "a: b #c"), "-o", "hyper_parameters.item_count=99"]
        settings = command.read_settings(self.arguments("-m", str(mind_yaml), *data))
        assert settings.hyper_parameters["item_count"] == 99
        assert settings.path("train_data_dir") == tmp_path / "a: b #c" / "train"

    def test_each_folder_of_data_has_its_own_place_for_models(
        self, mind_yaml: Path, tmp_path: Path
    ) -> None:
        for name in ("books", "log"):  # log is the yaml's own
            for part, text in (
                ("train", "1,5,0\n1,6,1\n"),
                ("valid", "user_id:2 target_item:0 hist_item:7 eval_item:9\n"),
            ):
                (tmp_path / name / part).mkdir(parents=True)
                (tmp_path / name / part / "part-0").write_text(text)
        own = f"runner.train_data_dir={tmp_path / 'log' / 'train'}"

        def place(*given: str) -> tuple[Path, Path]:
            settings = command.read_settings(self.arguments("-m", str(mind_yaml), *given))
            return settings.path("model_save_path"), settings.path("infer_load_path")

        plain = mind_yaml.parent / "out", mind_yaml.parent / "output_model_mind"
        books = mind_yaml.parent / "out_books", mind_yaml.parent / "output_model_mind_books"
        assert place() == plain
        assert place("--data", str(tmp_path / "books")) == books
        assert place("--data", str(tmp_path / "log"), "-o", own) == plain
        saved = f"runner.model_save_path={tmp_path / 'mine'}"
        assert place("--data", str(tmp_path / "books"), "-o", saved) == (
            tmp_path / "mine",
            books[1],
        )

    def test_exit_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        def fails(error: BaseException) -> int:
            def main() -> None:
                raise error

            return command.run(main)

        assert fails(DataError("no such folder")) == 2
        assert capsys.readouterr().err.endswith("error: no such folder\n")
        assert fails(KeyboardInterrupt("stopped in epoch 1")) == 130
        assert capsys.readouterr().err.endswith("stopped in epoch 1\n")
        assert fails(KeyboardInterrupt()) == 130
        assert command.run(lambda: None) == 0

    def test_ctrl_c_while_a_library_is_loaded(self, capsys: pytest.CaptureFixture[str]) -> None:
        def main() -> None:
            raise ImportError("initialization failed") from KeyboardInterrupt()

        assert command.run(main) == 130
        assert capsys.readouterr().err.endswith("interrupted\n")
