"""COPY data: cutting the stream anywhere changes nothing, what is written reads back, and any bytes end in rows
or in an error that is documented."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadCopyFormat, PgsealError
from proxy.values.copy_binary import SIGNATURE, TRAILER, Part, Tuples, build_row, split_row
from proxy.values.copy_csv import CsvFields
from proxy.values.copy_format import Dialect, Format
from proxy.values.copy_lines import Lines
from proxy.values.copy_text import TextFields

DIALECTS = (
    Dialect(),
    Dialect(delimiter=b"X", null=b"none"),
    Dialect(delimiter=b"_", null=b""),
    Dialect(Format.CSV, b",", b""),
    Dialect(Format.CSV, b";", b"NIL", b"'", b"\\"),
    Dialect(Format.CSV, b"1", b"n", b"a", b"a"),
    Dialect(Format.CSV, b",", b"\\N", b'"', b"'"),
)
dialects = st.sampled_from(DIALECTS)
pieces = st.lists(st.integers(1, 9), max_size=30)
alphabet = st.sampled_from([bytes((n,)) for n in b"aX1nN,;_'\"\\.\t\r\n\b\x00\xc3"] + ["\xe9".encode()])
texts = st.lists(alphabet, max_size=12).map(b"".join)
values = st.none() | texts
streams = st.lists(alphabet | st.sampled_from([b"\n", b"\n\\.\n", b"\r\n"]), max_size=60).map(b"".join)


def fields(dialect: Dialect) -> TextFields | CsvFields:
    return CsvFields(dialect) if dialect.format is Format.CSV else TextFields(dialect)


def lines(dialect: Dialect, chunks: list[bytes]) -> list[object]:
    """All lines with their ends and numbers, then the error, if there was one."""
    found: list[object] = []
    source = Lines(dialect)
    try:
        for chunk in [*chunks, None]:
            source.close() if chunk is None else source.push(chunk)
            while (line := source.next_line()) is not None:
                found.append((line, source.ending, source.number))
    except PgsealError as error:
        found.append((type(error), error.message, source.number))
    return found


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


@given(dialects, streams, pieces)
def test_lines_cut_anywhere_are_the_same(dialect: Dialect, data: bytes, sizes: list[int]) -> None:
    """Also their numbers, and where and how a bad stream fails."""
    assert lines(dialect, cut(data, sizes)) == lines(dialect, [data])
    assert lines(dialect, [data[n : n + 1] for n in range(len(data))]) == lines(dialect, [data])


@given(dialects, st.lists(st.lists(values, min_size=2, max_size=2), max_size=6))
def test_fields_written_as_postgresql_writes_read_back(dialect: Dialect, rows: list[list[bytes | None]]) -> None:
    """Every value, but one that the NULL string of the text format cannot be told from."""
    form = fields(dialect)
    data = b"".join(dialect.delimiter.join(form.raw(value) for value in row) + b"\n" for row in rows)
    found = []
    for line in lines(dialect, [data]):
        assert isinstance(line, tuple)
        raw = form.split(line[0])
        found.append([None if form.is_null(field) else form.content(field) for field in raw])
    is_told_apart = dialect.format is Format.CSV
    wanted = [[v if is_told_apart or v != dialect.null else None for v in row] for row in rows]
    if not any(value == dialect.null and not is_told_apart for row in rows for value in row if value):
        assert found == wanted


@given(dialects, streams)
def test_fields_of_any_line_join_to_that_line(dialect: Dialect, data: bytes) -> None:
    """Nothing between the delimiters is lost, whatever it means."""
    for found in lines(dialect, [data]):
        assert isinstance(found, tuple)
        if isinstance(found[0], bytes):
            raw = fields(dialect).split(found[0])
            assert dialect.delimiter.join(raw) == found[0]
            for field in raw:
                assert isinstance(fields(dialect).content(field), bytes)


@given(st.sampled_from(DIALECTS[3:]), texts)
def test_csv_quoted_value_is_never_null_and_reads_back(dialect: Dialect, value: bytes) -> None:
    """What a cell is written as."""
    form = CsvFields(dialect)
    raw = form.quoted(value)
    assert not form.is_null(raw)
    assert form.split(raw) == [raw]
    assert form.content(raw) == value


@given(st.lists(st.lists(st.none() | st.binary(max_size=9), min_size=3, max_size=3), max_size=5), pieces)
def test_tuples_cut_anywhere_are_the_same(rows: list[list[bytes | None]], sizes: list[int]) -> None:
    """Header, rows and trailer, each whole; built again they are the same bytes."""
    data = SIGNATURE + bytes(8) + b"".join(map(build_row, rows)) + TRAILER
    for chunks in (cut(data, sizes), [data[n : n + 1] for n in range(len(data))]):
        source, found = Tuples(3), []
        for chunk in chunks:
            source.push(chunk)
            while (part := source.next_part()) is not None:
                found.append(part)
        assert [kind for kind, _ in found] == [Part.HEADER, *([Part.ROW] * len(rows)), Part.TRAILER]
        assert b"".join(part for _, part in found) == data
        assert [split_row(part) for kind, part in found if kind is Part.ROW] == rows
        assert source.is_empty


@given(st.binary(max_size=60), st.integers(0, 3), pieces)
def test_tuples_of_any_bytes_end_in_parts_or_a_bad_format(data: bytes, n_columns: int, sizes: list[int]) -> None:
    """With and without a right header."""
    for begun in (b"", SIGNATURE + bytes(8)):
        source = Tuples(n_columns)
        taken = b""
        try:
            for chunk in cut(begun + data, sizes):
                source.push(chunk)
                while (part := source.next_part()) is not None:
                    taken += part[1]
        except BadCopyFormat:
            pass
        assert (begun + data).startswith(taken)
