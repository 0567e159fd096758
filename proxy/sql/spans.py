"""Where the text of a construct begins and ends, in ordinals of tokens.

libpg_query gives most nodes one location and no end, so the end follows from the construct:

Construct                Location stands at       Runs to
-------------------------------------------------------------------------------------------
constant                 it, or the first of its  it (and UESCAPE '.' after U&'..'), over the
                         minus signs              brackets behind the first sign
parameter                it                       it
name                     its first part           its last part, over the dots
(name).field             the name                 from the bracket before it to the field
x::type                  the ::                   from x, over its brackets, to the type's end
CAST(x AS type)          CAST                     the bracket that closes it
type 'x'                 -1 (the type has one)    the string, and an interval's fields
f(..), COALESCE, NULLIF  f's first part           the bracket that closes it
CASE .. END              CASE                     its END
(SELECT ..)              the bracket              the bracket that closes it
x COLLATE name           COLLATE                  from x, over its brackets, to the name's last part
ARRAY[..], [..]          ARRAY or [               the bracket that closes it
x op y                   op                       from x over its brackets to y over its brackets
op y                     op                       y, over its brackets

Nothing here looks at a value. One reason to change: the grammar of the constructs that edits replace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from proxy.sql.draft import Draft
from proxy.sql.lexer import Kind

Node = dict[str, Any]
Span = tuple[int, int]

_OPEN: Final = frozenset({b"(", b"["})
_CLOSE: Final = frozenset({b")", b"]"})
_INTERVAL_FIELDS: Final = frozenset({b"year", b"month", b"day", b"hour", b"minute", b"second", b"to"})
_TYPE_WORDS: Final = {  # words that go on a type's name
    b"double": frozenset({b"precision"}),
    b"character": frozenset({b"varying"}),
    b"char": frozenset({b"varying"}),
    b"nchar": frozenset({b"varying"}),
    b"bit": frozenset({b"varying"}),
    b"national": frozenset({b"character", b"char", b"varying"}),
}


class NoSpan(Exception):
    """The construct's text could not be delimited; the caller refuses it."""


