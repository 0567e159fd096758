"""Inference over expressions: the encryption type of each, and what it asks of its parts.

`HANDLERS` is the list of constructs that may hold a sealed expression; any other construct is inferred as plain
in all its parts, so a sealed column within it is refused. The same holds for functions (`COUNTS`, `PASSES`) and
operators (`EQUALITY`). One reason to change: the constructs that are supported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from proxy.errors import Unsupported
from proxy.sql import shapes
from proxy.sql.casts import cast
from proxy.sql.comparisons import (
    EQUALITY,
    STRINGS,
    any_of,
    compare,
    compare_columns,
    compare_nodes,
    ilike,
    in_list,
    nullif,
    set_apart,
    widen,
)
from proxy.sql.context import Inference
from proxy.sql.literals import CONSTANTS, is_plain_collation, names_of, system_name
from proxy.sql.outputs import settle
from proxy.sql.scopes import Found, Row, Scope, resolve
from proxy.sql.spans import Node
from proxy.sql.types import (
    APPLICATION,
    Because,
    Demand,
    LeafKind,
    Value,
    Var,
    make_plain,
    plain,
    together,
    unify,
)
from proxy.sql.watch import RUNNERS, SET_CONFIG

COUNTS: Final = frozenset({"count"})
PASSES: Final = {"lag": (0, 2), "lead": (0, 2), "first_value": (0,), "last_value": (0,), "nth_value": (0,)}
_WORDS: Final = {
    "RowExpr": ("a row value", "compare rows with = or IN only, and name the columns elsewhere"),
    "MinMaxExpr": ("GREATEST or LEAST", APPLICATION),
    "A_ArrayExpr": ("ARRAY", "select the columns themselves"),
    "XmlExpr": ("an XML function", APPLICATION),
}
_KIND_WORDS: Final = {
    "AEXPR_LIKE": "LIKE",
    "AEXPR_ILIKE": "ILIKE",
    "AEXPR_SIMILAR": "SIMILAR TO",
    "AEXPR_BETWEEN": "BETWEEN",
    "AEXPR_NOT_BETWEEN": "NOT BETWEEN",
    "AEXPR_BETWEEN_SYM": "BETWEEN SYMMETRIC",
    "AEXPR_NOT_BETWEEN_SYM": "NOT BETWEEN SYMMETRIC",
}


def infer(ctx: Inference, node: Node, scope: Scope) -> Value:
    """The encryption type of an expression."""
    kind, body = next(iter(node.items()))
    if kind in CONSTANTS:
        literal = ctx.literals.read(node)
        if literal is not None:
            return ctx.constant_value(node, literal)
    handler = HANDLERS.get(kind)
    if handler is not None:
        return handler(ctx, body, scope)
    word, hint = _WORDS.get(kind, (f"this use ({kind})", APPLICATION))
    plain_parts(ctx, body, scope, Because(word, body.get("location"), hint))
    return plain(location=body.get("location", 0))


def infer_plain(ctx: Inference, node: Node, scope: Scope, because: Because) -> Value:
    """An expression that must not be sealed."""
    value = infer(ctx, node, scope)
    make_plain(value, because)
    return value


def plain_parts(ctx: Inference, body: Any, scope: Scope, because: Because) -> None:
    """Every expression within a construct that is not listed must be plain."""
    for node in nodes_within(body):
        if "SelectStmt" in node:
            for output in ctx.select(ctx, node["SelectStmt"], scope).columns:
                make_plain(output.value, because)
        else:
            infer_plain(ctx, node, scope, because)


def nodes_within(body: Any) -> Iterator[Node]:
    """The nearest nodes (`{"Kind": {..}}`) below a node's body."""
    if isinstance(body, list):
        for part in body:
            yield from nodes_within(part)
    elif isinstance(body, dict):
        for key, part in body.items():
            if key[:1].isupper() and isinstance(part, dict):
                yield {key: part}
            else:
                yield from nodes_within(part)


# --- names -------------------------------------------------------------------------------------------


