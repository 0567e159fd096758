"""Equality in all its forms: `=`, IN, ANY, IS DISTINCT FROM, NULLIF, rows, and lower(a) = lower(b).

Both sides become one type, and both are asked for their tokens. One reason to change: the forms of equality that
are supported.
"""

from __future__ import annotations

from typing import Final

from proxy.rules import Compare
from proxy.sql.context import Inference
from proxy.sql.literals import names_of, system_name
from proxy.sql.outputs import settle
from proxy.sql.plan import Edit
from proxy.sql.scopes import Found, Scope, compared_tenants, resolve
from proxy.sql.spans import Node, NoSpan
from proxy.sql.types import Because, Demand, Leaf, Value, is_deterministic, make_plain, unify
from proxy.values.base import LogicalType
from proxy.values.registry import BASE

EQUALITY: Final = frozenset({"=", "<>", "!="})
_FOLDS: Final = frozenset({"lower", "upper"})
STRINGS: Final = frozenset({"text", "varchar"})


def compare(ctx: Inference, left: Value, right: Value, location: int) -> None:
    """Both sides of an equality: one type, and both as tokens."""
    root = unify(left.var, right.var, Because("comparing it with", location, "compare it with a constant"))
    root.is_compared = True
    for value in (left, right):
        value.ask(Demand.TOKEN)
        value.stand_alone()


def compare_nodes(ctx: Inference, left: Node, right: Node, scope: Scope, location: int) -> None:
    a, b = left.get("RowExpr"), right.get("RowExpr")
    if a is not None and b is not None and len(a.get("args", [])) == len(b.get("args", [])):
        for one, other in zip(a.get("args", []), b.get("args", []), strict=True):
            compare_nodes(ctx, one, other, scope, location)
    elif a is not None and "SubLink" in right and _is_scalar(right["SubLink"]):
        compare_columns(ctx, left, right["SubLink"], scope, location)
    elif not _compare_folded(ctx, left, right, scope, location):
        compare(ctx, ctx.infer(ctx, left, scope), ctx.infer(ctx, right, scope), location)


def _is_scalar(body: Node) -> bool:
    return body.get("subLinkType") == "EXPR_SUBLINK"


def compare_columns(ctx: Inference, left: Node, sublink: Node, scope: Scope, location: int) -> None:
    """One expression, or a row of them, against the columns of a subquery."""
    row = left.get("RowExpr")
    values = [ctx.infer(ctx, arg, scope) for arg in (row.get("args", []) if row is not None else [left])]
    outputs = ctx.select(ctx, sublink["subselect"]["SelectStmt"], scope)
    if len(outputs.columns) != len(values) or outputs.is_open:
        because = Because("comparing it with a row of another size", location)
        for value in [*values, *(output.value for output in outputs.columns)]:
            make_plain(value, because)
        return
    for value, output in zip(values, outputs.columns, strict=True):
        settle(output.value)
        compare(ctx, value, output.value, location)


def _compare_folded(ctx: Inference, left: Node, right: Node, scope: Scope, location: int) -> bool:
    """`lower(c) = lower(x)` (or upper on both sides) of a column with `compare: nocase`; False: not this form."""
    a, b = _folded(ctx, left), _folded(ctx, right)
    if a is None or b is None or a[0] != b[0]:
        return _compare_citext(ctx, left, right, scope, location)
    columns = [_folded_column(ctx, node, arg, scope) for node, (_, arg) in ((left, a), (right, b))]
    if all(column is None for column in columns):
        return False
    sides = [c or ctx.infer(ctx, node, scope) for c, node in zip(columns, (left, right), strict=True)]
    compare(ctx, sides[0], sides[1], location)
    sides[0].var.find().is_folded = True
    return True


def _compare_citext(ctx: Inference, left: Node, right: Node, scope: Scope, location: int) -> bool:
    """`c::citext = x`, where x is a string without a type or one cast to citext; False: not this form."""
    sides: list[Value] = []
    for node in (left, right):
        arg = _citext(node)
        column = _folded_column(ctx, node, arg, scope) if arg is not None else None
        literal = ctx.literals.read(arg if arg is not None else node)
        if column is not None:
            sides.append(column)
        elif literal is not None and not literal.is_array and literal.word == "unknown":
            sides.append(ctx.constant_value(node, literal))
    if len(sides) != 2 or all(side.direct is None for side in sides):
        return False
    compare(ctx, sides[0], sides[1], location)
    sides[0].var.find().is_folded = True
    return True