@dataclass(slots=True)
class Spans:
    """Spans of one text's nodes. Brackets are matched once for all statements of the text."""

    draft: Draft

    def text(self, ordinal: int) -> bytes:
        """The token in lower case, empty beyond either end of the text."""
        if 0 <= ordinal < len(self.draft.tokens):
            return self.draft.token_text(ordinal).lower()
        return b""

    def partner(self, ordinal: int) -> int:
        """The bracket that closes or opens the one at `ordinal`."""
        if self.draft.partners is None:
            self.draft.partners = self._matched()
        try:
            return self.draft.partners[ordinal]
        except KeyError:
            raise NoSpan from None

    def _matched(self) -> dict[int, int]:
        stack: list[int] = []
        partners: dict[int, int] = {}
        tokens = self.draft.tokens
        for ordinal in range(len(tokens)):
            if tokens.kinds[ordinal] != Kind.SELF:
                continue
            token = self.draft.token_text(ordinal)
            if token in _OPEN:
                stack.append(ordinal)
            elif token in _CLOSE and stack:
                opened = stack.pop()
                partners[opened] = ordinal
                partners[ordinal] = opened
        return partners

    def at(self, body: Node, field_name: str = "location") -> int:
        location = int(body.get(field_name, 0))
        if location < 0:
            raise NoSpan
        return self.draft.token_at(location)

    def of(self, node: Node) -> Span:
        """The first and the last token of a node; NoSpan where the table above does not have it."""
        kind, body = next(iter(node.items()))
        match kind:
            case "A_Const":
                return self._constant(body)
            case "ParamRef":
                ordinal = self.at(body)
                return ordinal, ordinal
            case "ColumnRef":
                return self._name(self.at(body))
            case "A_Indirection":
                return self._field(body)
            case "TypeCast":
                return self._cast(body)
            case "A_Expr" if body.get("kind") == "AEXPR_NULLIF":
                first = self.at(body)
                return first, self.partner(first + 1)
            case "FuncCall" | "CoalesceExpr":
                first = self.at(body)
                return first, self.partner(self._name(first)[1] + 1)
            case "A_ArrayExpr":
                first = self.at(body)
                opened = first + 1 if self.text(first) == b"array" else first
                return first, self.partner(opened)
            case "A_Expr":
                return self._operation(body)
            case "CaseExpr":
                first = self.at(body)
                return first, self._case_end(first)
            case "SubLink" if self.text(self.at(body)) == b"(":
                first = self.at(body)
                return first, self.partner(first)
            case "CollateClause":
                operator = self.at(body)
                return self.before(operator, body["arg"]), self._name(operator + 1)[1]
            case _:
                raise NoSpan

    def _case_end(self, at: int) -> int:
        depth = 0
        while True:
            token = self.text(at)
            if token == b"case":
                depth += 1
            elif token == b"end":
                depth -= 1
            elif not token or token in _CLOSE:
                raise NoSpan
            if depth == 0:
                return at
            at = self.partner(at) + 1 if token in _OPEN else at + 1

    def _constant(self, body: Node) -> Span:
        first = last = self.at(body)
        if self.text(first) == b"-":
            last = self.draft.numeral(body["location"])[0]
            opened = next((n for n in range(first + 1, last) if self.text(n) == b"("), None)
            if opened is not None:
                last = self.partner(opened)
        if self.text(last + 1) == b"uescape":
            last += 2
        return first, last

    def _name(self, first: int) -> Span:
        last = first
        while self.text(last + 1) == b".":
            last += 2
        if self.text(last + 1) == b"uescape":
            raise NoSpan
        return first, last

    def _field(self, body: Node) -> Span:
        _, last = self.of(body["arg"])
        while self.text(last + 1) == b")":
            last += 1
        first = self.partner(last)
        return first, last + 2 * len(body["indirection"])

    def _cast(self, body: Node) -> Span:
        if body.get("location", 0) < 0:
            return self._prefix_cast(body)
        ordinal = self.at(body)
        if self.text(ordinal) == b"cast":
            return ordinal, self.partner(ordinal + 1)
        if self.text(ordinal) != b"::":
            raise NoSpan
        return self.before(ordinal, body["arg"]), self.type_end(ordinal + 1)

    def cast_end(self, body: Node) -> int:
        """The last token of a cast with a place of its own, whatever it is around."""
        ordinal = self.at(body)
        return self.partner(ordinal + 1) if self.text(ordinal) == b"cast" else self.type_end(ordinal + 1)

    def _prefix_cast(self, body: Node) -> Span:
        first = self.at(body["typeName"])
        last = self.of(body["arg"])[1]
        if self.text(first) == b"interval":
            while self.text(last + 1) in _INTERVAL_FIELDS:
                last += 1
            if self.text(last) == b"second" and self.text(last + 1) == b"(":
                last = self.partner(last + 1)
        return first, last

    def before(self, operator: int, left: Node) -> int:
        """The first token of what stands before an operator, with the brackets around it."""
        first = self.of(left)[0]
        if self.text(operator - 1) in _CLOSE:
            first = min(first, self.partner(operator - 1))
        return first

    def after(self, operator: int, right: Node) -> int:
        """The last token of what stands after an operator, with the brackets around it."""
        last = self.of(right)[1]
        if self.text(operator + 1) in _OPEN:
            last = max(last, self.partner(operator + 1))
        return last

    def _operation(self, body: Node) -> Span:
        operator = self.at(body)
        if "rexpr" not in body or self.text(operator) == b"operator":
            raise NoSpan
        left = body.get("lexpr")
        first = self.before(operator, left) if left is not None else operator
        return first, self.after(operator, body["rexpr"])

    def type_end(self, first: int) -> int:
        """The last token of the type whose name begins at `first`."""
        last = first + 1 if self.text(first) == b"setof" else first
        last = self._type_words(last)
        if self.text(last + 1) == b"(":
            last = self.partner(last + 1)
        if self.text(last + 1) in (b"with", b"without") and self.text(last + 2) == b"time":
            last += 3
        while True:
            if self.text(last + 1) == b"[":
                last = self.partner(last + 1)
            elif self.text(last + 1) == b"array":
                last += 1
            else:
                return last

    def _type_words(self, last: int) -> int:
        word = self.text(last)
        if word == b"interval":
            while self.text(last + 1) in _INTERVAL_FIELDS:
                last += 1
            return last
        followers = _TYPE_WORDS.get(word)
        if followers is not None:
            while self.text(last + 1) in followers:
                last += 1
            return last
        last = self._name(last)[1]
        if self.text(last + 1) == b"%":
            last += 2
        return last
