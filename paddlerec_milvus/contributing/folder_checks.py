# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What a model folder's files say without a run: the contract's parts, keys, upstream's list."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import paddle

from paddlerec_milvus.config import UPSTREAM_SECTIONS, load_settings, source_strings
from paddlerec_milvus.contributing.check_results import NotApplicableError
from paddlerec_milvus.contributing.reader_checks import first_batch
from paddlerec_milvus.contributing.trial import Trial
from paddlerec_milvus.data.files import data_files
from paddlerec_milvus.errors import ModelError, SettingsError, UserError, nearest
from paddlerec_milvus.retrieval.indexes import index_of_settings
from paddlerec_milvus.settings import RunnerSettings

FILES = ("net.py", "dygraph_model.py", "config.yaml", "config_bigdata.yaml", "README.md")
METHODS = ("create_model", "create_optimizer", "create_metrics", "train_forward", "infer_forward")
# what upstream's requirements.txt installs, by the names that are imported
UPSTREAM_PACKAGES = {
    *("paddle", "numpy", "cv2", "sklearn", "pandas", "scipy", "numba", "pgl", "tqdm", "yaml"),
    *("requests", "nltk", "h5py", "faiss"),
}


def whole_folder(trial: Trial) -> str:
    """Every part of the contract is there, and nothing lies deeper than the folder itself."""
    folder = trial.yaml.parent
    missing = [name for name in FILES if not (folder / name).is_file()]
    missing += [f"{link.name} (a broken link)" for link in folder.iterdir() if not link.exists()]
    if missing:
        raise ModelError(
            f"{folder} lacks {', '.join(missing)}; a model folder is flat and holds "
            f"{', '.join(FILES)} and its readers"
        )
    deeper = sorted({file.parent.name for file in folder.glob("*/*.py")})
    if deeper:
        raise ModelError(f"{folder}: code in {', '.join(deeper)}; a model folder is flat")
    contract = trial.folder.dygraph_model()
    lacking = [name for name in METHODS if not hasattr(contract, name)]
    if lacking:
        raise ModelError(f"{folder}/dygraph_model.py: DygraphModel has no {', '.join(lacking)}")
    files = len([path for path in folder.iterdir() if path.suffix == ".py"])
    return f"{files} Python files, config.yaml, config_bigdata.yaml, README.md"


class RecordedConfig(dict[str, Any]):
    """A flat config that remembers which keys were read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.keys_read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.keys_read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As dict's, remembered."""
        self.keys_read.add(key)
        return super().get(key, default)


def keys_are_read(trial: Trial) -> str:
    """Each key of the yaml is read: by the folder in a run of one batch, or by a tool."""
    settings = trial.settings
    index_of_settings(settings)
    load_settings(trial.yaml.parent / "config_bigdata.yaml")
    config = RecordedConfig(settings.dotted())
    _one_batch(trial, config)
    strings = source_strings(trial.yaml.parent)
    ours = {f"runner.{name}" for name in RunnerSettings.model_fields}
    ours |= {"hyper_parameters.item_count", "hyper_parameters.maxlen"}  # --data, evaluation
    keys = [key for key in config if key.partition(".")[0] in UPSTREAM_SECTIONS]
    # a whole dotted key in the sources may be read in a case that this run does not meet
    unread = [key for key in keys if key not in config.keys_read | strings | ours]
    if unread:
        known = {key.partition(".")[2]: key for key in config.keys_read | ours}
        words = [key + nearest(key.partition(".")[2], known) for key in unread]
        raise SettingsError(
            f"{trial.yaml}: read by nothing: {', '.join(words)}; take the key out, or read it with "
            'config.get("hyper_parameters.…")'
        )
    return f"{len(keys)} keys, and those of milvus, index and retrieval"


def _one_batch(trial: Trial, config: RecordedConfig) -> None:
    """Model, optimizer, both readers and both passes, each once."""
    folder, runner = trial.folder, trial.settings.runner
    data_files(trial.settings.path("train_data_dir"), "runner.train_data_dir")  # as a run does
    contract = folder.dygraph_model()
    with folder.active(), folder.settings_errors(), paddle.utils.unique_name.guard():
        model = contract.create_model(config)
        contract.create_optimizer(model, config)
        metrics, _ = contract.create_metrics()
        batch = first_batch(trial, "train_data_dir", runner.train_reader_path, config)
        contract.train_forward(model, metrics, batch, config)
        model.eval()
        batch = first_batch(trial, "test_data_dir", runner.infer_reader_path, config)
        contract.infer_forward(model, metrics, batch, config)