def _citext(node: Node) -> Node | None:
    body = node.get("TypeCast")
    names = names_of(body["typeName"].get("names", [])) if body is not None else ()
    return body["arg"] if body is not None and names[-1:] == ("citext",) else None


def ilike(ctx: Inference, body: Node, scope: Scope, location: int) -> bool:
    """`c ILIKE 'x'` where x is a literal without wildcards and c has `compare: nocase`; False: not this form."""
    written = body["rexpr"].get("A_Const", {})
    text = written.get("sval", {}).get("sval")
    if text is None or any(sign in text for sign in "%_\\") or not isinstance(body.get("lexpr"), dict):
        return False
    operator = ctx.spans.at(body)
    width = 2 if ctx.spans.text(operator) == b"not" else 1
    if ctx.spans.text(operator + width - 1) != b"ilike":
        return False
    column = _folded_column(ctx, body["lexpr"], body["lexpr"], scope)
    sealed = column.var.find().sealed if column is not None else None
    if column is None or sealed is None or sealed.rule.compare is not Compare.NOCASE:
        return False
    ctx.draft.pin(written.get("location", 0))
    ctx.edits.append(Edit(operator, operator + width - 1, (b"=" if width == 1 else b"<>",)))
    compare(ctx, column, ctx.infer(ctx, body["rexpr"], scope), location)
    column.var.find().is_folded = True
    return True


def folded_column(ctx: Inference, node: Node, scope: Scope) -> Value | None:
    """`lower(c)` of a column with `compare: nocase` as one leaf; None: not this form."""
    found = _folded(ctx, node)
    return _folded_column(ctx, node, found[1], scope) if found is not None and found[0] == "lower" else None


def _folded(ctx: Inference, node: Node) -> tuple[str, Node] | None:
    body = node.get("FuncCall")
    if (
        body is None
        or len(body.get("args", [])) != 1
        or body.keys() - {"funcname", "args", "funcformat", "location"}
    ):
        return None
    name = system_name(body["funcname"], ctx.draft)
    return (name, body["args"][0]) if name in _FOLDS else None


def _folded_column(ctx: Inference, node: Node, arg: Node, scope: Scope) -> Value | None:
    """The sealed nocase column within lower(..): one leaf in place of the call."""
    inner = arg
    while "TypeCast" in inner and _is_string_type(ctx, inner["TypeCast"]["typeName"]):
        inner = inner["TypeCast"]["arg"]
    body = inner.get("ColumnRef")
    if body is None or any("A_Star" in part for part in body["fields"]):
        return None
    found = resolve(scope, names_of(body["fields"]), body.get("location", 0))
    if not isinstance(found, Found) or found.column.sealed is None:
        return None
    value = ctx.column_value(found.column, found.scope, inner, body.get("location", 0))
    widen(ctx, value.leaves[0], node)
    return value


def _is_string_type(ctx: Inference, name: Node) -> bool:
    found = ctx.literals.type_of(name)
    return found is not None and found[0].name in STRINGS and found[0].typmod == -1 and not found[1]


def widen(ctx: Inference, leaf: Leaf, outer: Node) -> None:
    """The leaf stands for all of `outer`, of which only its own name will stay."""
    first, last = ctx.span(outer)
    known = first <= last and leaf.first <= leaf.last
    leaf.first, leaf.last = (first, last) if known else (1, 0)


def in_list(ctx: Inference, body: Node, scope: Scope, location: int) -> None:
    items = body["rexpr"]["List"].get("items", [])
    row = body["lexpr"].get("RowExpr")
    if row is not None and all(len(i.get("RowExpr", {}).get("args", [])) == len(row["args"]) for i in items):
        left = [ctx.infer(ctx, arg, scope) for arg in row["args"]]
        for item in items:
            for value, other in zip(left, item["RowExpr"]["args"], strict=True):
                compare(ctx, value, ctx.infer(ctx, other, scope), location)
        return
    value = ctx.infer(ctx, body["lexpr"], scope)
    for item in items:
        compare(ctx, value, ctx.infer(ctx, item, scope), location)


