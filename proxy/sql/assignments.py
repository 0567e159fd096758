"""Assigning: one value to one column of the row that is written, and the tenant of that row.

One reason to change: what may be assigned to a sealed column, a plain one, or the tenant column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from proxy.errors import SchemaMismatch, TenantUnknown, Unsupported
from proxy.rules import TableRule, Through
from proxy.sql import tenancy
from proxy.sql.asked import asked
from proxy.sql.catalog import Column as TableColumn
from proxy.sql.catalog import Relation, SealedColumn
from proxy.sql.context import Inference, Outputs
from proxy.sql.expressions import infer
from proxy.sql.literals import fits, names_of
from proxy.sql.outputs import quoted
from proxy.sql.plan import TenantOf
from proxy.sql.scopes import Found, Item, Origin, Scope, resolve
from proxy.sql.spans import Node
from proxy.sql.types import (
    Because,
    Demand,
    Leaf,
    LeafKind,
    Target,
    Value,
    Var,
    is_same_type,
    make_plain,
    plain,
    seal,
)
from proxy.values import registry
from proxy.values.constants import Const, Expr

_ABSENT: Final = "the tenant column is not given a value"
_NO_CONSTANT: Final = "the tenant column is given neither a literal nor a parameter"
_NO_CONJUNCT: Final = "the WHERE clause does not compare the tenant column with a literal or parameter"


@dataclass(frozen=True, slots=True)
class Written:
    """The table that a statement writes. `relation` None: not known, so nothing of it is sealed."""

    relation: Relation | None
    item: Item
    origin: Origin | None

    def sealed(self, name: str) -> SealedColumn | None:
        return self.relation.sealed.get(name) if self.relation is not None else None

    def has_sealed(self) -> bool:
        return self.relation is not None and bool(self.relation.sealed)

    def column(self, name: str) -> TableColumn | None:
        columns = self.relation.columns if self.relation is not None else ()
        return next((column for column in columns if column.name == name), None)

    def any_sealed(self) -> SealedColumn | None:
        return next(iter(self.relation.sealed.values()), None) if self.relation is not None else None


@dataclass(slots=True)
class Row:
    """The tenant and the `bind:` values of a row that is written."""

    tenant: TenantOf | None
    bound: dict[str, tuple[Expr, ...] | None] = field(default_factory=dict)
    rows: dict[tuple[int, int], TenantOf] = field(default_factory=dict)
    same_row: Origin | None = None
    same_as: Origin | None = None
    why: str = _ABSENT
    guard: bytes | None = None
    is_moved: bool = False  # to the tenant that the statement assigns
    is_one: bool = False  # a row of VALUES

    def target(self, column: SealedColumn) -> Target:
        bound = self.bound.get(column.rule.column)
        return Target(column, self.tenant, bound, self.rows, self.same_row, self.same_as, self.why, self.guard)


def check_view(into: Written) -> None:
    """Writing sealed columns through a view is sound only where PostgreSQL itself rewrites it to the table."""
    relation = into.relation
    if (
        relation is None
        or relation.kind != "v"
        or (relation.is_simple_view and not relation.has_rules_or_triggers)
    ):
        return
    rule = relation.rule
    if rule is None or rule.through is not Through.VIEW:
        raise Unsupported(
            f'"{relation.name}" is a view with triggers or rules, or not a simple one',
            hint="write to the table itself",
        )


def column_name(into: Written, target: Node) -> str:
    """The column that an item of a column list or of SET names. A part of a sealed one cannot be assigned."""
    name = str(target["name"])
    sealed = into.sealed(name)
    if "indirection" in target and sealed is not None:
        raise Unsupported(
            "assigning a part of an encrypted column is not supported",
            column=sealed.rule.label,
            hint="assign the whole column",
            position=target.get("location"),
        )
    return name


# --- one assignment ----------------------------------------------------------------------------------


def assign(ctx: Inference, into: Written, name: str, node: Node, at: tuple[Scope, Row]) -> Value | None:
    """Assign an expression to the column `name` (empty: none); None for DEFAULT, or where nothing is to do."""
    scope, row = at
    if "SetToDefault" in node:
        assign_default(ctx, into, name, node["SetToDefault"].get("location", 0), row)
        return None
    if "A_Const" in node and name and into.sealed(name) is None:
        return None  # stays as it is
    sealed = into.sealed(name)
    found = asked(ctx, sealed, node, is_one_row=row.is_one) if sealed is not None else None
    value = found or infer(ctx, node, scope)
    assign_value(ctx, into, name, value, row)
    return value


def assign_value(ctx: Inference, into: Written, name: str, value: Value, row: Row) -> None:
    sealed = into.sealed(name)
    if sealed is None:
        make_plain(
            value,
            Because(f'assigning it to the plain column "{name}"', value.location, "protect that column too"),
        )
        for leaf in value.leaves:
            leaf.is_assigned_plain = True
        return
    hint = "assign a literal, a parameter or NULL"
    seal(value.var, sealed, Because("assigning it", value.location, hint))
    value.ask(Demand.CELL)
    value.stand_alone()
    value.var.find().targets.append(row.target(sealed))


def assign_default(ctx: Inference, into: Written, name: str, location: int, row: Row) -> None:
    """DEFAULT of a sealed column is the rule's default; without one it is the server's, which is NULL."""
    sealed = into.sealed(name)
    if sealed is None:
        return
    ctx.written.append(sealed)
    if sealed.rule.has_default and sealed.rule.default is not None:
        ordinal = ctx.draft.token_at(location)
        add_default(ctx, sealed, row, Leaf(LeafKind.CONSTANT, Var(), location, ordinal, ordinal))


def add_default(ctx: Inference, sealed: SealedColumn, row: Row, leaf: Leaf) -> None:
    """Write the rule's default where `leaf` says."""
    leaf.var = Var(sealed=sealed, has_constants=True, targets=[row.target(sealed)])
    leaf.expr, leaf.demand = default_of(sealed), Demand.CELL
    ctx.leaves.append(leaf)


