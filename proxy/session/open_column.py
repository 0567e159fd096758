"""One sealed column of a result: where it stands, the form its cells come in, what the log-in sees of them.

Who may not read it sees a mask or NULL. A mask that shows a part stands between opening a cell and showing it;
one that shows nothing takes the place of the cell, which is never opened. The same stands for a cell of a
tenant that the statement may not read, where the rule says so.

One reason to change: what is settled of a column before its first row.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, assert_never

from proxy.crypto.envelope import from_text
from proxy.rules import OnDenied, Read, Storage
from proxy.session.runs import Form
from proxy.values.masks import full_mask, masker

if TYPE_CHECKING:
    from proxy.keys.material import ColumnKeys
    from proxy.sql.catalog import SealedColumn


@dataclass(slots=True)
class OpenColumn:
    """One sealed column of a result. `skip` is the number of columns between it and the sealed one before it.
    `show` turns the display form into what the client asked for; None: it is that already."""

    column: SealedColumn
    skip: int
    is_binary: bool
    show: Callable[[bytes], bytes] | None
    bound: tuple[tuple[int, Callable[[bytes], bytes]], ...] = ()
    keys: dict[bytes, ColumnKeys | None] = field(default_factory=dict)  # None: denied
    is_closed: bool = False  # no cell of it is opened
    instead: bytes | None = None  # what a cell that is not opened is shown as, in wire form; None: NULL
    n_opened: int = 0  # since the last event, with the keys used
    used: set[int] = field(default_factory=set)
    label: str = field(init=False)

    def __post_init__(self) -> None:
        self.label = self.column.rule.label

    @property
    def is_raw(self) -> bool:
        """The bytes on the wire are the envelope."""
        return self.is_binary and self.column.rule.storage is Storage.BYTEA

    @property
    def form(self) -> Form:
        """How the envelopes of a run stand on the wire."""
        if self.column.rule.storage is Storage.TEXT:
            return Form.BASE64
        return Form.RAW if self.is_binary else Form.HEX

    def physical(self, raw: bytes) -> bytes:
        """The bytes on the wire -> the envelope."""
        if self.column.rule.storage is Storage.TEXT:
            return from_text(raw)
        if self.is_binary:
            return raw
        if raw[:2] == b"\\x":
            return unhexlify(raw[2:])
        return unescape_bytea(raw)


def seen_by(read: Read, column: OpenColumn) -> OpenColumn:
    """The column as a log-in with this right sees it."""
    match read:
        case Read.PLAIN if column.column.rule.on_denied is not OnDenied.MASK:
            return column
        case Read.PLAIN:
            return replace(column, instead=_hidden(column))
        case Read.MASK:
            return _masked(column)
        case Read.NULL | Read.DENY | Read.RAW:  # those of the last two have no plans with cells to open
            return replace(column, is_closed=True, instead=None)
        case _:
            assert_never(read)


def _masked(column: OpenColumn) -> OpenColumn:
    rule, show = column.column.rule, column.show
    if rule.mask.is_full:
        return replace(column, is_closed=True, instead=_hidden(column))
    mask = masker(rule.type, rule.mask)
    instead = _hidden(column) if rule.on_denied is OnDenied.MASK else None
    if show is None:
        return replace(column, show=mask, instead=instead)
    return replace(column, show=lambda display: show(mask(display)), instead=instead)


def _hidden(column: OpenColumn) -> bytes | None:
    """What stands for a cell that is not opened, in wire form."""
    rule, show = column.column.rule, column.show
    display = full_mask(rule.type, rule.mask)
    return display if display is None or show is None else show(display)


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
