"""How far a run of rows goes that need no look.

The client is sent them as they came, so only their ends matter. They are walked from one length to the next;
where rows are of one size, the heads of many of them stand at one distance, and a slice with that size as its
step compares all of them at once. The first head that is another ends the stretch: nothing is guessed.

    type (1) length (4) ...        type (1) length (4) ...
    |<------- step ------->|<------- step ------->|

One reason to change: how the end of such a run is found.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

FIRST: Final = 16  # rows compared at first, several times as many each time that all of them were alike
MOST: Final = 4096
GROWTH: Final = 8
WALK_LEAST: Final = 4  # rows walked where there was no stretch, twice as many each time
WALK_MOST: Final = 256
HEAD: Final = Struct(">BI")

_head_at = HEAD.unpack_from


def rows_end(buffer: bytes, start: int, end: int) -> int:
    """The offset behind the whole messages that are of the type of the one from `start` to `end`."""
    size, kind = len(buffer), buffer[start]
    last = size - HEAD.size
    n, walk = FIRST, WALK_LEAST
    while end <= last and buffer[end] == kind:
        step, head = end - start, buffer[start : start + HEAD.size]
        if step >= HEAD.size and buffer.startswith(head, end):
            n_alike = _n_alike(buffer, end, head, step, min(n, (size - end) // step))
            end += n_alike * step
            start = end - step
            if n_alike == n:
                n, walk = min(n * GROWTH, MOST), WALK_LEAST
                continue
            n = FIRST
        for _ in range(walk):
            if end > last:
                break
            found, length = _head_at(buffer, end)
            behind = end + 1 + length
            if found != kind or behind > size:
                return end
            start, end = end, behind
        walk = min(walk * 2, WALK_MOST)
    return end


def _n_alike(buffer: bytes, start: int, head: bytes, step: int, n: int) -> int:
    """How many of the `n` messages of this size from `start` on begin with this head, up to the first other."""
    for offset in range(HEAD.size - 1, -1, -1):  # the last byte of the length is most likely to differ
        column = buffer[start + offset : start + n * step : step]
        n -= len(column.lstrip(head[offset : offset + 1]))
    return n
