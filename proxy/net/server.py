"""The listening proxy of one process: accepts, logs clients in, hands them to their relays, stops in good order.

`Server` is what a worker runs and what tests and the demo run in their own loop:

    server = await serve(settings, services)      # listening; server.port is known
    await server.close()                          # idle clients at once, the others within stop_timeout_s

One reason to change: the life of a listener and of its connections.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from proxy.audit.events import SystemEvent
from proxy.config import AuthMode
from proxy.errors import PgsealError
from proxy.net.cancel import cancel_packet, send_cancel
from proxy.net.edge import Edge
from proxy.net.gate import Gate
from proxy.net.handshake import Dropped, Opening, open_client
from proxy.net.login import ClientLeg, Exchange, Proof, Refused, ServerSide, shown
from proxy.net.relay import Relay, Work, close, close_gently, contained
from proxy.net.scram import VerifierDiffers
from proxy.net.server_leg import connect, tune
from proxy.net.settings import NetSettings
from proxy.net.startup import CANCEL_REQUEST, Replication, Startup, decoded_parameters, parse_startup
from proxy.session.interface import ClientConnection
from proxy.wire.backend import error_response

_BACKLOG: Final = 1024
_POLL_S: Final = 0.05
_INT32 = struct.Struct("!i")
_TABLE_FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_log = logging.getLogger("pgseal.net")


@dataclass(frozen=True, slots=True)
class Login:
    """Who logged in, as a session needs it. `proved`: by a certificate or a verifier kept by the proxy, which
    the database cannot change. `parameters` are those of the start-up packet, in order."""

    user: str
    database: str
    parameters: tuple[tuple[str, str], ...]
    proved: bool
    method: str
    client_address: str
    is_client_tls: bool
    is_server_tls: bool
    minor: int
    is_replication: bool


class Services(Work, Protocol):
    """What the process gives its connections."""

    async def open(self, login: Login) -> ClientConnection:
        """The session of a client just logged in. A PgsealError refuses it."""
        ...

    def closed(self, connection: ClientConnection) -> None:
        """Both sockets of this session are gone."""
        ...


@dataclass(slots=True)
class Counters:
    """Since the start of this process; `n_open` is now."""

    n_accepted: int = 0
    n_open: int = 0
    n_logins: int = 0
    n_refused_logins: int = 0
    n_cancels: int = 0


class Server:
    """One listener with its connections. `gate` may be replaced: connections to come use the new one."""

    def __init__(self, settings: NetSettings, gate: Gate, work: Services) -> None:
        self.gate = gate
        self.work = work
        self.counters = Counters()
        self.port = 0
        self._settings = settings
        self._relays: dict[Relay, ClientConnection] = {}
        self._jobs: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._deadline = 0.0

    def listen(self) -> None:
        """Raises OSError where the address is taken."""
        self._listener = bind(self._settings.host, self._settings.port)
        self._listener.listen(_BACKLOG)
        self.port = self._listener.getsockname()[1]
        self.spawn(self._accept(self._listener))

    async def close(self, timeout_s: float | None = None) -> None:
        """Stops accepting, closes idle clients, gives the others `timeout_s`, then closes them too."""
        self._deadline = time.monotonic() + (self._settings.stop_timeout_s if timeout_s is None else timeout_s)
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        while self._relays and time.monotonic() < self._deadline:
            self._stop_relays(only_idle=True)
            await asyncio.sleep(_POLL_S)
        self._stop_relays(only_idle=False)
        for relay in list(self._relays):  # a client that stays on is not waited for: what it ran is recorded now
            self.forget(relay)
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def hurry(self) -> None:
        """A `close` under way waits for no client any longer."""
        self._deadline = 0.0

    def _stop_relays(self, only_idle: bool) -> None:
        for relay in list(self._relays):
            if relay.is_idle or not only_idle:
                relay.stop()

    # --- what a relay asks for (`relay.Host`)

    def spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(contained(job))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def cancel(self, key: bytes) -> None:
        if key:
            await send_cancel(self.gate, cancel_packet(key))

    def forget(self, relay: Relay) -> None:
        connection = self._relays.pop(relay, None)
        if connection is not None:
            self.counters.n_open -= 1
            self.work.closed(connection)

    # --- accepting

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while self._listener is listener:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _TABLE_FULL:
                    _log.warning(f"cannot accept: {errno.errorcode[error.errno]}")
                    await asyncio.sleep(_POLL_S)
                elif listener.fileno() < 0:
                    return
                continue
            self.counters.n_accepted += 1
            self.spawn(self._serve(sock))

    async def _serve(self, sock: socket.socket) -> None:
        """One accepted socket up to the relay's start. Nobody hears of what a stranger sent."""
        try:
            async with asyncio.timeout(self._settings.login_timeout_s):
                tune(sock)
                opening = await open_client(sock, self.gate.client_context, self.gate.binding)
                await self._admit(opening)
        except (Dropped, OSError, TimeoutError) as error:  # Vanished and ssl.SSLError are OSErrors
            _log.debug(f"connection dropped: {type(error).__name__}")
            if sock.fileno() >= 0:
                sock.close()

    async def _admit(self, opening: Opening) -> None:
        client = opening.client
        if opening.code == CANCEL_REQUEST:
            self.counters.n_cancels += 1
            size = 8 + len(opening.body)
            await send_cancel(self.gate, b"".join((_INT32.pack(size), _INT32.pack(opening.code), opening.body)))
            close(client.edge.transport)
            return
        try:
            await contained(self._log_in(opening), lambda error: _refuse(client, error))
        except BaseException:
            client.edge.transport.abort()
            raise

    async def _log_in(self, opening: Opening) -> None:
        """Start-up packet to relay. Every failure is told to the client, recorded, and ends both sockets."""
        client, gate, user = opening.client, self.gate, ""
        try:
            startup = parse_startup(opening.code, opening.body)
            user = startup.user
            gate.check(startup, client)
            server = await connect(gate.server)
            try:
                proof = await Exchange(gate.mode, gate.verifiers, startup, client, server).run()
                gate.check_accepted(startup)
                login = _login(startup, proof, client, server)
                connection = await self.work.open(login)
            except BaseException:
                server.edge.transport.abort()
                raise
        except (PgsealError, Refused) as error:
            self.counters.n_refused_logins += 1
            self.work.record(_refusal_events(error, user, client, gate.mode))
            if isinstance(error, PgsealError):
                client.edge.write(shown(error, user))
            _end(client.edge)
            return
        self._start(login, connection, client, server, proof)

    def _start(
        self, login: Login, connection: ClientConnection, client: ClientLeg, server: ServerSide, proof: Proof
    ) -> None:
        self.counters.n_logins += 1
        self.counters.n_open += 1
        self.work.record((_login_event(login),))
        relay = Relay(connection, self)
        self._relays[relay] = connection
        relay.start(client.edge, server.edge, proof.server_ok)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket's address, shared with the other workers (SO_REUSEPORT)."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


