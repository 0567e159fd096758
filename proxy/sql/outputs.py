"""The output columns of a query: what the query around it sees of them, and what ordinals and names mean.

One reason to change: how an output column is named from outside.
"""

from __future__ import annotations

from proxy.errors import Unsupported
from proxy.sql import tenancy
from proxy.sql.context import Inference, Output, Outputs
from proxy.sql.literals import CONSTANTS, is_null, type_of_word
from proxy.sql.naming import quoted as quoted
from proxy.sql.naming import strong_name
from proxy.sql.scopes import Column
from proxy.sql.spans import Node, NoSpan
from proxy.sql.types import Demand, LeafKind, Value, sealed_in
from proxy.values.constants import Cast
from proxy.values.registry import BASE

_NAMED_WITHIN = frozenset({"A_Expr", "CaseExpr", "SubLink", "TypeCast"})  # by NULLIF, or by what they show


def shown_columns(ctx: Inference, outputs: Outputs, names: list[str]) -> list[Column]:
    """A query's columns as the query around it sees them, renamed by an alias list."""
    columns = []
    for i, output in enumerate(outputs.columns):
        if i >= len(names):
            keep_name(ctx, output)
        columns.append(_shown(ctx, output, names[i] if i < len(names) else output.name))
    return columns


def settle(value: Value) -> None:
    """A query within another gives its constants a type: that of those which have one, else text."""
    open_ones = [leaf for leaf in value.leaves if leaf.word == "unknown" and not leaf.is_array]
    if any(leaf.kind is LeafKind.COLUMN or leaf.is_array_typed or leaf.is_array for leaf in value.leaves):
        return
    words = {leaf.word for leaf in value.leaves} - {"unknown"}
    logical = type_of_word(words.pop()) if len(words) == 1 else None if words else BASE["text"]
    for leaf in open_ones:
        if leaf.expr is not None and logical is not None and not is_null(leaf.expr):
            leaf.expr, leaf.word = Cast(leaf.expr, logical), logical.name


def _shown(ctx: Inference, output: Output, name: str) -> Column:
    value = output.value
    settle(value)
    value.ask(Demand.CELL)
    column = Column(name, None, value.var, proof=tenancy.output_proof(ctx, value))
    column.is_remade, column.cast = value.is_remade, value.cast
    if value.direct is not None and value.direct.column is not None:
        value.direct.is_passed = value.direct.cast is None
        column.bases = value.direct.column.bases
        column.values = value.direct.column.values if value.direct.cast is None else None
    elif output.values is not None:
        column.values = output.values
    return column


def keep_name(ctx: Inference, output: Output) -> None:
    """A constant has the name of its type or function, which what is written in its place has not; so has a CASE
    the name of the cast around it, which is taken away."""
    target = output.target
    if target is None or output.has_alias:
        return
    kind, body = next(iter(target["val"].items()))
    is_cast_away = kind == "TypeCast" and any(item.node is body for item in ctx.sheds)
    is_weak = is_cast_away and not strong_name(target["val"])
    is_constant = kind in CONSTANTS and ctx.literals.read(target["val"]) is not None
    is_rewritten = any(leaf.inserted or leaf.grouped is not None for leaf in output.value.leaves)
    is_renamed = is_rewritten and kind in _NAMED_WITHIN
    if not (is_weak or is_constant or is_renamed):
        return
    try:
        last = ctx.spans.cast_end(body) if is_cast_away else ctx.spans.of(target["val"])[1]
        first = ctx.spans.at(target)
        while ctx.spans.text(first) == b"(" and ctx.spans.text(last + 1) == b")":
            if ctx.spans.partner(first) == last + 1:
                last += 1
            first += 1
    except NoSpan:
        return  # then it cannot be replaced either
    ctx.titles.append((output.value.var, last, output.name))


def named_output(ctx: Inference, node: Node, outputs: Outputs) -> Output | None:
    """The output that an ORDER BY (or GROUP BY) item names by ordinal or by name."""
    constant = node.get("A_Const", {})
    if "ival" in constant:
        ctx.draft.pin(constant.get("location", 0))
        place = constant["ival"].get("ival", 0)
        if outputs.is_open and any(sealed_in(o.value) for o in outputs.columns):
            raise Unsupported("an ordinal beside a * that is not known", hint="write the column's name")
        return outputs.columns[place - 1] if 1 <= place <= len(outputs.columns) else None
    fields = node.get("ColumnRef", {}).get("fields", [])
    if len(fields) == 1 and "String" in fields[0]:
        name = fields[0]["String"].get("sval", "")
        named = [output for output in outputs.columns if output.name == name]
        sealed = [output for output in named if sealed_in(output.value)]
        return sealed[0] if sealed else named[0] if named else None
    return None