def names_as_upstream(trial: Trial) -> str:
    """Folders of checkpoints by upstream's names; data by relative paths; no old fluid."""
    folder, wrong = trial.yaml.parent, []
    if not folder.name.isidentifier() or folder.name != folder.name.lower():
        wrong.append(f"the folder's name {folder.name!r} is not lower_snake_case")
    for name, suffix in (("config.yaml", ""), ("config_bigdata.yaml", "_all")):
        settings = load_settings(folder / name)
        expected = f"output_model_{folder.name}{suffix}"
        for key in ("model_save_path", "infer_load_path"):
            if (value := getattr(settings.runner, key)) != expected:
                wrong.append(f"{name}: runner.{key} is {value!r}, expected {expected!r}")
        for key in ("train_data_dir", "test_data_dir"):
            value = getattr(settings.runner, key)
            if value is None or Path(value).is_absolute():
                wrong.append(f"{name}: runner.{key} is {value!r}, expected a relative path")
    for source in sorted(folder.glob("*.py")):
        if re.search(r"\bfluid\b", source.read_text(encoding="utf-8")):
            wrong.append(f"{source.name} speaks of fluid; only paddle's API from 2.0 on is taken")
    if wrong:
        raise ModelError("; ".join(wrong))
    return f"output_model_{folder.name}, output_model_{folder.name}_all, relative data"


def _imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            yield "."


def allowed_imports(trial: Trial) -> str:
    """The folder imports itself, the standard library and what upstream installs."""
    folder = trial.yaml.parent
    own = {source.stem for source in folder.glob("*.py")}
    wrong, used = [], set()
    for source in sorted(folder.glob("*.py")):
        for name in sorted(set(_imported(source)) - own - sys.stdlib_module_names):
            used.add(name)
            if name not in UPSTREAM_PACKAGES:
                wrong.append(f"{source.name} imports {name}")
    if wrong:
        raise ModelError(
            f"{'; '.join(wrong)}: upstream does not install that; import files of the folder by "
            "bare names, paddle, numpy and scipy"
        )
    return ", ".join(sorted(used))


def readme_sections(trial: Trial) -> str:
    """The README says what the model is, where it comes from and how it is trained."""
    file = trial.yaml.parent / "README.md"
    text = file.read_text(encoding="utf-8")
    before, _, _ = re.sub(r"\A\s*#[^\n]*\n", "", text).partition("```")
    source = re.search(r"https?://|\b(19|20)\d\d\b", text)  # a link, or a venue with its year
    command = re.search(rf"trainer\.py\s+-m\s+\S*({trial.yaml.parent.name}/)?config\.yaml", text)
    wanted = {
        "a title in its first line (# NAME)": re.match(r"\s*#\s+\S", text),
        "a paragraph that says what the model is": len(before.split()) >= 10,
        "where the model comes from (a link to the paper, or its venue and year)": source,
        "the command that trains it (tools/trainer.py -m …)": command,
    }
    if lacking := [what for what, there in wanted.items() if not there]:
        raise ModelError(f"{file}: lacks {', '.join(lacking)}")
    if "TODO" in text:
        raise NotApplicableError(f"{file}: TODO marks what is still to be written")
    return "title, model, paper, commands"


def own_collection(trial: Trial) -> str:
    """No other yaml of the zoo has this folder's names of collections."""
    folder, owners = trial.yaml.parent, dict[str, str]()
    for file in sorted(folder.parent.parent.glob("*/*/config*.yaml")):
        try:
            name = load_settings(file).milvus.collection
        except UserError:  # another folder's trouble
            continue
        other = owners.setdefault(name, f"{file.parent.name}/{file.name}")
        if other != f"{file.parent.name}/{file.name}" and folder.name in (
            file.parent.name,
            other.partition("/")[0],
        ):
            raise SettingsError(
                f"milvus.collection: {name!r} is that of {other} and of {file.parent.name}/"
                f"{file.name}: on one Milvus the later would replace the earlier; give each its own"
            )
    own = [name for name, owner in owners.items() if owner.partition("/")[0] == folder.name]
    return ", ".join(own)
