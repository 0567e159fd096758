"""Messages the client sends (F): parsed where pgseal must look inside, built where it sends its own.

| message  | type | body                                                                              |
|----------|------|-----------------------------------------------------------------------------------|
| Parse    | P    | name\\0 text\\0 n (2) type OID (4) x n                                              |
| Bind     | B    | portal\\0 statement\\0 n (2) format (2)*n, n (2) [size (4) value]*n, n (2) format (2)*n |
| Describe | D    | 'S' or 'P', name\\0                                                                |
| Close    | C    | 'S' or 'P', name\\0                                                                |
| Execute  | E    | portal\\0 row limit (4)                                                            |
| Query    | Q    | text\\0                                                                            |
| CopyFail | f    | reason\\0                                                                          |

Source: PostgreSQL manual, "Message Formats". One reason to change: these layouts.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from struct import Struct, pack, unpack_from
from struct import error as StructError
from typing import Final, TypeVar

from proxy.errors import ProtocolViolation
from proxy.wire.framing import build_values, frame, read_cstring, read_int16, read_values

T = TypeVar("T")
Steps = Generator[tuple[()], None, T]  # pauses in between, so that others have their turn
VALUES_A_STEP: Final = 2000

PARSE: Final = ord("P")
BIND: Final = ord("B")
DESCRIBE: Final = ord("D")
EXECUTE: Final = ord("E")
CLOSE: Final = ord("C")
FLUSH: Final = ord("H")
SYNC: Final = ord("S")
QUERY: Final = ord("Q")
FUNCTION_CALL: Final = ord("F")
TERMINATE: Final = ord("X")
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")
COPY_FAIL: Final = ord("f")

FLUSH_MESSAGE: Final = b"H\0\0\0\4"
SYNC_MESSAGE: Final = b"S\0\0\0\4"
TERMINATE_MESSAGE: Final = b"X\0\0\0\4"

_INT16_AT: Final = Struct(">H").unpack_from
_INT32_AT: Final = Struct(">i").unpack_from
_USUAL_TAILS: Final[dict[bytes, tuple[int, ...]]] = {b"\0\0": (), b"\0\1\0\0": (0,), b"\0\1\0\1": (1,)}
LARGE_LIMIT: Final = 0x3FFFFFFF  # the server drops a connection that announces more
SMALL_LIMIT: Final = 10000
SMALL_MESSAGES: Final = frozenset({DESCRIBE, EXECUTE, CLOSE, FLUSH, SYNC, TERMINATE, COPY_DONE, COPY_FAIL})


@dataclass(frozen=True, slots=True)
class Parse:
    name: bytes
    text: bytes = field(repr=False)
    oids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bind:
    """`formats` and `result_formats` as sent: none, one for all, or one each."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...]
    values: Sequence[bytes | None] = field(repr=False)
    result_formats: tuple[int, ...]


def parse_parse(body: bytes) -> Parse:
    name, position = read_cstring(body, 0)
    text, position = read_cstring(body, position)
    count, position = read_int16(body, position)
    if position + 4 * count != len(body):
        raise ProtocolViolation("invalid message format")
    return Parse(name, text, unpack_from(f">{count}I", body, position))


def build_parse(message: Parse) -> bytes:
    oids = message.oids
    tail = pack(f">H{len(oids)}I", len(oids), *oids)
    return frame(b"P", message.name + b"\0" + message.text + b"\0" + tail)


def bind_names(buffer: bytes, start: int, end: int) -> tuple[bytes, bytes] | None:
    """Portal and statement of the Bind whose body starts at `start`; None where `end` comes first."""
    first = buffer.find(b"\0", start, end)
    if first < 0:
        return None
    second = buffer.find(b"\0", first + 1, end)
    if second < 0:
        return None
    return buffer[start:first], buffer[first + 1 : second]


