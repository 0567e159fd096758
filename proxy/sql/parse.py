"""Text to tree: libpg_query's JSON form, in which every location is a byte offset in the UTF-8 text.

`parse_sql_json` and `json.loads` and nothing else: building pglast's own nodes recurses in C past the end of
the stack. An omitted location is 0, -1 is synthetic. libpg_query speaks the grammar of PostgreSQL 18, so a
text that it refuses may still mean something to another version: what names something watched and does not
parse is refused, never forwarded. One reason to change: what the parser gives.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pglast.parser import ParseError, parse_sql_json

from proxy.errors import PgsealError, Unsupported

Node = dict[str, Any]

_TOO_DEEP: Final = "the statement is too deeply nested"
_NOT_PARSED: Final = (
    "the statement names something protected, and pgseal's parser (PostgreSQL 18) does not take it"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a text: the name of its node, the node, and where it stands (bytes, end exclusive)."""

    name: str
    tree: Node
    start: int
    end: int


def parse(text: bytes) -> tuple[Statement, ...]:
    """The statements of a text. Raises Unsupported where there is no tree to plan from."""
    try:
        document = json.loads(parse_sql_json(text.decode()))
    except (RecursionError, MemoryError):
        raise too_deep() from None
    except UnicodeDecodeError:
        raise Unsupported(
            "the statement is not text in its encoding", hint="Send text in client_encoding."
        ) from None
    except ParseError as error:
        raise _refusal(error) from None
    return tuple(_statement(raw, len(text)) for raw in document.get("stmts", ()))


def too_deep() -> PgsealError:
    return Unsupported(_TOO_DEEP, hint="Split it, or nest less.")


def _refusal(error: ParseError) -> PgsealError:
    if "stack depth" in str(error) or "memory exhausted" in str(error):
        return too_deep()
    return Unsupported(_NOT_PARSED, hint="Correct its syntax, or write it as PostgreSQL 18 would take it.")


def _statement(raw: Node, text_size: int) -> Statement:
    start = raw.get("stmt_location", 0)
    size = raw.get("stmt_len", 0)
    ((name, tree),) = raw["stmt"].items()
    return Statement(name, tree, start, start + size if size else text_size)


def bodies(tree: Any) -> Iterator[Node]:
    """Every object of a tree, with and without a node name before it, in no special order; no recursion."""
    stack: list[Any] = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, dict):
            yield item
            stack.extend(value for value in item.values() if isinstance(value, dict | list))


_MARKS: Final = frozenset(
    {
        "relname",
        "funcname",
        "ctename",
        "sortClause",
        "groupClause",
        "distinctClause",
        "typeName",
        "intoClause",
        "MergeStmt",
        "returningClause",
    }
)


def marks(tree: Any) -> list[Node]:
    """The objects of a tree that name something or have a clause that planning looks at before inference: one
    walk for all such questions, since a long INSERT has very many objects."""
    return [body for body in bodies(tree) if not _MARKS.isdisjoint(body)]


def relations(found: Iterable[Node]) -> Iterator[Node]:
    """Every RangeVar among `marks`, also where the tree leaves its node name out."""
    return (body for body in found if "relname" in body)


def calls(found: Iterable[Node]) -> Iterator[tuple[str, Node]]:
    """Every function call among `marks`, with the function's bare name."""
    return ((strings(body["funcname"])[-1], body) for body in found if "funcname" in body)


def strings(items: list[Node]) -> tuple[str, ...]:
    """The values of a list of String nodes."""
    return tuple(item["String"].get("sval", "") for item in items if "String" in item)
