"""Defaults of the rules: the server knows none of a sealed column, so INSERT is given one where it is due.

One reason to change: where a rule's default has to be written.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import Unsupported
from proxy.sql.assignments import Row, Written, add_default, tenant_of_items
from proxy.sql.catalog import SealedColumn
from proxy.sql.context import Inference
from proxy.sql.lexer import Kind as Token
from proxy.sql.outputs import quoted
from proxy.sql.plan import Edit
from proxy.sql.spans import Node, NoSpan
from proxy.sql.types import Leaf, LeafKind, Var

_CLAUSES: Final = frozenset(
    (b"from where group having window union intersect except order limit offset fetch for on returning").split()
)


def missing_defaults(into: Written, given: list[str]) -> list[tuple[str, SealedColumn]]:
    sealed = into.relation.sealed if into.relation is not None else {}
    return [(name, column) for name, column in sealed.items() if name not in given and _has_default(column)]


def _has_default(column: SealedColumn) -> bool:
    return column.rule.has_default and column.rule.default is not None


def refuse_hidden(ctx: Inference, into: Written) -> None:
    """A view may leave out a column with a default, to which a statement on the view cannot give it."""
    relation = into.relation
    if relation is None or relation.kind != "v":
        return
    shown = {column.attnum for column in relation.sealed.values()}
    for oid in {column.relation_oid for column in relation.sealed.values()}:
        base = ctx.draft.env.snapshot.by_oid.get(oid)
        for column in base.sealed.values() if base is not None else ():
            if column.attnum not in shown and _has_default(column):
                raise Unsupported(
                    f"{column.rule.label} has a default in the rules, which view {relation.name} does not show",
                    column=column.rule.label,
                    hint="insert into the table itself",
                )


def refuse_missing(into: Written, given: list[str], what: str) -> None:
    """The statement would have to grow where its text cannot be told."""
    for name, column in missing_defaults(into, given):
        raise Unsupported(
            f"{column.rule.label} has a default in the rules, which {what} does not get",
            column=column.rule.label,
            hint=f'name "{name}" in the column list and give it a value',
        )


def select_missing(ctx: Inference, body: Node, query: Node, into: Written, given: list[str], row: Row) -> None:
    """INSERT .. SELECT: each SELECT of the query shows the defaults behind its own columns."""
    missing = missing_defaults(into, given)
    if not missing:
        return
    try:
        places = [_list_end(ctx, arm) for arm in _arms(query)]
        start = _after_target(ctx, body["relation"])
        _extend_list(ctx, body, start, given, [name for name, _ in missing])
    except NoSpan:
        refuse_missing(into, given, "this form of INSERT .. SELECT")
        return
    for place in places:
        _add_missing(ctx, missing, place, row)


def merge_missing(ctx: Inference, clause: Node, into: Written, given: list[str], row: Row) -> None:
    """INSERT of MERGE, where it has a column list."""
    missing = missing_defaults(into, given)
    if not missing:
        return
    try:
        if not clause.get("targetList") or not clause.get("values"):
            raise NoSpan
        end = ctx.spans.at(clause["targetList"][-1]["ResTarget"])
        while ctx.spans.text(end) not in (b")", b""):
            end += 1
        place = _row_ends(ctx, _keyword(ctx, end + 1, (b"values",)), 1)[0]
    except NoSpan:
        refuse_missing(into, given, "this form of INSERT in MERGE")
        return
    ctx.edits.append(Edit(end, end - 1, (b", " + b", ".join(quoted(name) for name, _ in missing),)))
    _add_missing(ctx, missing, place, row)


def _add_missing(ctx: Inference, missing: list[tuple[str, SealedColumn]], place: int, row: Row) -> None:
    """The defaults before the token at `place`, which closes a list."""
    for _, column in missing:
        leaf = Leaf(LeafKind.CONSTANT, Var(), 0, place, place - 1, inserted=(b", ", b""))
        add_default(ctx, column, row, leaf)
        ctx.written.append(column)


def insert_missing(ctx: Inference, body: Node, into: Written, given: list[str], rows: list[Row]) -> None:
    """Add the columns with a default to the column list, and the default to each row of VALUES."""
    missing = missing_defaults(into, given)
    if not missing:
        return
    try:
        start = _after_target(ctx, body["relation"])
        places = _row_ends(ctx, _keyword(ctx, start, (b"values",)), len(rows))
        _extend_list(ctx, body, start, given, [name for name, _ in missing])
    except NoSpan:
        column = missing[0][1]
        raise Unsupported(
            f"{column.rule.label} has a default in the rules, which cannot be written into this statement",
            column=column.rule.label,
            hint="give the column a value",
        ) from None
    for place, row in zip(places, rows, strict=True):
        _add_missing(ctx, missing, place, row)


def insert_defaults(ctx: Inference, body: Node, into: Written) -> None:
    """DEFAULT VALUES becomes a list and a row of the rules' defaults."""
    missing = missing_defaults(into, [])
    if not missing:
        return
    tenant, why = tenant_of_items(ctx, into, [], [])
    first = _keyword(ctx, _after_target(ctx, body["relation"]), (b"default", b"values"))
    names = b", ".join(quoted(name) for name, _ in missing)
    ctx.edits.append(Edit(first, first + 1, (b"(" + names + b") VALUES (",)))
    for i, (_, column) in enumerate(missing):
        around = (b"" if i == 0 else b", ", b")" if i == len(missing) - 1 else b"")
        leaf = Leaf(LeafKind.CONSTANT, Var(), 0, first + 2, first + 1, inserted=around)
        add_default(ctx, column, Row(tenant, why=why), leaf)
        ctx.written.append(column)


