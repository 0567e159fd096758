"""A TCP relay between a client and a server that records, delays, fragments, cuts, resets and half-closes.

Runs in a thread with a loop of its own, so that blocking drivers can talk through it. One reason to change: a
fault or a record that tests want.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong on the way from the server to the client, and from the client to the server."""

    fragment: int = 0  # largest piece passed on at once, 0: as read
    delay_s: float = 0.0  # before each piece
    cut_after: int | None = None  # so many bytes of the server are passed, then both sides are closed
    reset: bool = False  # a cut is a TCP reset
    half_close_after: int | None = None  # after so many bytes of the client the server hears no more


@dataclass(slots=True)
class Conversation:
    """What passed over one connection."""

    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


class Cut(Exception):
    """The fault struck."""


class Relay:
    """Up between `with` and its end; clients connect to `port`."""

    def __init__(self, target_port: int, faults: Faults | None = None) -> None:
        self.target_port = target_port
        self.faults = faults or Faults()
        self.conversations: list[Conversation] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(_awaited(work), self._loop).result(timeout=30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (Cut, OSError, asyncio.CancelledError):
            if self.faults.reset:
                _arm_reset(writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Conversation()
        self.conversations.append(talk)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server_writer, talk.sent, self.faults.half_close_after))
                group.create_task(self._pump(server_reader, writer, talk.received, None, self.faults.cut_after))
        except* (Cut, OSError) as errors:
            raise Cut from errors
        finally:
            server_writer.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        record: bytearray,
        end_after: int | None = None,
        cut_after: int | None = None,
    ) -> None:
        while chunk := await source.read(65536):
            limit = end_after if end_after is not None else cut_after
            allowed = chunk if limit is None else chunk[: max(0, limit - len(record))]
            record += allowed
            await self._pass(allowed, target)
            if cut_after is not None and len(record) >= cut_after:
                raise Cut
            if end_after is not None and len(record) >= end_after:
                break
        target.write_eof()

    async def _pass(self, chunk: bytes, target: asyncio.StreamWriter) -> None:
        step = self.faults.fragment or max(1, len(chunk))
        for at in range(0, len(chunk), step):
            if self.faults.delay_s:
                await asyncio.sleep(self.faults.delay_s)
            target.write(chunk[at : at + step])
            await target.drain()
            if self.faults.fragment:
                await asyncio.sleep(0)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _arm_reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
