"""Inference over MERGE: what each WHEN branch assigns, and which rows each of them sees.

WHEN MATCHED sees pairs of rows for which the join condition is true, so its conjuncts prove the tenant of both;
WHEN NOT MATCHED sees the row of the source alone (or, BY SOURCE, of the target alone), of which that condition
proves nothing. A branch's own condition proves something of the rows that the branch is run for. Manual: "MERGE".
One reason to change: the branches of MERGE that are supported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from proxy.errors import Unsupported
from proxy.sql import assignments, defaults, ranges, tenancy
from proxy.sql.assignments import Written
from proxy.sql.context import Inference, Output, Outputs
from proxy.sql.expressions import condition, infer
from proxy.sql.plan import TenantOf
from proxy.sql.scopes import Item, Scope
from proxy.sql.spans import Node
from proxy.sql.types import plain

_BY_TARGET: Final = "MERGE_WHEN_NOT_MATCHED_BY_TARGET"
_BY_SOURCE: Final = "MERGE_WHEN_NOT_MATCHED_BY_SOURCE"


@dataclass(slots=True)
class _Merge:
    """One MERGE: its target, its source, and the scope of the join condition with what that proves. `tenants` are
    those of the rows that the branches leave behind (None: not known)."""

    into: Written
    outer: Scope | None
    star: ranges.Star
    joined: Scope
    tenants: list[TenantOf | None] = field(default_factory=list)


def merge(ctx: Inference, body: Node, into: Written, outer: Scope | None) -> tuple[Scope, list[ranges.Star]]:
    """The scope of MERGE's RETURNING, and what `*` shows in it before the target's columns."""
    before = Scope(outer)
    star = ranges.from_item(ctx, body["sourceRelation"], before)
    joined = Scope(outer, [into.item, *before.items], before.merged)
    condition(ctx, body.get("joinCondition"), joined, "ON")
    tenancy.gather(ctx, body.get("joinCondition"), joined)
    if into.has_sealed():
        assignments.check_view(into)
    found = _Merge(into, outer, star, joined)
    for clause in body.get("mergeWhenClauses", []):
        _branch(ctx, clause["MergeWhenClause"], found)
    shown = Scope(outer, [into.item, *before.items], before.merged)
    _prove_shown(ctx, found, shown)
    return shown, [star]


def _branch(ctx: Inference, clause: Node, found: _Merge) -> None:
    level = _level(clause.get("matchKind", ""), found)
    condition(ctx, clause.get("condition"), level, "WHEN")
    tenancy.gather(ctx, clause.get("condition"), level)
    match clause.get("commandType"):
        case "CMD_UPDATE":
            row = assignments.set_clause(ctx, clause["targetList"], found.into, level)
            found.tenants.append(row.tenant)
        case "CMD_INSERT":
            _insert(ctx, clause, found, level)
        case "CMD_DELETE":
            origin = found.into.origin
            found.tenants.append(tenancy.proven(level, origin) if origin is not None else None)
        case "CMD_NOTHING":
            pass
        case kind:
            raise Unsupported(f"this branch of MERGE ({kind}) is not supported", hint="write INSERT or UPDATE")


def _level(kind: str, found: _Merge) -> Scope:
    """The rows that a branch sees, and what is proven of them."""
    items: list[Item] = found.joined.items
    if kind == _BY_TARGET:
        return Scope(found.outer, items[1:], found.joined.merged)
    if kind == _BY_SOURCE:
        return Scope(found.outer, items[:1])
    joined = found.joined
    level = Scope(found.outer, list(items), joined.merged)
    level.proofs = {origin: list(proofs) for origin, proofs in joined.proofs.items()}
    level.same_tenant = list(joined.same_tenant)
    level.constants = dict(joined.constants)
    return level


# --- INSERT ------------------------------------------------------------------------------------------


def _insert(ctx: Inference, clause: Node, found: _Merge, level: Scope) -> None:
    """The values may be of the source, so the row's tenant is found as that of INSERT .. SELECT."""
    into = found.into
    if into.has_sealed():
        defaults.refuse_hidden(ctx, into)
    names = [assignments.column_name(into, target["ResTarget"]) for target in clause.get("targetList", [])]
    if "targetList" not in clause:
        names = [column.name for column in into.item.columns]
    items = clause.get("values", [])
    outputs = Outputs([_output(ctx, item, level) for item in items])
    row = assignments.row_of_outputs(ctx, into, names, outputs)
    row.bound = assignments.bound_of_items(ctx, into, names, items)
    for i, (item, output) in enumerate(zip(items, outputs.columns, strict=True)):
        name = names[i] if i < len(names) else ""
        if "SetToDefault" in item:
            assignments.assign_default(ctx, into, name, item["SetToDefault"].get("location", 0), row)
        else:
            assignments.assign_value(ctx, into, name, output.value, row)
    defaults.merge_missing(ctx, clause, into, names[: len(items)], row)
    found.tenants.append(row.tenant)


def _output(ctx: Inference, item: Node, level: Scope) -> Output:
    return Output("", plain("DEFAULT") if "SetToDefault" in item else infer(ctx, item, level))


# --- RETURNING ---------------------------------------------------------------------------------------


def _prove_shown(ctx: Inference, found: _Merge, shown: Scope) -> None:
    """What RETURNING shows of the target is of one tenant where every branch says so, and the same one."""
    tenant = tenancy.common(ctx, found.tenants)
    if found.into.origin is not None and tenant is not None and tenant.expr is not None:
        shown.proofs[found.into.origin] = [tenant]
