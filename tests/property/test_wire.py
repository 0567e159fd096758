"""Frames, rows and messages for any bytes: the identity, or a ProtocolViolation, nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ProtocolViolation
from proxy.wire import backend, frontend
from proxy.wire.framing import build_row, frame, scan_frames, split_row

name = st.binary(max_size=20).filter(lambda raw: b"\0" not in raw)
value = st.none() | st.binary(max_size=50)
formats = st.lists(st.integers(0, 1), max_size=4).map(tuple)
oid = st.integers(0, 2**32 - 1)
int16, int32 = st.integers(-(2**15), 2**15 - 1), st.integers(-(2**31), 2**31 - 1)
fields = st.builds(backend.Field, name, oid, int16, oid, int16, int32, st.integers(0, 1))
READERS: list[Callable[[bytes], object]] = [
    split_row,
    frontend.parse_parse,
    frontend.parse_bind,
    backend.parse_row_description,
    backend.parse_parameter_description,
    backend.parse_parameter_status,
    backend.parse_error_fields,
    scan_frames,
]


@given(st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=60)), max_size=8), st.data())
def test_frames_survive_any_cut(messages: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """All at once, or piece by piece from the offset on: the same frames."""
    stream = b"".join(frame(bytes((kind,)), body) for kind, body in messages)
    cut = data.draw(st.integers(0, len(stream)))
    first, offset = scan_frames(stream[:cut])
    rest, end = scan_frames(stream, offset)
    found = [(kind, stream[start + 5 : stop]) for kind, start, stop in first + rest]
    assert found == messages and end == len(stream)


@given(st.lists(value, max_size=20))
def test_row_is_its_values(values: list[bytes | None]) -> None:
    """Built, then split."""
    assert split_row(build_row(values)) == values


@given(name, name, st.lists(oid, max_size=9).map(tuple))
def test_parse_is_its_fields(statement: bytes, text: bytes, oids: tuple[int, ...]) -> None:
    """Built, then parsed."""
    message = frontend.Parse(statement, text, oids)
    assert frontend.parse_parse(frontend.build_parse(message)[5:]) == message


@given(name, name, st.lists(value, max_size=9), formats, st.booleans())
def test_bind_is_its_fields(
    portal: bytes, statement: bytes, values: list[bytes | None], results: tuple[int, ...], has_all: bool
) -> None:
    """Built, then parsed."""
    codes = tuple(n % 2 for n in range(len(values))) if has_all else (1,)
    message = frontend.Bind(portal, statement, codes, values, results)
    assert frontend.parse_bind(frontend.build_bind(message)[5:]) == message


@given(st.lists(fields, max_size=6).map(tuple))
def test_row_description_is_its_fields(described: tuple[backend.Field, ...]) -> None:
    """Built, then parsed."""
    assert backend.parse_row_description(backend.build_row_description(described)[5:]) == described


@pytest.mark.parametrize("reader", READERS)
@given(body=st.binary(max_size=200))
def test_any_bytes_read_or_violate(reader: Callable[[bytes], object], body: bytes) -> None:
    """No other error leaves a reader."""
    with contextlib.suppress(ProtocolViolation):
        reader(body)
