"""Frames and rows: whole, cut anywhere, and wrong."""

from __future__ import annotations

import pytest

from proxy.errors import ProtocolViolation
from proxy.wire.framing import build_row, frame, read_cstring, read_int16, scan_frames, split_row

STREAM = frame(b"D", b"") + frame(b"T", b"abc") + frame(b"Z", b"I" * 300)


def test_frames_are_found_with_their_bounds() -> None:
    """Type, start and end of each; the offset behind the last."""
    assert scan_frames(STREAM) == ([(ord("D"), 0, 5), (ord("T"), 5, 13), (ord("Z"), 13, 318)], 318)


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_stream_cut_anywhere_gives_the_same_frames(cut: int) -> None:
    """What is whole is found at once; the rest starts where the offset says."""
    first, offset = scan_frames(STREAM[:cut])
    rest, end = scan_frames(STREAM, offset)
    assert first + rest == scan_frames(STREAM)[0] and end == len(STREAM)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_length_that_cannot_count_itself_is_a_violation(length: int) -> None:
    """The least length is 4."""
    with pytest.raises(ProtocolViolation):
        scan_frames(b"D\0\0\0" + bytes((length,)) + b"xxxx")


def test_huge_length_is_only_a_partial_frame() -> None:
    """Nothing is allocated for what has not come."""
    assert scan_frames(b"D\xff\xff\xff\xff" + b"x" * 100) == ([], 0)


@pytest.mark.parametrize("values", [[], [None], [b""], [b"a", None, b"\0" * 70000], [b"x"] * 1664])
def test_row_built_is_the_row_that_was_split(values: list[bytes | None]) -> None:
    """NULL and empty stay apart."""
    assert split_row(build_row(values)) == values


@pytest.mark.parametrize("cut", range(len(build_row([b"abc", None, b""]))))
def test_row_cut_anywhere_is_a_violation(cut: int) -> None:
    """Every prefix of a row's body is refused."""
    with pytest.raises(ProtocolViolation):
        split_row(build_row([b"abc", None, b""])[:cut])


@pytest.mark.parametrize(
    "body", [b"\0\0x", b"\0\1\x7f\xff\xff\xffx", b"\xff\xff", b"\0\1\0\0\0\0x", b"\0\2\0\0\0\1a"]
)
def test_row_whose_sizes_disagree_is_a_violation(body: bytes) -> None:
    """Too long, too short, too many."""
    with pytest.raises(ProtocolViolation):
        split_row(body)


def test_string_without_its_end_is_a_violation() -> None:
    """A NUL must stand somewhere."""
    assert read_cstring(b"ab\0c", 1) == (b"b", 3)
    with pytest.raises(ProtocolViolation):
        read_cstring(b"abc", 0)


def test_number_beyond_the_end_is_a_violation() -> None:
    """Two bytes or nothing."""
    assert read_int16(b"\1\2", 0) == (258, 2)
    with pytest.raises(ProtocolViolation):
        read_int16(b"\1\2", 1)
