# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Settings: every key is read or refused, every value has its type, every path its meaning."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import MIND, ROOT, mind_folder, write_yaml

from paddlerec_milvus.config import find_yaml, load_settings
from paddlerec_milvus.errors import SettingsError


@pytest.fixture
def mind_yaml(tmp_path: Path) -> Path:
    return mind_folder(tmp_path / "mind")


@pytest.fixture
def upstream_yaml(tmp_path: Path) -> Path:
    (tmp_path / "dygraph_model.py").write_text('KEY = "hyper_parameters.fc_sizes"\n')
    sections = {
        "runner": {"train_data_dir": "data", "thread_num": 4},
        "hyper_parameters": {"fc_sizes": [8, 4], "slots": 3},
    }
    return write_yaml(tmp_path / "config.yaml", sections)


def edited(file: Path, section: str, **values: Any) -> Path:
    sections = yaml.safe_load(file.read_text())
    sections.setdefault(section, {}).update(values)
    return write_yaml(file, sections)


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("section", "wrong", "right"),
        [
            ("runner", "epoch", "epochs"),
            ("hyper_parameters", "capsual.iter", "capsual.iters"),
            ("hyper_parameters", "temprature", "temperature"),
            ("milvus", "time_out", "timeout"),
            ("retrieval", "metrics", "metric"),
        ],
    )
    def test_nearest_is_named(self, mind_yaml: Path, section: str, wrong: str, right: str) -> None:
        with pytest.raises(SettingsError) as from_o:
            load_settings(mind_yaml, [f"{section}.{wrong}=3"])
        edited(mind_yaml, section, **{wrong: 3})
        with pytest.raises(SettingsError) as from_yaml:
            load_settings(mind_yaml)
        for raised in (from_o, from_yaml):
            assert f"'{section}.{wrong}'" in str(raised.value)
            assert f"did you mean '{right}'" in str(raised.value)
        assert str(mind_yaml) in str(from_yaml.value)
        assert "-o" in str(from_o.value)

    def test_a_source_that_cannot_be_parsed_gives_no_keys(self, mind_yaml: Path) -> None:
        # the zoo says so when it loads the folder; here the other files still count
        (mind_yaml.parent / "broken.py").write_text("def (:\n")
        assert load_settings(mind_yaml)

    def test_a_key_near_nothing_is_still_an_error(self, mind_yaml: Path) -> None:
        edited(mind_yaml, "hyper_parameters", zzz=1)
        with pytest.raises(SettingsError, match=r"hyper_parameters\.zzz': nothing reads it"):
            load_settings(mind_yaml)

    def test_upstream_yaml_only_warns(
        self, upstream_yaml: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            settings = load_settings(upstream_yaml)
        assert [r.getMessage().split(": ")[-1] for r in caplog.records] == [
            "runner.thread_num, hyper_parameters.slots"
        ]
        flat = settings.dotted()
        assert flat["runner.thread_num"] == 4
        assert flat["hyper_parameters.fc_sizes"] == [8, 4]

    def test_in_upstream_yaml_o_is_still_strict(self, upstream_yaml: Path) -> None:
        assert load_settings(upstream_yaml, ["runner.thread_num=8"])
        with pytest.raises(SettingsError, match=r"did you mean 'fc_sizes'"):
            load_settings(upstream_yaml, ["hyper_parameters.fc_size=[1]"])

    def test_own_section_makes_the_same_yaml_strict(self, upstream_yaml: Path) -> None:
        edited(upstream_yaml, "retrieval", metric="IP")
        with pytest.raises(SettingsError, match=r"unknown key 'runner\.thread_num'"):
            load_settings(upstream_yaml)

    @pytest.mark.parametrize(
        ("section", "message"),
        [("runer", "did you mean 'runner'"), ("surplus", "there are: workspace, runner")],
    )
    def test_unknown_section(self, mind_yaml: Path, section: str, message: str) -> None:
        edited(mind_yaml, section, a=1)
        with pytest.raises(SettingsError, match=f"unknown section '{section}'.*{message}"):
            load_settings(mind_yaml)

    def test_unknown_section_in_upstream_yaml_warns(
        self, upstream_yaml: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        edited(upstream_yaml, "table_parameters", a=1)
        load_settings(upstream_yaml)
        assert "section 'table_parameters'" in caplog.text


class TestTypes:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("runner.epochs=two", "runner.epochs: 'two': input should be a valid integer"),
            ("runner.epochs=2.0", "valid integer"),
            ("runner.epochs=True", "valid integer"),
            ("runner.epochs=", "valid integer"),
            ("runner.epochs=0", "greater than or equal to 1"),
            ("runner.seed=-1", "greater than or equal to 0"),
            ("runner.use_gpu=2", "valid boolean"),
            ("runner.use_gpu='False'", "valid boolean"),
            ("milvus.timeout=soon", "valid number"),
            ("milvus.timeout=0", "greater than 0"),
            ("milvus.collection=a-b", "match pattern"),
            ("milvus.consistency=strong", "'Strong', 'Bounded', 'Session' or 'Eventually'"),
            ("milvus.uri=''", "at least 1"),
            ("retrieval.metric=cosine", "'IP', 'COSINE' or 'L2'"),
            ("hyper_parameters.maxlen=ten", "expected int, as in 5"),
            ("hyper_parameters.maxlen=10.0", "expected int"),
            ("hyper_parameters.normalize=1", "expected bool"),
            ("hyper_parameters.temperature=True", "expected float"),
            ("hyper_parameters.attention=1", "expected str"),
            ("runner.epochs", "expected SECTION.KEY=VALUE"),
            ("epochs=3", "expected SECTION.KEY=VALUE"),
            ("runner=3", "expected SECTION.KEY=VALUE"),
            ("runner.epochs=[3", "not yaml"),
        ],
    )
    def test_refused_with_key_and_expectation(
        self, mind_yaml: Path, override: str, expected: str
    ) -> None:
        with pytest.raises(SettingsError) as raised:
            load_settings(mind_yaml, [override])
        assert expected in str(raised.value)
        assert override.split("=", 1)[0] in str(raised.value)

    @pytest.mark.parametrize(("value", "message"), [("10", "integer"), (2.5, "integer")])
    def test_refused_in_the_yaml(self, mind_yaml: Path, value: object, message: str) -> None:
        edited(mind_yaml, "runner", epochs=value)
        with pytest.raises(SettingsError) as raised:
            load_settings(mind_yaml)
        assert all(
            text in str(raised.value)
            for text in (str(mind_yaml), "runner.epochs", repr(value), message)
        )

    def test_all_wrong_values_are_said_at_once(self, mind_yaml: Path) -> None:
        with pytest.raises(SettingsError, match=r"runner\.epochs.*runner\.seed"):
            load_settings(mind_yaml, ["runner.epochs=x", "runner.seed=y"])

    def test_false_is_false_where_the_yaml_lacks_the_key(self, mind_yaml: Path) -> None:
        assert "use_xpu" not in mind_yaml.read_text()
        settings = load_settings(mind_yaml, ["runner.use_xpu=False", "runner.use_gpu=False"])
        assert settings.runner.use_xpu is False
        assert settings.dotted()["runner.use_xpu"] is False

    @pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "+1e-3", "1.0e-3"])
    def test_a_number_in_scientific_notation(self, mind_yaml: Path, text: str) -> None:
        key = "hyper_parameters.optimizer.learning_rate"
        assert load_settings(mind_yaml, [f"{key}={text}"]).dotted()[key] == 0.001
        # and in a yaml, and for a key that the yaml lacks
        sections = yaml.safe_load(mind_yaml.read_text())
        del sections["hyper_parameters"]["optimizer"]
        write_yaml(mind_yaml, sections)
        assert load_settings(mind_yaml, [f"{key}={text}"]).dotted()[key] == 0.001
        mind_yaml.write_text(
            mind_yaml.read_text().replace(
                "hyper_parameters:", f"hyper_parameters:\n  {key[17:]}: {text}"
            )
        )
        assert load_settings(mind_yaml).dotted()[key] == 0.001

    def test_an_int_is_taken_for_a_float(self, mind_yaml: Path) -> None:
        settings = load_settings(mind_yaml, ["hyper_parameters.temperature=1", "milvus.timeout=5"])
        value = settings.dotted()["hyper_parameters.temperature"]
        assert (value, type(value)) == (1.0, float)
        assert settings.milvus.timeout == 5.0

    def test_the_range_of_epochs_to_infer(self, mind_yaml: Path) -> None:
        with pytest.raises(SettingsError, match=r"runner\.infer_end_epoch: 2 .*start_epoch: 2"):
            load_settings(mind_yaml, ["runner.infer_start_epoch=2", "runner.infer_end_epoch=2"])

    def test_settings_are_frozen(self, mind_yaml: Path) -> None:
        settings = load_settings(mind_yaml)
        with pytest.raises(ValueError, match="frozen"):
            settings.runner.epochs = 7


