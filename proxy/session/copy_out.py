"""Rows of a COPY over protected columns on their way to the client: their cells opened as those of a SELECT are.

The data of a few messages are cut into rows, whose cells go to a `RowOpener` as rows of the protocol (a row in
binary is one already; of a line it gets the fields it looks at). What it gives back is written in the format of
the COPY, and each message leaves as one. Nothing but the row that a message cuts off is kept between two steps.

One reason to change: how a row that is copied out is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol

from proxy.errors import PgsealError, ProtocolViolation
from proxy.session.cells import BYTES_A_STEP, OTHER_COLUMNS, Missing, OpenColumn, Opened, RowOpener
from proxy.session.copying import fields_of
from proxy.values.copy_binary import Part, Tuples, build_row, split_row
from proxy.values.copy_csv import CsvFields
from proxy.values.copy_format import Format, Header
from proxy.values.copy_lines import Lines
from proxy.values.fast import shower
from proxy.values.registry import codec
from proxy.wire.backend import COPY_DATA
from proxy.wire.framing import LENGTH, frame

if TYPE_CHECKING:
    from proxy.keys.material import KeyView
    from proxy.session.statements import ReadGrant
    from proxy.sql.copy_plan import CopyPlan
    from proxy.values.base import Settings

ROWS_A_BATCH: Final = 1000
_ROW_HEAD: Final = Struct(">BI")
Pieces = list[bytes | list[bytes] | None]  # of a message: bytes that pass, a line's raw fields, a binary row


class _Cutter(Protocol):
    """One format: `pieces` are what a message holds, with the rows for the opener; `written` is an opened row."""

    @property
    def is_empty(self) -> bool: ...

    def pieces(self, body: bytes, rows: list[bytes]) -> Pieces: ...

    def written(self, piece: list[bytes] | None, row: bytes) -> bytes: ...


class _LinesOut:
    def __init__(self, plan: CopyPlan) -> None:
        self._plan = plan
        self._lines = Lines(plan.dialect)
        self._fields = fields_of(plan.dialect)
        self._has_header = plan.dialect.header is not Header.NONE
        self._sealed = [(n, c) for n, c in enumerate(plan.columns) if c.sealed is not None]
        self._places = [plan.needed.index(n) for n, _ in self._sealed]

    @property
    def is_empty(self) -> bool:
        return self._lines.is_empty

    def pieces(self, body: bytes, rows: list[bytes]) -> Pieces:
        lines, found = self._lines, Pieces()
        lines.push(body)
        while (line := lines.next_line()) is not None:
            if self._has_header:
                self._has_header = False
                found.append(line + lines.ending)
                continue
            fields = self._fields.split(line)
            if len(fields) != len(self._plan.columns):
                raise ProtocolViolation(OTHER_COLUMNS)
            rows.append(build_row([self._physical(fields[n]) for n in self._plan.needed]))
            found.append(fields)
        return found

    def _physical(self, raw: bytes) -> bytes | None:
        return None if self._fields.is_null(raw) else self._fields.content(raw)

    def written(self, piece: list[bytes] | None, row: bytes) -> bytes:
        assert piece is not None
        values = split_row(row)
        is_only = len(piece) == 1
        for (n, column), place in zip(self._sealed, self._places, strict=True):
            value = values[place]
            if isinstance(self._fields, CsvFields):
                piece[n] = self._fields.raw(value, force_quote=column.force_quote, is_only=is_only)
            else:
                piece[n] = self._fields.raw(value)
        return self._plan.dialect.delimiter.join(piece) + b"\n"


class _TuplesOut:
    def __init__(self, plan: CopyPlan) -> None:
        self._tuples = Tuples(len(plan.columns))

    @property
    def is_empty(self) -> bool:
        return self._tuples.is_empty

    def pieces(self, body: bytes, rows: list[bytes]) -> Pieces:
        found = Pieces()
        self._tuples.push(body)
        while (part := self._tuples.next_part()) is not None:
            if part[0] is Part.ROW:
                rows.append(part[1])
                found.append(None)
            else:
                found.append(part[1])
        return found

    def written(self, piece: list[bytes] | None, row: bytes) -> bytes:
        return row


@dataclass(slots=True)
class _Batch:
    """Messages that are being opened: what each holds, the rows in them, and what has been opened of those."""

    size: int
    messages: list[Pieces]
    rows: bytes
    n_rows: int
    has_more: bool
    offset: int = 0
    opened: list[bytes] | None = None


class CopyOut:
    """Stands where a RowOpener does, for the CopyData of one COPY."""

    def __init__(self, plan: CopyPlan, settings: Settings, keys: KeyView, grant: ReadGrant) -> None:
        is_binary = plan.dialect.format is Format.BINARY
        self._cutter: _Cutter = _TuplesOut(plan) if is_binary else _LinesOut(plan)
        shown = replace(settings, client_encoding=plan.encoding)
        places = range(len(plan.columns)) if is_binary else plan.needed
        self._opener = RowOpener(_columns(plan, places, shown), len(places), keys, grant)
        self._batch: _Batch | None = None
        self.partial = Opened([], 0)

    @property
    def columns(self) -> tuple[OpenColumn, ...]:
        return self._opener.columns

    @property
    def is_empty(self) -> bool:
        """No row was cut off."""
        return self._cutter.is_empty

    def rows(self, buffer: bytes, position: int) -> Opened:
        """Open the whole CopyData messages from `position` on, at most a step's worth; as `RowOpener.rows`."""
        done = self.partial = Opened([], position)
        if self._batch is None:
            self._batch = self._gathered(buffer, position)
        batch = self._batch
        try:
            self._open(batch)
        except Missing:
            raise
        except PgsealError:
            done.parts, _ = self._written(batch)
            raise
        self._batch = None
        done.parts, done.n_rows = self._written(batch)
        done.position = position + batch.size
        done.has_more = batch.has_more
        return done

    def _gathered(self, buffer: bytes, position: int) -> _Batch:
        messages: list[Pieces] = []
        rows: list[bytes] = []
        start, size = position, len(buffer)
        while size - position >= 5 and buffer[position] == COPY_DATA:
            end = position + 1 + LENGTH.unpack_from(buffer, position + 1)[0]
            if end > size:
                break
            if len(rows) >= ROWS_A_BATCH or position - start >= BYTES_A_STEP:
                return self._new(position - start, messages, rows, has_more=True)
            messages.append(self._cutter.pieces(buffer[position + 5 : end], rows))
            position = end
        return self._new(position - start, messages, rows, has_more=False)

    def _new(self, size: int, messages: list[Pieces], rows: list[bytes], *, has_more: bool) -> _Batch:
        framed = b"".join(_ROW_HEAD.pack(0x44, len(row) + 4) + row for row in rows)
        return _Batch(size, messages, framed, len(rows), has_more, opened=[])

    def _open(self, batch: _Batch) -> None:
        assert batch.opened is not None
        while batch.offset < len(batch.rows):
            try:
                self._opener.rows(batch.rows, batch.offset)
            finally:
                batch.opened.extend(self._opener.partial.parts)
                batch.offset = self._opener.partial.position

    def _written(self, batch: _Batch) -> tuple[list[bytes], int]:
        """The messages whose rows are all open, and how many rows that are."""
        opened = _bodies(b"".join(batch.opened or ()))
        parts: list[bytes] = []
        n_rows = 0
        for pieces in batch.messages:
            n_wanted = sum(1 for piece in pieces if not isinstance(piece, bytes))
            if n_rows + n_wanted > len(opened):
                break
            shown = []
            for piece in pieces:
                if isinstance(piece, bytes):
                    shown.append(piece)
                else:
                    shown.append(self._cutter.written(piece, opened[n_rows]))
                    n_rows += 1
            if shown:
                parts.append(frame(b"d", b"".join(shown)))
        return parts, n_rows