def _column(ctx: Inference, body: Node, scope: Scope) -> Value:
    location = body.get("location", 0)
    if any("A_Star" in part for part in body["fields"]):
        return _whole_row(ctx, names_of(body["fields"]), scope, location)
    found = resolve(scope, names_of(body["fields"]), location)
    match found:
        case Found():
            return _named(ctx, found, {"ColumnRef": body}, scope, location)
        case Row():
            return shapes.row(ctx, found, location)
        case _:
            ctx.unresolved.append((names_of(body["fields"])[-1], location))
            return plain("a column", location)


def _named(ctx: Inference, found: Found, node: Node, scope: Scope, location: int) -> Value:
    value = ctx.column_value(found.column, found.scope, node, location)
    value.leaves[0].is_within = found.scope is not scope.home
    return value


def _whole_row(ctx: Inference, path: tuple[str, ...], scope: Scope, location: int) -> Value:
    """`t.*` inside an expression, as in ROW(t.*)."""
    found = resolve(scope, path[-1:], location) if path else None
    if isinstance(found, Row):
        return shapes.row(ctx, found, location)
    if any(item.has_sealed() for item in scope.items):
        raise Unsupported(
            "a whole row with encrypted columns cannot be used as a value",
            hint="name the columns",
            position=location,
        )
    return plain("a whole row", location)


def _indirection(ctx: Inference, body: Node, scope: Scope) -> Value:
    """`(p).ssn` is a column where `p` is a row; every other field or subscript is of a plain expression."""
    arg, fields = body["arg"], body["indirection"]
    inner = arg.get("ColumnRef")
    if inner is not None and len(fields) == 1 and "String" in fields[0]:
        path, location = names_of(inner["fields"]), inner.get("location", 0)
        found = resolve(scope, path[-1:], location) if len(path) <= 2 else None
        if isinstance(found, Row):
            name = fields[0]["String"].get("sval", "")
            column = resolve(scope, (*path, name), location)
            if isinstance(column, Found):
                return _named(ctx, column, {"A_Indirection": body}, scope, location)
            return plain("a column", location)
    because = Because("a field or element of it", None, "select the column itself")
    infer_plain(ctx, arg, scope, because)
    plain_parts(ctx, fields, scope, because)
    return plain()


# --- operators ---------------------------------------------------------------------------------------


def _operation(ctx: Inference, body: Node, scope: Scope) -> Value:
    kind, location = body.get("kind", "AEXPR_OP"), body.get("location", 0)
    name = system_name(body.get("name", []), ctx.draft)
    match kind:
        case "AEXPR_OP" | "AEXPR_DISTINCT" | "AEXPR_NOT_DISTINCT" if name in EQUALITY and "lexpr" in body:
            compare_nodes(ctx, body["lexpr"], body["rexpr"], scope, location)
        case "AEXPR_IN" if name in EQUALITY:
            in_list(ctx, body, scope, location)
        case "AEXPR_OP_ANY" | "AEXPR_OP_ALL" if name in EQUALITY:
            any_of(ctx, body, scope, location)
        case "AEXPR_NULLIF" if name in EQUALITY:
            return nullif(ctx, body, scope, location)
        case "AEXPR_ILIKE" if name is not None and ilike(ctx, body, scope, location):
            return plain(location=location)
        case _:
            word = _KIND_WORDS.get(kind) or "the operator " + ".".join(names_of(body.get("name", [])))
            because = Because(word, location, _hint_for(word))
            plain_parts(ctx, [body.get("lexpr"), body.get("rexpr")], scope, because)
    return plain(location=location)


def _hint_for(word: str) -> str:
    if word.endswith((" =", " <>")):
        return "write = or <> of pg_catalog"
    return (
        "pgseal compares for equality only, where the rule has search; compute it in the application"
        if word.startswith("the operator") or word in _KIND_WORDS.values()
        else APPLICATION
    )


# --- conditions, branches ----------------------------------------------------------------------------


