"""A protected table with a column of every logical type, and its twin without protection.

What a driver is told and given over `cells` must be what it is told and given over `twins` (a name of the same
length, so that positions in errors are equal too). One reason to change: the logical types of a rule.
"""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any, Final

from tests.sealed import Sealed

# column -> (type, what the rule says beside it)
COLUMNS: Final = {
    "a_text": ("text", "search: {by: equality, scope: table}"),
    "a_varchar": ("varchar(20)", "search: equality"),
    "a_stored": ("text", "storage: text"),
    "a_small": ("int2", ""),
    "a_int": ("int4", "search: equality"),
    "a_big": ("int8", ""),
    "a_number": ("numeric(10,2)", "search: equality"),
    "a_float": ("float8", ""),
    "a_bool": ("bool", ""),
    "a_date": ("date", "search: equality"),
    "a_time": ("timestamp", ""),
    "a_moment": ("timestamptz", ""),
    "a_uuid": ("uuid", 'mode: deterministic, accept_leakage: "drawn at random"'),
    "a_json": ("json", ""),
    "a_jsonb": ("jsonb", ""),
    "a_bytea": ("bytea", "pad: none"),
}
NAMES: Final = tuple(COLUMNS)
LIST: Final = ", ".join(NAMES)
RULES: Final = (
    "version: 1\ntenant: {from: fixed, name: one}\ntables:\n  public.cells:\n    columns:\n"
    + "".join(
        f'      {name}: {{type: "{kind}"{", " if more else ""}{more}}}\n'
        for name, (kind, more) in COLUMNS.items()
    )
    + "roles:\n  default: {read: deny}\n  app: {read: plain}\n"
)
_SHAPE: Final = "(id int PRIMARY KEY, " + ", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items()) + ")"
SETUP: Final = (f"CREATE TABLE cells {_SHAPE}", f"CREATE TABLE twins {_SHAPE}")

ROWS: Final[tuple[dict[str, Any], ...]] = (
    {
        "a_text": "zwölf 🐘 'quoted' \\ and \"named\"",
        "a_varchar": "x" * 20,
        "a_stored": "stored as text",
        "a_small": -32768,
        "a_int": 2147483647,
        "a_big": -9223372036854775808,
        "a_number": Decimal("12345.60"),
        "a_float": 0.1,
        "a_bool": True,
        "a_date": dt.date(2024, 2, 29),
        "a_time": dt.datetime(1957, 12, 10, 23, 59, 59, 999999),
        "a_moment": dt.datetime(2024, 3, 31, 1, 30, tzinfo=dt.UTC),
        "a_uuid": uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        "a_json": '{"b" :  1, "a": [null, "ä"]}',
        "a_jsonb": '{"a": [null, "ä"], "b": 1}',
        "a_bytea": bytes(range(256)),
    },
    {
        "a_text": "",
        "a_varchar": "",
        "a_stored": "",
        "a_small": 0,
        "a_int": -1,
        "a_big": 0,
        "a_number": Decimal("-0.01"),
        "a_float": float("inf"),
        "a_bool": False,
        "a_date": dt.date(1, 1, 1),
        "a_time": dt.datetime(9999, 12, 31),
        "a_moment": dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        "a_uuid": uuid.UUID(int=0),
        "a_json": "null",
        "a_jsonb": "[]",
        "a_bytea": b"",
    },
    dict.fromkeys(COLUMNS),
)


def holds_envelopes(sealed: Sealed) -> bool:
    """True where every cell of `cells`, read beside the proxy, is an envelope or NULL."""
    binary, textual = b"\xa6\x0b\x35", "pgs1"
    return all(
        cell is None or cell[: 3 if isinstance(cell, bytes) else 4] in (binary, textual)
        for row in sealed.stored(f"SELECT {LIST} FROM cells")
        for cell in row
    )
