# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""A new model folder: a copy of the plain two-tower model under another name, ready to be changed.

What the folder shares with the rest of its zoo are links, as in the folder that it starts from; an
installed package carries files in their place, and copies them into ``models/`` of the working
directory.
"""

from __future__ import annotations

import ast
import importlib.util
import keyword
import shutil
import sys
from pathlib import Path

from paddlerec_milvus.bundle import zoos
from paddlerec_milvus.contributing.templates import template
from paddlerec_milvus.data.staging import staged
from paddlerec_milvus.errors import SettingsError

START, START_TITLE = "youtube_dnn", "YouTubeDNN"
OWN_FILES = ("dygraph_model.py", "config.yaml", "config_bigdata.yaml")


def zoo_to_extend() -> tuple[Path, Path]:
    """The ``models/`` that gets a new folder, and the one that has the folder to start from."""
    places = zoos()
    start = (place for place in places if (place / "recall" / START / "net.py").is_file())
    return places[0], next(start)


def new_model(name: str, zoo: Path, origin: Path, task: str = "recall") -> Path:
    """Make the folder ``zoo/<task>/<name>`` from one of ``origin``, whole or not at all.

    SettingsError: the name is no lower_snake_case identifier, shadows a package or a module of a
    model folder, or there is such a folder, in whatever task.
    """
    start, folder = origin / task / START, zoo / task / name
    _require_free(name, {zoo, origin})
    title = "".join(part.capitalize() for part in name.split("_"))

    def renamed(text: str) -> str:
        return text.replace(START, name).replace(START_TITLE, title)

    with staged(folder) as place:
        for file in sorted(start.glob("*.py")):
            if file.name in ("net.py", *OWN_FILES):
                continue
            if zoo != origin:
                shutil.copyfile(file, place / file.name)
            elif file.is_symlink():
                (place / file.name).symlink_to(file.readlink())
            else:
                (place / file.name).symlink_to(f"../{START}/{file.name}")
        for own in OWN_FILES:
            (place / own).write_text(renamed((start / own).read_text("utf-8")), "utf-8")
        net = (start / "net.py").read_text("utf-8")
        head = ast.parse(net).body[0]
        lines = net.splitlines(keepends=True)
        top = template("new_net_head.txt", title=title)
        body = "".join([*lines[: head.lineno - 1], top, *lines[head.end_lineno :]])
        (place / "net.py").write_text(renamed(body), "utf-8")
        readme = template("new_README.md.txt", name=name, title=title)
        (place / "README.md").write_text(readme, "utf-8")
    return folder


def _require_free(name: str, places: set[Path]) -> None:
    plain = name.isidentifier() and name.isascii() and name == name.lower()
    if not plain or keyword.iskeyword(name) or name.startswith("_"):
        raise SettingsError(
            f"{name!r}: cannot be a model's name; expected lower-case letters, digits and _, such "
            "as my_model"
        )
    folders = [path for place in places for path in place.glob("*/*") if path.is_dir()]
    taken = sorted({path.name for path in folders})
    if name in taken:
        raise SettingsError(f"{name}: there is a model of that name; there are: {', '.join(taken)}")
    inside = {file.stem for folder in folders for file in folder.glob("*.py")}
    if name in sys.stdlib_module_names or name in inside or importlib.util.find_spec(name):
        raise SettingsError(
            f"{name}: is the name of a package or of a module of model folders, which it would "
            f"shadow; choose another, such as {name}_model"
        )