def condition(ctx: Inference, node: Node | None, scope: Scope, what: str) -> None:
    """A boolean expression (WHERE, ON, HAVING, FILTER ..)."""
    if node is not None:
        infer_plain(ctx, node, scope, Because(what, None, "compare it, or test it with IS NULL"))


def _boolean(ctx: Inference, body: Node, scope: Scope) -> Value:
    for arg in body.get("args", []):
        condition(ctx, arg, scope, "a condition")
    return plain(location=body.get("location", 0))


def _null_test(ctx: Inference, body: Node, scope: Scope) -> Value:
    value = infer(ctx, body["arg"], scope)
    for leaf in value.leaves:
        leaf.is_null_test = leaf.kind is LeafKind.CONSTANT
    return plain(location=body.get("location", 0))


def _joined(ctx: Inference, nodes: list[Node], scope: Scope, what: str, location: int) -> Value:
    """Branches that flow into one result."""
    values = shapes.beside(ctx, nodes, [infer(ctx, node, scope) for node in nodes])
    var = Var()
    for value in values:
        var = unify(var, value.var, Because(f"{what} with", location, "give constants in the other branches"))
    return together(var, values, location)


def _coalesce(ctx: Inference, body: Node, scope: Scope) -> Value:
    return _joined(ctx, body.get("args", []), scope, "COALESCE", body.get("location", 0))


def _case(ctx: Inference, body: Node, scope: Scope) -> Value:
    location = body.get("location", 0)
    whens = [when["CaseWhen"] for when in body.get("args", [])]
    if "arg" in body:
        operand = infer(ctx, body["arg"], scope)
        for when in whens:
            compare(ctx, operand, infer(ctx, when["expr"], scope), when.get("location", location))
    else:
        for when in whens:
            condition(ctx, when["expr"], scope, "WHEN")
    results = [when["result"] for when in whens]
    if "defresult" in body:
        results.append(body["defresult"])
    value = _joined(ctx, results, scope, "CASE", location)
    value.is_remade = value.is_remade or "defresult" not in body
    return value


def _collate(ctx: Inference, body: Node, scope: Scope) -> Value:
    """A collation says nothing of cells, and equality is the same in each that is listed."""
    value = infer(ctx, body["arg"], scope)
    sealed = value.var.find().sealed
    is_string = sealed is not None and sealed.rule.type.name in STRINGS
    if value.direct is not None and is_string and is_plain_collation(body):
        widen(ctx, value.direct, {"CollateClause": body})
        return value
    make_plain(value, Because("COLLATE", body.get("location"), "leave COLLATE away"))
    return value


# --- subqueries, functions ---------------------------------------------------------------------------


def _sublink(ctx: Inference, body: Node, scope: Scope) -> Value:
    kind, location = body.get("subLinkType"), body.get("location", 0)
    names = body.get("operName")
    is_equality = names is None or system_name(names, ctx.draft) in EQUALITY
    if kind in ("ANY_SUBLINK", "ALL_SUBLINK") and is_equality and "testexpr" in body:
        compare_columns(ctx, body["testexpr"], body, scope, location)
        return plain(location=location)
    outputs = ctx.select(ctx, body["subselect"]["SelectStmt"], scope)
    if kind == "EXISTS_SUBLINK":
        return plain(location=location)
    if kind == "EXPR_SUBLINK" and len(outputs.columns) == 1 and not outputs.is_open:
        value = outputs.columns[0].value
        settle(value)
        return Value(value.var, value.leaves, None, location, value.is_remade, value.cast)
    if kind == "ARRAY_SUBLINK" and len(outputs.columns) == 1 and not outputs.is_open:
        return shapes.array(ctx, outputs.columns[0].value, location)
    because = Because("this subquery", location, "compare with = or IN")
    for output in outputs.columns:
        make_plain(output.value, because)
    if "testexpr" in body:
        infer_plain(ctx, body["testexpr"], scope, because)
    return plain(location=location)