def default_of(sealed: SealedColumn) -> Expr:
    """The rule's default as a literal (bytea: the rule holds raw bytes)."""
    raw = sealed.rule.default or b""
    return Const(b"\\x" + raw.hex().encode() if sealed.rule.type.name == "bytea" else raw)


# --- the row of an INSERT ----------------------------------------------------------------------------


def tenant_of_items(
    ctx: Inference, into: Written, names: list[str], items: list[Node]
) -> tuple[TenantOf | None, str]:
    """The tenant of one row of VALUES, or None and why."""
    rule = _rule(ctx, into)
    if rule is None or tenancy.has_session_tenant(rule):
        return tenancy.SESSION, ""
    found = _item(into, names, items)
    if found is None:
        return None, _ABSENT
    tenant = tenancy.constant_tenant(ctx, found[1], found[0])
    return tenant, "" if tenant is not None else _NO_CONSTANT


def row_of_items(ctx: Inference, into: Written, names: list[str], items: list[Node]) -> Row:
    """What one row of VALUES says of itself."""
    tenant, why = tenant_of_items(ctx, into, names, items)
    return Row(tenant, bound_of_items(ctx, into, names, items), why=why, is_one=True)


def _rule(ctx: Inference, into: Written) -> TableRule | None:
    sealed = into.any_sealed()
    return ctx.table_rule(sealed) if sealed is not None else None


def _item(into: Written, names: list[str], items: list[Node]) -> tuple[TableColumn, Node] | None:
    name = into.relation.tenant_column if into.relation is not None else None
    column = into.column(name) if name is not None else None
    if column is None or column.name not in names or names.index(column.name) >= len(items):
        return None
    return column, items[names.index(column.name)]


def bound_of_items(
    ctx: Inference, into: Written, names: list[str], items: list[Node]
) -> dict[str, tuple[Expr, ...] | None]:
    """For each sealed column with `bind:` the constants its row gives those columns (None: not constants)."""
    found: dict[str, tuple[Expr, ...] | None] = {}
    for sealed in into.relation.sealed.values() if into.relation is not None else ():
        if not sealed.rule.bind:
            continue
        values = [
            ctx.literals.read(items[names.index(n)]) if n in names and names.index(n) < len(items) else None
            for n in sealed.rule.bind
        ]
        known = [value.expr for value in values if value is not None]
        found[sealed.rule.column] = tuple(known) if len(known) == len(values) else None
    return found


