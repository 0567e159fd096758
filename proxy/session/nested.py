"""Rows in which cells stand within values: in arrays, and at places of JSON documents.

The plan says where (`sql/nested.py`); each place is gone to and what stands there is opened, whatever it looks
like. A document is walked once, as text: what lies between the places is copied, so that it stays as the server
wrote it. A value with another shape than the plan's is never shown.

A row may hold any number of cells, so that opening one is a generator that asks for each cell: it can be left for
a turn of others, or for a key, and gone on with in the next step. The row is kept to be sure that it is the same.
One reason to change: how a value with cells in it is read.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from json import loads
from json.encoder import encode_basestring
from struct import Struct
from struct import error as StructError
from typing import Final, assert_never

from cryptography.exceptions import InvalidTag

from proxy.crypto.envelope import not_open
from proxy.errors import ProgramLimitExceeded, ProtocolViolation, SchemaMismatch
from proxy.session.cells import (
    BYTES_A_STEP,
    DATA_ROW,
    OTHER_COLUMNS,
    ROWS_A_STEP,
    TOO_SHORT,
    Missing,
    OpenColumn,
    Opened,
    RowOpener,
)
from proxy.values.arrays import build_head, build_items, each_in_binary, each_in_text
from proxy.values.base import Settings
from proxy.values.encodings import from_utf8, to_utf8
from proxy.values.patterns import re
from proxy.wire.framing import NULL_SIZE

CELLS_A_STEP: Final = 2000
MAX_DOCUMENT: Final = 64 * 1024 * 1024  # bytes of a value with cells in it
PAUSE_AFTER: Final = 1024 * 1024  # bytes of a document looked at in one go
JSONB_VERSION: Final = b"\x01"
SPACES: Final = re.compile(rb"[ \t\n\r]*+")
STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
SCALAR: Final = re.compile(rb"[^\[\]{},:\" \t\n\r]++")
TO_BRACKET: Final = re.compile(rb'[^\[\]{}"]*+')
ESCAPED: Final = re.compile(rb'[\\"]')
NEEDS_QUOTES: Final = re.compile(rb'[{}\\", \t\n\v\f\r]|\A\Z|\A[nN][uU][lL][lL]\Z')
_SIZE: Final = Struct(">i")
_HEAD: Final = Struct(">BIH")

Ask = tuple[int, bytes] | None
"""A cell to open (the number of its column, as on the wire), or None: a pause."""
Walk = Generator[Ask, bytes | None, bytes | None]
"""What a value is shown as; None: NULL."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A place of a document, in the columns' numbers; the others likewise."""

    number: int


@dataclass(frozen=True, slots=True)
class Many:
    """All values of a list (or of an object, with `is_object`)."""

    each: Place
    is_object: bool


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[Place | None, ...]


@dataclass(frozen=True, slots=True)
class Members:
    """By the names as the server writes them, with their quotes."""

    members: Mapping[bytes, Place | None]


Place = Cell | Many | Items | Members


def member_name(name: str) -> bytes:
    """A name as the server writes it in a document."""
    return encode_basestring(name).encode("utf-8")


# --- columns of a result -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Single:
    """A cell that is the whole value."""

    number: int

    def opened(self, raw: bytes) -> Walk:
        return (yield self.number, raw)


@dataclass(frozen=True, slots=True)
class Array:
    """An array of cells, shown as one with elements of this OID."""

    number: int
    element_oid: int
    is_binary: bool
    settings: Settings

    def opened(self, raw: bytes) -> Walk:
        if len(raw) > MAX_DOCUMENT:
            raise _too_large()
        items = each_in_binary(raw)[2] if self.is_binary else each_in_text(raw, self.settings)
        shown: list[bytes | None] = []
        for item in items:
            shown.append(None if item is None else (yield self.number, item))
        if self.is_binary:
            return build_head(shown, self.element_oid) + build_items(shown)
        return from_utf8(b"{" + b",".join(map(_element, shown)) + b"}", self.settings)


def _element(element: bytes | None) -> bytes:
    """An element as the server writes it in an array."""
    if element is None:
        return b"NULL"
    if NEEDS_QUOTES.search(element) is None:
        return element
    return b'"' + ESCAPED.sub(rb"\\\g<0>", element) + b'"'


