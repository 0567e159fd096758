"""A plan's edits put into one text, and positions in the result mapped back to the client's text.

Edits replace runs of tokens and nothing else: white space and comments stay as the client wrote them, and
nothing is deparsed. An insertion that closes or goes on (it begins with a space, a comma or a closing bracket)
stands directly behind the token before it, so that a line comment cannot swallow it; any other directly before
its token. Error positions count characters (manual: "Error and Notice Message Fields", P), texts are UTF-8.
One reason to change: how an edit is put into a text.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from proxy.errors import InternalError
from proxy.sql.plan import Edit, Planned

EDITS_A_STEP: Final = 2000
_WORD_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$\"'") | frozenset(
    range(0x80, 0x100)
)
_GOING_ON = frozenset({b" ", b",", b")"})


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text for the server, and what it was made of: from these `to_client` maps a position in it
    (characters, from 1) to one in the client's text."""

    text: bytes = field(repr=False)
    planned: Planned
    slot_texts: Sequence[bytes] = field(repr=False)

    def to_client(self, position: int) -> int:
        """Character position from 1 in the server's text -> in the client's; inside an edit: where it begins."""
        if position < 1 or self.text is self.planned.text:
            return position
        prefix = self.text.decode("utf-8", "replace")[: position - 1].encode("utf-8", "replace")
        behind, client = len(prefix), 0
        reached = 0
        for start, is_copy, part in _pieces(self.planned, self.slot_texts):
            if reached > behind:
                break
            client = start + (behind - reached if is_copy else 0)
            reached += len(part)
        source = self.planned.text
        return len(source[: min(client, len(source))].decode("utf-8", "replace")) + 1


def render(planned: Planned, slot_texts: Sequence[bytes]) -> Rendered:
    """The client's text with all edits of all statements; `slot_texts[n]` is what slot n is written as."""
    steps = rendering(planned, slot_texts)
    try:
        while True:
            next(steps)
    except StopIteration as done:
        made: Rendered = done.value
        return made


def rendering(planned: Planned, slot_texts: Sequence[bytes]) -> Generator[tuple[()], None, Rendered]:
    """The same, with a pause after each share of the edits."""
    parts: list[bytes] = []
    n_left = 2 * EDITS_A_STEP
    for _, _, part in _pieces(planned, slot_texts):
        parts.append(part)
        n_left -= 1
        if n_left == 0:
            n_left = 2 * EDITS_A_STEP
            yield ()
    text = parts[0] if len(parts) == 1 else b"".join(parts)
    return Rendered(text, planned, slot_texts)


def _pieces(planned: Planned, slot_texts: Sequence[bytes]) -> Iterator[tuple[int, bool, bytes]]:
    """Runs of the client's text (True) and edits (False), with the client's byte where each begins. A space
    stands where two words would become one (`SELECT'x'` -> `SELECT $1`)."""
    text = planned.text
    position, last = 0, b""
    for edit in chain.from_iterable(statement.edits for statement in planned.plan.statements):
        start, end = edit_bytes(edit, planned)
        if start < position:
            raise InternalError("edits overlap")
        if start > position:
            kept = text[position:start]
            if _joins(last, kept):
                yield position, False, b" "
            yield position, True, kept
            last = kept
        added = _joined(edit, slot_texts)
        if added:
            if _joins(last, added):
                added = b" " + added
            yield start, False, added
            last = added
        position = end
    if position < len(text) or not last:
        kept = text[position:]
        if _joins(last, kept):
            yield position, False, b" "
        yield position, True, kept


def _joins(left: bytes, right: bytes) -> bool:
    return bool(left and right) and left[-1] in _WORD_BYTES and right[0] in _WORD_BYTES


def edit_bytes(edit: Edit, planned: Planned) -> tuple[int, int]:
    """The bytes of the client's text that an edit replaces (start, end exclusive)."""
    tokens = planned.tokens
    if edit.last >= edit.first:
        return tokens[edit.first][0], tokens[edit.last][1]
    part = edit.parts[0] if edit.parts else b""
    goes_on = isinstance(part, bytes) and part[:1] in _GOING_ON
    if edit.first == len(tokens) or (goes_on and edit.first > 0):
        return (tokens[edit.first - 1][1],) * 2
    return (tokens[edit.first][0],) * 2


def _joined(edit: Edit, slot_texts: Sequence[bytes]) -> bytes:
    parts = edit.parts
    if len(parts) == 1:
        part = parts[0]
        return slot_texts[part] if isinstance(part, int) else part
    return b"".join(slot_texts[part] if isinstance(part, int) else part for part in parts)