def row_of_outputs(ctx: Inference, into: Written, names: list[str], outputs: Outputs) -> Row:
    """The tenant of the rows of INSERT .. SELECT: a constant, a VALUES column, or one copied along."""
    rule = _rule(ctx, into)
    if rule is None or tenancy.has_session_tenant(rule):
        return Row(tenancy.SESSION)
    name = into.relation.tenant_column if into.relation is not None else None
    column = into.column(name) if name is not None else None
    if column is None or column.name not in names or names.index(column.name) >= len(outputs.columns):
        return Row(None, why=_ABSENT)
    output = outputs.columns[names.index(column.name)]
    source = output.values
    direct = output.value.direct
    if direct is not None and direct.column is not None:
        logical = registry.type_from_oid(column.type_oid)
        cast = direct.cast
        is_kept = cast is None or (logical is not None and is_same_type(cast, logical) and cast.typmod == -1)
        source = direct.column.values if is_kept else None
    if source is not None:
        return Row(None, rows=_values_tenants(ctx, source, column), why=_NO_CONSTANT)
    if direct is not None and direct.column is not None and direct.scope is not None:
        for origin, _ in tenancy.tenant_bases(direct.column.bases):
            return Row(tenancy.proven(direct.scope, origin), same_as=origin, why=_NO_CONSTANT)
    return Row(_constant_output(output.value, column), why=_NO_CONSTANT)


def _values_tenants(
    ctx: Inference, source: tuple[int, int], column: TableColumn
) -> dict[tuple[int, int], TenantOf]:
    number, place = source
    found = {}
    for i, items in enumerate(ctx.rows[number]):
        tenant = tenancy.constant_tenant(ctx, items[place], column) if place < len(items) else None
        if tenant is not None:
            found[(number, i)] = tenant
    return found


def _constant_output(value: Value, column: TableColumn) -> TenantOf | None:
    if len(value.leaves) != 1 or value.leaves[0].kind is not LeafKind.CONSTANT:
        return None
    leaf = value.leaves[0]
    logical = registry.type_from_oid(column.type_oid)
    if (
        leaf.expr is None
        or leaf.is_array_typed
        or leaf.is_array
        or logical is None
        or not fits(leaf.word, logical)
    ):
        return None
    return TenantOf(leaf.expr, column.type_oid)


# --- SET ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Set:
    """One assigned column: an expression, or a column of a subquery."""

    name: str
    location: int
    node: Node | None = None
    value: Value | None = None


def set_clause(ctx: Inference, targets: list[Node], into: Written, scope: Scope) -> Row:
    """The assignments of UPDATE or ON CONFLICT DO UPDATE; `scope` has the proofs of its WHERE clause. Of which
    tenant the rows are then."""
    sets = _sets(ctx, [target["ResTarget"] for target in targets], into, scope)
    if any(into.sealed(item.name) is not None for item in sets):
        check_view(into)
    row = _row_of_update(ctx, into, scope, sets)
    for item in sets:
        if item.value is not None:
            assign_value(ctx, into, item.name, item.value, row)
        elif item.node is not None:
            assign(ctx, into, item.name, item.node, (scope, row))
    return row


def _sets(ctx: Inference, targets: list[Node], into: Written, scope: Scope) -> list[_Set]:
    sets: list[_Set] = []
    outputs = Outputs([])
    for target in targets:
        name, location, node = column_name(into, target), target.get("location", 0), target["val"]
        multi = node.get("MultiAssignRef")
        if multi is None:
            sets.append(_Set(name, location, node))
            continue
        place = multi.get("colno", 1) - 1
        row = multi["source"].get("RowExpr")
        if row is not None:
            sets.append(
                _Set(name, location, row["args"][place]) if place < len(row["args"]) else _Set(name, location)
            )
            continue
        if place == 0:
            outputs = _row_source(ctx, multi["source"], scope)
        known = place < len(outputs.columns) and not outputs.is_open
        sets.append(
            _Set(name, location, value=outputs.columns[place].value if known else plain("a row", location))
        )
    return sets


def _row_source(ctx: Inference, source: Node, scope: Scope) -> Outputs:
    sublink = source.get("SubLink")
    if sublink is not None and "SelectStmt" in sublink["subselect"]:
        return ctx.select(ctx, sublink["subselect"]["SelectStmt"], scope)
    make_plain(infer(ctx, source, scope), Because("a row", None, "write ROW(..) or a subquery"))
    return Outputs([], is_open=True)


