"""Messages the server sends (B): read where pgseal must look inside, changed or made where it answers.

| message              | type | body                                                                          |
|----------------------|------|-------------------------------------------------------------------------------|
| RowDescription       | T    | n (2), each: name\\0 table (4) attnum (2) type (4) size (2) typmod (4) code (2) |
| ParameterDescription | t    | n (2) type OID (4) x n                                                        |
| ErrorResponse        | E    | [code (1) text\\0] ... \\0                                                      |
| ParameterStatus      | S    | name\\0 value\\0                                                                |
| CommandComplete      | C    | tag\\0                                                                         |
| ReadyForQuery        | Z    | status (1): I idle, T in a block, E in a failed block                         |

Source: PostgreSQL manual, "Message Formats" and "Error and Notice Message Fields".
One reason to change: these layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct, pack, unpack_from
from typing import Final

from proxy.errors import ERROR_PAGE, DataError, PgsealError, ProtocolViolation, sentence
from proxy.wire.framing import frame, read_cstring, read_int16

AUTHENTICATION: Final = ord("R")
BACKEND_KEY_DATA: Final = ord("K")
PARAMETER_STATUS: Final = ord("S")
READY_FOR_QUERY: Final = ord("Z")
ROW_DESCRIPTION: Final = ord("T")
PARAMETER_DESCRIPTION: Final = ord("t")
DATA_ROW: Final = ord("D")
COMMAND_COMPLETE: Final = ord("C")
EMPTY_QUERY: Final = ord("I")
PORTAL_SUSPENDED: Final = ord("s")
PARSE_COMPLETE: Final = ord("1")
BIND_COMPLETE: Final = ord("2")
CLOSE_COMPLETE: Final = ord("3")
NO_DATA: Final = ord("n")
ERROR_RESPONSE: Final = ord("E")
NOTICE_RESPONSE: Final = ord("N")
NOTIFICATION: Final = ord("A")
COPY_IN: Final = ord("G")
COPY_OUT: Final = ord("H")
COPY_BOTH: Final = ord("W")
COPY_DATA: Final = ord("d")
COPY_DONE: Final = ord("c")
FUNCTION_RESULT: Final = ord("V")
NEGOTIATE_VERSION: Final = ord("v")

_FIELD: Final = Struct(">IhIhih")


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a RowDescription."""

    name: bytes
    table_oid: int
    attnum: int
    type_oid: int
    type_size: int
    typmod: int
    format: int


def parse_row_description(body: bytes) -> tuple[Field, ...]:
    count, position = read_int16(body, 0)
    fields = []
    for _ in range(count):
        name, position = read_cstring(body, position)
        if position + _FIELD.size > len(body):
            raise ProtocolViolation("insufficient data left in message")
        fields.append(Field(name, *_FIELD.unpack_from(body, position)))
        position += _FIELD.size
    return tuple(fields)


def build_row_description(fields: Sequence[Field]) -> bytes:
    parts = [pack(">H", len(fields))]
    for f in fields:
        parts.append(f.name + b"\0")
        parts.append(_FIELD.pack(f.table_oid, f.attnum, f.type_oid, f.type_size, f.typmod, f.format))
    return frame(b"T", b"".join(parts))


def parse_parameter_description(body: bytes) -> tuple[int, ...]:
    count, position = read_int16(body, 0)
    if position + 4 * count != len(body):
        raise ProtocolViolation("invalid message format")
    return unpack_from(f">{count}I", body, position)


def build_parameter_description(oids: Sequence[int]) -> bytes:
    return frame(b"t", pack(f">H{len(oids)}I", len(oids), *oids))


def parse_parameter_status(body: bytes) -> tuple[str, str]:
    name, position = read_cstring(body, 0)
    value, _ = read_cstring(body, position)
    return name.decode("utf-8", "replace"), value.decode("utf-8", "replace")


def parse_error_fields(body: bytes) -> list[tuple[int, bytes]]:
    """(code, text) of an ErrorResponse or NoticeResponse, in order."""
    fields: list[tuple[int, bytes]] = []
    position = 0
    while position < len(body) and body[position]:
        code = body[position]
        text, position = read_cstring(body, position + 1)
        fields.append((code, text))
    return fields


def build_error_fields(fields: Sequence[tuple[int, bytes]]) -> bytes:
    body = b"".join(bytes((code,)) + text + b"\0" for code, text in fields)
    return frame(b"E", body + b"\0")


def error_response(error: PgsealError, encode: Callable[[str], bytes] = str.encode) -> bytes:
    """The ErrorResponse of one of our errors: the only place where one is made. `encode` gives the client's
    encoding."""
    hint = sentence(error.hint) if error.hint else None
    if error.sqlstate.startswith("PS"):
        page = f"See {ERROR_PAGE}#{error.sqlstate.lower()}."
        hint = f"{hint} {page}" if hint else page
    fields = [("S", error.severity), ("V", error.severity), ("C", error.sqlstate), ("M", _message(error))]
    if hint:
        fields.append(("H", hint))
    if error.character is not None:
        fields.append(("P", str(error.character)))
    if error.context is not None:
        fields.append(("W", error.context))
    fields.extend(zip("stc", _place(error), strict=False))
    encoded = [(ord(code), encode(text).replace(b"\0", b"?")) for code, text in fields]
    return build_error_fields(encoded)


def _place(error: PgsealError) -> list[str]:
    """Schema, table and column, as fields of their own."""
    parts = error.column.split(".") if error.column else []
    return parts if len(parts) == 3 else []


def _message(error: PgsealError) -> str:
    """A refusal names its column first; for a value that it would refuse itself PostgreSQL's own words stand."""
    if error.column and error.column not in error.message and not isinstance(error, DataError):
        return f"{error.column}: {error.message}"
    return error.message


def notice_response(message: str, hint: str | None = None) -> bytes:
    """A NoticeResponse of severity NOTICE."""
    fields = [("S", "NOTICE"), ("V", "NOTICE"), ("C", "00000"), ("M", message)]
    if hint:
        fields.append(("H", hint))
    body = b"".join(code.encode() + text.encode() + b"\0" for code, text in fields)
    return frame(b"N", body + b"\0")
