"""A socket during log-in: bytes are asked for by count, and what was not asked for stays for the relay.

One reason to change: how log-in reads and writes.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from proxy.errors import ProtocolViolation
from proxy.wire.framing import LENGTH

_HIGH_WATER: Final = 64 * 1024


class Vanished(ConnectionError):
    """The peer closed the connection where it owed bytes."""


class Edge(asyncio.Protocol):
    """One leg until the relay takes its transport. At most one reader waits at a time."""

    def __init__(self, received: bytes = b"") -> None:
        self.transport: asyncio.Transport
        self.is_ended = False  # the peer sends no more
        self.is_ending = False  # nor do we
        self._buffer = bytearray(received)
        self._is_paused = False
        self._n_wanted = 0
        self._waiter: asyncio.Future[None] | None = None

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises Vanished when they will not come."""
        while len(self._buffer) < size:
            if self.is_ended:
                raise Vanished("the peer closed the connection")
            self._n_wanted = size
            self._resume()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter, self._n_wanted = None, 0
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def message(self, limit: int) -> tuple[int, bytes]:
        """(type byte, body) of the next message. Raises ProtocolViolation over `limit` bytes, Vanished."""
        head = await self.exactly(5)
        size = LENGTH.unpack_from(head, 1)[0]
        if not 4 <= size <= limit:
            raise ProtocolViolation("invalid message length", severity="FATAL")
        return head[0], await self.exactly(size - 4)

    def write(self, message: bytes) -> None:
        self.transport.write(message)

    def take(self) -> bytes:
        """What has come and nobody asked for."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        self._resume()
        return taken

    # --- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, chunk: bytes) -> None:
        if self.is_ending:
            return
        self._buffer += chunk
        if len(self._buffer) >= max(_HIGH_WATER, self._n_wanted):
            self._is_paused = True
            self.transport.pause_reading()
        if self._waiter is not None and len(self._buffer) >= self._n_wanted and not self._waiter.done():
            self._waiter.set_result(None)

    def eof_received(self) -> bool:
        self._end()
        is_plain = self.transport.get_extra_info("sslcontext") is None
        return is_plain and not self.is_ending  # the other direction stays open

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()

    def _end(self) -> None:
        self.is_ended = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
