"""A close towards a peer that is gone, under asyncio's own loop, where a half-close raises."""

from __future__ import annotations

import asyncio
import socket
import struct

from proxy.net.relay import close_gently

RESET_AT_CLOSE = struct.pack("ii", 1, 0)


async def test_close_gently_after_a_reset_ends_the_transport() -> None:
    """ENOTCONN stays inside; the socket is closed all the same."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    accepted.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
    transport.pause_reading()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    client.close()
    close_gently(transport, has_peer_ended=False)
    assert transport.is_closing()
