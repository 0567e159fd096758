"""Cells on their way: values of the client sealed for the server, envelopes in rows opened for the client.

A cell is decided by rule and plan, never by what its bytes look like. Nothing goes on after a failed seal or
open: the statement is refused, or its result replaced by an error.

The row loop is the hot path of every read: a row is never an object, columns before and after the sealed ones
are copied as slices, and what depends on the column or the key only is looked up once.

One reason to change: how one cell is sealed or opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct, unpack_from
from struct import error as StructError
from typing import Final

from cryptography.exceptions import InvalidTag

from proxy.crypto.envelope import HEADER_SIZE, NONCE_SIZE, key_id_of, not_open
from proxy.errors import NotAllowed, PgsealError, ProtocolViolation
from proxy.keys.material import ColumnKeys, Inline, KeyIdNeed, KeyNeed, KeyView
from proxy.rules import ColumnRule, Mode, OnDenied, Scope
from proxy.session.open_column import OpenColumn, seen_by, unescape_bytea
from proxy.session.runs import LEAST, Pace, Pattern, open_run
from proxy.session.statements import ReadGrant
from proxy.wire.framing import NULL_SIZE

DATA_ROW: Final = ord("D")
ROWS_A_STEP: Final = 2000
BYTES_A_STEP: Final = 262144
LAYOUTS: Final = 256  # remembered for one result
TOO_SHORT: Final = "insufficient data left in message"
OTHER_COLUMNS: Final = "the row does not have the columns that were described"
_SIZE: Final = Struct(">i")
_ROW_HEAD: Final = Struct(">BIH")
_LENGTH: Final = Struct(">I")
_N_COLUMNS: Final = Struct(">H")
_ROW: Final = Struct(">BI")
_size_at: Final = _SIZE.unpack_from

# what reads a row up to the size of its cell, what it must find between length and that size, where the cell is,
# and what writes the same with other sizes: kind, length, what lies between, size of what is shown
Layout = tuple[Callable[[bytes, int], tuple[int, ...]], tuple[int, ...], int, Callable[..., bytes]]


class Missing(Exception):
    """A key is not there yet; `need` says which."""

    def __init__(self, need: KeyNeed) -> None:
        super().__init__()
        self.need = need


@dataclass(slots=True)
class Opened:
    """What one call of `RowOpener.rows` did."""

    parts: list[bytes]
    position: int
    n_rows: int = 0
    has_more: bool = False


class RowOpener:
    """Opens the sealed columns of one result's DataRows."""

    def __init__(self, columns: Sequence[OpenColumn], n_columns: int, keys: KeyView, grant: ReadGrant) -> None:
        self.columns = tuple(seen_by(grant.read, column) for column in columns)
        self._n_columns = n_columns
        self._keys = keys
        self._grant = grant
        only = self.columns[0] if len(self.columns) == 1 else None
        self._only = only if only is not None and not (only.bound or only.is_closed) else None
        self._is_raw = self._only is not None and self._only.is_raw
        self.partial = Opened([], 0)
        self._pace = Pace()
        self._layout: Layout = (_ROW_HEAD.unpack_from, (), _ROW_HEAD.size, _ROW_HEAD.pack)
        self._layouts: dict[tuple[int, ...], Layout] = {}  # by the sizes of the columns in front of the cell

    def rows(self, buffer: bytes, position: int) -> Opened:
        """Open whole DataRows from `position` on, at most a step's worth.

        Raises Missing (nothing behind the rows already in `Opened` is consumed, see `partial`), CellNotOpen,
        NotAllowed, TenantUnknown, ProtocolViolation.
        """
        done = self.partial = Opened([], position)
        try:
            if self._only is not None:
                self._rows_of_one(buffer, done)
            else:
                self._rows_of_many(buffer, done)
        except InvalidTag:
            raise not_open(self.columns[0].label) from None
        except (StructError, ValueError, IndexError):
            raise not_open() from None
        return done

    def one(self, buffer: bytes, position: int) -> tuple[bytes, int, int] | None:
        """The row at `position`, where it is the only one and has one cell whose keys are known: what the client
        sees of it, the offset behind it, and the id of the key; the caller counts it. None: `rows` says why."""
        column = self._only
        if column is None:
            return None
        try:
            _, length, n_found = _ROW_HEAD.unpack_from(buffer, position)
            end = position + 1 + length
            cell = position + 11  # behind the head and a size
            for _ in range(column.skip):
                (size,) = _size_at(buffer, cell - 4)
                cell += 4 + size if size > 0 else 4
            (size,) = _size_at(buffer, cell - 4)
            if n_found != self._n_columns or buffer[end] == DATA_ROW or size < 0 or cell + size > end:
                return None
            raw = buffer[cell : cell + size]
            envelope = raw if self._is_raw else column.physical(raw)
            keys = column.keys.get(envelope[5:9])
            if keys is None:
                return None
            shown = keys.open(envelope, ())
            if column.show is not None:
                shown = column.show(shown)
        except (StructError, ValueError, IndexError, PgsealError):
            return None
        n = len(shown)
        front, behind = buffer[position + 5 : cell - 4], buffer[cell + size : end]
        return (
            _ROW.pack(DATA_ROW, length + n - size) + front + _SIZE.pack(n) + shown + behind,
            end,
            keys.key_id,
        )

    def _rows_of_many(self, buffer: bytes, done: Opened) -> None:
        start, size = done.position, len(buffer)
        limit = start + BYTES_A_STEP
        while start < size and buffer[start] == DATA_ROW and (end := _whole(buffer, start)):
            if _N_COLUMNS.unpack_from(buffer, start + 5)[0] != self._n_columns:
                raise ProtocolViolation(OTHER_COLUMNS)
            self._row(buffer, start, end, done.parts)
            done.position = start = end
            done.n_rows += 1
            if start > limit or done.n_rows >= ROWS_A_STEP:
                done.has_more = True
                break

    def _rows_of_one(self, buffer: bytes, done: Opened) -> None:
        """The same for results with one sealed column, which most are: rows that are alike are opened together,
        all others one by one."""
        pace, size = self._pace, len(buffer)
        limit, most = min(done.position + BYTES_A_STEP, size), ROWS_A_STEP
        inlines: dict[bytes, Inline | None] = {}  # header of a cell -> its short way, for this step only
        wait = pace.wait
        while done.position < limit and done.n_rows < most:
            wanted = min(done.n_rows + wait + 1, most)
            start, inline = self._one_by_one(buffer, done, inlines, limit, wanted)
            if done.n_rows < wanted:
                break
            position, row_size = done.position, done.position - start
            n_most = min(most - done.n_rows, -((position - limit) // row_size), (size - position) // row_size)
            if n_most < LEAST:
                wait = most  # what is left is not worth another look
            elif inline is not None:
                most += self._run(buffer, done, start, inline, n_most) // 2  # a row of a run is half as dear
                wait = pace.wait
        done.has_more = done.position < size and (done.position >= limit or done.n_rows >= most)

    def _run(self, buffer: bytes, done: Opened, start: int, inline: Inline, n_most: int) -> int:
        """Open the run behind the row at `start`, the last one that was opened, if there is one: its rows."""
        row_size = done.position - start
        n = self._pace.n_to_try(buffer, start, row_size, n_most)
        if n == 0:
            return 0
        column = self.columns[0]
        _, expected, offset, _ = self._layout
        cell_size = _SIZE.unpack_from(buffer, start + offset - 4)[0]
        pattern = Pattern(start, row_size, expected[1:], offset, cell_size, column.form, inline, column.show)
        n_opened, shown = open_run(buffer, pattern, n)
        self._pace.tried(n, n_opened)
        if n_opened:
            done.parts.append(shown)
            done.position += n_opened * row_size
            done.n_rows += n_opened
            column.n_opened += n_opened
        return n_opened

    def _one_by_one(
        self, buffer: bytes, done: Opened, inlines: dict[bytes, Inline | None], limit: int, wanted: int
    ) -> tuple[int, Inline | None]:
        """Open rows until there are so many: where the last begins, and the short way of its cell if it had one.
        A row is read by the layout of the one before it, and walked only where its sizes are others."""
        column, size, start, last, inline = self.columns[0], len(buffer), done.position, -1, None
        append, show = done.parts.append, column.show
        read, expected, offset, pack = self._layout
        is_raw, n_rows, n_opened = column.is_raw, done.n_rows, 0
        try:
            while start < limit and n_rows < wanted and buffer[start] == DATA_ROW:
                if size - start < offset or (found := read(buffer, start))[1:-1] != expected:
                    if not self._learn(buffer, start, column.skip):
                        break
                    read, expected, offset, pack = self._layout
                    found = read(buffer, start)
                end = start + 1 + found[0]
                if end > size:
                    break
                cell, cell_size = start + offset, found[-1]
                if cell > end or (behind := cell + cell_size) > end:
                    raise ProtocolViolation(TOO_SHORT)
                inline = None
                if cell_size < 0:
                    append(buffer[start:end])
                else:
                    envelope = buffer[cell:behind] if is_raw else column.physical(buffer[cell:behind])
                    inline = inlines.get(envelope[:HEADER_SIZE])
                    if inline is None:
                        shown, inline = self._display(column, envelope, inlines)
                    else:
                        decrypt, aad, at = inline
                        if at != HEADER_SIZE:
                            aad += envelope[HEADER_SIZE:at]
                        body = at + NONCE_SIZE
                        padded = decrypt(envelope[at:body], envelope[body:], aad).rstrip(b"\0")
                        if not padded or padded[-1] != 0x80:
                            raise not_open(column.label)
                        shown = padded[:-1] if show is None else show(padded[:-1])
                    n = -1 if shown is None else len(shown)
                    shown = shown or b""
                    front = pack(DATA_ROW, found[0] + len(shown) - cell_size, buffer[start + 5 : cell - 4], n)
                    append(front + shown + buffer[behind:end] if behind != end else front + shown)
                    n_opened += 1
                done.position, last, start = end, start, end
                n_rows += 1
        finally:
            done.n_rows = n_rows
            column.n_opened += n_opened
        return last, inline

    def _learn(self, buffer: bytes, start: int, skip: int) -> bool:
        """Take the layout of the row at `start`, its sizes up to the cell. False: it is not whole yet."""
        end = _whole(buffer, start)
        if end == 0:
            return False
        if _N_COLUMNS.unpack_from(buffer, start + 5)[0] != self._n_columns:
            raise ProtocolViolation(OTHER_COLUMNS)
        sizes = []
        position = start + _ROW_HEAD.size
        size_at = _SIZE.unpack_from
        for _ in range(skip):
            if position + 4 > end:
                raise ProtocolViolation(TOO_SHORT)
            (size,) = size_at(buffer, position)
            sizes.append(size)
            position += 4 + size if size > 0 else 4
        if position + 4 > end:
            raise ProtocolViolation(TOO_SHORT)
        known = tuple(sizes)
        layout = self._layouts.get(known)
        if layout is None:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            gaps = "".join(f"i{size}x" if size > 0 else "i" for size in sizes)
            read, offset = Struct(f">xIH{gaps}i").unpack_from, position + 4 - start
            pack = Struct(f">BI{offset - 9}si").pack
            layout = self._layouts[known] = (read, (self._n_columns, *sizes), offset, pack)
        self._layout = layout
        return True

    def _display(
        self, column: OpenColumn, envelope: bytes, inlines: dict[bytes, Inline | None]
    ) -> tuple[bytes | None, Inline | None]:
        """What is shown of a cell whose short way is not known, and that; None where it is not opened."""
        keys = self._keys_of(column, envelope)
        if keys is None:
            column.n_opened -= 1  # as who opens it counts it
            return column.instead, None
        head = envelope[:HEADER_SIZE]
        inline = inlines[head] = keys.inline(head)
        display = keys.open(envelope, ())
        return display if column.show is None else column.show(display), inline

    def _row(self, buffer: bytes, start: int, end: int, parts: list[bytes]) -> None:
        size_at = _SIZE.unpack_from
        position = start + 7
        copied = start + 5
        changed: list[bytes] = []
        delta = 0
        for column in self.columns:
            for _ in range(column.skip):
                size = size_at(buffer, position)[0]
                position += 4 + size if size > 0 else 4
            size = size_at(buffer, position)[0]
            if size < 0:
                position += 4
                continue
            behind = position + 4 + size
            if behind > end:
                raise ProtocolViolation(TOO_SHORT)
            shown = self.cell(column, buffer[position + 4 : behind], buffer, start)
            changed.append(buffer[copied:position])
            if shown is None:
                changed.append(NULL_SIZE)
                delta -= size
            else:
                changed.append(_SIZE.pack(len(shown)))
                changed.append(shown)
                delta += len(shown) - size
            position = copied = behind
        parts.append(b"D" + _SIZE.pack(end - start - 1 + delta))
        parts.extend(changed)
        parts.append(buffer[copied:end])

    def cell(self, column: OpenColumn, raw: bytes, buffer: bytes, start: int) -> bytes | None:
        """What is shown of one cell, as on the wire, of the row at `start`; None: NULL."""
        if column.is_closed:
            return column.instead
        envelope = column.physical(raw)
        keys = self._keys_of(column, envelope)
        if keys is None:
            return column.instead
        column.n_opened += 1
        bound = _bound_values(column, buffer, start) if column.bound else ()
        display = keys.open(envelope, bound)
        return column.show(display) if column.show is not None else display

    def _keys_of(self, column: OpenColumn, envelope: bytes) -> ColumnKeys | None:
        """The keys of a cell, looked up once a key id and noted as used; None where it is denied."""
        name = envelope[5:9]
        keys = column.keys.get(name)
        if keys is None and name not in column.keys:
            keys = column.keys[name] = self._find_keys(column, envelope)
        if keys is not None:
            column.used.add(keys.key_id)
        return keys

    def _find_keys(self, column: OpenColumn, envelope: bytes) -> ColumnKeys | None:
        rule = column.column.rule
        key_id = key_id_of(envelope)
        keys = self._keys.opening(rule, key_id)
        if keys is None:
            raise Missing(KeyIdNeed(key_id))
        if not is_granted(self._grant, rule, keys.tenant):
            if rule.on_denied is not OnDenied.ERROR:
                return None
            raise NotAllowed(
                "the cell belongs to a tenant this statement may not read",
                column=rule.label,
                hint="Restrict the statement to one tenant, or let the role read across tenants.",
            )
        return keys


def _whole(buffer: bytes, start: int) -> int:
    """Where the row at `start` ends, 0 while it is not whole; ProtocolViolation where it could hold no row."""
    size = len(buffer)
    if size - start < 5:
        return 0
    (length,) = _LENGTH.unpack_from(buffer, start + 1)
    if length < 6:
        raise ProtocolViolation(TOO_SHORT)
    end: int = start + 1 + length
    return end if end <= size else 0


def is_granted(grant: ReadGrant, rule: ColumnRule, tenant: str) -> bool:
    """May this statement open a cell of this tenant? Cells of an index domain of all tenants have none."""
    if rule.scope is Scope.TABLE and rule.mode is Mode.DETERMINISTIC:
        return True
    if grant.error is not None:
        raise grant.error
    return grant.tenants is None or tenant in grant.tenants


def _bound_values(column: OpenColumn, buffer: bytes, start: int) -> tuple[bytes, ...]:
    """Display forms of the row's `bind:` columns."""
    values = []
    for index, read in column.bound:
        position = start + 7
        for _ in range(index):
            size = unpack_from(">i", buffer, position)[0]
            position += 4 + max(size, 0)
        size = unpack_from(">i", buffer, position)[0]
        if size < 0:
            raise not_open(column.label)
        values.append(read(buffer[position + 4 : position + 4 + size]))
    return tuple(values)


__all__ = ["Missing", "OpenColumn", "Opened", "RowOpener", "is_granted", "unescape_bytea"]
