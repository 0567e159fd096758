"""A blocking protocol client over a raw socket: it says exactly what a test wants and keeps what it hears.

Speaks through `tests/oracle.py` only. What goes out is cut as the test's chunking says, each cut a send of its
own. One reason to change: what a test wants to do with a connection.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from tests import oracle
from tests.oracle import BACKEND, Message, decode

Chunking = Callable[[bytes], Iterator[bytes]]
TIMEOUT_S = 15.0


def whole(sent: bytes) -> Iterator[bytes]:
    """Everything in one send."""
    yield sent


def single_bytes(sent: bytes) -> Iterator[bytes]:
    """Each byte by itself."""
    for at in range(len(sent)):
        yield sent[at : at + 1]


def random_chunks(seed: int, longest: int = 40) -> Chunking:
    """Cuts of random sizes, the same for the same seed."""

    def cut(sent: bytes) -> Iterator[bytes]:
        dice, at = random.Random(seed), 0
        while at < len(sent):
            size = dice.randint(1, longest)
            yield sent[at : at + size]
            at += size

    return cut


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client connects: PostgreSQL itself or the proxy before it."""

    port: int
    database: str
    user: str = "postgres"
    host: str = "127.0.0.1"


class ConnectionEnded(Exception):
    """The other side closed."""


@dataclass(slots=True)
class WireClient:
    """One connection; `heard` is every message received since log-in, `greeting` those before."""

    socket: socket.socket
    chunking: Chunking = whole
    buffer: bytearray = field(default_factory=bytearray)
    greeting: list[Message] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)

    @classmethod
    def connect(
        cls,
        endpoint: Endpoint,
        chunking: Chunking = whole,
        parameters: dict[str, str] | None = None,
        version: int = oracle.VERSION_3_0,
    ) -> Self:
        """Opens, logs in under trust and reads up to the first ReadyForQuery."""
        client = cls.open(endpoint, chunking)
        names = {"user": endpoint.user, "database": endpoint.database, **(parameters or {})}
        client.send(oracle.startup(names, version))
        client.read_greeting()
        return client

    @classmethod
    def open(cls, endpoint: Endpoint, chunking: Chunking = whole) -> Self:
        """Only the TCP connection."""
        raw = socket.create_connection((endpoint.host, endpoint.port), timeout=TIMEOUT_S)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(raw, chunking)

    def read_greeting(self) -> None:
        """Everything up to the first ReadyForQuery, or an ErrorResponse, becomes the greeting."""
        while True:
            message = self.receive()
            if message.name in ("ReadyForQuery", "ErrorResponse"):
                break
        self.greeting, self.heard = self.heard, []

    @property
    def pid(self) -> int:
        """Backend process id, from BackendKeyData."""
        return next(m.pid for m in self.greeting if m.name == "BackendKeyData")

    @property
    def key(self) -> bytes:
        """Cancel key, from BackendKeyData."""
        return next(m.key for m in self.greeting if m.name == "BackendKeyData")

    def parameter(self, name: str) -> str:
        """A setting the server reported at log-in."""
        told = {m.fields["name"]: m.fields["value"] for m in self.greeting if m.name == "ParameterStatus"}
        return str(told[name.encode()].decode())

    @property
    def major(self) -> int:
        """Major version of the server."""
        return int(self.parameter("server_version").split(".")[0].split()[0])

    def send(self, sent: bytes) -> None:
        """Sends in the test's chunks."""
        for chunk in self.chunking(sent):
            self.socket.sendall(chunk)

    def receive(self, timeout_s: float = TIMEOUT_S) -> Message:
        """The next message; ConnectionEnded at the end of the stream, TimeoutError when nothing comes."""
        while (raw := next(oracle.split(bytes(self.buffer[:_SPLIT_AHEAD])), None)) is None:
            if len(self.buffer) > _SPLIT_AHEAD and (raw := next(oracle.split(bytes(self.buffer)), None)):
                break
            self._fill(timeout_s)
        del self.buffer[: len(raw)]
        message = decode(BACKEND, raw)
        self.heard.append(message)
        return message

    def _fill(self, timeout_s: float) -> None:
        self.socket.settimeout(timeout_s)
        try:
            chunk = self.socket.recv(262144)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise ConnectionEnded("reset") from error
        if not chunk:
            raise ConnectionEnded(f"end of stream, {len(self.buffer)} bytes of a message before it")
        self.buffer += chunk

    def receive_exactly(self, size: int) -> bytes:
        """So many raw bytes, for answers that are no messages (S, N, G)."""
        while len(self.buffer) < size:
            self._fill(TIMEOUT_S)
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def is_silent(self, seconds: float = 0.15) -> bool:
        """Whether nothing is heard for a moment."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def is_ended(self) -> bool:
        """Whether the other side closes now, with nothing more said."""
        try:
            return self.receive() is None
        except ConnectionEnded:
            return not self.buffer

    def read_until_ready(self) -> list[Message]:
        """Messages up to and with the next ReadyForQuery."""
        start = len(self.heard)
        while self.receive().name != "ReadyForQuery":
            pass
        return self.heard[start:]

    def start_tls(self, context: ssl.SSLContext, server_name: str = "localhost") -> None:
        """TLS over the open connection."""
        assert not self.buffer, "bytes before TLS"
        self.socket = context.wrap_socket(self.socket, server_hostname=server_name)

    def half_close(self) -> None:
        """Says that no more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Closes with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_SPLIT_AHEAD = 65536  # messages are sought in so much of the buffer first, which keeps long results linear


def cancel(endpoint: Endpoint, pid: int, key: bytes) -> None:
    """Sends a CancelRequest and waits until the other side closes, which says it was carried out."""
    with WireClient.open(endpoint) as client:
        client.send(oracle.special_request(oracle.CANCEL_CODE, struct.pack("!i", pid) + key))
        assert client.is_ended()
