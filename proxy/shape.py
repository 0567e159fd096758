"""Whether a document has the keys and kinds of values that a pydantic type describes, told by file and line.

Pydantic finds what is wrong; this file says it in the words of an operator: the place, the key, a suggestion
from the keys that are known there, "not in this version" for keys and values of later features. The value
itself never appears. One reason to change: how a wrong file is explained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from proxy.document import Document, Location, Value, suggestion

T = TypeVar("T")

# A path of keys ('*' stands for any) of a later feature; None: the key itself, else the values that are later.
Later = Mapping[tuple[str, ...], frozenset[str] | None]

_UNKNOWN_KEY: Final = {"extra_forbidden", "unexpected_keyword_argument"}
NOT_IN_THIS_VERSION: Final = "is not in this version"


def check_shape(
    adapter: TypeAdapter[T],
    document: Document,
    later: Later,
    problems: list[str],
    context: Mapping[str, object] | None = None,
) -> T | None:
    """The validated value, or None; every problem is added to `problems`, one line each."""
    postponed = dict(_later(document.root, (), later))
    problems += [f"{document.at(where)}: {what} {NOT_IN_THIS_VERSION}" for where, what in postponed.items()]
    try:
        value = adapter.validate_python(document.root, context=dict(context or {}))
    except ValidationError as error:
        schema = adapter.json_schema(by_alias=True)
        for detail in error.errors(include_url=False, include_context=True, include_input=False):
            where = tuple(step for step in detail["loc"] if step != "[key]")
            if where not in postponed:
                problems.append(_explain(document, where, detail, schema))
        return None
    return None if postponed else value


def dotted(location: Location) -> str:
    return ".".join(str(step) for step in location)


def _later(value: Value, location: Location, later: Later) -> Iterator[tuple[Location, str]]:
    for pattern, values in later.items():
        if len(pattern) != len(location) or not _matches(pattern, location):
            continue
        if values is None:
            yield location, f"'{dotted(location[-1:])}'"
        elif isinstance(value, str) and value in values:
            yield location, f"'{dotted(location[-1:])}: {value}'"
    match value:
        case dict():
            for key, inner in value.items():
                yield from _later(inner, (*location, key), later)
        case list():
            for i, inner in enumerate(value):
                yield from _later(inner, (*location, i), later)
        case _:
            pass


def _matches(pattern: tuple[str, ...], location: Location) -> bool:
    return all(want in ("*", have) for want, have in zip(pattern, location, strict=True))


def _explain(document: Document, where: Location, detail: ErrorDetails, schema: dict[str, Any]) -> str:
    place = document.at(where)
    kind = detail["type"]
    if kind in _UNKNOWN_KEY:
        key = str(where[-1])[:64]
        return f"{place}: unknown key '{key}'{suggestion(key, _known_keys(schema, where[:-1]))}"
    if kind in ("missing", "missing_argument"):
        return f"{place}: the key '{where[-1]}' is missing"
    if kind in ("dataclass_type", "dict_type"):
        return f"{place}: {dotted(where) or 'the file'}: must be a mapping of keys"
    if kind == "string_pattern_mismatch" and where[:1] == ("tables",) and len(where) <= 3:
        return f"{place}: {dotted(where[:2])}: a table is written schema.table, such as public.patients"
    reason = detail["msg"].removeprefix("Value error, ")
    return f"{place}: {dotted(where) or 'the file'}: {reason[:1].lower()}{reason[1:]}"


def _known_keys(schema: dict[str, Any], location: Location) -> list[str]:
    """The keys that a JSON schema knows at a location; several kinds of value there give all their keys."""
    nodes = [schema]
    for step in location:
        nodes = [inner for node in nodes for inner in _below(schema, node, step)]
    return [key for node in nodes for kind in _kinds(schema, node) for key in kind.get("properties", {})]


def _below(schema: dict[str, Any], node: dict[str, Any], step: str | int) -> Iterator[dict[str, Any]]:
    for kind in _kinds(schema, node):
        if isinstance(step, str) and step in kind.get("properties", {}):
            yield kind["properties"][step]
        elif isinstance(step, str) and isinstance(kind.get("additionalProperties"), dict):
            yield kind["additionalProperties"]
        elif isinstance(step, str):
            yield from kind.get("patternProperties", {}).values()
        elif isinstance(step, int) and isinstance(kind.get("items"), dict):
            yield kind["items"]


def _kinds(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    reference = node.get("$ref")
    if isinstance(reference, str):
        yield from _kinds(schema, schema["$defs"][reference.removeprefix("#/$defs/")])
    for choice in node.get("anyOf", ()):
        yield from _kinds(schema, choice)
    yield node
