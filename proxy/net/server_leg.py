"""A new connection to the PostgreSQL server: TCP or Unix socket, then TLS as configured.

What the server answers to SSLRequest before TLS is anyone's text (CVE-2024-10977): it is never shown.
One reason to change: how the server is reached.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Any, Final

from proxy.config import ServerConfig
from proxy.errors import CannotConnectNow, PgsealError, ServerUnreachable
from proxy.hosts import is_loopback
from proxy.net.edge import Edge
from proxy.net.login import ServerSide
from proxy.net.startup import SSL_REQUEST
from proxy.net.tls import peer_binding

_SSL_REQUEST: Final = struct.pack("!ii", 8, SSL_REQUEST)
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))


@dataclass(frozen=True, slots=True)
class ServerLeg:
    """Where the server is and how it is spoken to; `context` None: without TLS."""

    config: ServerConfig
    context: ssl.SSLContext | None
    timeout_s: float


async def connect(leg: ServerLeg) -> ServerSide:
    """A connected edge, nothing sent yet. Raises CannotConnectNow or ServerUnreachable, both FATAL."""
    try:
        async with asyncio.timeout(leg.timeout_s):
            sock = await _dial(leg.config)
            try:
                return await _start(leg, sock)
            except BaseException:
                sock.close()
                raise
    except TimeoutError:
        raise CannotConnectNow("the database server does not answer in time", severity="FATAL") from None
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", None) or error.reason or "handshake failed"
        raise ServerUnreachable(f"TLS to the database server: {reason}", severity="FATAL") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CannotConnectNow(f"cannot connect to the database server: {reason}", severity="FATAL") from None


def tune(sock: socket.socket) -> None:
    """No delay for small messages, and a peer that is gone is noticed within two minutes."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


async def _dial(server: ServerConfig) -> socket.socket:
    """The first address that accepts."""
    if server.host.startswith("/"):
        return await _open(socket.AF_UNIX, f"{server.host}/.s.PGSQL.{server.port}")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    failure = OSError("no address")
    for family, _, _, _, address in found:
        try:
            return await _open(family, address)
        except OSError as error:
            failure = error
    raise failure


async def _open(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        tune(sock)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _start(leg: ServerLeg, sock: socket.socket) -> ServerSide:
    config, context = leg.config, leg.context
    is_local = is_loopback(config.host)
    loop = asyncio.get_running_loop()
    edge = Edge()
    if context is None:
        await loop.create_connection(lambda: edge, sock=sock)
        return ServerSide(edge, is_tls=False, is_local=is_local)
    await _ask_for_tls(sock)
    transport, _ = await loop.create_connection(lambda: edge, sock=sock, ssl=context, server_hostname=config.host)
    binding = peer_binding(transport.get_extra_info("ssl_object"))
    return ServerSide(edge, True, is_local, binding, shows_certificate=config.cert is not None)


async def _ask_for_tls(sock: socket.socket) -> None:
    """Bytes behind the answer stay in the socket, for the TLS handshake to fail on."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, _SSL_REQUEST)
    answer = await loop.sock_recv(sock, 1)
    if answer != b"S":
        raise _no_tls(answer)


def _no_tls(answer: bytes) -> PgsealError:
    if answer == b"N":
        return ServerUnreachable("the database server does not support TLS", severity="FATAL")
    return CannotConnectNow("the database server refused the connection before TLS", severity="FATAL")
