"""From a checked description to the opener of its rows.

One reason to change: what a sealed column of a result needs to be opened and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, assert_never

from proxy.errors import SchemaMismatch, Unsupported
from proxy.keys.material import KeyView
from proxy.rules import Storage
from proxy.session.cells import OpenColumn, RowOpener
from proxy.session.nested import (
    Array,
    Cell,
    Items,
    Json,
    Many,
    Members,
    NestedOpener,
    Place,
    ResultValue,
    Single,
    member_name,
)
from proxy.session.statements import ReadGrant
from proxy.sql.catalog import SealedColumn
from proxy.sql.nested import ArrayOf, CellAt, ListOf, MapOf, Nested, Node, ObjectOf, TupleOf, cells_of
from proxy.sql.plan import ResultColumn, StatementPlan
from proxy.values.base import LogicalType, Settings, in_utf8
from proxy.values.fast import shower
from proxy.values.json_form import json_shower
from proxy.values.registry import codec, type_from_oid
from proxy.wire.backend import Field

Opener = RowOpener | NestedOpener
JSON: Final = 114
JSONB: Final = 3802
TEXT_ARRAY: Final = 1009
BYTEA_ARRAY: Final = 1001


def has_sealed_result(plan: StatementPlan) -> bool:
    """Rows of this statement hold cells."""
    return any(not result.is_plain for result in plan.results or ())


def make_opener(
    plan: StatementPlan,
    fields: Sequence[Field],
    formats: Sequence[int],
    settings: Settings,
    keys: KeyView,
    grant: ReadGrant,
) -> Opener | None:
    """The opener of a result with these fields and formats (one each); None where no column is sealed."""
    if any(result.nested is not None for result in plan.results or ()):
        return _nested_opener(plan, fields, formats, settings, keys, grant)
    columns: list[OpenColumn] = []
    last = -1
    for index, expected in enumerate(plan.results or ()):
        if expected.column is None:
            continue
        columns.append(_column(expected, index, last, fields, formats, settings))
        last = index
    return RowOpener(columns, len(plan.results or ()), keys, grant) if columns else None


def _column(
    expected: ResultColumn,
    index: int,
    last: int,
    fields: Sequence[Field],
    formats: Sequence[int],
    settings: Settings,
) -> OpenColumn:
    """A result column that is a cell, the next one after that at `last`."""
    assert expected.column is not None
    is_binary = formats[index] == 1
    show = _shower(expected.column, expected.type, is_binary, settings)
    bound = tuple((i, _reader(fields[i], formats[i], settings)) for i in expected.bound)
    return OpenColumn(expected.column, index - last - 1, is_binary, show, bound)


def _shower(
    column: SealedColumn, shown: LogicalType | None, is_binary: bool, settings: Settings
) -> Callable[[bytes], bytes] | None:
    own = column.rule.type
    return shower(own if shown is None or shown.name == own.name else shown, is_binary, settings)


def check_nested(nested: Nested, found: Field) -> None:
    """The server's description says of the value what the plan says."""
    column = next(cells_of(nested))
    wanted: tuple[int, ...] = (JSON, JSONB)
    if isinstance(nested, ArrayOf):
        wanted = (TEXT_ARRAY,) if column.rule.storage is Storage.TEXT else (BYTEA_ARRAY,)
    if found.type_oid not in wanted or found.table_oid:
        raise SchemaMismatch("the server returns another type than the plan says", column=column.rule.label)


# --- cells within values -----------------------------------------------------------------------------


def _nested_opener(
    plan: StatementPlan,
    fields: Sequence[Field],
    formats: Sequence[int],
    settings: Settings,
    keys: KeyView,
    grant: ReadGrant,
) -> NestedOpener:
    """The opener of a result in which some values have cells within."""
    columns: list[OpenColumn] = []
    values: dict[int, ResultValue] = {}
    for index, expected in enumerate(plan.results or ()):
        if expected.column is not None:
            values[index] = Single(len(columns))
            columns.append(_column(expected, index, -1, fields, formats, settings))
        elif isinstance(expected.nested, ArrayOf):
            kind, is_binary = expected.nested.type, formats[index] == 1
            values[index] = Array(len(columns), kind.oid, is_binary, settings)
            show = _shower(expected.nested.column, kind, is_binary, in_utf8(settings))
            columns.append(OpenColumn(expected.nested.column, 0, is_binary, show))
        elif expected.nested is not None:
            label = next(cells_of(expected.nested)).rule.label
            root = _place(expected.nested.root, columns, settings)
            assert root is not None
            is_version = formats[index] == 1 and fields[index].type_oid == JSONB
            values[index] = Json(root, label, is_version, settings)
    n_columns = len(plan.results or ())
    return NestedOpener(values, RowOpener(columns, n_columns, keys, grant), n_columns)


def _place(node: Node | None, columns: list[OpenColumn], settings: Settings) -> Place | None:
    """The places of a document, each cell of them with a column of its own."""
    match node:
        case CellAt(column, is_jsonb):
            show = json_shower(column.rule.type, is_jsonb, settings)
            columns.append(OpenColumn(column, 0, False, show))
            return Cell(len(columns) - 1)
        case ListOf(each) | MapOf(each):
            inner = _place(each, columns, settings)
            assert inner is not None
            return Many(inner, isinstance(node, MapOf))
        case TupleOf(items):
            return Items(tuple(_place(item, columns, settings) for item in items))
        case ObjectOf(members):
            return Members({member_name(name): _place(item, columns, settings) for name, item in members})
        case None:
            return None
        case _:
            assert_never(node)


def _reader(field: Field, code: int, settings: Settings) -> Callable[[bytes], bytes]:
    """Wire form of a `bind:` column of the result -> its display form."""
    kind = type_from_oid(field.type_oid, field.typmod)
    if kind is None:
        raise Unsupported("a column named in bind: has a type pgseal does not know")
    found = codec(kind)
    return partial(found.read_binary if code == 1 else found.read_text, settings=settings)
