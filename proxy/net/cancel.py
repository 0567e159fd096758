"""CancelRequest (manual: "Canceling Requests in Progress"): relayed as it is, on a server connection of its own.

Process id and key are the server's own, so nothing is looked up and any worker can serve it. The caller's socket
closes after the server's, since clients take that as "the signal was sent".
One reason to change: how a cancel reaches the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct

from proxy.errors import PgsealError
from proxy.net.edge import Vanished
from proxy.net.gate import Gate
from proxy.net.server_leg import connect
from proxy.net.startup import CANCEL_REQUEST


def cancel_packet(key: bytes) -> bytes:
    """int32 length, int32 code, body of BackendKeyData (process id, secret)."""
    return struct.pack("!ii", 8 + len(key), CANCEL_REQUEST) + key


async def send_cancel(gate: Gate, packet: bytes) -> None:
    """Sends a whole CancelRequest and waits for the server to close. A server that cannot be reached has nothing
    to cancel: there is no answer to a CancelRequest, not even then."""
    with contextlib.suppress(PgsealError, OSError, TimeoutError):
        server = await connect(gate.server)
        try:
            server.edge.write(packet)
            async with asyncio.timeout(gate.server.timeout_s):
                with contextlib.suppress(Vanished):
                    await server.edge.exactly(1)
        finally:
            server.edge.transport.close()
