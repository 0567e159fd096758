"""The socket edge under test: a running `proxy.net` server with a session that only copies, and certificates.

One reason to change: how tests start the edge or make its certificates.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from proxy.audit.events import Event, StatementEvent, SystemEvent
from proxy.net.server import Login, Server, serve
from proxy.net.settings import NetSettings
from proxy.session.interface import ClientConnection, Need, Step


class CopyConnection:
    """A session that looks at nothing: what comes from one side goes to the other."""

    def __init__(self) -> None:
        self.server_key = b""
        self.is_idle = True
        self.has_client_ended = False
        self._to_server = b""
        self._to_client = b""
        self.events: list[StatementEvent] = []

    def request(self, chunk: bytes) -> bytes | None:
        return None

    def reply(self, chunk: bytes) -> bytes | None:
        return None

    def client_data(self, chunk: bytes) -> None:
        self.is_idle = False
        self._to_server += chunk

    def server_data(self, chunk: bytes) -> None:
        key = chunk.find(b"K\0\0\0\x0c")
        if not self.server_key and key >= 0:
            self.server_key = chunk[key + 5 : key + 13]
        self.is_idle = chunk.endswith(b"Z\0\0\0\x05I")
        self._to_client += chunk

    def client_eof(self) -> None:
        self.has_client_ended = True

    def server_eof(self) -> None:
        """Nothing is owed."""

    def step(self) -> Step:
        step = Step(self._to_server, self._to_client)
        self._to_server = self._to_client = b""
        return step


@dataclass
class CopyServices:
    """Remembers log-ins and events; `make` gives each connection."""

    make: Callable[[Login], ClientConnection] = lambda login: CopyConnection()
    ensured: Callable[[tuple[Need, ...]], Awaitable[None]] | None = None
    logins: list[Login] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    connections: list[ClientConnection] = field(default_factory=list)
    n_closed: int = 0

    async def open(self, login: Login) -> ClientConnection:
        self.logins.append(login)
        self.connections.append(self.make(login))
        return self.connections[-1]

    async def ensure(self, needs: tuple[Need, ...]) -> None:
        if self.ensured is not None:
            await self.ensured(needs)

    def record(self, events: Sequence[Event]) -> None:
        self.events += events

    def closed(self, connection: ClientConnection) -> None:
        self.n_closed += 1

    def kinds(self) -> list[str]:
        """Of the system events, in order."""
        return [event.kind for event in self.events if isinstance(event, SystemEvent)]


@dataclass(slots=True)
class Edge:
    """A server in a thread of its own."""

    server: Server
    services: CopyServices
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return self.server.port

    def run(self, job: Awaitable[None]) -> None:
        """Runs a coroutine in the server's loop and waits for it."""

        async def awaited() -> None:
            await job

        asyncio.run_coroutine_threadsafe(awaited(), self.loop).result(20)


@contextmanager
def running_edge(settings: NetSettings, services: CopyServices | None = None) -> Iterator[Edge]:
    """Serves until the end of the block, then closes without waiting for clients."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        used = services or CopyServices()
        server = asyncio.run_coroutine_threadsafe(serve(settings, used), loop).result(20)
        try:
            yield Edge(server, used, loop)
        finally:
            asyncio.run_coroutine_threadsafe(server.close(0), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key as PEM files."""

    cert: Path
    key: Path


class Authority:
    """A certificate authority in a folder; `ca` is its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        certificate = self._builder(self._name, self._key.public_key(), is_ca=True).sign(
            self._key, hashes.SHA256()
        )
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, common_name: str, file: str = "", hash_with: hashes.HashAlgorithm | None = None) -> Pair:
        """A certificate for a host name (and loopback) or a user."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = self._builder(name, key.public_key(), is_ca=False)
        return self._write(builder.sign(self._key, hash_with or hashes.SHA256()), key, file or common_name)

    def issue_ed25519(self, file: str) -> Pair:
        """Self-signed, with a signature algorithm that names no hash."""
        key = ed25519.Ed25519PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        return self._write(_base(name, name, key.public_key()).sign(key, None), key, file)

    def _builder(self, subject: x509.Name, public_key, is_ca: bool) -> x509.CertificateBuilder:
        return _base(subject, self._name, public_key).add_extension(
            x509.BasicConstraints(is_ca, None), critical=True
        )

    def _write(self, certificate: x509.Certificate, key, file: str) -> Pair:
        pair = Pair(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pair


def _base(subject: x509.Name, issuer: x509.Name, public_key) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
