"""Cells on their way: values of the client sealed for the server, envelopes in rows opened for the client.

A cell is decided by rule and plan, never by what its bytes look like. Nothing goes on after a failed seal or
open: the statement is refused, or its result replaced by an error.

The row loop is the hot path of every read: a row is never an object, columns before and after the sealed ones
are copied as slices, and what depends on the column or the key only is looked up once.

One reason to change: how one cell is sealed or opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct, unpack_from
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag

from proxy.crypto.envelope import HEADER_SIZE, NONCE_SIZE, from_text, key_id_of, not_open
from proxy.errors import NotAllowed, ProtocolViolation
from proxy.keys.material import ColumnKeys, Inline, KeyIdNeed, KeyNeed, KeyView
from proxy.rules import ColumnRule, Mode, OnDenied, Scope, Storage
from proxy.session.statements import ReadGrant
from proxy.wire.framing import NULL_SIZE

if TYPE_CHECKING:
    from proxy.sql.catalog import SealedColumn

DATA_ROW: Final = ord("D")
ROWS_A_STEP: Final = 2000
BYTES_A_STEP: Final = 262144
_SIZE: Final = Struct(">i")
_ROW_HEAD: Final = Struct(">BIH")
_N_COLUMNS: Final = Struct(">H")
_ROW: Final = Struct(">BI")


class Missing(Exception):
    """A key is not there yet; `need` says which."""

    def __init__(self, need: KeyNeed) -> None:
        super().__init__()
        self.need = need


@dataclass(slots=True)
class OpenColumn:
    """One sealed column of a result. `skip` is the number of columns between it and the sealed one before it.
    `show` turns the display form into what the client asked for; None: it is that already."""

    column: SealedColumn
    skip: int
    is_binary: bool
    show: Callable[[bytes], bytes] | None
    bound: tuple[tuple[int, Callable[[bytes], bytes]], ...] = ()
    keys: dict[bytes, ColumnKeys | None] = field(default_factory=dict)  # None: denied, shown as NULL
    n_opened: int = 0  # since the last event, with the keys used
    used: set[int] = field(default_factory=set)

    @property
    def is_raw(self) -> bool:
        """The bytes on the wire are the envelope."""
        return self.is_binary and self.column.rule.storage is Storage.BYTEA

    def physical(self, raw: bytes) -> bytes:
        """The bytes on the wire -> the envelope."""
        if self.column.rule.storage is Storage.TEXT:
            return from_text(raw)
        if self.is_binary:
            return raw
        if raw[:2] == b"\\x":
            return bytes.fromhex(raw[2:].decode("ascii"))
        return unescape_bytea(raw)


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
        self.columns = tuple(columns)
        self._n_columns = n_columns
        self._keys = keys
        self._grant = grant
        self.partial = Opened([], 0)
        self._layout: tuple[Struct, tuple[int, ...], int] = (_ROW_HEAD, (), 0)  # of the row before: see `_learn`

    def rows(self, buffer: bytes, position: int) -> Opened:
        """Open whole DataRows from `position` on, at most a step's worth.

        Raises Missing (nothing behind the rows already in `Opened` is consumed, see `partial`), CellNotOpen,
        NotAllowed, TenantUnknown, ProtocolViolation.
        """
        done = self.partial = Opened([], position)
        size = len(buffer)
        limit = position + BYTES_A_STEP
        parts = done.parts
        row_head = _ROW_HEAD.unpack_from
        n_columns = self._n_columns
        only = self.columns[0] if len(self.columns) == 1 and not self.columns[0].bound else None
        try:
            if only is not None:
                self._rows_of_one(buffer, done, only)
                return done
            while size - position >= 7 and buffer[position] == DATA_ROW:
                _, length, n_found = row_head(buffer, position)
                end = position + 1 + length
                if end > size:
                    break
                if n_found != n_columns:
                    raise ProtocolViolation("the row does not have the columns that were described")
                self._row(buffer, position, end, parts)
                done.position = position = end
                done.n_rows += 1
                if position > limit or done.n_rows >= ROWS_A_STEP:
                    done.has_more = True
                    break
        except (StructError, ValueError, IndexError):
            raise not_open() from None
        return done

    def _rows_of_one(self, buffer: bytes, done: Opened, column: OpenColumn) -> None:
        """The same for results with one sealed column, which most are: nothing is called but the cipher.

        A row is read by the layout of the one before it (the sizes of the columns in front of the cell), and
        walked column by column only where its sizes are others.
        """
        append, show = done.parts.append, column.show
        pack, pack_size = _ROW.pack, _SIZE.pack
        inlines: dict[bytes, Inline | None] = {}  # header of a cell -> its short way, for this step only
        start, size, n_rows, n_opened = done.position, len(buffer), 0, 0
        limit = min(start + BYTES_A_STEP, size)
        layout, expected, offset = self._layout
        read = layout.unpack_from
        is_raw = column.is_raw
        try:
            while size - start >= layout.size and buffer[start] == DATA_ROW:
                found = read(buffer, start)
                if found[1:-1] != expected:
                    self._learn(buffer, start, column.skip)
                    layout, expected, offset = self._layout
                    read = layout.unpack_from
                    if size - start < layout.size:
                        break
                    found = read(buffer, start)
                end = start + 1 + found[0]
                if end > size:
                    break
                cell = start + offset
                cell_size = found[-1]
                behind = cell + cell_size
                if cell > end or behind > end:
                    raise ProtocolViolation("insufficient data left in message")
                if cell_size < 0:
                    append(buffer[start:end])
                else:
                    envelope = buffer[cell:behind] if is_raw else column.physical(buffer[cell:behind])
                    head = envelope[:HEADER_SIZE]
                    inline = inlines.get(head)
                    if inline is None:
                        shown = self._display(column, envelope, head, inlines)
                    else:
                        decrypt, aad, at = inline
                        if at != HEADER_SIZE:
                            aad += envelope[HEADER_SIZE:at]
                        body = at + NONCE_SIZE
                        padded = decrypt(envelope[at:body], envelope[body:], aad).rstrip(b"\0")
                        if padded[-1:] != b"\x80":
                            raise not_open(column.column.rule.label)
                        shown = padded[:-1]
                    if shown is None:
                        append(pack(DATA_ROW, found[0] - cell_size) + buffer[start + 5 : cell - 4] + NULL_SIZE)
                    else:
                        if show is not None:
                            shown = show(shown)
                        n = len(shown)
                        front = buffer[start + 5 : cell - 4]
                        append(pack(DATA_ROW, found[0] + n - cell_size) + front + pack_size(n) + shown)
                    if behind != end:
                        append(buffer[behind:end])
                    n_opened += 1
                done.position = start = end
                n_rows += 1
                if start >= limit or n_rows >= ROWS_A_STEP:
                    done.has_more = start < size
                    break
        except InvalidTag:
            raise not_open(column.column.rule.label) from None
        finally:
            done.n_rows = n_rows
            column.n_opened += n_opened

    def _learn(self, buffer: bytes, start: int, skip: int) -> None:
        """Take the layout of the row at `start`: its sizes up to the sealed column."""
        if _N_COLUMNS.unpack_from(buffer, start + 5)[0] != self._n_columns:
            raise ProtocolViolation("the row does not have the columns that were described")
        sizes: list[int] = []
        position = start + 7
        for _ in range(skip):
            sizes.append(_SIZE.unpack_from(buffer, position)[0])
            position += 4 + max(sizes[-1], 0)
        gaps = "".join(f"i{size}x" if size > 0 else "i" for size in sizes)
        self._layout = (Struct(f">xIH{gaps}i"), (self._n_columns, *sizes), position + 4 - start)

    def _display(
        self, column: OpenColumn, envelope: bytes, head: bytes, inlines: dict[bytes, Inline | None]
    ) -> bytes | None:
        """The display form of a cell whose short way is not known; None where it is denied."""
        keys = self._keys_of(column, envelope)
        if keys is None:
            return None
        inlines[head] = keys.inline(head)
        return keys.open(envelope, ())

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
                raise ProtocolViolation("insufficient data left in message")
            envelope = column.physical(buffer[position + 4 : behind])
            shown = self._open(column, envelope, buffer, start)
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

    def _open(self, column: OpenColumn, envelope: bytes, buffer: bytes, start: int) -> bytes | None:
        keys = self._keys_of(column, envelope)
        if keys is None:
            return None
        column.n_opened += 1
        bound = _bound_values(column, buffer, start) if column.bound else ()
        display = keys.open(envelope, bound)
        return column.show(display) if column.show is not None else display

    def _keys_of(self, column: OpenColumn, envelope: bytes) -> ColumnKeys | None:
        """The keys of a cell, looked up once a key id and noted as used; None where the cell is denied."""
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
            if rule.on_denied is OnDenied.NULL:
                return None
            raise NotAllowed(
                "the cell belongs to a tenant this statement may not read",
                column=rule.label,
                hint="Restrict the statement to one tenant, or let the role read across tenants.",
            )
        return keys


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
            raise not_open(column.column.rule.label)
        values.append(read(buffer[position + 4 : position + 4 + size]))
    return tuple(values)


def unescape_bytea(raw: bytes) -> bytes:
    """bytea in the escape output format -> its bytes."""
    out = bytearray()
    position = 0
    while position < len(raw):
        if raw[position] != 0x5C:
            out.append(raw[position])
            position += 1
        elif raw[position + 1 : position + 2] == b"\\":
            out.append(0x5C)
            position += 2
        else:
            out.append(int(raw[position + 1 : position + 4], 8))
            position += 4
    return bytes(out)


__all__ = ["Missing", "OpenColumn", "Opened", "RowOpener", "is_granted", "unescape_bytea"]
