"""A database without rules: bytes as they came, and when a stop may close."""

from __future__ import annotations

from proxy.session.connection import Splice
from proxy.wire.frontend import build_query


def test_splice_bytes_of_both_sides_leave_once_as_they_came() -> None:
    """Whatever they are; a step without news is empty."""
    splice = Splice()
    splice.client_data(b"\xff\0")
    splice.client_data(b"Q")
    splice.server_data(b"anything")
    step = splice.step()
    assert (step.to_server, step.to_client) == (b"\xff\0Q", b"anything")
    assert (splice.step().to_server, splice.step().to_client) == (b"", b"")


def test_splice_is_idle_between_the_last_reply_and_the_next_question() -> None:
    """Also when ReadyForQuery comes in pieces; never in a block, nor before the first one."""
    splice = Splice()
    assert not splice.is_idle
    for piece in (b"R\0\0\0\x08\0\0\0\0Z\0", b"\0\0\5", b"I"):
        assert not splice.is_idle
        splice.server_data(piece)
    assert splice.is_idle
    splice.client_data(build_query(b"BEGIN"))
    assert not splice.is_idle
    splice.server_data(b"C\0\0\0\nBEGIN\0Z\0\0\0\5T")
    assert not splice.is_idle
    splice.server_data(b"Z\0\0\0\5I")
    assert splice.is_idle
