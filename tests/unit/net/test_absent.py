"""A database that the server does not have: its refusal passes, nothing else does."""

from __future__ import annotations

import pytest

from proxy.net.absent import Absent
from proxy.session.interface import Close
from proxy.wire.framing import frame

AUTH_OK = frame(b"R", b"\0\0\0\0")
REFUSAL = frame(b"E", b'SFATAL\0VFATAL\0C3D000\0Mdatabase "x" does not exist\0\0')


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_refusal_of_the_server_passes_as_it_came(size: int) -> None:
    """Cut anywhere, byte for byte, with the close left to the server."""
    connection, told = Absent(), b""
    stream = AUTH_OK + REFUSAL
    for start in range(0, len(stream), size):
        connection.server_data(stream[start : start + size])
        step = connection.step()
        assert (step.to_server, step.close) == (b"", None)
        told += step.to_client
    assert told == stream


@pytest.mark.parametrize(
    "message", [frame(b"S", b"a\0b\0"), frame(b"Z", b"I"), b"R\0\0\0\0", b"E\x7f\xff\xff\xff"]
)
def test_server_that_serves_after_all_ends_the_connection(message: bytes) -> None:
    """Without a catalog nothing may pass, in neither direction, now or later."""
    connection = Absent()
    connection.client_data(frame(b"Q", b"SELECT 1\0"))
    connection.server_data(AUTH_OK + message)
    step = connection.step()
    assert step.to_client.startswith(AUTH_OK + b"E")
    assert b"C08006\0" in step.to_client
    assert (step.to_server, step.close) == (b"", Close.GRACEFUL)
    connection.server_data(REFUSAL)
    assert connection.step().to_client == b""
