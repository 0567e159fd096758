"""What a row of the key store says, which statuses follow which, and the MACs that hold the store together.

Pure: rows in, MACs out. The byte encoding is docs/formats.md, "MACs"; the order of `KeyRecord`'s fields is the
order of the columns. One reason to change: a column of the key store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.hmac import HMAC

from proxy.errors import KeyUnavailable

Content = bytes | str | int | datetime | tuple[str, ...] | None
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class StoreTampered(KeyUnavailable):
    """The key store is not as pgseal left it. A security event; nothing is sealed until it reads well again."""


class Purpose(Enum):
    DATA = "data"
    INDEX = "index"


class KeyStatus(Enum):
    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    ROTATED = "ROTATED"
    INACTIVE = "INACTIVE"
    EXPIRED = "EXPIRED"
    COMPROMISED = "COMPROMISED"
    DESTROYED = "DESTROYED"


_P, _A, _R, _I, _E, _C, _D = KeyStatus
FOLLOWERS: Final[Mapping[KeyStatus, frozenset[KeyStatus]]] = {
    _P: frozenset((_A, _I, _E, _C, _D)),
    _A: frozenset((_R, _I, _E, _C, _D)),
    _R: frozenset((_A, _I, _E, _C, _D)),
    _I: frozenset((_A, _R, _E, _C, _D)),
    _E: frozenset((_I, _C, _D)),
    _C: frozenset((_D,)),
    _D: frozenset(),
}
OPENING: Final = frozenset((_A, _R, _E))


def _reachable(start: KeyStatus) -> frozenset[KeyStatus]:
    found = {start}
    waiting = [start]
    while waiting:
        new = FOLLOWERS[waiting.pop()] - found
        found |= new
        waiting += new
    return frozenset(found)


# what a reader that polls may find later: everything reached in any number of steps
LATER: Final[Mapping[KeyStatus, frozenset[KeyStatus]]] = {status: _reachable(status) for status in KeyStatus}


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One version of one data key, wrapped. Fields in the order of the table's columns, less `row_mac`."""

    key_id: int
    tenant: str
    name: str
    key_type: str
    purpose: Purpose
    version: int
    status: KeyStatus
    algorithm: str
    kek_alias: str
    wrapped_dek: bytes | None = field(repr=False)
    parent_key_id: int | None
    created_at: datetime
    activated_at: datetime | None
    expires_at: datetime | None
    rotated_at: datetime | None
    last_used_at: datetime | None
    rollback_until: datetime | None
    compliance_tags: tuple[str, ...]
    authorised_services: tuple[str, ...]
    access_policy: str | None
    correlation_id: str | None
    created_by: str
    changed_by: str
    epoch: int

    @property
    def line(self) -> tuple[str, str, str]:
        """What all versions of one key share: (tenant, key type, purpose)."""
        return (self.tenant, self.key_type, self.purpose.value)

    @property
    def can_open(self) -> bool:
        return self.status in OPENING

    def is_active(self, now: datetime) -> bool:
        """True where it may seal."""
        return self.status is KeyStatus.ACTIVE and (self.expires_at is None or now < self.expires_at)


COLUMNS: Final = tuple(f.name for f in fields(KeyRecord))


@dataclass(frozen=True, slots=True)
class Head:
    """The one head row, less its MAC."""

    realm: bytes
    epoch: int
    last_key_id: int
    kek_alias: str
    wrapped_store_key: bytes = field(repr=False)


def record_of(row: Mapping[str, object]) -> KeyRecord:
    """A row of the table; StoreTampered where a value is none the table could have been given by pgseal."""
    content = {name: row[name] for name in COLUMNS}
    try:
        content["purpose"] = Purpose(content["purpose"])
        content["status"] = KeyStatus(content["status"])
        for name in ("compliance_tags", "authorised_services"):
            content[name] = tuple(content[name])  # type: ignore[arg-type]
        return KeyRecord(**content)  # type: ignore[arg-type]
    except (ValueError, TypeError):
        raise StoreTampered("a row of the key store cannot be read") from None


def row_of(record: KeyRecord) -> tuple[object, ...]:
    """The column values of a record, in order, as asyncpg takes them."""
    return tuple(_stored(getattr(record, name)) for name in COLUMNS)


def _stored(content: object) -> object:
    if isinstance(content, Enum):
        return content.value
    return list(content) if isinstance(content, tuple) else content


# --- MACs -------------------------------------------------------------------------------------------


def _lp(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def encode_field(content: object) -> bytes:
    """One field under a MAC: 00 for NULL, else 01 and LP of the content."""
    match content:
        case None:
            return b"\0"
        case bytes():
            raw = content
        case Enum():
            raw = str(content.value).encode()
        case str():
            raw = content.encode()
        case int():
            raw = str(content).encode()
        case datetime():
            raw = str(micros(content)).encode()
        case tuple():
            raw = b"".join(_lp(str(item).encode()) for item in content)
        case _:
            raise TypeError(f"no encoding for {type(content).__name__}")
    return b"\x01" + _lp(raw)


class StoreKey:
    """The key-store key of one realm: MACs rows, heads and leases. Its repr shows nothing."""

    __slots__ = ("_keyed", "realm")

    def __init__(self, key: bytes | bytearray, realm: bytes) -> None:
        self._keyed = HMAC(bytes(key), hashes.SHA256())
        self.realm = realm

    def _mac(self, label: bytes, parts: Iterable[bytes]) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(label + _lp(self.realm) + b"".join(parts))
        return keyed.finalize()

    def row(self, record: KeyRecord) -> bytes:
        return self._mac(b"pgseal/row/1", (encode_field(getattr(record, name)) for name in COLUMNS))

    def head(self, head: Head, row_macs: Mapping[int, bytes]) -> bytes:
        """`row_macs`: every row's MAC by key id."""
        fixed = (head.epoch, head.last_key_id, head.kek_alias, head.wrapped_store_key)
        rows = (key_id.to_bytes(8, "big") + row_macs[key_id] for key_id in sorted(row_macs))
        return self._mac(b"pgseal/head/1", (*map(encode_field, fixed), *rows))

    def lease(self, key_id: int, context: str, leased: int) -> bytes:
        return self._mac(b"pgseal/lease/1", map(encode_field, (key_id, context, leased)))

    def verify_row(self, record: KeyRecord, mac: bytes) -> None:
        """StoreTampered where the row is not as pgseal wrote it."""
        try:
            expected = self.row(record)
        except (TypeError, OverflowError):
            expected = b""
        if not is_equal(expected, mac):
            raise StoreTampered(f"row {record.key_id} of the key store was changed outside pgseal")


def is_equal(one: bytes, other: bytes) -> bool:
    """Comparison in constant time."""
    return constant_time.bytes_eq(one, other)


# --- what may change between two reads ----------------------------------------------------------------


def check_progress(known: Mapping[int, KeyRecord], found: Mapping[int, KeyRecord]) -> None:
    """StoreTampered where a key vanished, an id changed its key, or a status moved backwards."""
    for key_id, old in known.items():
        new = found.get(key_id)
        if new is None:
            raise StoreTampered(f"key {key_id} vanished from the key store")
        if (new.line, new.version) != (old.line, old.version):
            raise StoreTampered(f"key id {key_id} was given to another key")
        if new.status not in LATER[old.status] or new.epoch < old.epoch:
            raise StoreTampered(f"key {key_id} went back from {old.status.value} to {new.status.value}")
