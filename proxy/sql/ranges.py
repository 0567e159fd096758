"""FROM items: tables, subqueries, joins and functions, and the columns each of them gives.

One reason to change: the FROM items that are supported.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final

from proxy.errors import Unsupported
from proxy.sql import tenancy
from proxy.sql.catalog import SealedColumn
from proxy.sql.comparisons import compare
from proxy.sql.context import Inference
from proxy.sql.expressions import condition, plain_parts, unnested
from proxy.sql.literals import names_of, system_name
from proxy.sql.outputs import shown_columns
from proxy.sql.scopes import Column, Item, Origin, Scope, compared_tenants, find_cte
from proxy.sql.spans import Node
from proxy.sql.types import Because, Demand, is_deterministic

_ONE_COLUMN: Final = frozenset(
    {
        "generate_series",
        "generate_subscripts",
        "json_array_elements",
        "json_array_elements_text",
        "jsonb_array_elements",
        "jsonb_array_elements_text",
        "regexp_split_to_table",
        "string_to_table",
        "unnest",
    }
)
_ADVICE: Final = "write JOIN .. ON a.col = b.col"


@dataclass(slots=True)
class Star:
    """What `*` gives of one FROM item, and which names it brought."""

    columns: list[Column]
    items: list[Item]
    merged: list[Column] = field(default_factory=list)
    is_open: bool = False

    def origins(self) -> frozenset[Origin]:
        return frozenset(origin for column in self.columns for origin, _ in column.bases)


def from_item(ctx: Inference, node: Node, scope: Scope) -> Star:
    """Add a FROM item's names to the scope."""
    kind, body = next(iter(node.items()))
    match kind:
        case "RangeVar":
            return _add(scope, table(ctx, body, scope))
        case "RangeSubselect":
            return _add(scope, _subselect(ctx, body, scope))
        case "JoinExpr":
            return _join(ctx, body, scope)
        case "RangeFunction":
            return _add(scope, _function(ctx, body, scope))
        case "RangeTableSample":
            plain_parts(ctx, [body.get("args"), body.get("repeatable")], scope, Because("TABLESAMPLE"))
            return from_item(ctx, body["relation"], scope)
        case _:
            plain_parts(ctx, body, scope, Because(f"this FROM item ({kind})", body.get("location")))
            return _add(scope, Item(_alias(body) or "", _named(body), is_open=True))


def _add(scope: Scope, item: Item) -> Star:
    scope.items.append(item)
    return Star(item.columns, [item], is_open=item.is_open)


def _alias(body: Node) -> str | None:
    name = body.get("alias", {}).get("aliasname")
    return str(name) if name is not None else None


def _renames(body: Node) -> tuple[str, ...]:
    return names_of(body.get("alias", {}).get("colnames", []))


def _named(body: Node) -> list[Column]:
    return [Column(name) for name in _renames(body)]


def table(ctx: Inference, body: Node, scope: Scope | None) -> Item:
    """A RangeVar: a query of a WITH clause, or a relation."""
    name = body.get("relname", "")
    cte = find_cte(scope, name) if "schemaname" not in body else None
    if cte is not None:
        item = Item(_alias(body) or name, _copied(cte.columns), is_open=cte.is_open)
    else:
        relation = ctx.relation(body)
        alias = _alias(body)
        schema = body.get("schemaname") or (relation.schema if relation is not None else None)
        item, _ = ctx.item_of(relation, alias or name, None if alias else schema)
    _rename(item, _renames(body))
    return item


def _copied(columns: list[Column]) -> list[Column]:
    """Each naming of a WITH query has rows of its own."""
    fresh: dict[Origin, Origin] = {}
    return [
        replace(column, bases=tuple((fresh.setdefault(o, Origin(o.relation)), base) for o, base in column.bases))
        for column in columns
    ]


def _rename(item: Item, names: tuple[str, ...]) -> None:
    for column, name in zip(item.columns, names, strict=False):
        column.name = name
    if item.is_open:
        item.columns += [Column(name) for name in names[len(item.columns) :]]


def _subselect(ctx: Inference, body: Node, scope: Scope) -> Item:
    around = scope if body.get("lateral") else scope.parent
    outputs = ctx.select(ctx, body["subquery"]["SelectStmt"], around)
    columns = shown_columns(ctx, outputs, list(_renames(body)))
    return Item(_alias(body) or "", columns, is_open=outputs.is_open)


# --- functions ---------------------------------------------------------------------------------------


def _function(ctx: Inference, body: Node, scope: Scope) -> Item:
    calls = [part["List"]["items"][0] for part in body["functions"]]
    columns: list[Column] = []
    is_open = False
    for call in calls:
        found = _call_columns(ctx, call, scope)
        is_open = is_open or found is None
        columns += found or []
    defined = [Column(d["ColumnDef"].get("colname", "")) for d in body.get("coldeflist", [])]
    if defined:
        columns, is_open = defined, False
    name = _alias(body)
    if name is not None and len(columns) == 1 and not defined:
        columns[0].name = name
    if body.get("ordinality"):
        columns.append(Column("ordinality"))
    item = Item(name or _call_name(calls[0]), columns, is_open=is_open)
    _rename(item, _renames(body))
    return item


def _call_name(call: Node) -> str:
    return (names_of(call.get("FuncCall", {}).get("funcname", [])) or ("",))[-1]


