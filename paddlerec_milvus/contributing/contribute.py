# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A model folder as a contribution to PaddleRec: flat, complete, with what upstream asks for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlerec_milvus.command import settings_for
from paddlerec_milvus.config import load_settings
from paddlerec_milvus.contributing.contributed_files import (
    BATCH,
    INFER_BATCH,
    TEST,
    TRAIN,
    WHOLE_DATA,
    code_files,
    imports_scipy,
    maxlen_read,
    paper_of,
    sample_files,
    sections_of,
    title_of,
    upstream_yaml,
    with_maxlen,
)
from paddlerec_milvus.contributing.paddlerec_checkout import ModelEntry, PaddleRecCheckout
from paddlerec_milvus.contributing.templates import template
from paddlerec_milvus.data.files import replacing
from paddlerec_milvus.data.staging import staged
from paddlerec_milvus.errors import ModelError, SettingsError
from paddlerec_milvus.settings import Settings

SAMPLE_KEYS = ("runner.train_data_dir", "runner.test_data_dir")
LISTED = ("README.md", "README_CN.md", "README_EN.md")


@dataclass(frozen=True)
class Contribution:
    """What was written, by paths from the checkout's root, and what is left to a person."""

    files: list[str]
    left: list[str]


def contribute(
    yaml: Path, options: Sequence[str], data: Path | None, to: Path, name: str | None
) -> Contribution:
    """Write the folder of ``yaml`` into the checkout ``to``, under ``name``, or its own.

    All texts are made before the first is written. SettingsError: ``to`` is no checkout, has
    changes that are not committed where this writes, or a folder of that name that is not this
    tool's; ``options`` has another key than ``SAMPLE_KEYS``.
    """
    settings = settings_for(yaml, options, data)
    source = settings.model_dir
    _require_sample_keys(options, source)
    name = source.name if name is None else name
    if not name.isidentifier() or name != name.lower():
        raise SettingsError(f"--name {name!r}: expected lower-case letters, digits and _")
    checkout, task = PaddleRecCheckout(to), source.parent.name
    if not (checkout.root / "models" / task).is_dir():
        raise SettingsError(f"{source}: {checkout.root} has no models/{task} to put it into")
    folder, tipc = f"models/{task}/{name}", f"test_tipc/configs/{name}"
    checkout.require_own(folder, tipc, name)
    checkout.require_clean([folder, tipc, "test_tipc/prepare.sh", *LISTED])
    readme = _read(source / "README.md")
    unwritten = [file for file in ("README.md", "net.py") if "TODO" in _read(source / file)]
    if unwritten:
        raise ModelError(
            f"{source}: TODO in {', '.join(unwritten)} marks what is still to be written: others "
            "will read it"
        )
    entry = ModelEntry(task, name, title_of(readme), paper_of(readme))
    whole = load_settings(source / "config_bigdata.yaml")
    maxlen = _exported_maxlen(whole)
    parts = _folder_files(settings, entry, maxlen)
    scripts = _tipc_files(settings, whole, entry)
    block = template("prepare.sh.txt", name=name, task=task)
    texts = checkout.lists(entry)
    texts[checkout.root / "test_tipc" / "prepare.sh"] = checkout.prepare_script(entry, block)
    _write_folder(checkout.root / folder, parts)
    _write_folder(checkout.root / tipc, scripts)
    for file, text in texts.items():
        with replacing(file) as fresh:
            fresh.write_text(text, encoding="utf-8")
            shutil.copymode(file, fresh)
    written = [f"{folder}/{part}" for part in parts] + [f"{tipc}/{part}" for part in scripts]
    written += [str(file.relative_to(checkout.root)) for file in texts]
    left = _reader_to_mend(f"{settings.runner.infer_reader_path}.py", parts, maxlen)
    left += _left(parts, entry, chinese=(source / "README_CN.md").is_file())
    return Contribution(written, left)


def _require_sample_keys(options: Sequence[str], source: Path) -> None:
    """SettingsError for an option that no written file would show."""
    keys = [text.partition("=")[0].strip() for text in options]
    if others := [key for key in keys if key not in SAMPLE_KEYS]:
        raise SettingsError(
            f"-o {' '.join(others)}: settings are written from config.yaml and config_bigdata.yaml "
            f"in {source}; edit those. Here -o takes {' and '.join(SAMPLE_KEYS)} alone, for the "
            "sample"
        )


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from None


def _write_folder(folder: Path, files: dict[str, str]) -> None:
    """``folder`` whole or not at all, in place of what was there."""
    with staged(folder) as place:
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text, encoding="utf-8")


def _exported_maxlen(whole: Settings) -> int:
    """The length of histories for which test_tipc exports the tower, by config_bigdata.yaml."""
    maxlen = whole.hyper_parameters.get("maxlen")
    if type(maxlen) is not int or maxlen < 1:
        raise SettingsError(
            f"{whole.file}: hyper_parameters.maxlen: {maxlen!r}, expected the length of histories, "
            "at least 1: the user tower is exported for it"
        )
    return maxlen