def _bodies(rows: bytes) -> list[bytes]:
    found = []
    position = 0
    while position < len(rows):
        end = position + 1 + LENGTH.unpack_from(rows, position + 1)[0]
        found.append(rows[position + 5 : end])
        position = end
    return found


def _columns(plan: CopyPlan, places: Sequence[int], settings: Settings) -> list[OpenColumn]:
    """The sealed columns among those that the opener sees."""
    is_binary = plan.dialect.format is Format.BINARY
    found: list[OpenColumn] = []
    last = -1
    for index, place in enumerate(places):
        column = plan.columns[place]
        if column.sealed is None:
            continue
        own, shown = column.sealed.rule.type, column.type
        show = shower(own if shown is None or shown.name == own.name else shown, is_binary, settings)
        bound = tuple((places.index(n), _reader(plan, n, settings)) for n in column.bound)
        found.append(OpenColumn(column.sealed, index - last - 1, is_binary, show, bound))
        last = index
    return found


def _reader(plan: CopyPlan, place: int, settings: Settings) -> Callable[[bytes], bytes]:
    """Form of a `bind:` column in the data -> its display form."""
    kind = plan.columns[place].type
    assert kind is not None, "a plan has the type of what is bound"
    found = codec(kind)
    is_binary = plan.dialect.format is Format.BINARY
    return partial(found.read_binary if is_binary else found.read_text, settings=settings)