async def serve(settings: NetSettings, work: Services) -> Server:
    """A listening server in the running loop. Raises ConfigError with every reason, OSError for the address."""
    server = Server(settings, Gate.open(settings), work)
    server.listen()
    return server


def _end(edge: Edge) -> None:
    edge.is_ending = True
    close_gently(edge.transport, edge.is_ended)


def _refuse(client: ClientLeg, error: PgsealError) -> None:
    client.edge.write(error_response(error))
    _end(client.edge)


def _login(startup: Startup, proof: Proof, client: ClientLeg, server: ServerSide) -> Login:
    return Login(
        user=startup.user,
        database=startup.database,
        parameters=decoded_parameters(startup),
        proved=proof.proved,
        method=proof.method,
        client_address=client.address,
        is_client_tls=client.is_tls,
        is_server_tls=server.is_tls,
        minor=startup.forwarded_minor,
        is_replication=startup.replication is not Replication.NONE,
    )


def _login_event(login: Login) -> SystemEvent:
    fields = (
        ("client_address", login.client_address),
        ("database", login.database),
        ("method", login.method),
        ("outcome", "ok"),
        ("proved", login.proved),
        ("user", login.user),
    )
    return SystemEvent(time.time(), "login", fields)


def _refusal_events(
    error: PgsealError | Refused, user: str, client: ClientLeg, mode: AuthMode
) -> tuple[SystemEvent, ...]:
    who = (("client_address", client.address), ("user", user))
    now = time.time()
    refusal = SystemEvent(now, "login", (*who, ("outcome", "refused"), ("sqlstate", error.sqlstate)))
    if isinstance(error, VerifierDiffers) and mode is AuthMode.PINNED:
        return (refusal, SystemEvent(now, "security.wrong_verifier", who))
    return (refusal,)
