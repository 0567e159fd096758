"""Every message of the PostgreSQL protocol once more, from the manual, importing nothing of the product.

Tests speak with this table, so that a misreading in production code cannot hide behind itself. Source: the
chapter "Frontend/Backend Protocol", section "Message Formats", of the manual of PostgreSQL 18. A message is a
type byte and a list of named fields; a field is one of the few forms below. One reason to change: the manual
does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol


class Form(Protocol):
    """One way to write a field: `read` returns the value and where the next field begins."""

    def read(self, body: bytes, at: int) -> tuple[Any, int]: ...

    def write(self, value: Any) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Number:
    """Int8, Int16, Int32 of the manual, by struct letter."""

    letter: str

    def read(self, body: bytes, at: int) -> tuple[int, int]:
        size = struct.calcsize("!" + self.letter)
        if at + size > len(body):
            raise ValueError("the message ends inside a number")
        return struct.unpack_from("!" + self.letter, body, at)[0], at + size

    def write(self, value: int) -> bytes:
        return struct.pack("!" + self.letter, value)


class Text:
    """String: bytes up to a zero byte."""

    def read(self, body: bytes, at: int) -> tuple[bytes, int]:
        end = body.index(b"\0", at)
        return body[at:end], end + 1

    def write(self, value: bytes | str) -> bytes:
        return (value.encode() if isinstance(value, str) else value) + b"\0"


class Rest:
    """Byten: whatever remains."""

    def read(self, body: bytes, at: int) -> tuple[bytes, int]:
        return body[at:], len(body)

    def write(self, value: bytes) -> bytes:
        return value


class Value:
    """Int32 size, -1 for NULL, then that many bytes."""

    def read(self, body: bytes, at: int) -> tuple[bytes | None, int]:
        (size,) = struct.unpack_from("!i", body, at)
        if size == -1:
            return None, at + 4
        if at + 4 + size > len(body):
            raise ValueError("the message ends inside a value")
        return body[at + 4 : at + 4 + size], at + 4 + size

    def write(self, value: bytes | None) -> bytes:
        return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


@dataclass(frozen=True, slots=True)
class Counted:
    """A count, then that many of one form."""

    count: Number
    item: Form

    def read(self, body: bytes, at: int) -> tuple[list[Any], int]:
        n_items, at = self.count.read(body, at)
        items = []
        for _ in range(n_items):
            item, at = self.item.read(body, at)
            items.append(item)
        return items, at

    def write(self, value: list[Any]) -> bytes:
        return self.count.write(len(value)) + b"".join(map(self.item.write, value))


@dataclass(frozen=True, slots=True)
class Group:
    """Several fields that repeat together, as a tuple."""

    items: tuple[Form, ...]

    def read(self, body: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        values = []
        for item in self.items:
            value, at = item.read(body, at)
            values.append(value)
        return tuple(values), at

    def write(self, value: tuple[Any, ...]) -> bytes:
        return b"".join(form.write(item) for form, item in zip(self.items, value, strict=True))


@dataclass(frozen=True, slots=True)
class Ended:
    """Items one after another until a zero byte stands where the next would begin."""

    item: Form

    def read(self, body: bytes, at: int) -> tuple[list[Any], int]:
        items = []
        while body[at] != 0:
            item, at = self.item.read(body, at)
            items.append(item)
        return items, at + 1

    def write(self, value: list[Any]) -> bytes:
        return b"".join(map(self.item.write, value)) + b"\0"


class Letter:
    """Byte1: one ASCII character."""

    def read(self, body: bytes, at: int) -> tuple[str, int]:
        return chr(body[at]), at + 1

    def write(self, value: str) -> bytes:
        return value.encode("latin-1")


I8, I16, I32 = Number("b"), Number("h"), Number("i")
U16, U32 = Number("H"), Number("I")  # counts of up to 65,535 parameters; OIDs
TEXT, REST, VALUE, LETTER = Text(), Rest(), Value(), Letter()
FORMATS = Counted(U16, I16)
FIELDS = Ended(Group((LETTER, TEXT)))
COLUMN = Group((TEXT, U32, I16, U32, I16, I32, I16))  # name, table, attribute, type, size, modifier, format
COPY = (("overall", I8), ("formats", FORMATS))

# name: (type byte, fields)
Table = dict[str, tuple[str, tuple[tuple[str, Form], ...]]]
FRONTEND: Table = {
    "Bind": ("B", (("portal", TEXT), ("statement", TEXT), ("formats", FORMATS),
                   ("parameters", Counted(U16, VALUE)), ("result_formats", FORMATS))),
    "Close": ("C", (("kind", LETTER), ("name", TEXT))),
    "CopyData": ("d", (("data", REST),)),
    "CopyDone": ("c", ()),
    "CopyFail": ("f", (("reason", TEXT),)),
    "Describe": ("D", (("kind", LETTER), ("name", TEXT))),
    "Execute": ("E", (("portal", TEXT), ("max_rows", I32))),
    "Flush": ("H", ()),
    "FunctionCall": ("F", (("oid", U32), ("formats", FORMATS), ("arguments", Counted(U16, VALUE)),
                           ("result_format", I16))),
    "Parse": ("P", (("name", TEXT), ("sql", TEXT), ("oids", Counted(U16, U32)))),
    "PasswordMessage": ("p", (("data", REST),)),
    "Query": ("Q", (("sql", TEXT),)),
    "Sync": ("S", ()),
    "Terminate": ("X", ()),
}  # fmt: skip
BACKEND: Table = {
    "Authentication": ("R", (("code", I32), ("data", REST))),
    "BackendKeyData": ("K", (("pid", I32), ("key", REST))),
    "BindComplete": ("2", ()),
    "CloseComplete": ("3", ()),
    "CommandComplete": ("C", (("tag", TEXT),)),
    "CopyBothResponse": ("W", COPY),
    "CopyData": ("d", (("data", REST),)),
    "CopyDone": ("c", ()),
    "CopyInResponse": ("G", COPY),
    "CopyOutResponse": ("H", COPY),
    "DataRow": ("D", (("values", Counted(U16, VALUE)),)),
    "EmptyQueryResponse": ("I", ()),
    "ErrorResponse": ("E", (("fields", FIELDS),)),
    "FunctionCallResponse": ("V", (("value", VALUE),)),
    "NegotiateProtocolVersion": ("v", (("version", I32), ("options", Counted(I32, TEXT)))),
    "NoData": ("n", ()),
    "NoticeResponse": ("N", (("fields", FIELDS),)),
    "NotificationResponse": ("A", (("pid", I32), ("channel", TEXT), ("payload", TEXT))),
    "ParameterDescription": ("t", (("oids", Counted(U16, U32)),)),
    "ParameterStatus": ("S", (("name", TEXT), ("value", TEXT))),
    "ParseComplete": ("1", ()),
    "PortalSuspended": ("s", ()),
    "ReadyForQuery": ("Z", (("status", LETTER),)),
    "RowDescription": ("T", (("columns", Counted(U16, COLUMN)),)),
}

_BY_LETTER = {
    id(table): {letter: (name, forms) for name, (letter, forms) in table.items()} for table in (FRONTEND, BACKEND)
}

# requests without a type byte: (code, what follows)
CANCEL_CODE, SSL_CODE, GSS_CODE = 80877102, 80877103, 80877104
VERSION_3_0, VERSION_3_2 = 0x00030000, 0x00030002


@dataclass(frozen=True, slots=True)
class Message:
    """A message as its name and fields; `raw` is what stood on the wire, type byte and length included."""

    name: str
    fields: dict[str, Any]
    raw: bytes = field(repr=False, compare=False, default=b"")

    @property
    def letter(self) -> str:
        """The type byte."""
        return chr(self.raw[0])

    def __getattr__(self, key: str) -> Any:
        try:
            return self.fields[key]
        except KeyError:
            raise AttributeError(f"{self.name} has no field {key}") from None

    def note(self, letter: str) -> str:
        """One field of an ErrorResponse or NoticeResponse, '' when absent."""
        return {k: v.decode(errors="replace") for k, v in self.fields["fields"]}.get(letter, "")


def encode(table: Table, name: str, /, **fields: Any) -> bytes:
    """The bytes of one message."""
    letter, forms = table[name]
    body = b"".join(form.write(fields[key]) for key, form in forms)
    return letter.encode() + struct.pack("!i", len(body) + 4) + body


def decode(table: Table, raw: bytes) -> Message:
    """One whole message; ValueError when its body is not what the manual says."""
    name, forms = _BY_LETTER[id(table)][chr(raw[0])]
    body, at, fields = raw[5:], 0, {}
    for key, form in forms:
        fields[key], at = form.read(body, at)
    if at != len(body):
        raise ValueError(f"{name} has {len(body) - at} bytes too many")
    return Message(name, fields, raw)


def split(buffer: bytes) -> Iterator[bytes]:
    """Whole messages at the beginning of a buffer, each with type byte and length."""
    at = 0
    while at + 5 <= len(buffer):
        (size,) = struct.unpack_from("!i", buffer, at + 1)
        if at + 1 + size > len(buffer):
            return
        yield buffer[at : at + 1 + size]
        at += 1 + size


def startup(parameters: dict[str, str], version: int = VERSION_3_0) -> bytes:
    """StartupMessage."""
    body = struct.pack("!i", version)
    body += b"".join(TEXT.write(item) for pair in parameters.items() for item in pair) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def special_request(code: int, rest: bytes = b"") -> bytes:
    """SSLRequest, GSSENCRequest or CancelRequest."""
    return struct.pack("!ii", 8 + len(rest), code) + rest