def _row_of_update(ctx: Inference, into: Written, scope: Scope, sets: list[_Set]) -> Row:
    rule = _rule(ctx, into)
    if rule is None or into.origin is None or into.relation is None:
        return Row(None)
    bound = _bound_of_update(ctx, into, scope, sets)
    if tenancy.has_session_tenant(rule):
        return Row(tenancy.SESSION, bound, same_row=into.origin)
    assigned = next((item for item in sets if item.name == into.relation.tenant_column), None)
    if assigned is not None and _base_of(into, scope, assigned) is not into.origin:
        return _moved(ctx, into, scope, sets, assigned)
    tenant = tenancy.proven(scope, into.origin)
    guard = None
    if tenant is None and tenancy.has_database_tenant(ctx) and into.relation.tenant_column is not None:
        tenant = tenancy.SESSION
        is_open = not tenancy.is_one_tenant(ctx, rule)
        guard = quoted(into.item.name) + b"." + quoted(into.relation.tenant_column) if is_open else None
    linked = next(
        (o for o in _origins(scope) if o is not into.origin and tenancy.is_linked(scope, into.origin, o)), None
    )
    return Row(tenant, bound, same_row=into.origin, same_as=linked, why=_NO_CONJUNCT, guard=guard)


def _origins(scope: Scope) -> list[Origin]:
    return [origin for item in scope.items for column in item.columns for origin, _ in column.bases]


def _base_of(into: Written, scope: Scope, item: _Set) -> Origin | None:
    """The origin whose tenant column is assigned."""
    fields = (item.node or {}).get("ColumnRef", {}).get("fields", [])
    if not fields or "A_Star" in fields[-1]:
        return None
    found = resolve(scope, names_of(fields), item.location)
    bases = tenancy.tenant_bases(found.column.bases) if isinstance(found, Found) else []
    return bases[0][0] if bases else None


def _moved(ctx: Inference, into: Written, scope: Scope, sets: list[_Set], assigned: _Set) -> Row:
    """The tenant column is assigned: every sealed cell of the row must be new, under the new tenant."""
    relation = into.relation
    assert relation is not None
    given = {item.name for item in sets}
    missing = [sealed for name, sealed in relation.sealed.items() if name not in given]
    if missing:
        raise TenantUnknown(
            f"assigning the tenant column leaves {missing[0].rule.label} with a cell of the old tenant",
            column=missing[0].rule.label,
            hint="give every encrypted column of the row a new value in the same statement",
            position=assigned.location,
        )
    column = into.column(assigned.name)
    bound = _bound_of_update(ctx, into, scope, sets)
    origin = _base_of(into, scope, assigned)
    if origin is not None:
        return Row(tenancy.proven(scope, origin), bound, same_as=origin, why=_NO_CONSTANT, is_moved=True)
    tenant = (
        tenancy.constant_tenant(ctx, assigned.node, column)
        if assigned.node is not None and column is not None
        else None
    )
    return Row(tenant, bound, why=_NO_CONSTANT, is_moved=True)


def _bound_of_update(
    ctx: Inference, into: Written, scope: Scope, sets: list[_Set]
) -> dict[str, tuple[Expr, ...] | None]:
    """`bind:` columns keep their value where the statement compares them with a constant, and may not change
    under a cell that stays."""
    relation = into.relation
    assert relation is not None
    given = {item.name for item in sets}
    found: dict[str, tuple[Expr, ...] | None] = {}
    for name, sealed in relation.sealed.items():
        changed = [column for column in sealed.rule.bind if column in given]
        if changed and name not in given:
            raise SchemaMismatch(
                f"{sealed.rule.label} is bound to {changed[0]}, which this statement changes",
                column=sealed.rule.label,
                hint=f"assign {sealed.rule.column} in the same statement",
            )
        found[sealed.rule.column] = _bound_constants(ctx, into, scope, sets, sealed)
    return found


def _bound_constants(
    ctx: Inference, into: Written, scope: Scope, sets: list[_Set], sealed: SealedColumn
) -> tuple[Expr, ...] | None:
    values: list[Expr] = []
    for name in sealed.rule.bind:
        assigned = next((item for item in sets if item.name == name), None)
        literal = ctx.literals.read(assigned.node) if assigned is not None and assigned.node is not None else None
        value = literal.expr if literal is not None else None
        if assigned is None and into.origin is not None:
            value = scope.home.constants.get((into.origin, name))
        if value is None:
            return None
        values.append(value)
    return tuple(values)
