"""ON CONFLICT: the unique key that is meant, and what DO UPDATE assigns.

A conflict over a sealed column is one of cells (deterministic mode) or of tokens, for which the column's name
becomes the expression that a unique index on the token has; the server finds the index, or says that there is
none (42P10). Cells and tokens of two tenants never collide, so the key must have the tenant column too wherever
rows of several tenants share a table. Manual: "INSERT", "ON CONFLICT Clause".
One reason to change: the conflict targets and actions that are supported.
"""

from __future__ import annotations

from collections.abc import Iterator

from proxy.errors import TenantUnknown, Unsupported
from proxy.rules import Compare
from proxy.sql import assignments, tenancy
from proxy.sql.assignments import Row, Written
from proxy.sql.catalog import SealedColumn
from proxy.sql.comparisons import folded_column
from proxy.sql.context import Inference
from proxy.sql.expressions import condition, plain_parts
from proxy.sql.plan import TenantOf
from proxy.sql.scopes import Column, Item, Origin, Scope
from proxy.sql.spans import Node, NoSpan
from proxy.sql.types import Because, Demand, Leaf, LeafKind, Value, Var


def on_conflict(
    ctx: Inference, body: Node, into: Written, parent: Scope | None, inserted: TenantOf | None
) -> Row | None:
    """The proposed row is named `excluded`. Where the conflict is over the tenant column too, both rows are of
    one tenant. `inserted` is the tenant of all proposed rows; the result is the row that DO UPDATE leaves."""
    columns = _target(ctx, body.get("infer", {}), into, parent)
    if body.get("action") != "ONCONFLICT_UPDATE":
        return None
    proposed = _proposed(into)
    inner = Scope(parent, [into.item, proposed.item])
    tenant_column = into.relation.tenant_column if into.relation is not None else None
    if into.origin is not None and proposed.origin is not None:
        if tenant_column is not None and tenant_column in columns:
            inner.same_tenant += [(into.origin, proposed.origin), (proposed.origin, into.origin)]
        if inserted is not None:
            inner.proofs[proposed.origin] = [inserted]
    condition(ctx, body.get("whereClause"), inner, "WHERE")
    tenancy.gather(ctx, body.get("whereClause"), inner)
    return assignments.set_clause(ctx, body["targetList"], into, inner)


def _proposed(into: Written) -> Written:
    origin = Origin(into.relation) if into.relation is not None else None
    columns = [
        Column(c.name, c.sealed, None, tuple((origin, base) for _, base in c.bases) if origin is not None else ())
        for c in into.item.columns
    ]
    return Written(into.relation, Item("excluded", columns, is_open=into.item.is_open), origin)


# --- the conflict target -----------------------------------------------------------------------------


def _target(ctx: Inference, clause: Node, into: Written, parent: Scope | None) -> set[str]:
    """The plain and sealed columns of the key."""
    level = Scope(parent, [into.item])
    elements = [element["IndexElem"] for element in clause.get("indexElems", [])]
    names = {body["name"] for body in elements if "name" in body}
    key = Scope(parent, [into.item])
    if into.origin is not None and into.relation is not None and into.relation.tenant_column in names:
        key.proofs[into.origin] = [tenancy.SESSION]  # of whatever tenant: of one and the same
    for place, body in enumerate(elements):
        _element(ctx, clause, (place, body), into, key)
    condition(ctx, clause.get("whereClause"), level, "a conflict target's WHERE")
    return names


def _element(ctx: Inference, clause: Node, element: tuple[int, Node], into: Written, key: Scope) -> None:
    place, body = element
    sealed = into.sealed(body["name"]) if "name" in body else None
    if sealed is not None:
        leaf = _key_leaf(ctx, clause, place, (into, sealed, key), body)
        ctx.leaves.append(leaf)
        _check_tenant(ctx, into, sealed, key, leaf.location)
    elif "expr" in body:
        folded = folded_column(ctx, body["expr"], key)
        if folded is None:
            plain_parts(ctx, body, key, Because("a conflict target", clause.get("location")))
            return
        folded.var.find().is_folded = True
        _compare(folded)
        if (column := folded.var.find().sealed) is not None:
            _check_tenant(ctx, into, column, key, folded.location)


def _compare(value: Value) -> None:
    value.var.find().is_compared = True
    value.ask(Demand.TOKEN)


def _key_leaf(
    ctx: Inference, clause: Node, place: int, at: tuple[Written, SealedColumn, Scope], body: Node
) -> Leaf:
    """The column's name within the target, as one to be written as a token."""
    into, sealed, key = at
    location = clause.get("location", 0)
    if sealed.rule.compare is Compare.NOCASE:
        raise _refused(sealed, "a conflict target that tells upper from lower case", "write lower(col)", location)
    if body.get("collation") or body.get("opclass"):
        raise _refused(sealed, "a conflict target with COLLATE or an operator class", "name it alone", location)
    try:
        ordinal = next(n for i, n in enumerate(_starts(ctx, clause)) if i == place)
    except (NoSpan, StopIteration):
        raise _refused(
            sealed, "a conflict target whose text could not be told", "name it alone", location
        ) from None
    var = Var(sealed=sealed, is_compared=True)
    column = into.item.named(body["name"])[0]
    span = (ordinal, ordinal)
    leaf = Leaf(LeafKind.COLUMN, var, location, *span, Demand.TOKEN, column=column, scope=key, inner=span)
    leaf.is_alone = True
    return leaf


def _starts(ctx: Inference, clause: Node) -> Iterator[int]:
    """The first token of each element between the brackets."""
    opened = ctx.spans.at(clause)
    if ctx.spans.text(opened) != b"(":
        raise NoSpan
    closed = ctx.spans.partner(opened)
    ordinal = opened + 1
    yield ordinal
    while ordinal < closed:
        token = ctx.spans.text(ordinal)
        if token == b",":
            yield ordinal + 1
        ordinal = ctx.spans.partner(ordinal) + 1 if token in (b"(", b"[") else ordinal + 1


def _check_tenant(ctx: Inference, into: Written, sealed: SealedColumn, key: Scope, location: int) -> None:
    rule = ctx.table_rule(sealed)
    is_one = rule is not None and tenancy.is_one_tenant(ctx, rule)
    if is_one or tenancy.has_one_index(sealed) or key.proofs:
        return
    name = into.relation.tenant_column if into.relation is not None else None
    raise TenantUnknown(
        f"a conflict over {sealed.rule.label} is one of one tenant's rows",
        column=sealed.rule.label,
        hint=f'name "{name}" in the conflict target, and in the unique index' if name else None,
        position=location,
    )


def _refused(sealed: SealedColumn, what: str, hint: str, location: int) -> Unsupported:
    return Unsupported(
        f"{sealed.rule.label} is encrypted: {what} is not supported over it",
        column=sealed.rule.label,
        hint=hint,
        position=location,
    )
