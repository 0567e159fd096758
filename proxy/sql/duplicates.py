"""DISTINCT and UNION over randomised cells: rows are made distinct by tokens, and one cell of each is shown.

Equal values have equal tokens and never equal cells, so the server is asked for DISTINCT ON (the plain columns by
their ordinals, the token of each sealed one). ORDER BY of a SELECT DISTINCT may name nothing but its columns, and
those that are encrypted cannot be sorted by, so its keys are all among those of DISTINCT ON, which PostgreSQL
asks for too: which rows come, and in which order, is the same. A UNION becomes the UNION ALL of its branches with
such a SELECT around it, since only output columns can be named outside it. NULL is one value to both.
Nothing of this is needed where only tokens are asked for, as in IN (SELECT DISTINCT ..).
One reason to change: how rows are made distinct without comparing cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.errors import PgsealError
from proxy.sql.catalog import SealedColumn
from proxy.sql.naming import quoted
from proxy.sql.plan import Edit
from proxy.sql.scopes import Column, Item, Scope
from proxy.sql.spans import Node, NoSpan, Spans
from proxy.sql.tokens import token_of
from proxy.sql.types import Demand, Leaf, Value, is_deterministic, refused

IN_SUBQUERY: Final = "make the expression a column of a subquery: SELECT DISTINCT c FROM (SELECT .. AS c ..) q"
_BEHIND: Final = frozenset(
    {b"union", b"except", b"order", b"limit", b"offset", b"fetch", b"for", b"returning", b";"}
)
_CLOSE: Final = frozenset({b")", b"]"})
_OPEN: Final = frozenset({b"(", b"["})


Around = tuple[list[Edit], list[Edit]]
"""Edits that stand before others at the same place, and behind them."""


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """An output column as the duplicates see it."""

    name: str
    value: Value

    def by_token(self) -> SealedColumn | None:
        """The column whose token must be compared in place of what is shown; None: it can be compared itself."""
        sealed = self.value.var.find().sealed
        if sealed is None or is_deterministic(sealed):
            return None
        leaves = self.value.leaves
        return None if leaves and all(leaf.demand is Demand.TOKEN for leaf in leaves) else sealed


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """SELECT DISTINCT, with `alone` the places whose rows other columns tell apart."""

    target: Node  # the first item of the SELECT list
    shown: tuple[Shown, ...]
    alone: frozenset[int]

    def edits(self, spans: Spans) -> Around:
        needed = [i for i, item in enumerate(self.shown) if i not in self.alone and item.by_token() is not None]
        if not needed:
            return [], []
        keys = [
            _token(spans, item) if i in needed else str(i + 1).encode()
            for i, item in enumerate(self.shown)
            if i not in self.alone or item.by_token() is None
        ]
        sealed = self.shown[needed[0]].by_token()
        assert sealed is not None
        try:
            at = spans.at(self.target) - 1
        except NoSpan:
            raise _no_text(sealed, "DISTINCT", None) from None
        if spans.text(at) != b"distinct":
            raise _no_text(sealed, "DISTINCT", None)
        return [Edit(at + 1, at, (b" ON (" + b", ".join(keys) + b")",))], []


@dataclass(frozen=True, slots=True, eq=False)
class Union:
    """Two queries whose rows are taken together once each."""

    left: Node
    right: Node
    shown: tuple[Shown, ...]

    def edits(self, spans: Spans) -> Around:
        tokens = [item.by_token() for item in self.shown]
        sealed = next((column for column in tokens if column is not None), None)
        if sealed is None:
            return [], []
        try:
            first, operator, last = _run(spans, self.left, self.right)
        except NoSpan:
            raise _no_text(sealed, "UNION", self.shown[0].value.location) from None
        names = [b'"c%d"' % (i + 1) for i in range(len(self.shown))]
        keys = [
            token_of(column, name) if column is not None else str(i + 1).encode()
            for i, (name, column) in enumerate(zip(names, tokens, strict=True))
        ]
        listed = [name + b" AS " + quoted(item.name) for name, item in zip(names, self.shown, strict=True)]
        head = b"SELECT DISTINCT ON (" + b", ".join(keys) + b") " + b", ".join(listed) + b" FROM ("
        word = operator + 1 if spans.text(operator + 1) == b"distinct" else operator
        tail = b') AS "pgseal"(' + b", ".join(names) + b")"
        return [Edit(first, first - 1, (head,)), Edit(operator, word, (b"UNION ALL",))], [
            Edit(last + 1, last, (tail,))
        ]


def _no_text(column: SealedColumn, word: str, location: int | None) -> PgsealError:
    hint = "leave out AS names that are words of SQL, and write SELECT with named columns"
    return refused(column, f"a {word} whose text could not be told", hint, location)


# --- DISTINCT ----------------------------------------------------------------------------------------


def can_be_named(value: Value) -> bool:
    """True where the column can be written once more: it is a column and nothing else."""
    return value.direct is not None and value.direct.column is not None


def _token(spans: Spans, item: Shown) -> bytes:
    sealed, leaf = item.by_token(), item.value.direct
    assert sealed is not None
    name = _name(spans, leaf) if leaf is not None else None
    if name is None:
        raise refused(sealed, "DISTINCT of an expression", IN_SUBQUERY, item.value.location)
    return token_of(sealed, name)


def _name(spans: Spans, leaf: Leaf) -> bytes | None:
    first, last = leaf.inner
    if first <= last:
        return b"".join(spans.draft.token_text(n) for n in range(first, last + 1))
    if leaf.scope is None or leaf.column is None:
        return None
    if any(leaf.column is column for column in leaf.scope.merged):
        return quoted(leaf.column.name)
    item = _item_of(leaf.scope, leaf.column)
    return quoted(item.name) + b"." + quoted(leaf.column.name) if item is not None and item.name else None


def _item_of(scope: Scope, column: Column) -> Item | None:
    return next((item for item in scope.items if any(column is other for other in item.columns)), None)


# --- UNION -------------------------------------------------------------------------------------------


def _run(spans: Spans, left: Node, right: Node) -> tuple[int, int, int]:
    """The first token of the left query, the word UNION, and the last token of the right query."""
    operator = _start(spans, right, is_right=True) - 1
    while spans.text(operator) == b"(":
        operator -= 1
    if spans.text(operator) == b"distinct":
        operator -= 1
    if spans.text(operator) != b"union":
        raise NoSpan
    first = _start(spans, left, is_right=False)
    while spans.text(first - 1) == b"(" and spans.partner(first - 1) < operator:
        first -= 1
    return first, operator, _end(spans, operator + 1)


def _start(spans: Spans, body: Node, is_right: bool) -> int:
    """The word with which the first of a query's branches begins."""
    while body.get("op", "SETOP_NONE") != "SETOP_NONE":
        if "withClause" in body:
            raise NoSpan
        body = body["larg"]
    if "withClause" in body:
        raise NoSpan
    word, at = _inside(spans, body)
    at -= 1
    while spans.text(at) != word:
        if spans.text(at) in _CLOSE:
            at = spans.partner(at)
        if at <= 0 or spans.text(at) == b";":
            raise NoSpan
        at -= 1
    return at


def _inside(spans: Spans, body: Node) -> tuple[bytes, int]:
    """The word a branch begins with, and a token of its first item."""
    if "valuesLists" in body:
        items = body["valuesLists"][0]["List"].get("items", [])
        locations = [node.get("location", 0) for node in items[0].values()] if items else []
        if not locations or locations[0] < 0:
            raise NoSpan
        return b"values", spans.draft.token_at(locations[0])
    target = body["targetList"][0]["ResTarget"] if body.get("targetList") else None
    if target is None:
        raise NoSpan
    if target.get("location", 0) >= 0:
        return b"select", spans.at(target)
    return b"table", spans.at(body["fromClause"][0]["RangeVar"])


def _end(spans: Spans, at: int) -> int:
    """The last token of the query that begins at `at`."""
    while True:
        token = spans.text(at)
        if token in _OPEN:
            at = spans.partner(at) + 1
            continue
        is_label = spans.text(at - 1) in (b"as", b".")
        is_conflict = token == b"on" and spans.text(at + 1) == b"conflict"
        if not token or token in _CLOSE or ((token in _BEHIND or is_conflict) and not is_label):
            return at - 1
        at += 1
