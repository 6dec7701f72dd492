# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A checkout of PaddleRec: what a contribution may touch there, and the entries of its lists."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlerec_milvus.errors import SettingsError, UserError

PARTS = ("tools/trainer.py", "models", "test_tipc/prepare.sh", "README_CN.md", "README_EN.md")
MARK = "# Contributed with paddlerec-milvus: written again by its tools/contribute.py"
ROW_ENDS = {"README.md": "召回", "README_CN.md": "召回", "README_EN.md": "Recall"}


@dataclass(frozen=True)
class ModelEntry:
    """What lists say of a model."""

    task: str
    name: str
    title: str
    paper: str
    """``[venue year][title](link)``, as far as it is known."""

    @property
    def row(self) -> str:
        """The end of its row in the list of models, from the model's cell on."""
        place = f"[{self.title}](models/{self.task}/{self.name}/)"
        return f"{place} |  -  |  x  |  x  | >=3.0.0 | {self.paper} |"


class PaddleRecCheckout:
    """The folder of a checkout. SettingsError: it is none."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        missing = [part for part in PARTS if not (self.root / part).exists()]
        top = "" if missing else self._git("rev-parse", "--show-toplevel").strip()
        if missing or Path(top) != self.root:
            why = f"lacks {', '.join(missing)}" if missing else "is not the top of a git checkout"
            raise SettingsError(
                f"--to {root}: {why}; expected a checkout of PaddleRec: "
                "git clone https://github.com/PaddlePaddle/PaddleRec"
            )

    def _git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SettingsError(f"--to {self.root}: {done.stderr.strip() or 'git fails'}")
        return done.stdout

    def require_clean(self, places: Sequence[str]) -> None:
        """SettingsError where one of ``places`` has changes that are not committed."""
        changed = self._git("status", "--porcelain", "--untracked-files=all", "--", *places)
        if changed:
            names = [line[3:] for line in changed.splitlines()]
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
            raise SettingsError(
                f"--to {self.root}: not committed: {shown}; commit them or put them aside (git "
                "stash -u), so that nothing of yours is written over"
            )

    def require_own(self, folder: str, tipc: str, name: str) -> None:
        """SettingsError where one of the two folders is there and was made by somebody else."""
        yaml = self.root / folder / "config.yaml"
        if yaml.is_file() and yaml.read_text(encoding="utf-8").startswith(MARK):
            return
        if taken := [part for part in (folder, tipc) if (self.root / part).exists()]:
            raise SettingsError(
                f"{self.root / taken[0]}: is there, and is not this tool's; give the contribution "
                f"another name with --name, such as {name}_v2"
            )

    def lists(self, entry: ModelEntry) -> dict[Path, str]:
        """The lists that name models, by their files, with ``entry`` in each, once."""
        texts = {}
        for name, task in ROW_ENDS.items():
            file = self.root / name
            if file.is_file() and not file.is_symlink():  # README.md leads to README_CN.md
                texts[file] = _with_row(file, task, entry)
        return texts

    def prepare_script(self, entry: ModelEntry, block: str) -> str:
        """test_tipc/prepare.sh with ``block``, the model's branch, in place of an older one."""
        file = self.root / "test_tipc" / "prepare.sh"
        head = f'elif [ ${{model_name}} == "{entry.name}" ]; then\n'
        text = re.sub(re.escape(head) + r"(    .*\n)*", "", file.read_text(encoding="utf-8"))
        body, last, rest = text.rpartition("\nfi")
        if not last or rest.strip():
            raise UserError(f"{file}: does not end with fi: where does a model's branch go?")
        return f"{body}\n{block}fi{rest}"


def _with_row(file: Path, task: str, entry: ModelEntry) -> str:
    """The list of ``file`` with a row for ``entry`` after the last one of its task."""
    mark = f"](models/{entry.task}/{entry.name}/)"
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if mark not in line]
    rows = [number for number, line in enumerate(lines) if re.match(rf"\s*\|\s*{task}\s*\|", line)]
    if not rows:
        raise UserError(f"{file}: has no row of the task {task}: the list of models is elsewhere?")
    lines.insert(rows[-1] + 1, f"  |   {task}   | {entry.row}")
    return "\n".join(lines) + "\n"
