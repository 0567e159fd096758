"""GROUP BY and DISTINCT over sealed columns.

Deterministic cells group as they are. Of randomised ones the token groups, and where the column is shown beside
it any cell of the group stands for all. Where the keys hold a unique key of the same row, each group (or
duplicate) is of one row, and its cell needs no comparing at all. One reason to change: what may be grouped.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import Unsupported
from proxy.sql.comparisons import set_apart
from proxy.sql.context import Inference, Outputs
from proxy.sql.duplicates import IN_SUBQUERY, Distinct, Shown, can_be_named
from proxy.sql.expressions import grouped_by_token, infer, nodes_within
from proxy.sql.outputs import named_output, quoted
from proxy.sql.plan import Edit
from proxy.sql.scopes import Found, Origin, Scope, resolve
from proxy.sql.spans import Node
from proxy.sql.tokens import token_of
from proxy.sql.types import Because, LeafKind, Value, is_deterministic, make_plain

_IN_ONE: Final = "use deterministic mode, or make the expression a column of a subquery and group by that"


def group_by(ctx: Inference, body: Node, scope: Scope, outputs: Outputs) -> None:
    keys: list[Value] = []
    shown: list[tuple[Node, Value]] = []  # keys that are outputs at the same time: GROUP BY 1, or an alias
    for node in body.get("groupClause", []):
        if "GroupingSet" in node:
            _grouping_set(ctx, node, scope, outputs)
            continue
        output = None if _is_input(node, scope) else named_output(ctx, node, outputs)
        if output is not None:
            shown.append((node, output.value))
        else:
            keys.append(infer(ctx, node, scope))
    every = [*keys, *(value for _, value in shown)]
    for value in keys:
        if not _is_one_row(value, every):
            _check_expression(ctx, value, scope)
            grouped_by_token(ctx, value)
            set_apart(value, every)
            _show_any(ctx, value, outputs, scope)
    for node, value in shown:
        if not (_is_one_row(value, every) or _group_by_output(ctx, node, value, outputs, scope)):
            _compare_cells(value, "GROUP BY of a shown column")
        set_apart(value, every)


def _check_expression(ctx: Inference, value: Value, scope: Scope) -> None:
    """Tokens of an expression group, but PostgreSQL finds it nowhere else once its constants are parameters."""
    if value.direct is not None or value.var.find().plain is not None:
        return
    columns = [leaf.column for leaf in value.leaves if leaf.kind is LeafKind.COLUMN]
    shown = [leaf for leaf in ctx.leaves[scope.n_before :] if leaf not in value.leaves]
    if any(leaf.column is column for leaf in shown for column in columns):
        because = Because("GROUP BY of an expression that is shown", value.location, _IN_ONE)
        make_plain(value, because)


def _group_by_output(ctx: Inference, node: Node, value: Value, outputs: Outputs, scope: Scope) -> bool:
    """GROUP BY 1 (or an alias) of a randomised column: the key is written as the token of that column."""
    leaf, sealed = value.direct, value.var.find().sealed
    if leaf is None or sealed is None or is_deterministic(sealed) or leaf.column is None:
        return False
    if leaf.column.sealed is None or leaf.first > leaf.last or leaf.inner != (leaf.first, leaf.last):
        return False
    body = next(iter(node.values()))
    ordinal = ctx.draft.token_at(body.get("location", 0))
    name = b"".join(ctx.draft.token_text(n) for n in range(leaf.first, leaf.last + 1))
    ctx.edits.append(Edit(ordinal, ordinal, (token_of(sealed, name),)))
    value.var.find().is_compared = True
    _show_any(ctx, value, outputs, scope)
    return True


def _is_input(node: Node, scope: Scope) -> bool:
    """GROUP BY takes a bare name for a column of the FROM clause first."""
    fields = node.get("ColumnRef", {}).get("fields", [])
    if len(fields) != 1 or "String" not in fields[0]:
        return False
    name = fields[0]["String"].get("sval", "")
    found = resolve(scope, (name,), node["ColumnRef"].get("location", 0))
    return isinstance(found, Found) and found.scope is scope.home


def _grouping_set(ctx: Inference, node: Node, scope: Scope, outputs: Outputs) -> None:
    location = node["GroupingSet"].get("location")
    because = Because("GROUPING SETS, ROLLUP or CUBE", location, "group by one list of columns")
    for part in nodes_within(node["GroupingSet"].get("content", [])):
        if "GroupingSet" in part:
            _grouping_set(ctx, part, scope, outputs)
            continue
        rows = part["RowExpr"].get("args", []) if "RowExpr" in part else [part]
        for item in rows:
            output = None if _is_input(item, scope) else named_output(ctx, item, outputs)
            make_plain(output.value if output is not None else infer(ctx, item, scope), because)


def distinct(ctx: Inference, body: Node, scope: Scope, outputs: Outputs) -> None:
    clause = body.get("distinctClause")
    if clause is None:
        return
    nodes = [node for node in clause if node]
    for node in nodes:
        output = named_output(ctx, node, outputs)
        because = Because("DISTINCT ON", None, "use GROUP BY")
        make_plain(output.value if output is not None else infer(ctx, node, scope), because)
    if not nodes:
        _distinct_rows(ctx, body, outputs)


def _distinct_rows(ctx: Inference, body: Node, outputs: Outputs) -> None:
    values = [output.value for output in outputs.columns]
    alone = frozenset(i for i, value in enumerate(values) if _is_one_row(value, values))
    for i, value in enumerate(values):
        root = value.var.find()
        if i in alone or root.plain is not None:
            continue
        if can_be_named(value) and not outputs.is_open:
            root.is_compared = True
            set_apart(value, values)
        else:
            _compare_cells(value, "DISTINCT of an expression", IN_SUBQUERY)
    if body.get("targetList"):
        shown = tuple(Shown(output.name, output.value) for output in outputs.columns)
        ctx.duplicates.append(Distinct(body["targetList"][0]["ResTarget"], shown, alone))


def _compare_cells(value: Value, word: str, hint: str = _IN_ONE) -> None:
    root = value.var.find()
    if root.plain is None:
        root.is_compared = True
        root.one_form = Because(word, value.location, hint)


def _show_any(ctx: Inference, key: Value, outputs: Outputs, scope: Scope) -> None:
    """The token groups, and the cells of a group are not one value for the server: any of them is shown, under
    the name the column has; elsewhere in the level it is shown or compared in the same way."""
    sealed, leaf = key.var.find().sealed, key.direct
    if sealed is None or leaf is None or leaf.column is None or is_deterministic(sealed):
        return
    scope.grouped.append((key, leaf.column))
    for output in outputs.columns:
        shown = output.value.direct
        if shown is None or shown.column is not leaf.column:
            continue
        if shown.first > shown.last:
            raise Unsupported(
                f"{sealed.rule.label} is encrypted: * is not supported beside GROUP BY of it",
                column=sealed.rule.label,
                hint="name the columns",
                position=leaf.location,
            )
        while ctx.spans.text(shown.first - 1) == b"(" and ctx.spans.text(shown.last + 1) == b")":
            shown.first, shown.last = shown.first - 1, shown.last + 1  # AS cannot stand within brackets
        shown.grouped = b"" if output.has_alias else b" AS " + quoted(output.name)


def finish(ctx: Inference, scope: Scope) -> None:
    """All that names a key of the level, in its SELECT list, HAVING, ORDER BY and the queries within them."""
    for key, column in scope.grouped:
        for leaf in ctx.leaves[scope.n_before :]:
            if leaf.column is column and leaf not in key.leaves and leaf.grouped is None:
                leaf.grouped = b""


def _is_one_row(value: Value, keys: list[Value]) -> bool:
    """True where the keys tell the very row that the value is a column of."""
    if value.direct is None or value.direct.column is None:
        return False
    return any(_has_unique_key(origin, keys) for origin, _ in value.direct.column.bases)


def _has_unique_key(origin: Origin, keys: list[Value]) -> bool:
    names = {
        base.name
        for key in keys
        if key.direct is not None and key.direct.column is not None
        for there, base in key.direct.column.bases
        if there is origin and base.not_null
    }
    return any(names.issuperset(unique) for unique in origin.relation.unique_columns if unique)
