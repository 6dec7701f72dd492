# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The files of a contribution: code without links, a sample, upstream's yamls and READMEs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from paddlerec_milvus.config import UPSTREAM_SECTIONS
from paddlerec_milvus.contributing.paddlerec_checkout import MARK
from paddlerec_milvus.data.held_out import HeldOutUsers, read_held_out
from paddlerec_milvus.data.log import ClickLog, read_click_log
from paddlerec_milvus.errors import ModelError, SettingsError
from paddlerec_milvus.settings import Settings

TRAIN_USERS, TEST_USERS = 400, 64
BATCH, INFER_BATCH = 64, 32
OWN_KEYS = ("valid_data_dir", "patience", "valid_top_n")  # of the section runner, ours alone
TRAIN, TEST = "data/sample_data/train", "data/sample_data/test"
WHOLE_DATA = "../../../datasets/AmazonBook"
MAXLEN_READ = re.compile(r"""config\.get\(["']hyper_parameters\.maxlen["'](, \w+)?\)""")


def code_files(folder: Path) -> dict[str, str]:
    """The Python files of a model folder by name; a link is the file that it leads to."""
    broken = [link.name for link in folder.glob("*.py") if not link.exists()]
    if broken:
        raise ModelError(f"{folder}: {', '.join(broken)}: a link that leads nowhere")
    return {file.name: file.read_text("utf-8") for file in sorted(folder.glob("*.py"))}


def imports_scipy(files: dict[str, str]) -> bool:
    """Whether one of ``files`` does; paddle and numpy come with PaddlePaddle, scipy does not."""
    return any(
        re.search(r"^\s*(import|from) scipy\b", text, re.MULTILINE) for text in files.values()
    )


def maxlen_read(maxlen: int) -> str:
    """How contributed code reads ``hyper_parameters.maxlen``."""
    return f'config.get("hyper_parameters.maxlen", {maxlen})'


def with_maxlen(code: str, maxlen: int) -> str:
    """``code`` that takes ``maxlen`` where a config has none, as that of test_tipc's inference."""
    return MAXLEN_READ.sub(maxlen_read(maxlen), code)


def sample_files(settings: Settings, item_count: int) -> dict[str, str]:
    """Clicks of the first train users and lines of the first test users, small enough for git.

    ``item_count`` is that of the contributed yaml. SettingsError: the data has larger ids.
    """
    log = read_click_log(settings.path("train_data_dir"))
    users = read_held_out(settings.path("test_data_dir"))
    if len(users) < INFER_BATCH:
        raise SettingsError(
            f"runner.test_data_dir: {len(users)} users are too few for a sample, which needs "
            f"{INFER_BATCH}; give a larger log with --data"
        )
    largest = max(int(log.items.max()), users.largest_item())
    if largest >= item_count:
        raise SettingsError(
            f"hyper_parameters.item_count: {item_count} in config.yaml, but the sample's data has "
            f"item ids up to {largest}; set it there to {largest + 1}, or take the sample from "
            "other data"
        )
    return {f"{TRAIN}/part-0.csv": _clicks(log), f"{TEST}/part-0": _test_lines(users)}


def _clicks(log: ClickLog) -> str:
    lines = []
    for row, user in enumerate(log.user_ids[:TRAIN_USERS].tolist()):
        clicks = log.items[log.indptr[row] : log.indptr[row + 1]].tolist()
        lines += [f"{user},{item},{time}\n" for time, item in enumerate(clicks)]
    return "".join(lines)


def _test_lines(users: HeldOutUsers) -> str:
    count = min(TEST_USERS, len(users)) // INFER_BATCH * INFER_BATCH
    lines = []
    for user, history, truths in zip(
        users.user_ids[:count], users.history_list(), users.truth_list(), strict=False
    ):
        clicks = [f"hist_item:{item}" for item in history] + [f"eval_item:{i}" for i in truths]
        lines.append(f"user_id:{user} target_item:0 {' '.join(clicks)}\n")
    return "".join(lines)


def upstream_yaml(file: Path, runner: dict[str, Any], comment: str) -> str:
    """The yaml ``file`` in upstream's sections alone, with the keys ``runner`` changed.

    Comments stay. SettingsError: what comes out is not what was meant (an unusual layout).
    """
    text = file.read_text(encoding="utf-8-sig")
    whole = yaml.safe_load(text)
    wanted = {part: whole[part] for part in UPSTREAM_SECTIONS if part in whole}
    wanted["runner"] = {k: v for k, v in whole["runner"].items() if k not in OWN_KEYS} | runner
    blocks = re.split(r"^(?=[A-Za-z_]+:)", text, flags=re.MULTILINE)[1:]
    lines = []
    for block in (block for block in blocks if block.partition(":")[0] in wanted):
        for line in block.rstrip("\n").split("\n"):
            key = line.strip().partition(":")[0]
            of_runner = block.startswith("runner:") and line.startswith(" ")
            if of_runner and key in OWN_KEYS:
                continue
            if of_runner and key in runner:
                line = f"  {key}: {_shown(runner[key])}"
            lines.append(line)
            if line.startswith("runner:"):
                new = [name for name in runner if name not in whole["runner"]]
                lines += [f"  {name}: {_shown(runner[name])}" for name in new]
        lines.append("")
    result = f"{MARK}\n# {comment}\n\n" + "\n".join(lines)
    if yaml.safe_load(result) != wanted:
        raise SettingsError(
            f"{file}: cannot be changed line by line; write each section as 'name:' and each key "
            "as '  key: value' on a line of its own"
        )
    return result


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def sections_of(readme: str) -> dict[str, str]:
    """A README's text by headings; ``""`` is what stands between its title and the first code."""
    first, *parts = re.split(r"^##+ +", _without_title(readme), flags=re.MULTILINE)
    named = {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}
    intro = first.partition("```")[0]
    return {"": _without_links(intro.strip())} | {
        heading.strip(): _without_links(text.strip()) for heading, text in named.items()
    }


def _without_title(text: str) -> str:
    return re.sub(r"\A\s*#[^\n]*\n", "", text)


def _without_links(text: str) -> str:
    """Links to files of this repository lead nowhere in another: their words stay."""
    return re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]*\)", r"\1", text)


def title_of(readme: str) -> str:
    """The words of a README's first heading."""
    match = re.match(r"\s*#\s+(.+)", readme)
    if match is None:
        raise ModelError("README.md: its first line is no title (# NAME)")
    return match[1].strip()


def paper_of(readme: str) -> str:
    """``[venue year][title](link)`` of the first line that names a paper, as upstream lists it."""
    intro = sections_of(readme)[""]
    venue = re.search(r"([A-Za-z]+ (?:19|20)\d\d)", intro)
    link = re.search(r"https?://[^\s)]+", intro)
    title = intro.partition("(")[0].strip().splitlines()[:1] or [title_of(readme)]
    name = f"[{title[0].rstrip(',. ')}]"
    return (f"[{venue[1]}]" if venue else "") + name + (f"({link[0]})" if link else "")
