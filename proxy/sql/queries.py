"""Inference over queries: FROM clauses, output columns, set operations, grouping and duplicates.

One reason to change: the clauses of SELECT that are supported.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import SchemaMismatch, Unsupported
from proxy.sql import grouping, ranges, tenancy
from proxy.sql.comparisons import is_beside
from proxy.sql.context import Inference, Output, Outputs
from proxy.sql.duplicates import Shown, Union
from proxy.sql.expressions import condition, infer, infer_plain, named_window, sorting
from proxy.sql.literals import names_of
from proxy.sql.naming import output_name
from proxy.sql.outputs import named_output, shown_columns
from proxy.sql.scopes import Column, Cte, Scope, find_item
from proxy.sql.spans import Node
from proxy.sql.types import Because, LeafKind, Value, Var, make_plain, sealed_in, together, unify

_SET_WORDS: Final = {"SETOP_UNION": "UNION", "SETOP_INTERSECT": "INTERSECT", "SETOP_EXCEPT": "EXCEPT"}


def select(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    """A query (SELECT, VALUES, TABLE, a set operation) within `scope`, and its columns."""
    if "intoClause" in body:
        raise SchemaMismatch(
            "SELECT INTO over a protected table would make an unprotected copy",
            hint="CREATE TABLE with a rule of its own, then INSERT",
        )
    outer = with_clause(ctx, body.get("withClause"), scope)
    if body.get("op", "SETOP_NONE") != "SETOP_NONE":
        outputs = _set_operation(ctx, body, outer)
        inner = Scope(outer)
    elif "valuesLists" in body:
        outputs = _values(ctx, body["valuesLists"], outer)
        inner = Scope(outer)
    else:
        inner = Scope(outer)
        outputs = _plain_select(ctx, body, inner)
    _order_by(ctx, body, outputs, inner)
    grouping.finish(ctx, inner)
    for key in ("limitCount", "limitOffset"):
        if key in body:
            infer_plain(ctx, body[key], inner, Because(key))
    return outputs


def with_clause(ctx: Inference, body: Node | None, scope: Scope | None) -> Scope | None:
    """The scope in which the queries of a WITH clause have names."""
    if body is None:
        return scope
    level = Scope(scope)
    is_recursive = bool(body.get("recursive"))
    ctes = [item["CommonTableExpr"] for item in body.get("ctes", [])]
    if is_recursive:
        level.pending = {cte["ctename"] for cte in ctes}
    for cte in ctes:
        level.ctes[cte["ctename"]] = _cte(ctx, cte, level, is_recursive)
    return level


def _cte(ctx: Inference, body: Node, level: Scope, is_recursive: bool) -> Cte:
    names = list(names_of(body.get("aliascolnames", [])))
    kind, query = next(iter(body["ctequery"].items()))
    if kind != "SelectStmt":
        outputs = ctx.write(ctx, {kind: query}, level)
    elif is_recursive and query.get("op", "SETOP_NONE") == "SETOP_UNION":
        outputs = _recursive(ctx, body, query, level)
    else:
        outputs = select(ctx, query, level)
    has_more = "search_clause" in body or "cycle_clause" in body
    if has_more and any(sealed_in(o.value) for o in outputs.columns):
        raise Unsupported(
            "SEARCH and CYCLE over encrypted columns are not supported",
            hint="leave the encrypted columns out of the recursive query",
        )
    return Cte(shown_columns(ctx, outputs, names), outputs.is_open or has_more)


def _recursive(ctx: Inference, body: Node, query: Node, level: Scope) -> Outputs:
    """The first branch gives the columns, which the second sees under the query's own name."""
    inner = with_clause(ctx, query.get("withClause"), level)
    first = select(ctx, query["larg"], inner)
    names = list(names_of(body.get("aliascolnames", [])))
    columns = shown_columns(ctx, first, names)
    for column in columns:
        column.bases, column.proof = (), None
    level.ctes[body["ctename"]] = Cte(columns, first.is_open)
    second = select(ctx, query["rarg"], inner)
    outputs = _merge(
        ctx, first, second, "UNION", bool(query.get("all")), "write UNION ALL with a condition to end it"
    )
    _order_by(ctx, query, outputs, Scope(inner))
    return outputs