def _function(ctx: Inference, body: Node, scope: Scope) -> Value:
    names, location = names_of(body["funcname"]), body.get("location", 0)
    _refuse_runner(ctx, names, location)
    name = system_name(body["funcname"], ctx.draft)
    args = body.get("args", [])
    _window(ctx, body.get("over"), scope)
    condition(ctx, body.get("agg_filter"), scope, "FILTER")
    for sort in body.get("agg_order", []):
        _sort_key(ctx, sort, scope)
    if name in COUNTS and len(args) == 1 and "func_variadic" not in body:
        value = infer(ctx, args[0], scope)
        if body.get("agg_distinct"):
            value.var.find().is_compared = True
            value.ask(Demand.TOKEN)
    elif name in shapes.FUNCTIONS:
        return shapes.function(ctx, name, body, scope)
    elif name == "unnest" and (elements := unnested(ctx, args)) is not None:
        return elements
    elif name in PASSES and "over" in body and not any("NamedArgExpr" in arg for arg in args):
        return _passing(ctx, name, args, scope, location)
    else:
        word = ".".join(names)
        because = Because(
            f"the function {word}()", location, f"select the column and apply {word} in the application"
        )
        plain_parts(ctx, args, scope, because)
        return plain(f"the function {word}()", location)
    return plain(location=location)


def unnested(ctx: Inference, args: list[Node]) -> Value | None:
    """The elements of an array that is a constant."""
    literal = ctx.literals.read(args[0]) if len(args) == 1 else None
    if literal is None:
        return None
    value = ctx.constant_value(args[0], literal)
    value.leaves[0].is_array = True
    return value


def _refuse_runner(ctx: Inference, names: tuple[str, ...], location: int) -> None:
    bare = names[-1] if names else ""
    watched = ctx.draft.env.snapshot.watched_functions
    if bare in RUNNERS or (bare in watched and bare != SET_CONFIG):
        raise Unsupported(
            f'the function "{bare}" reads a protected table, or runs SQL that cannot be seen here',
            hint="query the table itself",
            position=location,
        )


def _passing(ctx: Inference, name: str, args: list[Node], scope: Scope, location: int) -> Value:
    """lag, lead and their kin show a value of another row."""
    shown = [arg for i, arg in enumerate(args) if i in PASSES[name]]
    for i, arg in enumerate(args):
        if i not in PASSES[name]:
            infer_plain(ctx, arg, scope, Because(f"an argument of {name}()", location))
    value = _joined(ctx, shown, scope, f"{name}()", location)
    value.is_remade = True
    for leaf in value.leaves:
        leaf.is_elsewhere = True
    return value


def _window(ctx: Inference, over: Node | None, scope: Scope) -> None:
    if over is None:
        return
    keys = [infer(ctx, key, scope) for key in over.get("partitionClause", [])]
    for value in keys:
        grouped_by_token(ctx, value)
        set_apart(value, keys)
    for sort in over.get("orderClause", []):
        _sort_key(ctx, sort, scope)
    because = Because("a window frame", over.get("location"))
    plain_parts(ctx, [over.get("startOffset"), over.get("endOffset")], scope, because)


def grouped_by_token(ctx: Inference, value: Value) -> None:
    """A key whose equality the server uses without showing it."""
    value.var.find().is_compared = True
    value.ask(Demand.TOKEN)


def sorting(location: int | None) -> Because:
    return Because("sorting by it", location, "sort in the application, or by another column")


def _sort_key(ctx: Inference, sort: Node, scope: Scope) -> None:
    infer_plain(ctx, sort["SortBy"]["node"], scope, sorting(None))


def named_window(ctx: Inference, body: Node, scope: Scope) -> None:
    _window(ctx, body, scope)


HANDLERS: Final[dict[str, Callable[[Inference, Node, Scope], Value]]] = {
    "ColumnRef": _column,
    "A_Indirection": _indirection,
    "A_Expr": _operation,
    "BoolExpr": _boolean,
    "NullTest": _null_test,
    "CoalesceExpr": _coalesce,
    "CaseExpr": _case,
    "TypeCast": cast,
    "CollateClause": _collate,
    "SubLink": _sublink,
    "FuncCall": _function,
    "A_ArrayExpr": shapes.listed_array,
}
