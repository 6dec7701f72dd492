# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""Changes of the service's OpenAPI description that break a caller; ``make openapi`` keeps it.

A request of before must still be taken: so what it may hold must lie within what is taken now. An
answer of now must be one of before: it may hold more fields, and more values of a known set.
Source of the format: OpenAPI 3.1 and JSON Schema 2020-12.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parent / "openapi.json"
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
EXACT = ("pattern", "format", "multipleOf", "uniqueItems")
Schema = dict[str, Any]


def breaking_changes(before: Schema, now: Schema) -> list[str]:
    """What a caller who was written for ``before`` will miss, with its place; empty: nothing."""
    problems: list[str] = []
    for path, operations in before["paths"].items():
        for method, operation in operations.items():
            call = f"{method.upper()} {path}"
            other = now["paths"].get(path, {}).get(method)
            if other is None:
                problems.append(f"{call}: removed")
                continue
            problems += _of_parameters(operation, other, call, before, now)
            problems += _of_bodies(operation, other, call, before, now)
            problems += _of_answers(operation, other, call, before, now)
    return problems


def _of_parameters(
    operation: Schema, other: Schema, call: str, before: Schema, now: Schema
) -> Iterator[str]:
    old, new = (
        {(one["in"], one["name"]): one for one in each.get("parameters", [])}
        for each in (operation, other)
    )
    for place, parameter in new.items():
        if parameter.get("required") and not old.get(place, {}).get("required"):
            yield f"{call} {' '.join(place)}: required now"
    for place, parameter in old.items():
        where = f"{call} {' '.join(place)}"
        if place not in new:
            yield f"{where}: removed"
        else:
            within = Within(before, now, requests=True)
            yield from within(parameter["schema"], new[place]["schema"], where)


def _of_bodies(
    operation: Schema, other: Schema, call: str, before: Schema, now: Schema
) -> Iterator[str]:
    old, new = operation.get("requestBody", {}), other.get("requestBody", {})
    if new.get("required") and not old.get("required"):
        yield f"{call} body: required now"
    for kind, content in old.get("content", {}).items():
        if kind not in new.get("content", {}):
            yield f"{call} body {kind}: removed"
        else:
            within = Within(before, now, requests=True)
            yield from within(content["schema"], new["content"][kind]["schema"], f"{call} body")


def _of_answers(
    operation: Schema, other: Schema, call: str, before: Schema, now: Schema
) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        if status not in other["responses"]:
            yield f"{call} {status}: removed"
            continue
        for kind, content in answer.get("content", {}).items():
            new = other["responses"][status].get("content", {}).get(kind)
            if new is None:
                yield f"{call} {status} {kind}: removed"
            else:
                within = Within(now, before, requests=False)
                yield from within(new["schema"], content["schema"], f"{call} {status}")


class Within:
    """Problems where not all that a schema ``a`` allows is allowed by a schema ``b``."""

    def __init__(self, a_document: Schema, b_document: Schema, *, requests: bool) -> None:
        self._documents = (a_document, b_document)
        self._requests = requests  # a is the schema of before, b that of now; else the reverse
        self._pairs: list[tuple[str, str]] = []  # of references that are under way

    def __call__(self, a: Schema, b: Schema, where: str) -> list[str]:
        pair = (a.get("$ref", ""), b.get("$ref", ""))
        if all(pair) and pair in self._pairs:
            return []
        self._pairs.append(pair)
        try:
            a, b = (_resolved(one, doc) for one, doc in zip((a, b), self._documents, strict=True))
            return [
                problem
                for variant in _variants(a)
                for problem in min(
                    (self._one(variant, one, where) for one in _variants(b)), key=len
                )
            ]
        finally:
            self._pairs.pop()

    def _one(self, a: Schema, b: Schema, where: str) -> list[str]:
        if "$ref" in a or "$ref" in b:
            return self(a, b, where)
        return [*self._values(a, b, where), *self._fields(a, b, where)]

    def _values(self, a: Schema, b: Schema, where: str) -> Iterator[str]:
        old, new = (a, b) if self._requests else (b, a)
        kinds, others = _kinds(a), _kinds(b)
        if others and (not kinds or kinds - others - _narrower(others)):
            yield f"{where}: was {_words(old)}, is {_words(new)}"
            return
        known, taken = _enum(a), _enum(b)
        if taken is not None and (known is None or (self._requests and set(known) - set(taken))):
            yield f"{where}: was one of {_enum(old)}, is one of {_enum(new)}"
        if self._requests:
            for name in (*LOWER, *UPPER, *EXACT):
                if name in b and not _is_within(name, a.get(name), b[name]):
                    yield f"{where}: {name} was {a.get(name)}, is {b[name]}"
            if "default" in a and a["default"] != b.get("default"):
                yield f"{where}: default was {a['default']}, is {b.get('default')}"
        if "items" in b:
            yield from self(a.get("items", {}), b["items"], f"{where}[]")

    def _fields(self, a: Schema, b: Schema, where: str) -> Iterator[str]:
        old, new = (a, b) if self._requests else (b, a)
        fields, others = old.get("properties", {}), new.get("properties", {})
        for name in fields:
            if name not in others:
                yield f"{where}.{name}: removed"
            else:
                yield from self(a["properties"][name], b["properties"][name], f"{where}.{name}")
        # of a request: required now; of an answer: no longer always there
        for name in sorted(set(b.get("required", [])) - set(a.get("required", []))):
            if self._requests or name in others:
                yield f"{where}.{name}: {'required now' if self._requests else 'may be missing'}"
        extra, other = a.get("additionalProperties", True), b.get("additionalProperties", True)
        if isinstance(other, dict):
            yield from self(extra if isinstance(extra, dict) else {}, other, f"{where}.*")
        elif self._requests and other is False and extra is not False and "properties" in a:
            yield f"{where}: other fields are no longer taken"


def _resolved(schema: Schema, document: Schema) -> Schema:
    while "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        schema = document["components"]["schemas"][name]
    return schema


def _variants(schema: Schema) -> list[Schema]:
    """The alternatives of a schema; a list of types is one of them for each."""
    for word in ("anyOf", "oneOf"):
        if word in schema:
            shared = {name: value for name, value in schema.items() if name != word}
            return [shared | one for one in schema[word]]
    return [schema]


def _kinds(schema: Schema) -> set[str]:
    kinds = schema.get("type", [])
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _narrower(kinds: set[str]) -> set[str]:
    return {"integer"} if "number" in kinds else set()


def _enum(schema: Schema) -> list[Any] | None:
    values: list[Any] | None = [schema["const"]] if "const" in schema else schema.get("enum")
    return values


def _is_within(name: str, a: Any, b: Any) -> bool:
    if a is None or name in EXACT:
        return bool(a == b)
    return bool(a >= b) if name in LOWER else bool(a <= b)


def _words(schema: Schema) -> str:
    return " or ".join(sorted(_kinds(schema))) or "anything"


def description() -> Schema:
    """That of a service of ints, without the examples, which are its model's."""
    from in_process import in_process_app

    with in_process_app() as service:
        document: Schema = _without_examples(service.http.get("/openapi.json").json())
    return document


def _without_examples(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_examples(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_examples(one)
        for name, one in value.items()
        if name not in ("example", "examples")
    }


if __name__ == "__main__":
    text = json.dumps(description(), indent=1, ensure_ascii=False, sort_keys=True)
    KEPT.write_text(text + "\n", encoding="utf-8")
    print(f"{KEPT}: written")