class TestFiles:
    def test_missing(self) -> None:
        with pytest.raises(SettingsError, match=r"did you mean 'mind/config.yaml'") as raised:
            load_settings("mind/confg.yaml")
        assert "models/recall/mind/config_bigdata.yaml" in str(raised.value)

    def test_missing_absolute(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="no such file"):
            load_settings(tmp_path / "nothing.yaml")

    @pytest.mark.parametrize("given", ["", ".", "mind", "*/config.yaml", "mind/**x"])
    def test_what_is_no_file_is_not_found(self, given: str) -> None:
        with pytest.raises(SettingsError, match="no such file"):
            find_yaml(given)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"- a\n- b\n", r"expected sections such as 'runner:', found \['a', 'b'\]"),
            (b"", "expected sections"),
            (b"runner:\n  epochs: 3\n  seed: [1,\n", "is not yaml: .* line 4"),
            (b"runner:\n\tepochs: 3\n", "is not yaml: .* line 2"),
            (b"runner: 3\n", "runner: expected keys and values, found 3"),
            (b"runner:\n  a: \xff\n", "cannot be read"),
        ],
    )
    def test_broken(self, tmp_path: Path, content: bytes, message: str) -> None:
        file = tmp_path / "config.yaml"
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=message) as raised:
            load_settings(file)
        assert str(file) in str(raised.value)

    def test_bom_and_crlf(self, upstream_yaml: Path) -> None:
        text = upstream_yaml.read_text().replace("\n", "\r\n")
        upstream_yaml.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert load_settings(upstream_yaml).runner.train_data_dir == "data"

    def test_zoo_name_from_anywhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for directory in (tmp_path, ROOT, MIND):
            monkeypatch.chdir(directory)
            assert find_yaml("mind/config.yaml") == MIND / "config.yaml"
        assert find_yaml("config.yaml") == MIND / "config.yaml"  # in its own folder

    def test_a_path_wins_over_the_zoo(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mind_yaml: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert find_yaml("mind/config.yaml") == mind_yaml

    def test_ambiguous(self, tmp_path: Path) -> None:
        for task in ("rank", "recall"):
            (tmp_path / task / "twin").mkdir(parents=True)
            (tmp_path / task / "twin" / "config.yaml").write_text("")
        with pytest.raises(SettingsError, match=r"several models match: .*rank.*recall"):
            find_yaml("twin/config.yaml", zoo=tmp_path)


class TestPaths:
    def test_in_a_yaml_from_its_folder_in_o_from_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mind_yaml: Path
    ) -> None:
        monkeypatch.chdir(tmp_path)
        edited(mind_yaml, "runner", train_data_dir="../log", test_data_dir="t")
        settings = load_settings(
            mind_yaml, ["runner.model_save_path=saved", "runner.model_init_path=start/0"]
        )
        assert settings.path("train_data_dir").resolve() == tmp_path / "log"
        assert settings.path("test_data_dir") == mind_yaml.parent / "t"
        assert settings.path("model_save_path") == tmp_path / "saved"
        assert settings.path("model_init_path") == tmp_path / "start" / "0"
        assert settings.milvus_uri == str(mind_yaml.parent / "milvus.db")
        assert load_settings(mind_yaml, ["milvus.uri=my.db"]).milvus_uri == str(tmp_path / "my.db")
        odd = tmp_path / "Proj #2" / "[x].db"
        assert load_settings(mind_yaml, [f"milvus.uri={odd}"]).milvus_uri == str(odd)

    def test_a_server_is_no_path(self, mind_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        uri = "http://127.0.0.1:19530"
        assert load_settings(mind_yaml, [f"milvus.uri={uri}"]).milvus_uri == uri
        monkeypatch.setenv("MILVUS_URI", uri)
        assert load_settings(mind_yaml).milvus_uri == uri

    def test_not_set(self, mind_yaml: Path) -> None:
        with pytest.raises(SettingsError, match=r"runner\.model_init_path is missing"):
            load_settings(mind_yaml).path("model_init_path")


class TestEnvironment:
    def test_order(self, mind_yaml: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        edited(mind_yaml, "milvus", uri="in.yaml.db", token="in-yaml")
        assert load_settings(mind_yaml).milvus.token.get_secret_value() == "in-yaml"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MILVUS_URI", "env.db")
        monkeypatch.setenv("MILVUS_TOKEN", "of-env")
        settings = load_settings(mind_yaml)
        assert settings.milvus_uri == str(tmp_path / "env.db")
        assert settings.milvus.token.get_secret_value() == "of-env"
        settings = load_settings(mind_yaml, ["milvus.uri=o.db", "milvus.token=of-o"])
        assert settings.milvus_uri == str(tmp_path / "o.db")
        assert settings.milvus.token.get_secret_value() == "of-o"

    @pytest.mark.parametrize("token", ["123456", "[secret", "root:Milvus", "True", "a: b"])
    def test_any_token_is_taken_and_never_shown(self, mind_yaml: Path, token: str) -> None:
        settings = load_settings(mind_yaml, [f"milvus.token={token}"])
        assert settings.milvus.token.get_secret_value() == token
        shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.dotted())]
        assert not any(token in text for text in shown if token != "True")

    def test_a_number_as_token_in_the_yaml(self, mind_yaml: Path) -> None:
        edited(mind_yaml, "milvus", token=987654)
        assert load_settings(mind_yaml).milvus.token.get_secret_value() == "987654"

    def test_an_error_elsewhere_does_not_show_the_token(self, mind_yaml: Path) -> None:
        with pytest.raises(SettingsError) as raised:
            load_settings(mind_yaml, ["milvus.token=s3cret", "milvus.timeout=x"])
        assert "s3cret" not in str(raised.value)


class TestDotted:
    def test_what_a_model_folder_sees(self, mind_yaml: Path) -> None:
        flat = load_settings(mind_yaml).dotted()
        assert flat["config_abs_dir"] == str(mind_yaml.parent)
        assert flat["hyper_parameters.optimizer.class"] == "Adam"
        assert flat["hyper_parameters.capsual.max_k"] == 4
        assert not any(key.startswith(("milvus", "index", "retrieval")) for key in flat)

    def test_the_seed_is_always_there(self, upstream_yaml: Path) -> None:
        assert load_settings(upstream_yaml).dotted()["runner.seed"] == 12345


@pytest.mark.parametrize(
    ("folder", "collection"),
    [("mind", "mind_items"), ("SASRec-2", "SASRec_2_items"), ("2tower", "_2tower_items")],
)
def test_each_model_folder_has_a_collection_of_its_own(
    tmp_path: Path, folder: str, collection: str
) -> None:
    (tmp_path / folder).mkdir()
    file = write_yaml(tmp_path / folder / "config.yaml", {"runner": {}})
    assert load_settings(file).milvus.collection == collection
    assert load_settings(file, ["milvus.collection=own"]).milvus.collection == "own"
