"""The one mutable thing of planning: what is gathered while one text is planned.

`planner.py` makes it, inference adds slots to it and asks it for constants and tokens, and the finished plan
is frozen from it. Locations are byte offsets in the text, as libpg_query's JSON tree gives them.
One reason to change: what planning one text has to gather.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import ProgramLimitExceeded, Unsupported
from proxy.sql.lexer import LITERALS, Kind, Tokens
from proxy.sql.plan import Env, Question, Slot
from proxy.values.constants import Call, Expr, Lifted

MAX_CELLS: Final = 65535  # of one text; as many as a statement may have parameters


@dataclass(slots=True)
class Draft:
    """`lifted` maps a token's ordinal to the number of its constant; a literal that could not be lifted is
    absent. `pinned` are the lifted constants whose value the plan depends on."""

    text: bytes
    tokens: Tokens
    env: Env
    is_extended: bool
    param_oids: tuple[int, ...]
    lifted: Mapping[int, int]
    slots: list[Slot] = field(default_factory=list)
    pinned: set[int] = field(default_factory=set)
    questions: list[Question] = field(default_factory=list)
    _literals: list[int] = field(default_factory=list)
    partners: dict[int, int] | None = None  # of each bracket the other, once one was asked for
    plain_params: set[int] = field(default_factory=set)  # 0-based; written in the text outside every edit
    is_single: bool = False  # a value of the text itself is part of the plan, which serves no other text
    written: list[tuple[int, int]] | None = None  # ordinal and 0-based number of each parameter of the text
    span: tuple[int, int] | None = None  # the tokens whose parameters count (end exclusive); None: all

    def parameters(self) -> Iterator[tuple[int, int]]:
        """The ordinal and the 0-based number of each parameter written in the statement."""
        if self.written is None:
            kinds = self.tokens.kinds
            found = [ordinal for ordinal in range(len(kinds)) if kinds[ordinal] == Kind.PARAM]
            self.written = [(ordinal, int(self.token_text(ordinal)[1:]) - 1) for ordinal in found]
        first, end = self.span or (0, len(self.tokens))
        return (one for one in self.written if first <= one[0] < end)

    def constant(self, location: int) -> Expr | None:
        """The lifted constant written at `location`, under its sign. None: not a lifted literal."""
        ordinal, is_negative = self.numeral(location)
        number = self.lifted.get(ordinal)
        if number is None:
            return None
        return Call("-", (Lifted(number),)) if is_negative else Lifted(number)

    def numeral(self, location: int) -> tuple[int, bool]:
        """The token of the literal written at `location`, and whether signs before it make it negative. The
        parser folds minus signs into a number, also over brackets (`- ( -5 )` is the number 5 at the first
        sign), while the lifted constant has none."""
        ordinal = self.token_at(location)
        is_negative = False
        if self.token_text(ordinal) == b"-":
            while (token := self.token_text(ordinal)) in (b"-", b"(") and ordinal + 1 < len(self.tokens):
                is_negative ^= token == b"-"
                ordinal += 1
        return ordinal, is_negative

    def pin(self, location: int) -> None:
        """The plan depends on the value of the literal at `location`: a text with another one is planned anew."""
        ordinal = self.numeral(location)[0]
        if ordinal in self.lifted:
            self.pinned.add(self.lifted[ordinal])
        elif self.tokens.kinds[ordinal] in LITERALS:
            self.is_single = True

    def literal(self, number: int) -> int:
        """The ordinal of the token that is lifted constant `number`: constants are numbered in the order of
        their tokens."""
        if not self._literals:
            self._literals.extend(self.lifted)
        return self._literals[number]

    def token_at(self, location: int) -> int:
        """The ordinal of the token that starts at (or covers) `location`."""
        return self.tokens.at(location)

    def token_text(self, ordinal: int) -> bytes:
        return self.text[self.tokens.starts[ordinal] : self.tokens.ends[ordinal]]

    def add_question(self, question: Question) -> int:
        """The number of its answer, which stands behind the lifted constants. A statement within another is not
        asked for: it may run later, or more than once."""
        if self.span is not None:
            raise Unsupported(
                "a value that only the server can give an encrypted column, within another statement",
                hint="Send the statement itself, or give the value as a literal or parameter.",
            )
        self.questions.append(question)
        return len(self.lifted) + len(self.questions) - 1

    def add_slot(self, slot: Slot) -> int:
        """The number of the slot, counted over the whole text. 54000 where it would be one too many."""
        if len(self.slots) == MAX_CELLS:
            raise ProgramLimitExceeded(
                f"a statement gives or compares more than {MAX_CELLS} values of encrypted columns",
                hint="send fewer rows in one statement",
            )
        self.slots.append(slot)
        return len(self.slots) - 1