# --- SELECT ------------------------------------------------------------------------------------------


def _plain_select(ctx: Inference, body: Node, scope: Scope) -> Outputs:
    star = [ranges.from_item(ctx, item, scope) for item in body.get("fromClause", [])]
    condition(ctx, body.get("whereClause"), scope, "WHERE")
    tenancy.gather(ctx, body.get("whereClause"), scope)
    scope.n_before = len(ctx.leaves)
    outputs = target_list(ctx, body.get("targetList", []), scope, star)
    for window in body.get("windowClause", []):
        named_window(ctx, window["WindowDef"], scope)
    condition(ctx, body.get("havingClause"), scope, "HAVING")
    grouping.group_by(ctx, body, scope, outputs)
    grouping.distinct(ctx, body, scope, outputs)
    return outputs


def target_list(ctx: Inference, targets: list[Node], scope: Scope, star: list[ranges.Star]) -> Outputs:
    """The output columns of a SELECT list or RETURNING, with every `*` expanded."""
    outputs = Outputs([])
    for target in targets:
        body = target["ResTarget"]
        fields = body["val"].get("ColumnRef", {}).get("fields", [])
        if fields and "A_Star" in fields[-1]:
            _expand(ctx, body["val"]["ColumnRef"], scope, star, outputs)
        elif _is_row_star(body["val"]):
            _expand_row(ctx, body["val"]["A_Indirection"], scope, outputs)
        else:
            value = infer(ctx, body["val"], scope)
            name = body.get("name")
            output = Output(name or output_name(body["val"]), value, has_alias=name is not None, target=body)
            outputs.columns.append(output)
    return outputs


def _expand(ctx: Inference, body: Node, scope: Scope, star: list[ranges.Star], outputs: Outputs) -> None:
    path = names_of(body["fields"])
    if not path:
        for part in star:
            _add(ctx, part.columns, scope, outputs)
            outputs.is_open = outputs.is_open or part.is_open
        return
    holder = find_item(scope, path[-2] if len(path) > 1 else None, path[-1])
    if holder is None:
        _refuse_open(ctx, scope, body.get("location", 0))
        outputs.is_open = True
        return
    item, level = holder
    _add(ctx, item.columns, level, outputs)
    outputs.is_open = outputs.is_open or item.is_open


def _refuse_open(ctx: Inference, scope: Scope, location: int) -> None:
    level: Scope | None = scope
    while level is not None:
        if any(item.has_sealed() for item in level.items):
            raise Unsupported(
                "what this * stands for is not known, and the query has encrypted columns",
                hint="name the columns",
                position=location,
            )
        level = level.parent


def _is_row_star(node: Node) -> bool:
    fields = node.get("A_Indirection", {}).get("indirection", [])
    return bool(fields) and "A_Star" in fields[-1]


def _expand_row(ctx: Inference, body: Node, scope: Scope, outputs: Outputs) -> None:
    """`(p).*`; of anything but a FROM item's name it must be plain, and its columns are not known."""
    inner = body["arg"].get("ColumnRef")
    path = names_of(inner["fields"]) if inner is not None else ()
    holder = find_item(scope, None, path[-1]) if len(path) == 1 and len(body["indirection"]) == 1 else None
    if holder is not None:
        _add(ctx, holder[0].columns, holder[1], outputs)
        outputs.is_open = outputs.is_open or holder[0].is_open
        return
    infer_plain(ctx, body["arg"], scope, Because("its fields", None, "select the column itself"))
    outputs.is_open = True


def _add(ctx: Inference, columns: list[Column], scope: Scope, outputs: Outputs) -> None:
    for column in columns:
        outputs.columns.append(Output(column.name, ctx.column_value(column, scope, None, 0)))


# --- ORDER BY ----------------------------------------------------------------------------------------


