"""The one mutable thing of planning: what is gathered while one text is planned.

`planner.py` makes it, inference adds slots to it and asks it for constants and tokens, and the finished plan
is frozen from it. Locations are byte offsets in the text, as libpg_query's JSON tree gives them.
One reason to change: what planning one text has to gather.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.sql.lexer import Tokens
from proxy.sql.plan import Env, Slot
from proxy.values.constants import Lifted


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
    _literals: list[int] = field(default_factory=list)
    plain_params: set[int] = field(default_factory=set)  # 0-based; written in the text outside every edit

    def constant(self, location: int) -> Lifted | None:
        """The lifted constant written at `location`. None: not a lifted literal (also at a minus sign that the
        parser has folded into a number, see `is_negated`)."""
        number = self.lifted.get(self.token_at(location))
        return None if number is None else Lifted(number)

    def is_negated(self, location: int) -> bool:
        """True where `location` is a minus sign: the tree's number is negative, the lifted constant is at the
        next token and has no sign."""
        return self.token_text(self.token_at(location)) == b"-"

    def pin(self, location: int) -> None:
        """The plan depends on the value of the literal at `location`: a text with another one is planned anew."""
        ordinal = self.token_at(location)
        if ordinal not in self.lifted and self.is_negated(location):
            ordinal += 1
        if ordinal in self.lifted:
            self.pinned.add(self.lifted[ordinal])

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

    def add_slot(self, slot: Slot) -> int:
        """The number of the slot, counted over the whole text."""
        self.slots.append(slot)
        return len(self.slots) - 1