# --- where in the text -------------------------------------------------------------------------------


def _after_target(ctx: Inference, relation: Node) -> int:
    """The token behind the table's name and alias."""
    last = ctx.spans.at(relation)
    while ctx.spans.text(last + 1) == b".":
        last += 2
    if "alias" in relation:
        last += 2 if ctx.spans.text(last + 1) == b"as" else 1
    return last + 1


def _keyword(ctx: Inference, start: int, words: tuple[bytes, ...]) -> int:
    """The first of the words in a row, outside every bracket, from `start` on."""
    ordinal = start
    kinds = ctx.draft.tokens.kinds
    while ordinal < len(kinds):
        if ctx.spans.text(ordinal) == b"(":
            ordinal = ctx.spans.partner(ordinal)
        elif kinds[ordinal] == Token.WORD and all(ctx.spans.text(ordinal + i) == w for i, w in enumerate(words)):
            return ordinal
        ordinal += 1
    raise NoSpan


def _arms(query: Node) -> list[Node]:
    """The SELECTs whose rows a query shows one after the other. Of other set operations a column more would be
    compared."""
    if query.get("op", "SETOP_NONE") == "SETOP_NONE":
        return [query]
    if query["op"] != "SETOP_UNION" or not query.get("all"):
        raise NoSpan
    return [*_arms(query["larg"]), *_arms(query["rarg"])]


def _list_end(ctx: Inference, query: Node) -> int:
    """The token behind a SELECT's list of columns."""
    targets = query.get("targetList", [])
    if not targets:
        raise NoSpan
    ordinal = ctx.spans.at(targets[0]["ResTarget"])
    if ctx.spans.text(ordinal) == b"table":
        raise NoSpan
    n_commas = 0
    n_tokens = len(ctx.draft.tokens)
    while ordinal < n_tokens and not _ends_list(ctx, ordinal):
        token = ctx.spans.text(ordinal)
        n_commas += token == b","
        ordinal = ctx.spans.partner(ordinal) + 1 if token in (b"(", b"[") else ordinal + 1
    if n_commas != len(targets) - 1:
        raise NoSpan
    return ordinal


def _ends_list(ctx: Inference, ordinal: int) -> bool:
    token = ctx.spans.text(ordinal)
    return token in (b")", b";") or (
        token in _CLAUSES and ctx.spans.text(ordinal - 1) not in (b"as", b".", b"distinct", b"within")
    )


def _row_ends(ctx: Inference, values: int, n_rows: int) -> list[int]:
    """The closing bracket of each row of VALUES."""
    ends = []
    ordinal = values + 1
    for i in range(n_rows):
        if i and ctx.spans.text(ordinal) == b",":
            ordinal += 1
        if ctx.spans.text(ordinal) != b"(":
            raise NoSpan
        ends.append(ctx.spans.partner(ordinal))
        ordinal = ends[-1] + 1
    return ends


def _extend_list(ctx: Inference, body: Node, start: int, given: list[str], names: list[str]) -> None:
    added = b", ".join(quoted(name) for name in names)
    if "cols" in body:
        end = ctx.spans.partner(start)
        ctx.edits.append(Edit(end, end - 1, (b", " + added,)))
    else:
        whole = b", ".join([*(quoted(name) for name in given), added])
        ctx.edits.append(Edit(start, start - 1, (b" (" + whole + b")",)))
