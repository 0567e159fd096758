"""Casts around what may turn out to be sealed: taken away or made casts of cells in the text, and applied by
pgseal where they change a value.

A cast of a sealed column to its own type changes nothing. A cast around branches (CASE, COALESCE) or around a
column of a VALUES list is pushed to the constants behind it, since a cell in the server's hands cannot be cast.
PostgreSQL gives branches one type before the cast: constants without a type take that of the others, else text.
One reason to change: which casts leave a value what it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.errors import PgsealError
from proxy.sql import shapes
from proxy.sql.catalog import SealedColumn
from proxy.sql.comparisons import widen
from proxy.sql.context import Inference, Shed
from proxy.sql.literals import fits, is_null, type_of_word
from proxy.sql.plan import Edit
from proxy.sql.scopes import Scope
from proxy.sql.spans import Node, NoSpan
from proxy.sql.types import (
    APPLICATION,
    Because,
    Leaf,
    LeafKind,
    Value,
    is_same_type,
    make_plain,
    plain,
    refused,
)
from proxy.values.base import LogicalType
from proxy.values.constants import Cast
from proxy.values.registry import BASE, base_of


def cast(ctx: Inference, body: Node, scope: Scope) -> Value:
    """A cast of anything but a constant expression."""
    location = body.get("location", 0)
    value = ctx.infer(ctx, body["arg"], scope)
    found = ctx.literals.type_of(body["typeName"])
    if found is not None and not found[1] and value.var.find().plain is None and value.leaves:
        if value.direct is None:
            ctx.sheds.append(Shed(value, found[0], body))
            return Value(value.var, value.leaves, None, max(location, 0), True, found[0])
        if _takes(value, value.direct, found[0]):
            widen(ctx, value.direct, {"TypeCast": body})
            sealed = value.var.find().sealed
            if sealed is None or found[0] != sealed.rule.type:
                value.cast = found[0]
            return value
    if (made := shapes.cast(ctx, value, body)) is not None:
        return made
    make_plain(value, Because("a cast", location if location >= 0 else None, APPLICATION))
    return plain(location=max(location, 0))


def _takes(value: Value, leaf: Leaf, logical: LogicalType) -> bool:
    """True where a name keeps the cast in mind: of a sealed column one that changes nothing, of a column of
    constants one at most."""
    sealed = value.var.find().sealed
    if sealed is not None:
        return _changes_nothing(logical, sealed.rule.type)
    if leaf.cast is not None:
        return False
    leaf.cast = logical
    return True


def _changes_nothing(logical: LogicalType, own: LogicalType) -> bool:
    return is_same_type(logical, own) and logical.typmod in (-1, own.typmod)


# --- once it is known what is sealed -----------------------------------------------------------------


def shed(ctx: Inference, column: SealedColumn, leaves: list[Leaf]) -> list[Edit]:
    """Push the casts of one sealed class to its constants; what is to be written in their place."""
    _push_named(column, leaves)
    root = leaves[0].var.find()
    edits: list[Edit] = []
    for item in ctx.sheds:
        if item.value.var.find() is root:
            _push(column, item)
            edits += _retyped(ctx, column, item)
    return edits


def _push(column: SealedColumn, item: Shed) -> None:
    own = column.rule.type
    names = [leaf for leaf in item.value.leaves if leaf.kind is LeafKind.COLUMN]
    for leaf in names:
        is_own = leaf.column is not None and leaf.column.seal() is not None
        if not (_changes_nothing(item.type, own) and (is_own or item.type.typmod == -1)):
            raise _refused(column, leaf)
    constants = [leaf for leaf in item.value.leaves if leaf.kind is LeafKind.CONSTANT]
    _wrap(column, constants, item.type, base_of(own) if names else None)


def _push_named(column: SealedColumn, leaves: list[Leaf]) -> None:
    """Casts of a VALUES list's column: one cast, of every mention of it, is the cast of its constants."""
    own = column.rule.type
    names = [leaf for leaf in leaves if leaf.kind is LeafKind.COLUMN and leaf.column is not None]
    casts = [leaf.cast for leaf in names if leaf.cast is not None]
    words = {leaf.word for leaf in leaves if leaf.kind is LeafKind.CONSTANT and leaf.row is not None}
    is_own = all(is_same_type(logical, own) and logical.typmod == -1 for logical in casts)
    if not casts or (is_own and all(fits(word, own) for word in words)):
        return
    mentions = [leaf for leaf in names if leaf.column is not None and leaf.column.sealed is None]
    mentions = [leaf for leaf in mentions if not leaf.is_passed]
    lists = {leaf.column.values for leaf in mentions if leaf.column is not None}
    values = lists.pop() if len(lists) == 1 else None
    if values is None or any(leaf.cast != casts[0] for leaf in mentions):
        raise _refused(column, names[0])
    constants = [leaf for leaf in leaves if leaf.row is not None and (leaf.row[0], leaf.place) == values]
    _wrap(column, constants, casts[0], None)


def _wrap(column: SealedColumn, leaves: list[Leaf], target: LogicalType, common: LogicalType | None) -> None:
    """Cast each constant from the branches' common type to the cast's."""
    valued = [leaf for leaf in leaves if leaf.expr is not None and not is_null(leaf.expr)]
    common = _common(column, valued, common)
    for leaf in valued:
        assert leaf.expr is not None
        if leaf.word == "unknown" and common is not None:
            leaf.expr = Cast(leaf.expr, common, leaf.is_array)
        leaf.expr, leaf.word = Cast(leaf.expr, target, leaf.is_array), target.name


def _common(column: SealedColumn, leaves: Iterable[Leaf], common: LogicalType | None) -> LogicalType | None:
    """The one type of all branches; None for a single constant whose type is not known here."""
    words = {leaf.word for leaf in leaves} - {"unknown"}
    if not words:
        return common or BASE["text"]
    known = type_of_word(next(iter(words)))
    if len(words) > 1 or (common is not None and known is not None and not is_same_type(known, common)):
        raise _refused(column, next(iter(leaves)))
    if known is None and (common is not None or len(list(leaves)) > 1):
        raise _refused(column, next(iter(leaves)))
    return known


def _retyped(ctx: Inference, column: SealedColumn, item: Shed) -> list[Edit]:
    """A cast to the type of cells: NULLs alone would make the branches text."""
    spans = ctx.spans
    try:
        first = spans.at(item.node["typeName"])
        return [Edit(first, spans.type_end(first), (column.rule.storage.value.encode(),))]
    except NoSpan:
        pass
    raise refused(column, "a cast whose text could not be told", "write it as value::type", item.value.location)


def _refused(column: SealedColumn, leaf: Leaf) -> PgsealError:
    return refused(column, "a cast", "leave the cast away, or give all branches one type", leaf.location)
