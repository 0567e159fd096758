"""From accept to the first whole packet: SSLRequest, GSSENCRequest, direct TLS, StartupMessage, CancelRequest.

Before TLS the plain socket is read by exact counts (the first byte is only peeked at, it may begin a TLS
ClientHello), so nothing that belongs to TLS is ever read by us and nothing sent in clear before TLS is ever taken
for something inside it (CVE-2021-23222). Each request for encryption is answered once; GSS always with N. A
length that cannot be is answered as PostgreSQL does: by closing. One reason to change: the phase before start-up.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Final

from proxy.hosts import is_loopback
from proxy.net.edge import Edge, Vanished
from proxy.net.login import ClientLeg
from proxy.net.startup import GSSENC_REQUEST, SSL_REQUEST, check_request_size
from proxy.net.tls import ALPN, peer_common_name

_HEAD: Final = struct.Struct("!ii")
_TLS_RECORD: Final = 0x16


class Dropped(Exception):
    """The connection is closed without a word; `args` say why, for a debug log."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A client's first packet: `code` of it and what follows the code."""

    client: ClientLeg
    code: int
    body: bytes


async def open_client(sock: socket.socket, context: ssl.SSLContext | None, binding: bytes) -> Opening:
    """Takes the socket over. Raises Dropped, Vanished, OSError (TLS failures too); then the caller closes it."""
    loop = asyncio.get_running_loop()
    answered: set[int] = set()
    head = b""
    is_direct = await _first_byte(sock) == _TLS_RECORD
    is_tls = is_direct
    while not is_tls:
        head = await _read(loop, sock, _HEAD.size)
        code = _code(head)
        if code not in (SSL_REQUEST, GSSENC_REQUEST) or code in answered:
            break
        answered.add(code)
        is_tls = code == SSL_REQUEST and context is not None
        if is_tls and _has_more(sock):
            raise Dropped("bytes in clear behind an SSLRequest")
        await loop.sock_sendall(sock, b"S" if is_tls else b"N")
        head = b""
    if is_tls and context is None:
        raise Dropped("direct TLS, and none is configured")
    edge = Edge(head)
    await loop.connect_accepted_socket(lambda: edge, sock, ssl=context if is_tls else None)
    try:
        client = _leg(edge, sock, is_tls, binding)
        if is_direct and edge.transport.get_extra_info("ssl_object").selected_alpn_protocol() != ALPN:
            raise Dropped("direct TLS without ALPN")
        return await _packet(client, answered)
    except BaseException:
        edge.transport.abort()
        raise


async def _packet(client: ClientLeg, answered: set[int]) -> Opening:
    """The first packet that is not about encryption; inside TLS a GSSENCRequest may still come first."""
    while True:
        head = await client.edge.exactly(_HEAD.size)
        code = _code(head)
        if code != GSSENC_REQUEST or code in answered:
            size = _HEAD.unpack(head)[0]
            return Opening(client, code, await client.edge.exactly(size - _HEAD.size))
        answered.add(code)
        client.edge.write(b"N")


def _code(head: bytes) -> int:
    size, code = _HEAD.unpack(head)
    refusal = check_request_size(size, code)
    if refusal is not None:
        raise Dropped(refusal.message)
    return int(code)


def _leg(edge: Edge, sock: socket.socket, is_tls: bool, binding: bytes) -> ClientLeg:
    name = sock.getpeername()
    is_local = sock.family == socket.AF_UNIX or is_loopback(str(name[0]))
    address = "local" if sock.family == socket.AF_UNIX else f"{name[0]}:{name[1]}"
    if not is_tls:
        return ClientLeg(edge, address, False, is_local)
    peer = edge.transport.get_extra_info("ssl_object")
    return ClientLeg(edge, address, True, is_local, peer_common_name(peer), binding)


async def _first_byte(sock: socket.socket) -> int:
    while True:
        try:
            seen = sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(sock)
            continue
        if not seen:
            raise Vanished("closed before the first byte")
        return seen[0]


def _has_more(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _wake, waiter)
    try:
        await waiter
    finally:
        loop.remove_reader(sock)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def _read(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, and a wrong length as soon as four have come, as a server would."""
    taken = b""
    while len(taken) < size:
        chunk = await loop.sock_recv(sock, size - len(taken))
        if not chunk:
            raise Vanished("closed inside a packet")
        taken += chunk
        if len(taken) >= 4 and check_request_size(int.from_bytes(taken[:4], "big", signed=True)) is not None:
            raise Dropped("invalid length of startup packet")
    return taken
