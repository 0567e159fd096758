"""A plan's edits put into one text, and positions in the result mapped back to the client's text.

Edits replace runs of tokens and nothing else: white space and comments stay as the client wrote them, and
nothing is deparsed. An insertion that closes or goes on (it begins with a space, a comma or a closing bracket)
stands directly behind the token before it, so that a line comment cannot swallow it; any other directly before
its token. Error positions count characters (manual: "Error and Notice Message Fields", P), texts are UTF-8.
One reason to change: how an edit is put into a text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.errors import InternalError
from proxy.sql.plan import Edit, Planned

_WORD_BYTES = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$\"'") | frozenset(
    range(0x80, 0x100)
)
_GOING_ON = frozenset({b" ", b",", b")"})


@dataclass(frozen=True, slots=True)
class _Piece:
    """`server_start` (byte in the result) to where it came from: client bytes as they are, or an edit, all of
    whose bytes stand for the client's byte `client_start`."""

    server_start: int
    client_start: int
    is_copy: bool


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text for the server. `to_client` maps a position in it (characters, from 1) to one in the client's."""

    text: bytes
    source: bytes
    pieces: tuple[_Piece, ...]

    def to_client(self, position: int) -> int:
        """Character position from 1 in the server's text -> in the client's; inside an edit: where it begins."""
        if position < 1 or not self.pieces:
            return position
        prefix = self.text.decode("utf-8", "replace")[: position - 1].encode("utf-8", "replace")
        offset = len(prefix)
        index = max(bisect_right([piece.server_start for piece in self.pieces], offset) - 1, 0)
        piece = self.pieces[index]
        client = piece.client_start + (offset - piece.server_start if piece.is_copy else 0)
        return len(self.source[: min(client, len(self.source))].decode("utf-8", "replace")) + 1


def render(planned: Planned, slot_texts: Sequence[bytes]) -> Rendered:
    """The client's text with all edits of all statements; `slot_texts[n]` is what slot n is written as."""
    edits = sorted((e for s in planned.plan.statements for e in s.edits), key=lambda e: (e.first, e.last))
    if not edits:
        return Rendered(planned.text, planned.text, ())
    out = bytearray()
    pieces: list[_Piece] = []
    position = 0
    for edit in edits:
        start, end = edit_bytes(edit, planned)
        if start < position:
            raise InternalError("edits overlap")
        _copy(out, pieces, planned.text, (position, start))
        pieces.append(_Piece(len(out), start, False))
        _put(out, _joined(edit, slot_texts))
        position = end
    _copy(out, pieces, planned.text, (position, len(planned.text)))
    return Rendered(bytes(out), planned.text, tuple(pieces))


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
    return b"".join(slot_texts[part] if isinstance(part, int) else part for part in edit.parts)


def _put(out: bytearray, added: bytes) -> None:
    """Append, with a space where two words would become one (`SELECT'x'` -> `SELECT $1`)."""
    if added and out and out[-1] in _WORD_BYTES and added[0] in _WORD_BYTES:
        out += b" "
    out += added


def _copy(out: bytearray, pieces: list[_Piece], text: bytes, span: tuple[int, int]) -> None:
    start, end = span
    if start == end:
        return
    if out and out[-1] in _WORD_BYTES and text[start] in _WORD_BYTES:
        out += b" "
    pieces.append(_Piece(len(out), start, True))
    out += text[start:end]