@dataclass(frozen=True, slots=True)
class Json:
    """A document with cells. `has_version`: jsonb in binary form."""

    root: Place
    label: str
    has_version: bool
    settings: Settings

    def opened(self, raw: bytes) -> Walk:
        if len(raw) > MAX_DOCUMENT:
            raise _too_large()
        head = JSONB_VERSION if self.has_version else b""
        if not raw.startswith(head):
            raise ValueError
        walker = _Walker(to_utf8(raw[len(head) :], self.settings), self.label)
        at = yield from walker.value(walker.skip(0), self.root)
        if walker.skip(at) != len(walker.text):
            raise walker.other()
        walker.parts.append(walker.text[walker.copied :])
        return head + from_utf8(b"".join(walker.parts), self.settings)


ResultValue = Single | Array | Json


def _too_large() -> ProgramLimitExceeded:
    return ProgramLimitExceeded(
        f"a value with encrypted cells in it has more than {MAX_DOCUMENT // 1048576} MB",
        hint="Select fewer rows into one value, or the columns themselves.",
    )


# --- documents ---------------------------------------------------------------------------------------


class _Walker:
    """One document: `parts` is what was shown of it up to `copied`."""

    __slots__ = ("copied", "label", "parts", "paused", "text")

    def __init__(self, text: bytes, label: str) -> None:
        self.text = text
        self.label = label
        self.parts: list[bytes] = []
        self.copied = 0
        self.paused = 0

    def other(self) -> SchemaMismatch:
        return SchemaMismatch("a document of the result has another shape than the plan", column=self.label)

    def skip(self, at: int) -> int:
        return self._end(SPACES, at)

    def _end(self, pattern: re.Pattern[bytes], at: int) -> int:
        match = pattern.match(self.text, at)
        if match is None:
            raise self.other()
        return match.end()

    def value(self, at: int, place: Place | None) -> Generator[Ask, bytes | None, int]:
        """The value that begins at `at`: the offset behind it."""
        if self.text.startswith(b"null", at):
            return at + 4
        match place:
            case None:
                return (yield from self._plain(at))
            case Cell(number):
                return (yield from self._cell(at, number))
            case Many() | Items() | Members():
                return (yield from self._container(at, place))
            case _:
                assert_never(place)

    def _cell(self, at: int, number: int) -> Generator[Ask, bytes | None, int]:
        end = self._end(STRING, at)
        shown = yield number, loads(self.text[at:end]).encode("ascii")
        self.parts += (self.text[self.copied : at], b"null" if shown is None else shown)
        self.copied = end
        return end

    def _container(self, at: int, place: Many | Items | Members) -> Generator[Ask, bytes | None, int]:
        opening = self.text[at : at + 1]
        behind = self.skip(at + 1)
        if self.text[at : at + 1] + self.text[behind : behind + 1] in (b"[]", b"{}"):
            return behind + 1  # an empty one holds no cell, whichever it is
        is_object = isinstance(place, Members) or (isinstance(place, Many) and place.is_object)
        if opening != (b"{" if is_object else b"["):
            raise self.other()
        closing, at, n, seen = (b"}" if is_object else b"]"), behind, 0, set[bytes]()
        while True:
            name = b""
            if is_object:
                end = self._end(STRING, at)
                name, at = self.text[at:end], self.skip(end)
                if self.text[at : at + 1] != b":":
                    raise self.other()
                at = self.skip(at + 1)
            at = yield from self.value(at, self._inner(place, n, name, seen))
            at, n = self.skip(at), n + 1
            sign = self.text[at : at + 1]
            if sign == closing:
                self._check_whole(place, n)
                return at + 1
            if sign != b",":
                raise self.other()
            at = self.skip(at + 1)

    def _inner(self, place: Many | Items | Members, n: int, name: bytes, seen: set[bytes]) -> Place | None:
        match place:
            case Many(each):
                return each
            case Items(items):
                if n >= len(items):
                    raise self.other()
                return items[n]
            case Members(members):
                if name not in members or name in seen:
                    raise self.other()
                seen.add(name)
                return members[name]
            case _:
                assert_never(place)

    def _check_whole(self, place: Many | Items | Members, n: int) -> None:
        wanted = len(place.items) if isinstance(place, Items) else n
        if n != (len(place.members) if isinstance(place, Members) else wanted):
            raise self.other()

    def _plain(self, at: int) -> Generator[Ask, bytes | None, int]:
        """A value without cells: the offset behind it."""
        sign = self.text[at : at + 1]
        if sign == b'"':
            return self._end(STRING, at)
        if sign not in (b"[", b"{"):
            return self._end(SCALAR, at)
        depth = 0
        while True:
            at = self._end(TO_BRACKET, at)
            sign = self.text[at : at + 1]
            if sign == b'"':
                at = self._end(STRING, at)
            elif sign in (b"[", b"{"):
                depth, at = depth + 1, at + 1
            elif sign:
                depth, at = depth - 1, at + 1
                if depth == 0:
                    return at
            else:
                raise self.other()
            if at - self.paused > PAUSE_AFTER:
                self.paused = at
                yield None


