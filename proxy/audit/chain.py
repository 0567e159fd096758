"""The hash chain of one writer: events become records, each of which names the one before it and carries a MAC.

Pure: bytes in, bytes out. A record holds the events of a moment, since hash, MAC and key cost as much for one as
for hundreds. The MAC key is hashed forward and overwritten with each record, so that records already written
cannot be made again by who takes over the process. Layout, keys and what they prove are in docs/audit-format.md.
One reason to change: that format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy.audit.encode import encode_event
from proxy.audit.events import SystemEvent

VERSION: Final = 1
KEY_SIZE: Final = 32
NO_HASH: Final = "0" * 64
MAX_EVENTS: Final = 256  # of a record
MAX_EVENTS_SIZE: Final = 1 << 20  # of a record's events together; one event alone may be larger
_MAC_MEMBER: Final = b',"mac":"%b"}'
_MAC_SIZE: Final = len(_MAC_MEMBER % bytes(64))
_SHA256: Final = SHA256()
_WRITER: Final = re.compile(r"([a-z0-9]{1,32})-([0-9]{1,6})-([0-9]{8}T[0-9]{12}Z)\Z")


@dataclass(frozen=True, slots=True)
class Head:
    """The last record of a writer: its number and its hash (hex)."""

    writer: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class WriterStart:
    """All that a worker is handed: its writer's name, start key, and the head it goes on from. Picklable."""

    writer: str
    key: bytes = field(repr=False)
    previous: Head | None = None


def writer_name(instance: str, worker: int, start_s: float) -> str:
    """`<instance>-<worker>-<start>`; ValueError for an instance that is not [a-z0-9]{1,32}."""
    start = datetime.fromtimestamp(start_s, UTC).strftime("%Y%m%dT%H%M%S%fZ")
    name = f"{instance}-{worker}-{start}"
    if not _WRITER.match(name):
        raise ValueError("an instance's name has 1 to 32 letters a-z and digits")
    return name


def writer_parts(writer: str) -> tuple[str, str] | None:
    """(instance-worker, start) of a writer's name, None for anything else."""
    match = _WRITER.match(writer)
    return (f"{match[1]}-{match[2]}", match[3]) if match else None


def start_key(root_key: bytes, writer: str) -> bytes:
    """K0 of a writer."""
    info = b"pgseal/audit/1/writer\0" + writer.encode("ascii")
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=info).derive(root_key)


def next_key(key: bytes | bytearray) -> bytes:
    """Kn -> Kn+1."""
    return mac(key, b"pgseal/audit/1/next")


def mac(key: bytes | bytearray, message: bytes) -> bytes:
    authenticator = HMAC(key, _SHA256)
    authenticator.update(message)
    return authenticator.finalize()


def sha256(message: bytes) -> str:
    digest = Hash(_SHA256)
    digest.update(message)
    return digest.finalize().hex()


def record_hash(line: bytes) -> str:
    """SHA-256, hex, of what stands before the MAC in a record's line (without its line feed)."""
    return sha256(line[:-_MAC_SIZE])


def mac_member(key: bytes | bytearray, hash_: str) -> bytes:
    """The end of the record with this hash, from `,"mac"` on. The MAC is over the hash, so that a record is read
    once for both."""
    return _MAC_MEMBER % mac(key, b"pgseal/audit/1/record\0" + hash_.encode("ascii")).hex().encode("ascii")


def is_record_authentic(line: bytes, hash_: str, key: bytes) -> bool:
    """`hash_` is the line's `record_hash`."""
    return bytes_eq(line[-_MAC_SIZE:], mac_member(key, hash_))


def grouped(events: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Encoded events as they go into records, in order."""
    begin = size = 0
    for end, event in enumerate(events):
        if end > begin and (end - begin == MAX_EVENTS or size + len(event) > MAX_EVENTS_SIZE):
            yield events[begin:end]
            begin, size = end, 0
        size += len(event)
    if begin < len(events):
        yield events[begin:]


class Chain:
    """Makes one writer's records. The first is made at once and is what `first_line` gives."""

    __slots__ = ("_key", "_prev", "first_line", "seq", "writer")

    def __init__(self, start: WriterStart, time_s: float) -> None:
        previous = start.previous
        self.writer = start.writer
        self.seq = -1  # of the last record made
        self._key = bytearray(start.key)
        self._prev = previous.hash if previous else NO_HASH
        fields = (
            ("previous_seq", previous.seq if previous else None),
            ("previous_writer", previous.writer if previous else None),
            ("writer", start.writer),
        )
        self.first_line = self.append((encode_event(SystemEvent(time_s, "chain.start", fields)),))

    def append(self, events: Sequence[bytes]) -> bytes:
        """The record of these encoded events, one of `grouped`: one line with its line feed."""
        seq = self.seq + 1
        body = b'{"v":1,"seq":%d,"prev":"%b","n":%d,"events":[%b]' % (
            seq,
            self._prev.encode("ascii"),
            len(events),
            b",".join(events),
        )
        self._prev = sha256(body)
        line = body + mac_member(self._key, self._prev) + b"\n"
        self._key[:] = next_key(self._key)
        self.seq = seq
        return line

    def head(self) -> Head:
        return Head(self.writer, self.seq, self._prev)

    def head_line(self) -> bytes:
        """The head after the last record made, as its file has it."""
        return encode_head(self.head(), self._key)

    def close(self) -> None:
        """Overwrite the key; nothing can be appended afterwards that verifies."""
        self._key[:] = bytes(KEY_SIZE)


def encode_head(head: Head, key_after: bytes | bytearray) -> bytes:
    """`key_after` is K<seq+1>."""
    body = b'{"v":1,"writer":"%s","seq":%d,"hash":"%s"' % (head.writer.encode(), head.seq, head.hash.encode())
    tag = mac(mac(key_after, b"pgseal/audit/1/head"), body)
    return body + b',"mac":"' + tag.hex().encode() + b'"}\n'


_HEAD: Final = re.compile(
    rb'\{"v":1,"writer":"([a-zA-Z0-9-]{1,80})","seq":([0-9]{1,18}),"hash":"([0-9a-f]{64})","mac":"[0-9a-f]{64}"\}\n\Z'
)


def parse_head(line: bytes) -> Head | None:
    """A head's file -> Head, not yet believed; None when it is not one."""
    match = _HEAD.match(line)
    return Head(match[1].decode(), int(match[2]), match[3].decode()) if match else None


def is_head_authentic(line: bytes, head: Head, key_after: bytes) -> bool:
    return bytes_eq(line, encode_head(head, key_after))
