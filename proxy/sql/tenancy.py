"""Of which tenant a row is: what a statement proves, and what it must prove.

A cell is sealed for one tenant and a token holds inside one tenant's index domain, so every slot and every
comparison needs to know its tenant before the server sees the statement. Where the rule takes it from a column
of the row, the proof is a conjunct `tenant column = constant` of the WHERE clause of the level that names the
table (or of an inner JOIN's ON), or the row's own value of it in an INSERT. A table that holds one tenant by
construction (fixed, database) or by declaration (isolation: rls, tenant-only) needs no conjunct.
One reason to change: what counts as a proof of a tenant.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Final

from proxy.errors import TenantUnknown
from proxy.rules import Isolation, TableRule, TenantFrom
from proxy.rules import Scope as IndexScope
from proxy.sql import catalog
from proxy.sql.catalog import SealedColumn
from proxy.sql.context import Inference
from proxy.sql.literals import fits, is_null, names_of, system_name
from proxy.sql.plan import TenantOf
from proxy.sql.scopes import Found, Origin, Scope, compared_tenants, resolve
from proxy.sql.scopes import tenant_bases as tenant_bases
from proxy.sql.spans import Node
from proxy.sql.types import Demand, Leaf, LeafKind, Value, is_deterministic
from proxy.values import registry
from proxy.values.constants import Expr, Lifted

SESSION: Final = TenantOf()
_ONE_TENANT: Final = frozenset({TenantFrom.FIXED, TenantFrom.DATABASE})


def is_one_tenant(ctx: Inference, rule: TableRule) -> bool:
    """True where all rows that a session sees of the table are of one tenant, without any conjunct."""
    if rule.tenant.source in _ONE_TENANT:
        return True
    is_known = rule.tenant.source is not TenantFrom.COLUMN or has_database_tenant(ctx)
    return is_known and rule.isolation is not Isolation.NONE


def has_database_tenant(ctx: Inference) -> bool:
    """True where the database's own rule gives each session a tenant."""
    rule = ctx.draft.env.snapshot.rules.tenant
    return rule is not None and rule.source is not TenantFrom.COLUMN


def has_session_tenant(rule: TableRule) -> bool:
    return rule.tenant.source is not TenantFrom.COLUMN


# --- conjuncts ---------------------------------------------------------------------------------------


def gather(ctx: Inference, node: Node | None, scope: Scope, only: frozenset[Origin] | None = None) -> None:
    """Take the proofs that a condition's conjuncts give, for all origins or those of `only`."""
    for conjunct in _conjuncts(node):
        _take(ctx, conjunct, scope, only)


def _conjuncts(node: Node | None) -> Iterable[Node]:
    if node is None:
        return
    body = node.get("BoolExpr")
    if body is not None and body.get("boolop", "AND_EXPR") == "AND_EXPR":
        for arg in body["args"]:
            yield from _conjuncts(arg)
    elif (pairs := _row_pairs(node)) is not None:
        yield from pairs
    else:
        yield node


def _row_pairs(node: Node) -> list[Node] | None:
    """`(a, b) = (c, d)` as its conjuncts a = c and b = d."""
    body = node.get("A_Expr", {})
    one, other = (body.get(side, {}).get("RowExpr", {}).get("args") for side in ("lexpr", "rexpr"))
    if not one or not other or len(one) != len(other):
        return None
    return [{"A_Expr": {**body, "lexpr": a, "rexpr": b}} for a, b in zip(one, other, strict=True)]


def _take(ctx: Inference, node: Node, scope: Scope, only: frozenset[Origin] | None) -> None:
    body = node.get("A_Expr")
    if body is None or body.get("kind") != "AEXPR_OP" or "lexpr" not in body:
        return
    if system_name(body.get("name", []), ctx.draft) != "=":
        return
    left, right = _bases(body["lexpr"], scope), _bases(body["rexpr"], scope)
    if left and right:
        for (one, _), (other, _) in product(compared_tenants(left), compared_tenants(right)):
            link(scope, one, other, only)
        return
    if left or right:
        outer = _bases(body["rexpr" if left else "lexpr"], scope, is_outer=True)
        for (one, _), (other, _) in product(compared_tenants(outer), compared_tenants(left or right)):
            if _may(other, only):
                scope.home.same_tenant.append((one, other))
        if outer:
            return
    for bases, other in ((left, body["rexpr"]), (right, body["lexpr"])):
        for origin, column in bases:
            if _may(origin, only):
                _take_constant(ctx, scope, (origin, column), other)


