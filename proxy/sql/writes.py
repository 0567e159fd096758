"""Inference over INSERT, UPDATE, DELETE and MERGE: what each sealed column is assigned, and for which tenant.

One reason to change: the forms of writing that are supported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.errors import Unsupported
from proxy.sql import assignments, defaults, merges, ranges, tenancy
from proxy.sql.assignments import Written
from proxy.sql.context import Inference, Outputs
from proxy.sql.expressions import condition, infer_plain, plain_parts
from proxy.sql.plan import TenantOf
from proxy.sql.queries import target_list, with_clause
from proxy.sql.scopes import Column, Item, Origin, Scope
from proxy.sql.spans import Node
from proxy.sql.types import Because

_VALUES_ONLY: Final = frozenset({"valuesLists", "limitOption", "op", "withClause"})
_OLD_NEW: Final = 180000  # the first server version with RETURNING old, new


def write(ctx: Inference, node: Node, scope: Scope | None) -> Outputs:
    """An INSERT, UPDATE, DELETE or MERGE within `scope`, and the columns of its RETURNING."""
    kind, body = next(iter(node.items()))
    match kind:
        case "InsertStmt":
            return _insert(ctx, body, scope)
        case "UpdateStmt":
            return _update(ctx, body, scope)
        case "DeleteStmt":
            return _delete(ctx, body, scope)
        case "MergeStmt":
            return _merge(ctx, body, scope)
        case _:
            raise Unsupported(
                f"this statement ({kind}) over a protected table is not supported", hint="write DML"
            )


def _target(ctx: Inference, body: Node) -> Written:
    """The table that is written, with its name in the statement."""
    relation = ctx.relation(body)
    alias = body.get("alias", {}).get("aliasname")
    schema = body.get("schemaname") or (relation.schema if relation is not None else None)
    item, origin = ctx.item_of(relation, alias or body.get("relname", ""), None if alias else schema)
    return Written(relation, item, origin)


def _returning(
    ctx: Inference, body: Node, into: Written, scope: Scope, star: list[ranges.Star], *, is_merge: bool = False
) -> Outputs:
    clause = body.get("returningClause", {})
    if clause.get("options"):
        raise Unsupported("RETURNING WITH (..) over a protected table is not supported", hint="name the columns")
    if ctx.draft.env.snapshot.server_version >= _OLD_NEW:
        rows = [Item(name, list(into.item.columns)) for name in ("old", "new")]
        scope.parent = Scope(scope.parent, rows)
    own = ranges.Star(into.item.columns, [into.item], is_open=into.item.is_open)
    return target_list(ctx, clause.get("exprs", []), scope, [*star, own] if is_merge else [own, *star])


# --- DELETE, UPDATE ----------------------------------------------------------------------------------


def _delete(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    level = Scope(with_clause(ctx, body.get("withClause"), scope))
    into = _target(ctx, body["relation"])
    level.items.append(into.item)
    star = [ranges.from_item(ctx, item, level) for item in body.get("usingClause", [])]
    condition(ctx, body.get("whereClause"), level, "WHERE")
    tenancy.gather(ctx, body.get("whereClause"), level)
    return _returning(ctx, body, into, level, star)


def _update(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    level = Scope(with_clause(ctx, body.get("withClause"), scope))
    into = _target(ctx, body["relation"])
    level.items.append(into.item)
    star = [ranges.from_item(ctx, item, level) for item in body.get("fromClause", [])]
    condition(ctx, body.get("whereClause"), level, "WHERE")
    tenancy.gather(ctx, body.get("whereClause"), level)
    assignments.set_clause(ctx, body["targetList"], into, level)
    return _returning(ctx, body, into, level, star)


def _merge(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    """RETURNING * shows the source's columns before the target's."""
    outer = with_clause(ctx, body.get("withClause"), scope)
    into = _target(ctx, body["relation"])
    level, source = merges.merge(ctx, body, into, outer)
    return _returning(ctx, body, into, level, source, is_merge=True)


# --- INSERT ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Source:
    """What the tenant of the inserted rows is, for ON CONFLICT: known where all rows have one."""

    tenant: TenantOf | None = None


def _insert(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    outer = with_clause(ctx, body.get("withClause"), scope)
    into = _target(ctx, body["relation"])
    query = body.get("selectStmt", {}).get("SelectStmt")
    names = [assignments.column_name(into, target["ResTarget"]) for target in body.get("cols", [])]
    if "cols" not in body:
        names = [column.name for column in into.item.columns]
    source = _Source()
    if into.relation is not None and into.relation.sealed:
        assignments.check_view(into)
        defaults.refuse_hidden(ctx, into)
    if query is None:
        defaults.insert_defaults(ctx, body, into)
    elif "valuesLists" in query and not query.keys() - _VALUES_ONLY:
        _insert_values(ctx, body, query, into, (names, with_clause(ctx, query.get("withClause"), outer)), source)
    else:
        _insert_select(ctx, body, query, into, (names, outer), source)
    level = Scope(outer, [into.item])
    if "onConflictClause" in body:
        _on_conflict(ctx, body["onConflictClause"], into, level, source)
    return _returning(ctx, body, into, Scope(outer, [into.item]), [])


def _insert_values(
    ctx: Inference, body: Node, query: Node, into: Written, shape: tuple[list[str], Scope | None], source: _Source
) -> None:
    names, outer = shape
    rows = [row["List"].get("items", []) for row in query["valuesLists"]]
    level = Scope(outer)
    given = names[: max(len(row) for row in rows)]
    written = [assignments.row_of_items(ctx, into, names, items) for items in rows]
    for items, row in zip(rows, written, strict=True):
        for name, item in zip(names, items, strict=False):
            assignments.assign(ctx, into, name, item, (level, row))
        for item in items[len(names) :]:
            infer_plain(ctx, item, level, Because("a value without a column"))
    first = written[0].tenant
    if first is not None and all(
        r.tenant is not None and tenancy.is_equal(ctx, first, r.tenant) for r in written
    ):
        source.tenant = first
    defaults.insert_missing(ctx, body, into, given, written)


def _insert_select(
    ctx: Inference, body: Node, query: Node, into: Written, shape: tuple[list[str], Scope | None], source: _Source
) -> None:
    names, outer = shape
    outputs = ctx.select(ctx, query, outer)
    if outputs.is_open and into.has_sealed():
        raise Unsupported(
            "what this SELECT gives is not known, and the table has encrypted columns", hint="name the columns"
        )
    row = assignments.row_of_outputs(ctx, into, names, outputs)
    source.tenant = row.tenant
    for i, output in enumerate(outputs.columns):
        name = names[i] if i < len(names) else ""
        assignments.assign_value(ctx, into, name, output.value, row)
    defaults.select_missing(ctx, body, query, into, names[: len(outputs.columns)], row)


def _on_conflict(ctx: Inference, body: Node, into: Written, level: Scope, source: _Source) -> None:
    """The proposed row is named `excluded`. Where the conflict is over the tenant column too, both rows are of
    one tenant."""
    infer_clause = body.get("infer", {})
    columns = _conflict_target(ctx, infer_clause, into, level)
    if body.get("action") != "ONCONFLICT_UPDATE":
        return
    proposed = _proposed(into)
    inner = Scope(level.parent, [into.item, proposed.item])
    tenant_column = into.relation.tenant_column if into.relation is not None else None
    if into.origin is not None and proposed.origin is not None:
        if tenant_column is not None and tenant_column in columns:
            inner.same_tenant += [(into.origin, proposed.origin), (proposed.origin, into.origin)]
        if source.tenant is not None:
            inner.proofs[proposed.origin] = [source.tenant]
    condition(ctx, body.get("whereClause"), inner, "WHERE")
    tenancy.gather(ctx, body.get("whereClause"), inner)
    assignments.set_clause(ctx, body["targetList"], into, inner)


def _proposed(into: Written) -> Written:
    origin = Origin(into.relation) if into.relation is not None else None
    columns = [
        Column(c.name, c.sealed, None, tuple((origin, base) for _, base in c.bases) if origin is not None else ())
        for c in into.item.columns
    ]
    return Written(into.relation, Item("excluded", columns, is_open=into.item.is_open), origin)


def _conflict_target(ctx: Inference, clause: Node, into: Written, level: Scope) -> set[str]:
    names: set[str] = set()
    for element in clause.get("indexElems", []):
        body = element["IndexElem"]
        if "name" not in body:
            plain_parts(ctx, body, level, Because("a conflict target", clause.get("location")))
            continue
        names.add(body["name"])
        sealed = into.sealed(body["name"])
        if sealed is not None:
            raise Unsupported(
                f"{sealed.rule.label} is encrypted: a conflict target over it is not supported",
                column=sealed.rule.label,
                hint="use a unique key of plain columns",
                position=clause.get("location"),
            )
    condition(ctx, clause.get("whereClause"), level, "a conflict target's WHERE")
    return names
