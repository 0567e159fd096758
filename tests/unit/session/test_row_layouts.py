"""Rows with one sealed column are read by the layout of the row before: any other layout is read all the same."""

from __future__ import annotations

import pytest

from proxy.errors import CellNotOpen, ProtocolViolation
from proxy.session.cells import OpenColumn, RowOpener
from proxy.session.statements import ReadGrant
from proxy.wire.framing import build_row, frame, scan_frames, split_row
from tests.unit.session.memory_keys import MemoryKeys
from tests.unit.sql import worlds
from tests.unit.sql.catalogs import SealedColumn

FRONTS: list[list[bytes | None]] = [
    [b"1", b"name"],
    [b"22", b"name"],
    [b"22", None],
    [None, None],
    [None, b""],
    [b"1", b"name"],
    [b"1", b"name"],
    [b"", b"a much longer name than before"],
]


def opener(keys: MemoryKeys, is_binary: bool = True, n_columns: int = 4) -> RowOpener:
    column = OpenColumn(SealedColumn(1, 3, worlds.SSN), 2, is_binary, None)
    return RowOpener([column], n_columns, keys, ReadGrant())


def cell(keys: MemoryKeys, display: bytes) -> bytes:
    sealing, tokens = keys.sealing(worlds.SSN, "1"), keys.tokens(worlds.SSN, "1")
    assert sealing is not None
    assert tokens is not None
    made = sealing.seal(display, tokens.token(display), ())
    assert isinstance(made, bytes)
    return made


def rows_of(data: bytes) -> list[list[bytes | None]]:
    frames, rest = scan_frames(data)
    assert rest == len(data)
    return [split_row(data[start + 5 : end]) for _, start, end in frames]


@pytest.mark.parametrize("is_binary", [True, False])
def test_rows_of_changing_layouts_open_alike(is_binary: bool) -> None:
    """Sizes and NULLs before the cell differ from row to row; every row comes out with its own values."""
    keys = MemoryKeys()
    rows, expected = [], []
    for number, front in enumerate(FRONTS * 3):
        display = b"%d" % number * (number % 5)
        envelope = cell(keys, display)
        shown: bytes | None = display
        raw: bytes | None = envelope if is_binary else b"\\x" + envelope.hex().encode()
        if number % 7 == 3:
            raw = shown = None
        rows.append(frame(b"D", build_row([*front, raw, b"behind"])))
        expected.append([*front, shown, b"behind"])
    data = b"".join(rows)
    for cut in (len(data), len(data) - 1, len(rows[0]) + 6):
        opening = opener(keys, is_binary)
        first = opening.rows(data[:cut], 0)
        rest = opening.rows(data, first.position)
        assert rows_of(b"".join(first.parts) + b"".join(rest.parts)) == expected


@pytest.mark.parametrize("n_columns", [0, 1, 3, 5])
def test_row_with_other_columns_than_described_is_refused(n_columns: int) -> None:
    """The count of columns is part of the layout."""
    keys = MemoryKeys()
    row = frame(b"D", build_row([b"x"] * n_columns))
    with pytest.raises(ProtocolViolation):
        opener(keys).rows(row + row, 0)


@pytest.mark.parametrize(
    "last", [[None, None, None, None], [b"1", None, None, b""], [b"", b"n" * 40, None, None]]
)
def test_shorter_last_row_of_a_buffer_is_taken(last: list[bytes | None]) -> None:
    """A row is whole by its own length, however long the one before it was."""
    keys = MemoryKeys()
    first = frame(b"D", build_row([b"1", b"n" * 90, cell(keys, b"x"), b"b"]))
    data = first + frame(b"D", build_row(last))
    for cut in range(len(first), len(data) + 1):
        done = opener(keys).rows(data[:cut], 0)
        assert (done.n_rows, done.position) == ((2, cut) if cut == len(data) else (1, len(first)))


@pytest.mark.parametrize("n_sealed", [1, 2])
@pytest.mark.parametrize("body", [b"", b"\0", b"\0\4", b"\0\4\0\0\0\1x", b"\0\4\0\0\0\1x\0\0\0\1y"])
def test_row_too_short_for_its_columns_is_refused_at_the_end_of_a_buffer(body: bytes, n_sealed: int) -> None:
    """What is whole is consumed or refused, never left for another step."""
    keys = MemoryKeys()
    columns = [OpenColumn(SealedColumn(1, 3, worlds.SSN), skip, True, None) for skip in (2, 0)]
    good = frame(b"D", build_row([b"1", b"n", cell(keys, b"x"), cell(keys, b"y")]))
    for before in (b"", good):
        opening = RowOpener(columns[:n_sealed], 4, keys, ReadGrant())
        with pytest.raises((ProtocolViolation, CellNotOpen)):
            opening.rows(before + frame(b"D", body), 0)
        assert opening.partial.position == len(before)


def test_row_cut_inside_its_columns_is_refused() -> None:
    """A row that ends before its sealed column is no row, whatever follows it in the buffer."""
    keys = MemoryKeys()
    short = frame(b"D", b"\0\4" + b"\0\0\0\1x")
    with pytest.raises((ProtocolViolation, CellNotOpen)):
        opener(keys).rows(short + b"\xff" * 64, 0)


@pytest.mark.parametrize("position", [0, 3, 4, 8, 12, 30, 45, -1])
def test_changed_byte_behind_good_rows_does_not_open(position: int) -> None:
    """The short way of the rows before opens nothing that `open` would not."""
    keys = MemoryKeys()
    good = cell(keys, b"good")
    bad = bytearray(good)
    bad[position] ^= 1
    data = b"".join(frame(b"D", build_row([b"1", b"n", value, b"b"])) for value in (good, good, bytes(bad)))
    opening = opener(keys)
    with pytest.raises(CellNotOpen):
        opening.rows(data, 0)
    assert opening.partial.n_rows == 2