def _take_constant(ctx: Inference, scope: Scope, base: tuple[Origin, catalog.Column], node: Node) -> None:
    origin, column = base
    proof = constant_tenant(ctx, node, column)
    if proof is None or proof.expr is None:
        return
    scope.home.constants[(origin, column.name)] = proof.expr
    if origin.relation.tenant_column == column.name:
        scope.home.proofs.setdefault(origin, []).append(proof)


def _may(origin: Origin, only: frozenset[Origin] | None) -> bool:
    return only is None or origin in only


def link(scope: Scope, one: Origin, other: Origin, only: frozenset[Origin] | None) -> None:
    """Rows of the two are kept together only where they are of one tenant, as far as rows can be left out."""
    pairs = ((one, other), (other, one))
    scope.home.same_tenant += [(a, b) for a, b in pairs if _may(b, only)]


def _bases(node: Node, scope: Scope, is_outer: bool = False) -> tuple[tuple[Origin, catalog.Column], ...]:
    """The table columns of this level (or of one around it) that the expression is."""
    body = node.get("ColumnRef")
    if body is None or any("A_Star" in part for part in body["fields"]):
        return ()
    found = resolve(scope, names_of(body["fields"]), body.get("location", 0))
    if not isinstance(found, Found) or (found.scope is scope.home) is is_outer:
        return ()
    return found.column.bases


def constant_tenant(ctx: Inference, node: Node, column: catalog.Column) -> TenantOf | None:
    """The tenant that a constant written for (or compared with) the tenant column stands for."""
    literal = ctx.literals.read(node)
    if literal is None or literal.is_array or is_null(literal.expr):
        return None
    logical = registry.type_from_oid(column.type_oid)
    if logical is None or not fits(literal.word, logical):
        return None
    return TenantOf(literal.expr, column.type_oid)


# --- proofs ------------------------------------------------------------------------------------------


def prove(ctx: Inference, leaf: Leaf) -> TenantOf | None:
    """The one tenant of all cells that a column reference can show in what the statement keeps."""
    sealed = leaf.var.find().sealed
    rule = ctx.table_rule(sealed) if sealed is not None else None
    if rule is None or leaf.column is None:
        return None
    if leaf.scope is not None and rule.tenant.source is TenantFrom.COLUMN:
        for origin, _ in leaf.column.bases:
            proof = proven(leaf.scope, origin)
            if proof is not None:
                return proof
    return leaf.column.proof or (SESSION if is_one_tenant(ctx, rule) else None)


def proven(scope: Scope, origin: Origin) -> TenantOf | None:
    """The tenant that the conjuncts of a level and of those around it prove of an origin, over `tenant = tenant`
    too. What is kept of a level counts, so that it is no matter where in it a query within stands."""
    level: Scope | None = scope
    while level is not None:
        for known, proofs in level.home.proofs.items():
            if proofs and is_linked(scope, known, origin):
                return proofs[0]
        level = level.parent
    return None


def is_linked(scope: Scope, left: Origin, right: Origin) -> bool:
    """True where rows of `right` are kept only with the tenant of a row of `left`, directly or over others."""
    seen, ahead = {left}, [left]
    while ahead:
        current = ahead.pop()
        level: Scope | None = scope
        while level is not None:
            for here, there in level.home.same_tenant:
                if here is current and there not in seen:
                    seen.add(there)
                    ahead.append(there)
            level = level.parent
    return right in seen


def is_circular(leaf: Leaf) -> bool:
    """True for a reference to a column made of constants of the leaf's own class: they bring their own tenant."""
    column = leaf.column
    return (
        column is not None
        and column.sealed is None
        and column.var is not None
        and (column.var.find() is leaf.var.find())
    )


def common_proof(ctx: Inference, leaves: Iterable[Leaf]) -> tuple[TenantOf | None, bool]:
    """The proof that all column leaves share (None: none, or several), and whether there is any column leaf."""
    columns = [leaf for leaf in leaves if leaf.kind is LeafKind.COLUMN and not is_circular(leaf)]
    if not columns:
        return None, False
    proofs = [prove(ctx, leaf) for leaf in columns]
    first = proofs[0]
    is_common = first is not None and all(p is not None and is_equal(ctx, first, p) for p in proofs[1:])
    return (first if is_common else None), True


def output_proof(ctx: Inference, value: Value) -> TenantOf | None:
    """What a query has proven of the cells that one of its columns shows."""
    return common_proof(ctx, value.leaves)[0]