def bind_result_formats(body: bytes) -> tuple[int, ...]:
    """The result formats of a Bind whose parameters nobody needs. Raises ProtocolViolation."""
    position = body.index(b"\0", body.index(b"\0") + 1) + 1
    try:
        position += 2 + 2 * _INT16_AT(body, position)[0]
        count = _INT16_AT(body, position)[0]
        position += 2
        for _ in range(count):
            size = _INT32_AT(body, position)[0]
            position += 4 + size if size > 0 else 4
        tail = body[position:]
        known = _USUAL_TAILS.get(tail)
        if known is not None:
            return known
        formats, position = _read_formats(tail, 0)
    except StructError:
        raise ProtocolViolation("insufficient data left in message") from None
    if position != len(tail):
        raise ProtocolViolation("invalid message format")
    return formats


def parse_bind(body: bytes) -> Bind:
    return _whole(parsing_bind(body))


def parsing_bind(body: bytes) -> Steps[Bind]:
    """The same, with a pause after each share of the values."""
    portal, position = read_cstring(body, 0)
    statement, position = read_cstring(body, position)
    formats, position = _read_formats(body, position)
    count, position = read_int16(body, position)
    values: list[bytes | None] = []
    for n_left in range(count, 0, -VALUES_A_STEP):
        if values:
            yield ()
        position = read_values(body, position, min(n_left, VALUES_A_STEP), values)
    result_formats, position = _read_formats(body, position)
    if position != len(body):
        raise ProtocolViolation("invalid message format")
    if len(formats) > 1 and len(formats) != count:
        raise ProtocolViolation(f"bind message has {len(formats)} parameter formats but {count} parameters")
    return Bind(portal, statement, formats, values, result_formats)


def build_bind(message: Bind) -> bytes:
    return _bind(message, build_values(message.values))


def building_bind(message: Bind) -> Steps[bytes]:
    """The same, with a pause after each share of the values."""
    values = message.values
    if len(values) <= VALUES_A_STEP:
        return build_bind(message)
    parts: list[bytes] = []
    for start in range(0, len(values), VALUES_A_STEP):
        parts.append(build_values(values[start : start + VALUES_A_STEP]))
        yield ()
    return _bind(message, b"".join(parts))


def _bind(message: Bind, values: bytes) -> bytes:
    n_formats, n_shown = len(message.formats), len(message.result_formats)
    body = b"".join(
        (
            message.portal,
            b"\0",
            message.statement,
            b"\0",
            pack(f">H{n_formats}HH", n_formats, *message.formats, len(message.values)),
            values,
            pack(f">H{n_shown}H", n_shown, *message.result_formats),
        )
    )
    return frame(b"B", body)


def _whole(steps: Steps[T]) -> T:
    try:
        while True:
            next(steps)
    except StopIteration as done:
        made: T = done.value
        return made


def expand_formats(formats: tuple[int, ...], count: int) -> tuple[int, ...]:
    """One format code for each of `count` values, from the none / one / each forms of the wire."""
    if not formats:
        return (0,) * count
    if len(formats) == 1:
        return formats * count
    return formats


def build_query(text: bytes) -> bytes:
    return frame(b"Q", text + b"\0")


def build_describe_statement(name: bytes) -> bytes:
    return frame(b"D", b"S" + name + b"\0")


def build_describe_portal(name: bytes) -> bytes:
    return frame(b"D", b"P" + name + b"\0")


def build_close_statement(name: bytes) -> bytes:
    return frame(b"C", b"S" + name + b"\0")


def build_execute(portal: bytes, limit: int = 0) -> bytes:
    return frame(b"E", portal + b"\0" + pack(">i", limit))


def build_copy_fail(reason: bytes) -> bytes:
    return frame(b"f", reason + b"\0")


def _read_formats(body: bytes, position: int) -> tuple[tuple[int, ...], int]:
    count, position = read_int16(body, position)
    end = position + 2 * count
    if end > len(body):
        raise ProtocolViolation("insufficient data left in message")
    formats = unpack_from(f">{count}H", body, position)
    if formats and max(formats) > 1:
        raise ProtocolViolation("unsupported format code")
    return formats, end
