"""Planning one DML statement that names something watched: the entry to inference.

The statement's tree is inferred top-down (`queries.py`, `writes.py`, `expressions.py`), then each sealed class is
resolved into edits and slots (`resolution.py`). One reason to change: what a statement's plan consists of.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import InternalError, Unsupported
from proxy.sql import queries, writes
from proxy.sql.catalog import SealedColumn
from proxy.sql.context import Inference, Outputs
from proxy.sql.draft import Draft
from proxy.sql.expressions import infer
from proxy.sql.literals import Literals
from proxy.sql.nested import Nested
from proxy.sql.outputs import keep_name
from proxy.sql.params import finish_params
from proxy.sql.plan import Edit, Kind, ResultColumn, StatementPlan
from proxy.sql.resolution import Resolution
from proxy.sql.shapes import check, nested
from proxy.sql.spans import Node, Spans
from proxy.sql.types import Demand, Form, Leaf, Value, sealed_in
from proxy.values.base import LogicalType
from proxy.values.registry import BASE, base_of

TAGS: Final = {
    "SelectStmt": "SELECT",
    "InsertStmt": "INSERT",
    "UpdateStmt": "UPDATE",
    "DeleteStmt": "DELETE",
    "MergeStmt": "MERGE",
}

# Of columns of one family, and typed constants beside them, PostgreSQL shows this one.
_WIDER: Final = {"int2": 1, "int4": 2, "int8": 3, "bpchar": 1, "varchar": 2, "text": 3}

__all__ = ["finish_params", "plan_statement"]


def plan_statement(tree: Node, draft: Draft) -> StatementPlan:
    """The plan of one statement (a node of the JSON tree). Raises `proxy.errors` for what is refused; what it
    adds to `draft` is void then."""
    try:
        return _plan(tree, draft)
    except RecursionError:
        raise Unsupported("the statement is too deeply nested", hint="Split it, or nest less.") from None


def _plan(tree: Node, draft: Draft) -> StatementPlan:
    kind, body = next(iter(tree.items()))
    if kind not in TAGS:
        raise Unsupported(f"this statement ({kind}) over a protected table is not supported", hint="write DML")
    spans = Spans(draft)
    ctx = Inference(draft, spans, Literals(draft, spans), infer, queries.select, writes.write)
    is_dml = kind != "SelectStmt"
    outputs = writes.write(ctx, tree, None) if is_dml else queries.select(ctx, body, None)
    has_rows = not is_dml or "returningClause" in body
    for output in outputs.columns:
        output.value.ask(Demand.CELL)
        if has_rows:
            keep_name(ctx, output)
    check(ctx)
    resolution = Resolution(ctx)
    resolution.run()
    if has_rows and (is_dml or _has_writes(body)):
        resolution.check_returning()
    return StatementPlan(
        Kind.PLANNED,
        TAGS[kind],
        edits=_ordered(resolution.edits),
        results=_results(outputs) if has_rows else None,
        accesses=tuple(resolution.accesses.values()),
        read_tenants=tuple(resolution.read_tenants),
        compared_tenants=tuple(resolution.compared_tenants),
        is_dml=is_dml or _has_writes(body),
        hides_detail=ctx.is_protected,
    )


def _has_writes(body: Node) -> bool:
    ctes = body.get("withClause", {}).get("ctes", [])
    return any("SelectStmt" not in cte["CommonTableExpr"]["ctequery"] for cte in ctes)


def _ordered(edits: list[Edit]) -> tuple[Edit, ...]:
    """In the order of the text. Two edits of one token would be a fault of ours."""
    ordered = sorted(edits, key=lambda edit: (edit.first, edit.last))
    reached = -1
    for edit in ordered:
        if edit.first <= reached:
            raise InternalError("edits overlap")
        reached = max(reached, edit.last)
    return tuple(ordered)


def _results(outputs: Outputs) -> tuple[ResultColumn, ...] | None:
    """What each output is; None where their number is not known, which is allowed for plain ones only."""
    sealed = [output.value.var.find().sealed for output in outputs.columns]
    if not outputs.is_open:
        leaves = [output.value.direct for output in outputs.columns]
        return tuple(
            ResultColumn(column, _bound(column, leaf, leaves), _type_of(column, output.value))
            if column is not None
            else ResultColumn(nested=_nested(output.value))
            for column, leaf, output in zip(sealed, leaves, outputs.columns, strict=True)
        )
    values = [output.value for output in outputs.columns]
    first = next((column for value in values if (column := sealed_in(value)) is not None), None)
    if first is None:
        return None
    raise Unsupported(
        "the columns of this result are not all known, and some are encrypted",
        column=first.rule.label,
        hint="name the columns instead of *",
    )


def _nested(value: Value) -> Nested | None:
    """Where cells stand within the value."""
    shape, column = value.var.find().shape, sealed_in(value)
    if shape is None or column is None or shape.form is not Form.ARRAY:
        return nested(value, None)
    part = shape.values()[0]
    shown = _type_of(column, part)
    return nested(value, base_of(shown or column.rule.type) if part.is_remade else shown)


def _type_of(column: SealedColumn, value: Value) -> LogicalType | None:
    """The type of a sealed result where that is not its column's own: a cast's, the wider one of several columns,
    and no length where PostgreSQL has none for such an expression."""
    if value.cast is not None:
        return value.cast
    seals = [leaf.column.seal() for leaf in value.leaves if leaf.column is not None]
    types = {seal.rule.type for seal in seals if seal is not None}
    names = {type_.name for type_ in types} | {leaf.word for leaf in value.leaves} & _WIDER.keys()
    if len(types) <= 1 and not (value.is_remade or names - {column.rule.type.name}):
        return None
    return base_of(max((BASE[name] for name in names), key=_width)) if names else base_of(column.rule.type)


def _width(type_: LogicalType) -> int:
    return _WIDER.get(type_.name, 0)


def _bound(column: SealedColumn, leaf: Leaf | None, leaves: list[Leaf | None]) -> tuple[int, ...]:
    """Where the same row's `bind:` columns stand in the result."""
    places = []
    for name in column.rule.bind:
        place = next((i for i, other in enumerate(leaves) if _is_bind(leaf, other, name)), None)
        if place is None:
            raise Unsupported(
                f"{column.rule.label} is bound to {name}, which the result does not show",
                column=column.rule.label,
                hint=f"select {name} of the same row beside it",
            )
        places.append(place)
    return tuple(places)


def _is_bind(leaf: Leaf | None, other: Leaf | None, name: str) -> bool:
    if leaf is None or other is None or leaf.column is None or other.column is None:
        return False
    origins = {origin for origin, _ in leaf.column.bases}
    return any(origin in origins and base.name == name for origin, base in other.column.bases)