def _order_by(ctx: Inference, body: Node, outputs: Outputs, scope: Scope) -> None:
    """An ordinal or an output's name means that output; anything else is an expression over the FROM clause."""
    for sort in body.get("sortClause", []):
        node = sort["SortBy"]["node"]
        location = node.get("ColumnRef", node.get("A_Const", {})).get("location")
        output = named_output(ctx, node, outputs)
        if output is not None:
            make_plain(output.value, sorting(location))
        else:
            infer_plain(ctx, node, scope, sorting(location))


# --- VALUES and set operations -----------------------------------------------------------------------


def _values(ctx: Inference, lists: list[Node], scope: Scope | None) -> Outputs:
    """Each column of the rows is one class; a constant remembers its row, for the tenant of that row."""
    number = len(ctx.rows)
    ctx.rows.append([row["List"].get("items", []) for row in lists])
    level = Scope(scope)
    rows = [_row(ctx, items, level, (number, i)) for i, items in enumerate(ctx.rows[number])]
    outputs = Outputs([])
    for i in range(min(len(row) for row in rows)):
        var = Var()
        for row in rows:
            var = unify(var, row[i].var, Because("VALUES with", row[i].location))
        leaves = tuple(leaf for row in rows for leaf in row[i].leaves)
        outputs.columns.append(Output(f"column{i + 1}", Value(var, leaves), (number, i)))
    return outputs


def _row(ctx: Inference, items: list[Node], scope: Scope, row: tuple[int, int]) -> list[Value]:
    values = [infer(ctx, item, scope) for item in items]
    for place, value in enumerate(values):
        for leaf in value.leaves:
            if leaf.kind is LeafKind.CONSTANT and leaf.row is None:
                leaf.row, leaf.place = row, place
    return values


def _set_operation(ctx: Inference, body: Node, scope: Scope | None) -> Outputs:
    left, right = select(ctx, body["larg"], scope), select(ctx, body["rarg"], scope)
    word, keeps_all = _SET_WORDS[body["op"]], bool(body.get("all"))
    if word != "UNION" or keeps_all:
        hint = "write IN or EXISTS (NOT IN or NOT EXISTS for EXCEPT)"
        return _merge(ctx, left, right, word, keeps_all, hint)
    outputs = _merge(ctx, left, right, word, keeps_all, None)
    shown = tuple(Shown(output.name, output.value) for output in outputs.columns)
    ctx.duplicates.append(Union(body["larg"], body["rarg"], shown))
    return outputs


def _set_rows_apart(left: Outputs, right: Outputs) -> None:
    """Rows are equal only with the tenant column, where both branches have it at one place."""
    pairs = list(zip(left.columns, right.columns, strict=False))
    for one, other in pairs:
        for key, same in pairs:
            if is_beside(one.value, key.value) and is_beside(other.value, same.value):
                for leaf in (*one.value.leaves, *other.value.leaves):
                    leaf.is_apart = True


def _merge(
    ctx: Inference, left: Outputs, right: Outputs, word: str, keeps_all: bool, hint: str | None
) -> Outputs:
    """Column by column one class; all but UNION ALL compare. With a hint the cells are compared as they are."""
    sealed = any(sealed_in(o.value) for o in left.columns + right.columns)
    if sealed and (left.is_open or right.is_open or len(left.columns) != len(right.columns)):
        raise Unsupported(f"the columns of this {word} are not all known", hint="name the columns of each branch")
    outputs = Outputs([], left.is_open or right.is_open)
    _set_rows_apart(left, right)
    for one, other in zip(left.columns, right.columns, strict=False):
        var = unify(one.value.var, other.value.var, Because(f"{word} with", other.value.location))
        if not (word == "UNION" and keeps_all):
            var.is_compared = True
            if hint is not None:
                var.one_form = Because(word, one.value.location, hint)
        value = together(var, (one.value, other.value), one.value.location)
        outputs.columns.append(Output(one.name, value, has_alias=one.has_alias, target=one.target))
    return outputs
