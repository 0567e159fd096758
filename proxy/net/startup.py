"""The start-up packet (manual: "Start-up", "Message Formats"): parsed, checked, and made again for the server.

    int32 length (itself included, at most 10000) | int32 code | for a StartupMessage: (name NUL value NUL)* NUL

Codes: 80877103 SSLRequest, 80877104 GSSENCRequest, 80877102 CancelRequest, else major << 16 | minor.
Parameters go to the server in the client's order and bytes; only `_pq_.` ones are taken out, since pgseal knows
none, and the minor version is cut to what pgseal understands. Both are told to the client in
NegotiateProtocolVersion, merged with what the server says. One reason to change: protocol start-up.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy.errors import FeatureNotSupported, InvalidAuthorization, PgsealError, ProtocolViolation

SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
MAX_STARTUP_SIZE: Final = 10_000
MIN_CANCEL_SIZE: Final = 16
MAX_CANCEL_SIZE: Final = 12 + 256
MAX_NAME_SIZE: Final = 63
_MAJOR: Final = 3
_LAST_MINOR: Final = 2
_ONCE: Final = frozenset((b"user", b"database", b"options", b"replication"))
_HEAD = struct.Struct("!ii")


class Replication(Enum):
    NONE = "none"
    WANTED = "wanted"
    UNCLEAR = "unclear"  # the server will refuse it, in its own words


@dataclass(frozen=True, slots=True)
class Startup:
    """A client's StartupMessage. `unknown` are the `_pq_.` names left out; `parameters` what the server gets."""

    minor: int
    parameters: tuple[tuple[bytes, bytes], ...]
    unknown: tuple[bytes, ...]
    user: str
    database: str

    @property
    def forwarded_minor(self) -> int:
        return min(self.minor, _LAST_MINOR)

    def packet(self) -> bytes:
        """The StartupMessage for the server."""
        body = b"".join(b"%b\0%b\0" % pair for pair in self.parameters) + b"\0"
        return _HEAD.pack(8 + len(body), _MAJOR << 16 | self.forwarded_minor) + body

    def value(self, name: bytes) -> bytes | None:
        return dict(self.parameters).get(name)

    @property
    def replication(self) -> Replication:
        """As the server reads it: `database`, or a boolean by any unambiguous beginning of its spellings."""
        raw = self.value(b"replication")
        value = (raw or b"").lower()
        if raw is None or (value and b"false".startswith(value)) or value in (b"n", b"no", b"of", b"off", b"0"):
            return Replication.NONE
        if (
            raw == b"database"
            or (value and b"true".startswith(value))
            or value in (b"y", b"ye", b"yes", b"on", b"1")
        ):
            return Replication.WANTED
        return Replication.UNCLEAR


def parse_startup(code: int, body: bytes) -> Startup:
    """`body` is what follows the code. Raises ProtocolViolation, FeatureNotSupported or InvalidAuthorization."""
    major, minor = code >> 16, code & 0xFFFF
    if major != _MAJOR:
        raise FeatureNotSupported(
            f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{_LAST_MINOR}",
            severity="FATAL",
        )
    pairs = _pairs(body)
    _check_unique(pairs)
    named = dict(pairs)
    user = _name(named.get(b"user", b""), "user")
    database = _name(named.get(b"database", b""), "database") or user
    unknown = tuple(name for name, _ in pairs if name.startswith(b"_pq_."))
    kept = tuple(pair for pair in pairs if not pair[0].startswith(b"_pq_."))
    return Startup(minor, kept, unknown, user, database)


def _pairs(body: bytes) -> list[tuple[bytes, bytes]]:
    """The layout is strict: names and values alternate, an empty name ends the list and the packet."""
    parts = body.split(b"\0")
    if len(parts) < 2 or len(parts) % 2 or parts[-1] or parts[-2] or not all(parts[0:-2:2]):
        raise ProtocolViolation(
            "invalid startup packet layout: expected terminator as last byte", severity="FATAL"
        )
    return list(zip(parts[0:-2:2], parts[1:-2:2], strict=True))


def _check_unique(pairs: list[tuple[bytes, bytes]]) -> None:
    """Servers take the last of two; who else reads the packet may take the first. Neither is asked to choose."""
    names = [name for name, _ in pairs if name in _ONCE]
    if len(names) != len(set(names)):
        raise ProtocolViolation("a startup parameter is given twice", severity="FATAL")


def _name(raw: bytes, what: str) -> str:
    """Servers cut longer names, so rights would be looked up under another name than the server's."""
    if len(raw) > MAX_NAME_SIZE:
        raise InvalidAuthorization(f"the {what} name is longer than {MAX_NAME_SIZE} bytes", severity="FATAL")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidAuthorization(f"the {what} name is not UTF-8", severity="FATAL") from None


def decoded_parameters(startup: Startup) -> tuple[tuple[str, str], ...]:
    """As text; bytes that are not UTF-8 become surrogates, and in application_name, which is shown, `\\xNN`."""
    return tuple(
        (
            name.decode(errors="surrogateescape"),
            value.decode(errors="backslashreplace" if name == b"application_name" else "surrogateescape"),
        )
        for name, value in startup.parameters
    )


def negotiation(startup: Startup, server_body: bytes | None) -> bytes:
    """NegotiateProtocolVersion for the client, or nothing: ours and the server's (`server_body`) in one.

    body: int32 version (3 << 16 | minor), int32 n, n names each NUL-ended"""
    minor, names = startup.forwarded_minor, startup.unknown
    if server_body is not None:
        server_minor, server_names = _parse_negotiation(server_body)
        minor, names = min(minor, server_minor), names + server_names
    if minor == startup.minor and not names:
        return b""
    body = _HEAD.pack(_MAJOR << 16 | minor, len(names)) + b"".join(name + b"\0" for name in names)
    return b"v" + struct.pack("!i", len(body) + 4) + body


def _parse_negotiation(body: bytes) -> tuple[int, tuple[bytes, ...]]:
    broken = ProtocolViolation("malformed NegotiateProtocolVersion from the server", severity="FATAL")
    if len(body) < _HEAD.size:
        raise broken
    version, n_names = _HEAD.unpack_from(body)
    names = tuple(body[_HEAD.size :].split(b"\0")[:-1])
    if version >> 16 not in (0, _MAJOR) or n_names != len(names):
        raise broken
    return version & 0xFFFF, names


def check_request_size(size: int, code: int | None = None) -> PgsealError | None:
    """The refusal of an untyped packet's length, if any (`code` once it is known)."""
    if not 8 <= size <= MAX_STARTUP_SIZE:
        return ProtocolViolation("invalid length of startup packet", severity="FATAL")
    if code == CANCEL_REQUEST and not MIN_CANCEL_SIZE <= size <= MAX_CANCEL_SIZE:
        return ProtocolViolation("invalid length of cancel request packet", severity="FATAL")
    return None
