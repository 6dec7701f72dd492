# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""What the site has beside the pages in docs/: files of the repository that they link to, and the
tables of settings, made from the code.

Links are written as they work in the repository (``../models/recall/mind/README.md``,
``serving.zh.md``); here they become links within the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#\s])")
MARK = re.compile(r"<!-- settings: (\w+) -->")
ELSEWHERE = re.compile(
    r"""<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)
HEADS = {"en": ("name", "may be", "default", "is"), "zh": ("名称", "取值", "默认值", "含义")}


def _target(page: str, link: str) -> str:
    """The path in the repository of what ``link`` in the page of that path leads to."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    return posixpath.join(path, "README.md") if (ROOT / path).is_dir() else path


def _source(path: str) -> str:
    """Where the site has the file of that ``path`` in the repository."""
    return path.removeprefix(f"{DOCS}/").replace(".zh.md", ".md")


def _path(file: File) -> str:
    own = str(file.abs_src_path).startswith(f"{ROOT / DOCS}/")
    return posixpath.join(DOCS, file.src_uri) if own else file.src_uri


def _linked(path: str) -> Iterator[str]:
    """Paths of files outside docs/ to which the page of that ``path`` links."""
    for link in LINK.findall((ROOT / path).read_text(encoding="utf-8")):
        target = _target(path, link)
        if not target.startswith(f"{DOCS}/") and (ROOT / target).is_file():
            yield target


def _of_nav(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from _of_nav(inner)


@event_priority(-200)  # after the languages, which would look for them in docs/
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/ that the navigation or a page, one of these too, leads to."""
    waiting = [name for name in _of_nav(config.nav) if not (ROOT / DOCS / name).is_file()]
    for file in files.documentation_pages():
        waiting += _linked(_path(file))
    while waiting:
        path = waiting.pop()
        if path in files.src_uris:
            continue
        language = config.theme["language"]
        place = "" if language == "en" else f"{language}/"
        file = File(path, str(ROOT), config.site_dir, config.use_directory_urls)
        file.dest_uri = place + file.dest_uri
        files.append(file)
        if file.is_documentation_page():
            waiting += _linked(path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into those of the site, and marks into tables of settings."""
    path = _path(page.file)

    def within(link: re.Match[str]) -> str:
        source = _source(_target(path, link[0]))
        return posixpath.relpath(source, posixpath.dirname(page.file.src_uri) or ".")

    heads = HEADS[config.theme["language"]]
    return MARK.sub(lambda mark: settings_of(mark[1], heads), LINK.sub(within, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave out the roles of docstrings (``:meth:`close```), which Markdown does not know."""
    return re.sub(r":(?:meth|func|class|mod):(?=<code>)", "", html)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would load something from elsewhere."""
    elsewhere = ELSEWHERE.findall(output)
    if elsewhere:
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {elsewhere}")
    return output


def settings_of(what: str, heads: tuple[str, ...]) -> str:
    """Markdown for the settings of a ``model``'s yaml, of the ``service``, or MIND's own yaml."""
    from paddlerec_milvus import settings
    from paddlerec_milvus.serving.settings import FIELDS, ServiceSettings

    if what == "mind":
        text = (ROOT / "models/recall/mind/config.yaml").read_text(encoding="utf-8")
        return f"```yaml\n{text}```"
    if what == "service":
        fields = ServiceSettings.model_fields
        return _table(heads, {variable: fields[name] for variable, name in FIELDS.items()})
    parts = (
        *(settings.RunnerSettings, settings.MilvusSettings, settings.RetrievalSettings),
        settings.QuotaSettings,
    )
    return "\n\n".join(_section(part, heads) for part in parts)


def _section(part: type[BaseModel], heads: tuple[str, ...]) -> str:
    name, _, about = (part.__doc__ or "").partition(": ")
    about = _words(about[:1].upper() + about[1:])
    return f"### {name}\n\n{about}\n\n{_table(heads, part.model_fields)}"


def _words(text: str) -> str:
    """A docstring as a line of Markdown."""
    return " ".join(text.split()).replace("``", "`")


def _table(heads: tuple[str, ...], fields: dict[str, FieldInfo]) -> str:
    rows = [heads, ("---",) * len(heads)]
    for name, field in fields.items():
        rows.append((f"`{name}`", _type(field), _default(field), _words(field.description or "")))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


TYPES = {"integer": "int", "number": "float", "string": "text", "boolean": "bool", "array": "names"}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _type(field: FieldInfo) -> str:
    """What a value may be: ``int ≥ 1``, or the values to choose from."""
    schema = TypeAdapter(field.rebuild_annotation()).json_schema()
    one = next(part for part in schema.get("anyOf", [schema]) if part["type"] != "null")
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    limits = [f"{sign} {one[key]:,}" for key, sign in LIMITS.items() if key in one]
    return f"{TYPES[one['type']]} {', '.join(limits)}".rstrip()


def _default(field: FieldInfo) -> str:
    empty = field.is_required() or field.default is None or not str(field.default)
    return "" if empty or field.default == () else f"`{field.default}`"