def _call_columns(ctx: Inference, call: Node, scope: Scope) -> list[Column] | None:
    """The columns of a function in FROM; None where they are not known. Arguments see the items before it."""
    body = call.get("FuncCall", {})
    name = system_name(body.get("funcname", []), ctx.draft)
    args = body.get("args", [])
    if name == "unnest":
        return [_elements(ctx, arg, scope) for arg in args]
    plain_parts(ctx, [call], scope, Because("a function in FROM", body.get("location")))
    return [Column(name)] if name in _ONE_COLUMN else None


def _elements(ctx: Inference, arg: Node, scope: Scope) -> Column:
    value = unnested(ctx, [arg])
    if value is None:
        plain_parts(ctx, [arg], scope, Because("unnest"))
        return Column("unnest")
    value.ask(Demand.CELL)
    return Column("unnest", None, value.var)


# --- joins -------------------------------------------------------------------------------------------


def _join(ctx: Inference, body: Node, scope: Scope) -> Star:
    left, right = from_item(ctx, body["larg"], scope), from_item(ctx, body["rarg"], scope)
    kind = body.get("jointype", "JOIN_INNER")
    names = _using_names(body, left, right)
    merged = [_merged(ctx, name, (left, right), kind, scope) for name in names]
    rest = [c for side in (left, right) for c in side.columns if c.name not in names]
    star = Star(merged + rest, left.items + right.items, left.merged + right.merged + merged)
    star.is_open = left.is_open or right.is_open
    inner = Scope(scope.parent, star.items, left.merged + right.merged, owner=scope.home)
    condition(ctx, body.get("quals"), inner, "ON")
    tenancy.gather(ctx, body.get("quals"), inner, _provable(kind, left, right))
    using_alias = body.get("join_using_alias", {}).get("aliasname")
    if using_alias:
        scope.items.append(Item(using_alias, merged))
    return _joined_as(body, star, scope)


def _provable(kind: str, left: Star, right: Star) -> frozenset[Origin]:
    """The sides whose rows the condition can leave out."""
    match kind:
        case "JOIN_INNER":
            return left.origins() | right.origins()
        case "JOIN_LEFT":
            return right.origins()
        case "JOIN_RIGHT":
            return left.origins()
        case _:
            return frozenset()


def _joined_as(body: Node, star: Star, scope: Scope) -> Star:
    """With an alias the join hides the names within it."""
    alias = _alias(body)
    if alias is None:
        scope.merged += [column for column in star.merged if column not in scope.merged]
        return star
    gone = set(map(id, star.items))
    scope.items[:] = [item for item in scope.items if id(item) not in gone]
    scope.merged[:] = [column for column in scope.merged if column not in star.merged]
    item = Item(alias, [_copy(column) for column in star.columns], is_open=star.is_open)
    _rename(item, _renames(body))
    scope.items.append(item)
    return Star(item.columns, [item], is_open=star.is_open)


def _copy(column: Column) -> Column:
    return replace(column)


def _using_names(body: Node, left: Star, right: Star) -> list[str]:
    if not body.get("isNatural"):
        return list(names_of(body.get("usingClause", [])))
    there = {column.name for column in right.columns}
    common = list(dict.fromkeys(column.name for column in left.columns if column.name in there))
    for one, other in ((left, right), (right, left)):
        if one.is_open and (sealed := _first_sealed(other.columns)) is not None:
            raise _cannot_merge(sealed, "NATURAL JOIN with columns that are not known")
    return common


def _merged(ctx: Inference, name: str, joined: tuple[Star, Star], kind: str, scope: Scope) -> Column:
    sides = [column for side in joined for column in side.columns if column.name == name]
    sealed = _first_sealed(sides)
    if sealed is not None:
        if len(sides) != 2 or not is_deterministic(sealed):
            raise _cannot_merge(sealed, "JOIN USING or NATURAL")
        return _merged_cells(ctx, sides[0], sides[1], kind, scope)
    bases = () if kind == "JOIN_FULL" else tuple(base for column in sides for base in column.bases)
    for (one, _), (other, _) in product(*(compared_tenants(column.bases) for column in sides[:2])):
        tenancy.link(scope, one, other, _provable(kind, *joined))
    return Column(name, bases=bases)


def _merged_cells(ctx: Inference, left: Column, right: Column, kind: str, scope: Scope) -> Column:
    """Deterministic cells are compared as they are. The column shown is of the side whose rows all come."""
    values = [ctx.column_value(column, scope.home, None, 0) for column in (left, right)]
    compare(ctx, values[0], values[1], 0)
    shown = right if kind == "JOIN_RIGHT" else left
    column = _copy(shown)
    if kind == "JOIN_FULL":
        column.bases, column.proof = (), None
    same = (
        left.sealed is not None and right.sealed is not None and left.sealed.rule.type == right.sealed.rule.type
    )
    column.is_remade = column.is_remade or not same
    return column


def _first_sealed(columns: list[Column]) -> SealedColumn | None:
    return next((sealed for column in columns if (sealed := column.seal()) is not None), None)


def _cannot_merge(sealed: SealedColumn, what: str) -> Unsupported:
    return Unsupported(
        f"{sealed.rule.label} is encrypted: {what} is not supported",
        column=sealed.rule.label,
        hint=_ADVICE,
    )
