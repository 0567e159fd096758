"""The end of a run of rows that need no look: found by sizes, the same as by going from row to row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.session.skipping import FIRST, GROWTH, MOST, rows_end
from proxy.wire.framing import frame

LENGTHS = (5, 6, 261, 65541)  # whole messages, whose lengths differ in one byte, and in others


def end_of_first(buffer: bytes) -> int:
    return 1 + int.from_bytes(buffer[1:5], "big")


def walked(buffer: bytes) -> int:
    """From row to row."""
    position = 0
    while len(buffer) - position >= 5 and buffer[position] == buffer[0]:
        end = position + 1 + int.from_bytes(buffer[position + 1 : position + 5], "big")
        if end > len(buffer):
            break
        position = end
    return position


runs = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([1, 2, FIRST - 1, FIRST, FIRST + 1, FIRST * (GROWTH + 1) + 1])),
    min_size=1,
    max_size=12,
)


@given(runs=runs, fill=st.sampled_from([b"D", b"\0", b"D\0\0\0\6"]), cut=st.integers(0, 40))
def test_rows_of_any_sizes_end_where_a_walk_ends(runs: list[tuple[int, int]], fill: bytes, cut: int) -> None:
    """Stretches of one size, short and long, with values that look like heads, and a last row cut off."""
    data = b"".join(frame(b"D", (fill * 6)[:size]) * n for size, n in runs)
    whole = end_of_first(data)
    data = data[: max(whole, len(data) - cut)]
    assert rows_end(data, 0, whole) == walked(data)


def test_rows_whose_lengths_differ_in_one_byte_end_a_stretch() -> None:
    """Each byte of a head is compared: a row of another size in a long stretch is not stepped over."""
    for size in LENGTHS:
        for other in LENGTHS:
            data = b"".join(frame(b"D", bytes(n - 5)) for n in [size] * 40 + [other] + [size] * 40)
            assert rows_end(data + b"C\0\0\0\5x", 0, size) == len(data)


def test_rows_of_another_type_end_the_run() -> None:
    """A message of the same size and another type is not one of the run, wherever it stands."""
    for n in (1, 2, FIRST, FIRST + 1, MOST * 2):
        rows = frame(b"D", b"abc") * n
        assert rows_end(rows + frame(b"C", b"abc") * 40, 0, 8) == len(rows)


def test_rows_of_an_impossible_length_end_as_by_a_walk() -> None:
    """A length below that of a head moves on by what it says, as it does for any message."""
    data = b"D\0\0\0\1" * 30 + b"D" * 20
    assert rows_end(data, 0, end_of_first(data)) == walked(data)
