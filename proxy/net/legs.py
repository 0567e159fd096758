"""The two sockets of a relay, as protocols: what comes is pushed into the session, inside the callback.

A chunk that is a whole usual exchange goes the session's short way and leaves at once. A socket is read when none
of its `Pause` reasons stands. One reason to change: how bytes move between a socket and the session.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from enum import IntFlag
from typing import Final, Protocol

from proxy.audit.events import Event
from proxy.session.interface import ClientConnection

HIGH_WATER: Final = 64 * 1024


class Ends(Protocol):
    """The relay, as its sockets see it."""

    def pump(self) -> None: ...

    def record(self, events: Sequence[Event]) -> None: ...

    def fail(self, error: Exception) -> None: ...

    def client_ended(self, transport: asyncio.Transport) -> bool: ...

    def client_lost(self) -> None: ...

    def server_ended(self) -> None: ...

    def server_lost(self) -> None: ...


class Pause(IntFlag):
    NONE = 0
    PEER_FULL = 1
    WORK = 2
    HELD = 4


Push = Callable[[bytes], None]
Shorten = Callable[[bytes], bytes | None]


class Leg(asyncio.Protocol):
    """One socket under the relay. `push` and the short way are the session's, `pump` the relay's."""

    __slots__ = ("_direct", "_pause", "_pump", "_push", "_relay", "_shorten", "peer", "transport")

    def __init__(self, relay: Ends, transport: asyncio.Transport, push: Push, shorten: Shorten) -> None:
        self._relay = relay
        self._pump = relay.pump
        self._push = push
        self._shorten = shorten
        self._pause = Pause.NONE
        self.transport = transport
        self.peer: Leg = self
        self._direct = _direct_socket(transport)
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def write(self, chunk: bytes) -> None:
        """Sends at once what the socket takes. The loop would first serve all sockets of its turn, and server and
        clients would wait for each other's turns instead of working beside the proxy."""
        direct, transport = self._direct, self.transport
        if direct is not None and not transport.get_write_buffer_size() and not transport.is_closing():
            try:
                n_sent = direct.send(chunk)
            except OSError:  # full, or broken: the transport finds out which
                n_sent = 0
            if n_sent == len(chunk):
                return
            chunk = chunk[n_sent:]
        transport.write(chunk)

    def lost(self) -> None:
        """The transport is gone; what was sent directly went through a socket of our own."""
        if self._direct is not None:
            self._direct.close()
            self._direct = None

    def discard(self) -> None:
        """From here on what comes is read and dropped."""
        self._push = self._shorten = _drop
        self._pause = Pause.NONE
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def pause(self, reason: Pause) -> None:
        if not self._pause:
            self.transport.pause_reading()
        self._pause |= reason

    def resume(self, reason: Pause) -> None:
        if self._pause & reason:
            self._pause &= ~reason
            if not self._pause:
                self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.peer.pause(Pause.PEER_FULL)

    def resume_writing(self) -> None:
        self.peer.resume(Pause.PEER_FULL)


def _direct_socket(transport: asyncio.Transport) -> socket.socket | None:
    """A duplicate of a plain transport's socket: the same connection until it is closed, whatever becomes
    of the transport's own. None for TLS, whose bytes are made by the transport."""
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return None
    duplicate = socket.socket(fileno=os.dup(found.fileno()))
    duplicate.setblocking(False)
    return duplicate


def _drop(chunk: bytes) -> None:
    """After the close."""


class ClientLeg(Leg):
    __slots__ = ()

    def __init__(self, relay: Ends, transport: asyncio.Transport, connection: ClientConnection) -> None:
        super().__init__(relay, transport, connection.client_data, connection.request)

    def data_received(self, chunk: bytes) -> None:
        try:
            short = self._shorten(chunk)
            if short is not None:
                self.peer.write(short)
                return
            self._push(chunk)
        except Exception as error:
            self._relay.fail(error)
        else:
            self._pump()

    def eof_received(self) -> bool:
        return self._relay.client_ended(self.transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost()
        self._relay.client_lost()


class ServerLeg(Leg):
    __slots__ = ("_events",)

    def __init__(self, relay: Ends, transport: asyncio.Transport, connection: ClientConnection) -> None:
        super().__init__(relay, transport, connection.server_data, connection.reply)
        self._events = connection.events

    def data_received(self, chunk: bytes) -> None:
        try:
            short = self._shorten(chunk)
            if short is not None:
                self.peer.write(short)
                if self._events:
                    self._relay.record(self._events[:])
                    self._events.clear()
                return
            self._push(chunk)
        except Exception as error:
            self._relay.fail(error)
        else:
            self._pump()

    def eof_received(self) -> bool:
        self._relay.server_ended()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost()
        self._relay.server_ended()
        self._relay.server_lost()
