"""Steps every codec shares: ASCII text from the wire, binary values of a fixed size.

One reason to change: how the server checks the outer shape of a value before its type looks at it.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import InvalidBinaryRepresentation, InvalidTextRepresentation, ProtocolViolation
from proxy.values.base import LogicalType, Settings
from proxy.values.encodings import to_utf8

SPACE: Final = " \t\n\v\f\r"  # isspace() of the C locale

SQL_NAME: Final[dict[str, str]] = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "bool": "boolean",
    "varchar": "character varying",
    "bpchar": "character",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}


def sql_name(type_: LogicalType) -> str:
    """The type as PostgreSQL's messages call it, without typmod."""
    return SQL_NAME.get(type_.name, type_.name)


def bad_text(type_name: str) -> InvalidTextRepresentation:
    return InvalidTextRepresentation(f"invalid input syntax for type {type_name}")


def utf8_str(raw: bytes, settings: Settings) -> str:
    """Wire text -> str, after the encoding checks that come before any type's own."""
    return to_utf8(raw, settings).decode("utf-8")


def fixed(raw: bytes, size: int) -> bytes:
    """Binary of exactly `size` bytes, with the errors of a short and of a long one."""
    if len(raw) < size:
        raise ProtocolViolation("insufficient data left in message")
    if len(raw) > size:
        raise InvalidBinaryRepresentation("incorrect binary data format")
    return raw
