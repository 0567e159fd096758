"""Runs: consecutive DataRows of one layout, opened together.

Most results have long stretches of rows that differ in their values only. In such a stretch every byte that
says where something lies stands at one distance from the same byte of the row before, so that a slice with the
row's size as its step shows all of them at once, and what is left to do for each row is the cipher itself.

    type (1) length (4) n_columns (2) | size (4) value, for each column in front | size (4) cell | what is behind
    same     same       same            same     any                               same     same header, any

What is behind the cell is not looked into, only copied. A run is opened whole or not at all, and has no effect
when it is not: its rows are then read one by one, where each error has its place.

One reason to change: what rows must have in common to be opened together.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import chain, repeat
from struct import Struct
from struct import error as StructError
from typing import Final

from cryptography.exceptions import InvalidTag

from proxy.crypto.envelope import HEADER_SIZE, NONCE_SIZE, TAG_SIZE, from_text
from proxy.errors import PgsealError
from proxy.keys.material import Inline

LEAST: Final = 24  # rows; fewer are as quick one by one
FIRST: Final = 64  # rows tried at first, twice as many each time that all of them were alike
MOST: Final = 512  # what so many take stays in the processor's cache
WAIT_LEAST: Final = 16  # rows read one by one where there was no run, twice as many each time
WAIT_MOST: Final = 256
NARROW: Final = 128  # bytes of a shown row, up to which it is laid out byte by byte
_ROW_HEAD: Final = Struct(">BIH")
_SHOWN_HEAD: Final = Struct(">BI")
_SIZE: Final = Struct(">i")


class Form(Enum):
    """How an envelope stands on the wire: the size of what shows its header there."""

    RAW = HEADER_SIZE
    HEX = 2 + 2 * HEADER_SIZE  # behind \\x
    BASE64 = 4 * HEADER_SIZE // 3


@dataclass(frozen=True, slots=True)
class Pattern:
    """A row that was opened just now, with what the rows behind it must have in common with it."""

    start: int
    size: int  # of the whole message
    sizes: tuple[int, ...]  # of the columns in front of the cell, as on the wire
    cell: int  # counted from the start of the row
    cell_size: int
    form: Form
    inline: Inline
    show: Callable[[bytes], bytes] | None


class Pace:
    """When to try a run, and how long a one: it must cost nothing where rows are not alike."""

    __slots__ = ("_next_wait", "_tried", "wait")

    def __init__(self) -> None:
        self.wait = 0  # rows to be read one by one before the next try
        self._next_wait = WAIT_LEAST
        self._tried = FIRST

    def n_to_try(self, buffer: bytes, start: int, size: int, n_most: int) -> int:
        """Rows to try behind the one at `start`, of at least LEAST that there are; 0 where the heads of two of
        them show that it is no use."""
        head = buffer[start : start + _ROW_HEAD.size]
        if buffer.startswith(head, start + size) and buffer.startswith(head, start + LEAST * size):
            return min(n_most, self._tried)
        self.tried(0, 0)
        return 0

    def tried(self, n: int, n_opened: int) -> None:
        """So many of `n` rows were alike and are open."""
        if n_opened:
            self.wait = 0 if n_opened == n else 1  # the row that ended it shows nothing of those behind it
            self._next_wait = WAIT_LEAST
        else:  # one of the `n` may have a cell that does not open: not once more for each row up to that one
            self.wait = max(self._next_wait, n)
            self._next_wait = min(self._next_wait * 2, WAIT_MOST)
        if n_opened < n or n == 0:
            self._tried = FIRST
        elif n == self._tried:
            self._tried = min(n * 2, MOST)


def open_run(buffer: bytes, pattern: Pattern, n: int) -> tuple[int, bytes]:
    """How many of the `n` rows behind the pattern (all in the buffer) are like it, and what the client gets for
    them. 0 where they are fewer than LEAST, or one of them does not open."""
    n = _n_alike(buffer, pattern, n)
    if n < LEAST:
        return 0, b""
    start = pattern.start + pattern.size
    rows = memoryview(buffer)[start : start + n * pattern.size]
    try:
        padded = _decrypted(rows, pattern)
        shown_size = _common_size(padded) if pattern.show is None else -1
        if shown_size >= 0 and shown_size + pattern.size - pattern.cell_size <= NARROW:
            return n, _laid_out(buffer, pattern, padded, shown_size)
        return n, _joined(rows, pattern, _shown(padded, pattern.show))
    except (InvalidTag, ValueError, IndexError, StructError, PgsealError):
        return 0, b""


def _fixed(pattern: Pattern) -> list[int]:
    """The offsets at which a row is as the pattern, beginning with what is most likely to differ."""
    cell = pattern.cell
    fixed = [4, 3, 2, 1, *range(cell - 1, cell - 5, -1)]
    position = _ROW_HEAD.size
    for size in pattern.sizes:
        fixed += range(position + 3, position - 1, -1)
        position += 4 + max(size, 0)
    return [*fixed, 0, 5, 6, *range(cell, cell + pattern.form.value)]


def _free(pattern: Pattern) -> list[int]:
    """The offsets of the values around the cell."""
    free: list[int] = []
    position = _ROW_HEAD.size
    for size in pattern.sizes:
        free += range(position + 4, position + 4 + size)
        position += 4 + max(size, 0)
    return [*free, *range(pattern.cell + pattern.cell_size, pattern.size)]


def _n_alike(buffer: bytes, pattern: Pattern, n: int) -> int:
    """How many of the next `n` rows have the pattern's bytes at the fixed offsets, without a gap."""
    stride = pattern.size
    start = pattern.start
    stop = start + (n + 1) * stride
    for offset in _fixed(pattern):
        found = buffer[start + offset : stop : stride]  # the pattern's own is the first
        same = found[:1]
        if found != same * len(found):
            n = len(found) - len(found.lstrip(same)) - 1
            if n < LEAST:
                break
            stop = start + (n + 1) * stride
    return n


