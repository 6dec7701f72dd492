# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Rules of the house that no linter knows: sizes, names, docstrings. ``make lint`` runs it."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from pathlib import Path

MOST_LINES, MOST_FUNCTION_LINES, LEAST_WORDS = 350, 60, 3
CODE = ("paddlerec_milvus", "models", "tools", "serving", "datasets", "benchmarks")
NO_TERM = re.compile("each|found|given|asked|told|kept|together|observed|live|reading|look")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def names_of(node: ast.AST) -> list[str]:
    """The names that a definition or an assignment introduces."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return [node.attr]
    return [node.asname] if isinstance(node, ast.alias) and node.asname else []


def no_terms(name: str) -> str:
    """The words of a snake_case or CamelCase name that are nobody's terms."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return ", ".join(word for word in words if NO_TERM.fullmatch(word.lower()))


def problems_of(file: Path, root: Path) -> list[str]:
    """What is wrong in one file, with its lines."""
    text = file.read_text(encoding="utf-8")
    place, problems = file.relative_to(root), []
    if (lines := text.count("\n")) > MOST_LINES:
        problems.append(f"{place}: {lines} lines, at most {MOST_LINES}")
    if place.parts[0] not in CODE:
        return problems
    if words := no_terms(file.stem):
        problems.append(f"{place}: {words} in a file's name is no term of the field")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FUNCTIONS):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > MOST_FUNCTION_LINES:
                problems.append(f"{place}:{node.lineno}: {node.name}: {size} lines, at most 60")
        for name in names_of(node):
            if words := no_terms(name):
                line = getattr(node, "lineno", 0)
                problems.append(f"{place}:{line}: {name}: {words} is no term of the field")
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            docstring = ast.get_docstring(node)
            if docstring is not None and len(docstring.split()) < LEAST_WORDS:
                problems.append(
                    f"{place}:{node.lineno}: {node.name}: {docstring!r} says too little"
                )
    return problems


def repeated_classes(package: Path) -> list[str]:
    """Class names that stand twice in the package."""
    places = defaultdict(list)
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{file.relative_to(package.parent)}:{node.lineno}")
    return [f"class {name}: {', '.join(at)}" for name, at in places.items() if len(at) > 1]


def main() -> int:
    """Print every problem; 1 if there is one."""
    root = Path(__file__).resolve().parent.parent
    problems = repeated_classes(root / "paddlerec_milvus")
    for folder in (*CODE, "tests"):
        for file in sorted((root / folder).rglob("*.py")):
            problems += problems_of(file, root)
    print("\n".join(problems) or "rules of the house kept")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
