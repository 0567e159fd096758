"""Which logical types there are, how rules and catalogs name them, and which codec each has.

One reason to change: a type is added. Names and OIDs are pg_type's; `family` goes into key derivation and never
changes (all integers are one family, since an int column may be widened; text and varchar are one too).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from proxy.errors import ConfigError
from proxy.values.base import Codec, LogicalType
from proxy.values.boolean import BooleanCodec
from proxy.values.bytea import ByteaCodec
from proxy.values.dates import DateCodec, TimestampCodec, TimestamptzCodec
from proxy.values.floating import DoubleCodec
from proxy.values.integer import IntegerCodec
from proxy.values.json import JsonbCodec, JsonCodec
from proxy.values.numeric import NumericCodec, precision_scale, typmod_of
from proxy.values.text import TextCodec
from proxy.values.uuid import UuidCodec
from proxy.values.wire import SQL_NAME

BASE: Final[dict[str, LogicalType]] = {
    type_.name: type_
    for type_ in (
        LogicalType("text", -1, "text", 25, 1009, -1),
        LogicalType("varchar", -1, "text", 1043, 1015, -1),
        LogicalType("int2", -1, "int", 21, 1005, 2),
        LogicalType("int4", -1, "int", 23, 1007, 4),
        LogicalType("int8", -1, "int", 20, 1016, 8),
        LogicalType("numeric", -1, "numeric", 1700, 1231, -1),
        LogicalType("float8", -1, "float", 701, 1022, 8),
        LogicalType("bool", -1, "bool", 16, 1000, 1),
        LogicalType("date", -1, "date", 1082, 1182, 4),
        LogicalType("timestamp", -1, "timestamp", 1114, 1115, 8),
        LogicalType("timestamptz", -1, "timestamptz", 1184, 1185, 8),
        LogicalType("uuid", -1, "uuid", 2950, 2951, 16),
        LogicalType("json", -1, "json", 114, 199, -1),
        LogicalType("jsonb", -1, "jsonb", 3802, 3807, -1),
        LogicalType("bytea", -1, "bytea", 17, 1001, -1),
    )
}
BY_OID: Final = {type_.oid: type_ for type_ in BASE.values()}
BY_ARRAY_OID: Final = {type_.array_oid: type_ for type_ in BASE.values()}

ALIASES: Final[dict[str, str]] = {
    **{name: name for name in BASE},
    "character varying": "varchar",
    "smallint": "int2",
    "integer": "int4",
    "int": "int4",
    "bigint": "int8",
    "decimal": "numeric",
    "dec": "numeric",
    "double precision": "float8",
    "float": "float8",
    "boolean": "bool",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
LATER: Final = frozenset(
    "char character bpchar real float4 time timetz interval xml citext inet cidr macaddr oid name money".split()  # noqa: SIM905
)
SPELLING: Final = re.compile(
    r"([a-z0-9_ ]+?)\s*(?:\(\s*(-?\d+)\s*(?:,\s*(-?\d+)\s*)?\))?\s*(with(?:out)? time zone)?"
)
MAX_VARCHAR: Final = 10_485_760


def parse_type(sql: str) -> LogicalType:
    """A type as rules and SQL spell it -> LogicalType; ConfigError with a suggestion otherwise."""
    text = " ".join(sql.lower().split()).removeprefix("pg_catalog.")
    match = SPELLING.fullmatch(text)
    if match is None:
        raise ConfigError("a type that cannot be read", hint=_spelled())
    word = f"{match[1]} {match[4]}" if match[4] else match[1]
    name = ALIASES.get(word)
    if name is None:
        raise _unknown(word)
    arguments = tuple(int(part) for part in match.groups()[1:3] if part is not None)
    return with_typmod(BASE[name], _typmod(name, word, arguments))


def _typmod(name: str, word: str, arguments: tuple[int, ...]) -> int:
    if not arguments:
        return -1
    match name:
        case "varchar" if len(arguments) == 1 and 1 <= arguments[0] <= MAX_VARCHAR:
            return arguments[0] + 4
        case "numeric":
            precision, scale = arguments[0], arguments[1] if len(arguments) == 2 else 0
            if 1 <= precision <= 1000 and -1000 <= scale <= 1000:
                return typmod_of(precision, scale)
        case "timestamp" | "timestamptz" if len(arguments) == 1 and 0 <= arguments[0] <= 6:
            return arguments[0]
        case "float8" if word == "float" and 25 <= arguments[0] <= 53 and len(arguments) == 1:
            return -1
    raise ConfigError(f"type {word} does not take these arguments", hint=_spelled())


def _unknown(word: str) -> ConfigError:
    if word.removesuffix("[]").strip() in LATER or word.startswith(("time ", "interval ")):
        return ConfigError(f'type "{word}" is not in this version', hint=_spelled())
    close = difflib.get_close_matches(word, ALIASES, n=1)
    hint = f"did you mean {close[0]}?" if close else _spelled()
    return ConfigError(f'unknown type "{word}"', hint=hint)


def _spelled() -> str:
    return "one of " + ", ".join(sorted(BASE))


def with_typmod(type_: LogicalType, typmod: int) -> LogicalType:
    """The same type under another typmod."""
    if type_.typmod == typmod:
        return type_
    return LogicalType(type_.name, typmod, type_.family, type_.oid, type_.array_oid, type_.size)


def base_of(type_: LogicalType) -> LogicalType:
    """The type without its typmod."""
    return BASE[type_.name]


def type_from_oid(oid: int, typmod: int = -1) -> LogicalType | None:
    """The logical type of a pg_type OID, None where pgseal has none."""
    base = BY_OID.get(oid)
    return None if base is None else with_typmod(base, typmod)


def element_of_array(oid: int) -> LogicalType | None:
    """The element type of an array type's OID, None where pgseal has none."""
    return BY_ARRAY_OID.get(oid)


def type_sql(type_: LogicalType) -> str:
    """The type as format_type() prints it."""
    name, typmod = SQL_NAME.get(type_.name, type_.name), type_.typmod
    if typmod < 0:
        return name
    match type_.name:
        case "varchar":
            return f"{name}({typmod - 4})"
        case "numeric":
            form = precision_scale(typmod)
            assert form is not None
            return f"{name}({form[0]},{form[1]})"
        case "timestamp" | "timestamptz":
            return name.replace("timestamp", f"timestamp({typmod})")
        case _:
            return name


_CODECS: Final[dict[str, Callable[[LogicalType], Codec]]] = {
    "text": TextCodec,
    "varchar": TextCodec,
    "int2": IntegerCodec,
    "int4": IntegerCodec,
    "int8": IntegerCodec,
    "numeric": NumericCodec,
    "float8": DoubleCodec,
    "bool": BooleanCodec,
    "date": DateCodec,
    "timestamp": TimestampCodec,
    "timestamptz": TimestamptzCodec,
    "uuid": UuidCodec,
    "json": JsonCodec,
    "jsonb": JsonbCodec,
    "bytea": ByteaCodec,
}


@lru_cache(maxsize=1024)
def codec(type_: LogicalType) -> Codec:
    """The codec of a logical type with its typmod; the same object for equal types."""
    return _CODECS[type_.name](type_)
