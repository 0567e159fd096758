"""Expressions without a literal or a parameter that only the server can evaluate, assigned to a sealed column.

The session asks the server for the value first, in the same transaction, and seals the answer, which stands
behind the lifted constants of the text. What is the same throughout a transaction may be asked for once for
any number of rows; what is new at each call only where the text has one call a row, in VALUES.
Manual: "Date/Time Functions and Operators", "Sequence Manipulation Functions", "UUID Functions".
One reason to change: which expressions are asked for.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import Unsupported
from proxy.sql.catalog import SealedColumn
from proxy.sql.context import Inference
from proxy.sql.literals import system_name
from proxy.sql.plan import Question
from proxy.sql.spans import Node, NoSpan
from proxy.sql.types import Leaf, LeafKind, Value, Var
from proxy.values.base import LogicalType
from proxy.values.constants import Cast, Expr, Lifted
from proxy.values.registry import BASE

_STABLE: Final = {"now": "timestamptz", "transaction_timestamp": "timestamptz"}
_VOLATILE: Final = {"clock_timestamp": "timestamptz", "gen_random_uuid": "uuid"}
_SEQUENCE: Final = frozenset({"nextval"})
_WORDS: Final = {
    "SVFOP_CURRENT_DATE": "date",
    "SVFOP_CURRENT_TIMESTAMP": "timestamptz",
    "SVFOP_CURRENT_TIMESTAMP_N": "timestamptz",
    "SVFOP_LOCALTIMESTAMP": "timestamp",
    "SVFOP_LOCALTIMESTAMP_N": "timestamp",
}


def asked(ctx: Inference, sealed: SealedColumn, node: Node, *, is_one_row: bool) -> Value | None:
    """The value of such an expression, or None where it is something else."""
    inner, casts = _uncast(ctx, node)
    found = _type_name(ctx, inner) if inner is not None else None
    if inner is None or found is None:
        return None
    name, is_stable = found
    if not (is_stable or is_one_row):
        raise Unsupported(
            f"{sealed.rule.label} is encrypted, and this value is a new one for each row",
            column=sealed.rule.label,
            hint="write it in VALUES, or make the values in the application",
            position=next(iter(inner.values())).get("location", 0),
        )
    try:
        first, last = _span(ctx, node, inner)
        text = _text(ctx, inner)
    except NoSpan:
        return None
    own = BASE[name]
    expr: Expr = Lifted(ctx.draft.add_question(Question(text, own)))
    for logical in casts:
        expr = Cast(expr, logical)
    word = casts[-1].name if casts else name
    location = ctx.draft.tokens.starts[first]
    leaf = Leaf(LeafKind.CONSTANT, Var(has_constants=True), location, first, last, expr=expr, word=word)
    ctx.leaves.append(leaf)
    return Value(leaf.var, (leaf,), location=location)


def _uncast(ctx: Inference, node: Node) -> tuple[Node | None, list[LogicalType]]:
    """The expression within its casts, the innermost cast first."""
    casts: list[LogicalType] = []
    while "TypeCast" in node:
        found = ctx.literals.type_of(node["TypeCast"]["typeName"])
        if found is None or found[1]:
            return None, []
        casts.insert(0, found[0])
        node = node["TypeCast"]["arg"]
    return node, casts


def _type_name(ctx: Inference, node: Node) -> tuple[str, bool] | None:
    """The type of the expression, and whether it is the same throughout a transaction."""
    kind, body = next(iter(node.items()))
    if kind == "SQLValueFunction":
        name = _WORDS.get(body.get("op", ""))
        return (name, True) if name is not None else None
    if kind != "FuncCall" or body.keys() - {"funcname", "args", "funcformat", "location"}:
        return None
    name = system_name(body["funcname"], ctx.draft)
    args = body.get("args", [])
    if name in _SEQUENCE and len(args) == 1 and _is_word(ctx, args[0]):
        return "int8", False
    if name is None or args:
        return None
    return (_STABLE[name], True) if name in _STABLE else (_VOLATILE[name], False) if name in _VOLATILE else None


def _is_word(ctx: Inference, node: Node) -> bool:
    """The name of a sequence, on which the question and so the plan depends."""
    while "TypeCast" in node:
        node = node["TypeCast"]["arg"]
    body = node.get("A_Const", {})
    if "sval" not in body:
        return False
    ctx.draft.is_single = True
    return True


def _span(ctx: Inference, node: Node, inner: Node) -> tuple[int, int]:
    """The tokens of the whole, with its casts."""
    if node is not inner and "SQLValueFunction" in inner:
        return _cast_of_word(ctx, node["TypeCast"], inner)
    return _bounds(ctx, inner) if node is inner else ctx.spans.of(node)


def _cast_of_word(ctx: Inference, cast: Node, inner: Node) -> tuple[int, int]:
    """`current_date::text`: a word that the table of spans has not got."""
    first, last = _bounds(ctx, inner)
    if ctx.spans.text(last + 1) != b"::" or "TypeCast" in cast["arg"]:
        raise NoSpan
    return first, ctx.spans.type_end(last + 2)


def _bounds(ctx: Inference, node: Node) -> tuple[int, int]:
    kind, body = next(iter(node.items()))
    if kind == "FuncCall":
        return ctx.spans.of(node)
    first = ctx.spans.at(body)
    is_sized = str(body.get("op", "")).endswith("_N")
    if is_sized:
        ctx.draft.is_single = True
    return first, ctx.spans.partner(first + 1) if is_sized else first


def _text(ctx: Inference, node: Node) -> bytes:
    """The expression as the client wrote it."""
    first, last = _bounds(ctx, node)
    return ctx.draft.text[ctx.draft.tokens.starts[first] : ctx.draft.tokens.ends[last]]