def any_of(ctx: Inference, body: Node, scope: Scope, location: int) -> None:
    """`x = ANY (array)`: the elements meet x. An array made by anything but constants and ARRAY[] is plain."""
    left = ctx.infer(ctx, body["lexpr"], scope)
    right = body["rexpr"]
    literal = ctx.literals.read(right)
    if literal is not None:
        value = ctx.constant_value(right, literal)
        value.leaves[0].is_array = True
        compare(ctx, left, value, location)
    elif "A_ArrayExpr" in right:
        for element in right["A_ArrayExpr"].get("elements", []):
            compare(ctx, left, ctx.infer(ctx, element, scope), location)
    else:
        because = Because("comparing it with the elements of an array", location, "give the array as a parameter")
        make_plain(ctx.infer(ctx, right, scope), because)
        make_plain(left, because)


def nullif(ctx: Inference, body: Node, scope: Scope, location: int) -> Value:
    """The server compares the two and shows the first: one form must do for both."""
    left, right = ctx.infer(ctx, body["lexpr"], scope), ctx.infer(ctx, body["rexpr"], scope)
    made = _nullif_by_token(ctx, body, left, right, location)
    if made is not None:
        return made
    root = unify(left.var, right.var, Because("comparing it with", location))
    root.is_compared = True
    right.ask(Demand.TOKEN)
    root.one_form = Because("NULLIF", location, "write CASE WHEN col = value THEN NULL ELSE col END")
    return Value(
        root, left.leaves + right.leaves, location=location, is_remade=left.is_remade, cast=_as_text(left)
    )


def _nullif_by_token(ctx: Inference, body: Node, left: Value, right: Value, location: int) -> Value | None:
    """`NULLIF(col, x)` of a randomised column: CASE WHEN its token = (that of x) THEN NULL ELSE col END.
    None: not of such a column."""
    leaf = left.direct
    sealed = leaf.column.seal() if leaf is not None and leaf.column is not None else None
    if leaf is None or leaf.column is None or leaf.scope is None or sealed is None or is_deterministic(sealed):
        return None
    first, last = leaf.inner
    try:
        word = ctx.spans.at(body)
        closed = ctx.spans.partner(word + 1)
    except NoSpan:
        return None
    comma = _comma(ctx, word + 2, closed)
    if first > last or comma is None:
        return None
    compare(ctx, left, right, location)
    ctx.edits.append(Edit(word, word + 1, (b"(CASE WHEN ",)))
    ctx.edits.append(Edit(comma, comma, (b" = (",)))
    shown = ctx.column_value(leaf.column, leaf.scope, None, location)
    second = shown.leaves[0]
    second.first = second.last = closed
    second.inserted = (b") THEN NULL ELSE ", b" END)")
    second.name = b"".join(ctx.draft.token_text(n) for n in range(first, last + 1))
    second.is_within = leaf.is_within
    return Value(shown.var, (second,), location=location, is_remade=left.is_remade, cast=_as_text(left))


def _as_text(value: Value) -> LogicalType | None:
    """varchar has no operators of its own: what they give is text."""
    sealed = value.var.find().sealed
    is_varchar = value.cast is None and sealed is not None and sealed.rule.type.name == "varchar"
    return BASE["text"] if is_varchar or (value.cast is not None and value.cast.name == "varchar") else value.cast


def _comma(ctx: Inference, at: int, closed: int) -> int | None:
    """The comma between the two arguments that begin at `at`."""
    while at < closed:
        text = ctx.spans.text(at)
        if text == b",":
            return at
        at = ctx.spans.partner(at) + 1 if text in (b"(", b"[") else at + 1
    return None


def set_apart(value: Value, keys: list[Value]) -> None:
    """Where the tenant column of the same row is a key too, cells of two tenants are never compared."""
    if value.direct is not None:
        value.direct.is_apart = any(is_beside(value, key) for key in keys)


def is_beside(value: Value, key: Value) -> bool:
    """True where `key` is the tenant column of the row that `value` is a column of."""
    if value.direct is None or value.direct.column is None or key.direct is None or key.direct.column is None:
        return False
    origins = {origin for origin, _ in value.direct.column.bases}
    return any(origin in origins for origin, _ in compared_tenants(key.direct.column.bases))
