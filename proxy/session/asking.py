"""Questions to the server that a statement needs answered before its values can be sealed.

They are asked with extended query messages and no Sync, directly before the message that waits: so both are of
one transaction, also outside a block, and now() is what it would have been. What the server refuses fails the
transaction as the statement itself would have. Manual: "Extended Query".
One reason to change: how such a question is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy.session.state import Action, Asked, Entry
from proxy.sql.plan import Question
from proxy.values.constants import Cast, Const, Expr
from proxy.wire import frontend as f
from proxy.wire.framing import LENGTH, frame, split_row

NAME: Final = b"__pgseal_ask"
_CLOSE_PORTAL: Final = frame(b"C", b"P" + NAME + b"\0")


@dataclass(slots=True, eq=False)
class Asking:
    """The questions of the message at hand; `answers` is None until the server has given them."""

    questions: Sequence[Question]
    entries: tuple[Entry, ...] = ()
    answers: tuple[Expr, ...] | None = None
    is_failed: bool = False

    def owns(self, entry: Entry) -> bool:
        return any(entry is mine for mine in self.entries)

    def take(self, buffer: bytes, position: int) -> int:
        """Takes the one DataRow at `position`; the offset behind it."""
        end: int = position + 1 + LENGTH.unpack_from(buffer, position + 1)[0]
        values = split_row(buffer[position + 5 : end])
        self.answers = tuple(
            Cast(Const(value), question.type) for value, question in zip(values, self.questions, strict=True)
        )
        return end

    def messages(self, encoded: Sequence[bytes]) -> list[tuple[bytes, Entry]]:
        """What to send: the expressions in the client's encoding, as the columns of one SELECT."""
        text = b"SELECT " + b", ".join(encoded)
        made = [
            (f.build_close_statement(NAME), Asked.CLOSE),
            (f.build_parse(f.Parse(NAME, text, ())), Asked.PARSE),
            (f.build_bind(f.Bind(NAME, NAME, (), (), ())), Asked.BIND),
            (f.build_execute(NAME), Asked.EXECUTE),
            (_CLOSE_PORTAL, Asked.CLOSE),
            (f.build_close_statement(NAME), Asked.CLOSE),
        ]
        entries = [(message, Entry(asked, Action.SKIP)) for message, asked in made]
        self.entries = tuple(entry for _, entry in entries)
        return entries
