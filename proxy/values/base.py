"""What a logical type is, what a session's settings are, and the words the other packages use for both.

One reason to change: the vocabulary of logical types. Each family of types lives in a file of its own
beside this one; `values/registry.py` finds the codec of a type.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogicalType:
    """A type as the application sees it. `name` is PostgreSQL's internal name (`int4`, `varchar`, `timestamptz`).

    `typmod` is as in pg_attribute.atttypmod (-1 none; varchar(n): n + 4). `size` is pg_type.typlen
    (-1 for varlena). `family` is the word that goes into key derivation, never with a typmod.
    """

    name: str
    typmod: int
    family: str
    oid: int
    array_oid: int
    size: int


@dataclass(frozen=True, slots=True)
class Settings:
    """The session settings that decide how a value is written on the wire. Shared and compared by value."""

    client_encoding: str = "UTF8"  # PostgreSQL's name
    date_style: str = "ISO, MDY"
    interval_style: str = "postgres"
    time_zone: str = "UTC"
    bytea_output: str = "hex"
    extra_float_digits: int = 1


@lru_cache(maxsize=256)
def in_utf8(settings: Settings) -> Settings:
    """The same settings for text that is UTF-8 already."""
    return replace(settings, client_encoding="UTF8")


class Codec(Protocol):
    """One logical type with its typmod: between wire forms, display form and equality form.

    Display form: the type's canonical text in UTF-8 (ISO dates, UTC where zoned; bytea: the raw bytes).
    It is what is sealed, and what `show_*` turn back into wire bytes under the session's settings.
    Errors are PostgreSQL's own (`proxy.errors.DataError` subclasses); input PostgreSQL takes and pgseal
    does not ('now', 'tomorrow', Julian days, zone abbreviations) is `proxy.errors.Unsupported`.
    """

    @property
    def type(self) -> LogicalType: ...

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        """Wire text (in client_encoding) -> display form, with the typmod's checks as on assignment."""
        ...

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        """Wire binary -> display form, with the typmod's checks as on assignment."""
        ...

    def show_text(self, display: bytes, settings: Settings) -> bytes: ...

    def show_binary(self, display: bytes, settings: Settings) -> bytes: ...

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        """Display form -> the bytes under the HMAC: equal exactly when PostgreSQL's `=` is true."""
        ...