def _decrypted(rows: memoryview, pattern: Pattern) -> list[bytes]:
    """The cells of the rows, opened and still padded."""
    decrypt, aad, at = pattern.inline
    envelopes, cell, size = _envelopes(rows, pattern)
    sealed_size = size - at - NONCE_SIZE
    if sealed_size <= TAG_SIZE:
        raise ValueError
    stride = len(envelopes) // (len(rows) // pattern.size)
    token = f"{at - HEADER_SIZE}s" if at != HEADER_SIZE else ""
    n_behind = stride - cell - size
    fields = Struct(f"{cell + HEADER_SIZE}x{token}{NONCE_SIZE}s{sealed_size}s{n_behind}x")
    found = list(chain.from_iterable(fields.iter_unpack(envelopes)))
    if not token:
        return list(map(decrypt, found[0::2], found[1::2], repeat(aad)))
    return list(map(decrypt, found[1::3], found[2::3], map(aad.__add__, found[0::3])))


def _envelopes(rows: memoryview, pattern: Pattern) -> tuple[memoryview | bytes, int, int]:
    """Bytes in which the envelopes stand at equal distances, where the first does, and their size."""
    cell, size = pattern.cell, pattern.cell_size
    if pattern.form is Form.RAW:
        return rows, cell, size
    n_front = 2 if pattern.form is Form.HEX else 0
    fields = Struct(f"{cell + n_front}x{size - n_front}s{pattern.size - cell - size}x")
    cells = chain.from_iterable(fields.iter_unpack(rows))
    if pattern.form is Form.HEX:
        envelopes = unhexlify(b"".join(cells))
    elif size % 4 == 0:
        envelopes = from_text(b"".join(cells))
    else:
        envelopes = b"".join(map(from_text, cells))
    return envelopes, 0, len(envelopes) // (len(rows) // pattern.size)


def _common_size(padded: list[bytes]) -> int:
    """The size of every one of these values without its padding; -1 where they are not alike, or wide."""
    n, stride = len(padded), len(padded[0])
    first = padded[0].rstrip(b"\0")
    if stride > NARROW or first[-1:] != b"\x80":
        return -1
    together = b"".join(padded)
    for offset in range(len(first) - 1, stride):
        if together[offset::stride] != padded[0][offset : offset + 1] * n:
            return -1
    return len(first) - 1


def _shown(padded: list[bytes], show: Callable[[bytes], bytes] | None) -> list[bytes]:
    stripped = [value.rstrip(b"\0") for value in padded]
    if not all(value.endswith(b"\x80") for value in stripped):
        raise ValueError
    displays = [value[:-1] for value in stripped]
    return displays if show is None else list(map(show, displays))


def _laid_out(buffer: bytes, pattern: Pattern, padded: list[bytes], shown_size: int) -> bytes:
    """The shown rows, where all of them have one size: the pattern's many times over, and into it all the bytes
    of one offset at once."""
    n, start, size = len(padded), pattern.start + pattern.size, pattern.size
    cell = pattern.cell
    longer = shown_size - pattern.cell_size
    row = bytearray(buffer[pattern.start : pattern.start + cell])
    row[: _SHOWN_HEAD.size] = _SHOWN_HEAD.pack(row[0], size - 1 + longer)
    row[-_SIZE.size :] = _SIZE.pack(shown_size)
    shown = row.ljust(size + longer, b"\0") * n
    stop, stride = start + n * size, size + longer
    for offset in _free(pattern):
        shown[offset if offset < cell else offset + longer :: stride] = buffer[start + offset : stop : size]
    together, padded_size = b"".join(padded), len(padded[0])
    for offset in range(shown_size):
        shown[cell + offset :: stride] = together[offset::padded_size]
    return bytes(shown)


def _joined(rows: memoryview, pattern: Pattern, shown: list[bytes]) -> bytes:
    """The shown rows, whatever the sizes of their values."""
    head, cell, size = _SHOWN_HEAD.size, pattern.cell, pattern.cell_size
    n_behind = pattern.size - cell - size
    base = pattern.size - 1 - size
    sizes = list(map(len, shown))
    heads = {n: _SHOWN_HEAD.pack(rows[0], base + n) for n in set(sizes)}
    counts = {n: _SIZE.pack(n) for n in heads}
    fields = Struct(f"{head}x{cell - 4 - head}s{4 + size}x{n_behind}s")
    found = list(chain.from_iterable(fields.iter_unpack(rows)))
    columns = (map(heads.__getitem__, sizes), found[0::2], map(counts.__getitem__, sizes), shown, found[1::2])
    return b"".join(chain.from_iterable(zip(*columns, strict=True)))
