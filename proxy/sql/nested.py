"""Where cells stand within one value of a result: in an array, or at places of a JSON document.

The plan proves every place, and the session opens what stands there and nothing else. An object's members are
told by their names, which are known and differ; what a place has no node for is plain.
One reason to change: the values that may hold cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.sql.catalog import SealedColumn
from proxy.values.base import LogicalType


@dataclass(frozen=True, slots=True)
class CellAt:
    """A string of the document that is a cell. `is_jsonb`: its value is shown as jsonb shows it."""

    column: SealedColumn
    is_jsonb: bool


@dataclass(frozen=True, slots=True)
class ListOf:
    """An array whose elements are all alike."""

    each: Node


@dataclass(frozen=True, slots=True)
class TupleOf:
    """An array of elements known one by one."""

    items: tuple[Node | None, ...]


@dataclass(frozen=True, slots=True)
class ObjectOf:
    members: tuple[tuple[str, Node | None], ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object of any members, whose values are all alike."""

    each: Node


Node = CellAt | ListOf | TupleOf | ObjectOf | MapOf


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """An SQL array of cells, shown as an array of `type`."""

    column: SealedColumn
    type: LogicalType


@dataclass(frozen=True, slots=True)
class Document:
    """A value of type json or jsonb."""

    root: Node


Nested = ArrayOf | Document


def cells_of(nested: Nested) -> Iterator[SealedColumn]:
    """The sealed columns whose cells the value holds."""
    return iter((nested.column,)) if isinstance(nested, ArrayOf) else _cells(nested.root)


def _cells(node: Node | None) -> Iterator[SealedColumn]:
    match node:
        case CellAt(column):
            yield column
        case ListOf(each) | MapOf(each):
            yield from _cells(each)
        case TupleOf(items):
            for item in items:
                yield from _cells(item)
        case ObjectOf(members):
            for _, item in members:
                yield from _cells(item)
        case None:
            return