def is_equal(ctx: Inference, left: TenantOf, right: TenantOf) -> bool:
    """True where two proofs are of one tenant. Two literals are compared by their text, which the plan then
    depends on."""
    if left == right:
        return True
    if left.type_oid != right.type_oid:
        return False
    a, b = _lifted(left.expr), _lifted(right.expr)
    if a is None or b is None:
        return False
    one, other = ctx.draft.literal(a), ctx.draft.literal(b)
    if ctx.draft.token_text(one) != ctx.draft.token_text(other):
        return False
    ctx.draft.pinned |= {a, b}
    return True


def common(ctx: Inference, tenants: list[TenantOf | None]) -> TenantOf | None:
    """The one tenant that all of these are; None where one is not known or they may differ."""
    first = tenants[0] if tenants else None
    if first is None or not all(other is not None and is_equal(ctx, first, other) for other in tenants[1:]):
        return None
    return first


def _lifted(expr: Expr | None) -> int | None:
    return expr.number if isinstance(expr, Lifted) else None


# --- what must be proven -----------------------------------------------------------------------------


def require_one_tenant(ctx: Inference, column: SealedColumn, leaves: list[Leaf]) -> TenantOf | None:
    """The tenant of a comparison. PS002 where its cells could be of several; `scope: table` needs none."""
    proof, has_columns = common_proof(ctx, leaves)
    if has_one_index(column) or not has_columns or proof is not None or _is_row_by_row(leaves):
        return proof
    leaf = next(leaf for leaf in leaves if leaf.kind is LeafKind.COLUMN and not is_circular(leaf))
    raise TenantUnknown(
        f"comparing {column.rule.label} needs one tenant on both sides, and the statement does not prove it",
        column=column.rule.label,
        hint=_how_to_prove(ctx, column),
        position=leaf.location,
    )


def _is_row_by_row(leaves: list[Leaf]) -> bool:
    """True where each cell is compared only with cells of its own row's tenant, whichever that is."""
    if any(leaf.kind is not LeafKind.COLUMN or leaf.is_elsewhere or is_circular(leaf) for leaf in leaves):
        return False
    if all(leaf.is_apart for leaf in leaves):
        return True
    origins = [[origin for origin, _ in leaf.column.bases] for leaf in leaves if leaf.column is not None]
    scopes = [leaf.scope for leaf in leaves if leaf.scope is not None]
    return len(leaves) > 1 and all(
        any(_are_together(scopes, one, other) for one, other in product(origins[0], others))
        for others in origins[1:]
    )


def _are_together(scopes: list[Scope], one: Origin, other: Origin) -> bool:
    return one is not other and any(
        is_linked(scope, one, other) or is_linked(scope, other, one) for scope in scopes
    )


def has_one_index(column: SealedColumn) -> bool:
    """`scope: table`: tokens of all tenants are of one key. A deterministic envelope is always its tenant's."""
    return column.rule.scope is IndexScope.TABLE and not is_deterministic(column)


def _how_to_prove(ctx: Inference, column: SealedColumn) -> str:
    rule = ctx.table_rule(column)
    if rule is not None and rule.tenant.source is TenantFrom.COLUMN:
        return (
            f"add AND {rule.tenant.name} = <constant or parameter> to the WHERE clause, for each table compared"
        )
    return "declare isolation: rls or tenant-only for the table, or search with scope: table, in the rules"


def written_tenant(ctx: Inference, column: SealedColumn, leaf: Leaf, proof: TenantOf | None) -> TenantOf:
    """The tenant that a constant is sealed for: that of the row it is written to, else the one proven of what it
    meets, else the session's. PS002 where none is known."""
    rule = ctx.table_rule(column)
    targets = leaf.var.find().targets
    for target in targets:
        found = target.rows.get(leaf.row) if leaf.row is not None else None
        found = found or target.tenant
        if found is None:
            raise tenant_unknown(column, target.why, leaf.location)
        if len(targets) == 1 or all(_same_target(ctx, found, other) for other in targets):
            return found
        raise tenant_unknown(column, "one value is written for two tenants", leaf.location)
    if proof is not None:
        return proof
    if rule is not None and has_session_tenant(rule):
        return SESSION
    if has_one_index(column) and leaf.demand is Demand.TOKEN:
        return SESSION  # the one index key of the table is of no tenant
    raise tenant_unknown(column, "the statement does not say for which tenant this value is", leaf.location)


def _same_target(ctx: Inference, found: TenantOf, other: object) -> bool:
    tenant = getattr(other, "tenant", None)
    return isinstance(tenant, TenantOf) and is_equal(ctx, found, tenant)


def tenant_unknown(column: SealedColumn, why: str, location: int | None) -> TenantUnknown:
    return TenantUnknown(
        f"the tenant of {column.rule.label} is not known: {why}",
        column=column.rule.label,
        hint="give the tenant column a literal or a parameter in the same statement",
        position=location,
    )