# --- rows --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Row:
    """A row under way: its bytes, what opens it, and what that has asked for and was not given."""

    raw: bytes
    walk: Walk
    answer: bytes | None = None
    asked: Ask = None
    is_begun: bool = False


class NestedOpener:
    """Opens rows of a result, some of whose values hold cells. `values` are by place."""

    def __init__(self, values: Mapping[int, ResultValue], cells: RowOpener, n_columns: int) -> None:
        self.columns: Sequence[OpenColumn] = cells.columns
        self.partial = Opened([], 0)
        self._values = values
        self._cells = cells
        self._n_columns = n_columns
        self._row: _Row | None = None

    def one(self, buffer: bytes, position: int) -> None:
        """There is no short way."""

    def rows(self, buffer: bytes, position: int) -> Opened:
        """As `RowOpener.rows`; a step may end within a row, which is begun and stays in the buffer then."""
        done = self.partial = Opened([], position)
        limit, n_cells = position + BYTES_A_STEP, CELLS_A_STEP
        row = self._row
        try:
            while (raw := _whole_row(buffer, done.position)) is not None:
                row = self._row
                if row is None or row.raw != raw:
                    row = self._row = _Row(raw, self._opened(raw))
                n_cells, shown = self._work(row, n_cells)
                if shown is None:
                    done.has_more = True
                    return done
                self._row = None
                done.parts.append(shown)
                done.position += len(raw)
                done.n_rows += 1
                if done.position > limit or done.n_rows >= ROWS_A_STEP:
                    done.has_more = True
                    return done
        except Missing:
            raise
        except (InvalidTag, StructError, ValueError, IndexError):
            self._row = None
            raise not_open(self.columns[0].label) from None
        except BaseException:
            self._row = None
            raise
        return done

    def _work(self, row: _Row, n_cells: int) -> tuple[int, bytes | None]:
        """Go on with a row: what is left of the cells of this step, and the row once it is done."""
        while n_cells > 0:
            try:
                if row.asked is None:
                    row.asked = row.walk.send(row.answer) if row.is_begun else next(row.walk)
                    row.is_begun, row.answer = True, None
                    if row.asked is None:
                        return 0, None
            except StopIteration as stop:
                return n_cells, stop.value
            number, raw = row.asked
            row.answer = self._cells.cell(self.columns[number], raw, row.raw, 0)
            row.asked = None
            n_cells -= 1
        return 0, None

    def _opened(self, row: bytes) -> Walk:
        """The row as the client sees it."""
        if _HEAD.unpack_from(row)[2] != self._n_columns:
            raise ProtocolViolation(OTHER_COLUMNS)
        at, copied, parts = _HEAD.size, _HEAD.size, list[bytes]()
        for place in range(self._n_columns):
            (size,) = _SIZE.unpack_from(row, at)
            end = at + 4 + max(size, 0)
            if end > len(row):
                raise ProtocolViolation(TOO_SHORT)
            value = self._values.get(place)
            if value is not None and size >= 0:
                shown = yield from value.opened(row[at + 4 : end])
                parts.append(row[copied:at])
                parts += (NULL_SIZE,) if shown is None else (_SIZE.pack(len(shown)), shown)
                copied = end
            at = end
        body = b"".join((*parts, row[copied:]))
        return _HEAD.pack(DATA_ROW, len(body) + 6, self._n_columns) + body


def _whole_row(buffer: bytes, start: int) -> bytes | None:
    """The row at `start`; None where there is none, or not all of it."""
    if len(buffer) - start < 5 or buffer[start] != DATA_ROW:
        return None
    (length,) = _SIZE.unpack_from(buffer, start + 1)
    if length < 6:
        raise ProtocolViolation(TOO_SHORT)
    end = start + 1 + length
    return buffer[start:end] if end <= len(buffer) else None