def _folder_files(settings: Settings, entry: ModelEntry, maxlen: int) -> dict[str, str]:
    source, name = settings.model_dir, entry.name
    files = {file: with_maxlen(code, maxlen) for file, code in code_files(source).items()}
    own = load_settings(source / "config.yaml")
    files |= sample_files(settings, own.hyper_parameters.get("item_count") or 0)
    for script in ("static_model.py", "infer.py"):
        files.setdefault(script, template(f"{script}.txt"))
    files["__init__.py"] = "# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.\n"
    sample = {
        "train_data_dir": TRAIN,
        "test_data_dir": TEST,
        "train_batch_size": BATCH,
        "infer_batch_size": INFER_BATCH,
        "print_interval": 10,
        "model_save_path": f"output_model_{name}",
        "infer_load_path": f"output_model_{name}",
    }
    whole = {
        "train_data_dir": f"{WHOLE_DATA}/train",
        "test_data_dir": f"{WHOLE_DATA}/valid",
        "model_save_path": f"output_model_{name}_all",
        "infer_load_path": f"output_model_{name}_all",
    }
    title = entry.title
    files["config.yaml"] = upstream_yaml(
        source / "config.yaml", sample, f"{title} on its sample; relative paths from this folder."
    )
    files["config_bigdata.yaml"] = upstream_yaml(
        source / "config_bigdata.yaml", whole, f"{title} on Amazon Books (datasets/AmazonBook)."
    )
    return files | _readmes(settings, entry, files)


def _readmes(settings: Settings, entry: ModelEntry, files: dict[str, str]) -> dict[str, str]:
    """README.md in Chinese and README_en.md; the model's own words are those of its README.

    A README_CN.md of the folder gives the Chinese ones; without it the English ones stand there.
    """
    english = sections_of(_read(settings.model_dir / "README.md"))
    chinese_file = settings.model_dir / "README_CN.md"
    chinese = sections_of(_read(chinese_file)) if chinese_file.is_file() else english
    names = sorted([*files, "README.md", "README_en.md"])
    shared = {
        "title": entry.title,
        "name": entry.name,
        "task": entry.task,
        "tree": "\n".join(names),
        "train_lines": "\n".join(files[f"{TRAIN}/part-0.csv"].splitlines()[:3]),
        "packages": ", scipy" if imports_scipy(files) else "",
        "test_line": files[f"{TEST}/part-0"].splitlines()[0],
    }
    texts = {}
    for file, own in (("README.md", chinese), ("README_en.md", english)):
        results = own.get("Results") or own.get("结果") or "TODO: recall@50, ndcg@50, hitrate@50"
        texts[file] = template(
            f"{file}.txt",
            **shared,
            intro=own[""],
            network=_network(files["net.py"]),
            results=results,
        )
    return texts


def _network(net: str) -> str:
    """What net.py says of itself at its head, as a quotation."""
    match = re.search(r'"""(.+?)"""', net, re.DOTALL)
    return f"```\n{match[1].strip()}\n```" if match else "net.py"


def _tipc_files(settings: Settings, whole: Settings, entry: ModelEntry) -> dict[str, str]:
    runner = whole.runner
    return {
        "train_infer_python.txt": template(
            "train_infer_python.txt",
            name=entry.name,
            task=entry.task,
            yaml="config_bigdata.yaml",
            reader=settings.runner.infer_reader_path,
            batch=BATCH,
            whole_batch=runner.train_batch_size,
            epochs=runner.epochs,
            last_epoch=runner.epochs - 1,
        ),
        **{name: template(f"{name}.txt") for name in ("to_static.py", "paddle_infer.py")},
    }


def _reader_to_mend(reader: str, parts: dict[str, str], maxlen: int) -> list[str]:
    """A line where the infer reader reads maxlen in a way of its own."""
    if maxlen_read(maxlen) in parts.get(reader, ""):
        return []
    return [f"{reader}: test_tipc's inference gives it no maxlen; it has to take {maxlen} then"]


def _left(parts: dict[str, str], entry: ModelEntry, *, chinese: bool) -> list[str]:
    """What only a person can do."""
    left = [f"{name}: TODO" for name, text in parts.items() if "TODO" in text]
    if not chinese:
        left.append(
            "README.md: the model's introduction in Chinese (or README_CN.md in the folder)"
        )
    if "](http" not in entry.paper:
        left.append("README.md, README_CN.md, README_EN.md: the paper's link in the new row")
    left.append("contributor.md: your name and the pull request")
    left.append("doc/source/models: a page of read the docs, as doc/contribute.md says")
    return [*left, "pre-commit run --all-files"]
