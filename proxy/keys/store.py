"""The key store: verified reads, changes that keep every MAC, and leases of nonces. docs/formats.md is its law.

Every change locks the head row, so two proxies at once are safe and each change has an epoch of its own. A read
is believed only when the head's MAC holds over all row MACs, each row's own MAC holds, nothing went back against
what this process knew, and nothing is older than what `state:` remembers. All work runs on one service
connection, one piece at a time, so what is known needs no lock. One reason to change: how the store is kept.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeVar

import asyncpg

from proxy.errors import ConnectionFailure, KeyUnavailable
from proxy.keys.kms.base import Kms, overwrite, store_context
from proxy.keys.records import (
    COLUMNS,
    FOLLOWERS,
    Head,
    KeyRecord,
    KeyStatus,
    Purpose,
    StoreKey,
    StoreTampered,
    check_progress,
    is_equal,
    record_of,
    row_of,
)
from proxy.keys.state_folder import Seen, StateFolder
from proxy.keys.store_schema import STORE_DDL as STORE_DDL
from proxy.service.connection import Connection, ServiceConnection

CHANNEL: Final = "pgseal_keys"
MAX_LEASED: Final = 1 << 32
MAX_INDEX_VERSION: Final = 15
MAX_KEY_ID: Final = 0xFFFFFFFF
ALGORITHM: Final = "AES-256"
REALM_SIZE: Final = 16
_CHUNK: Final = 500  # rows verified between two turns of the loop

_HEAD: Final = (
    "SELECT realm, epoch, last_key_id, kek_alias, wrapped_store_key, head_mac FROM pgseal.key_store_head"
)
_ROWS: Final = f"SELECT {', '.join(COLUMNS)}, row_mac FROM pgseal.encryption_keys WHERE key_id = ANY($1)"  # noqa: S608
_WRITE: Final = (
    f"INSERT INTO pgseal.encryption_keys ({', '.join(COLUMNS)}, row_mac) VALUES "  # noqa: S608
    f"({', '.join(f'${n + 1}' for n in range(len(COLUMNS) + 1))}) ON CONFLICT (key_id) DO UPDATE SET "
    f"{', '.join(f'{name} = EXCLUDED.{name}' for name in (*COLUMNS[1:], 'row_mac'))}"
)
T = TypeVar("T")
Change = Callable[[Head, Mapping[int, KeyRecord]], tuple[KeyRecord, ...]]


class StoreUnavailable(KeyUnavailable):
    """The key store does not answer now."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A data key that the KMS has just made, on its way into the store."""

    tenant: str
    key_type: str
    purpose: Purpose
    kek_alias: str
    wrapped_dek: bytes


@dataclass(frozen=True, slots=True)
class Lease:
    """Seals granted to this process, and the sum granted to all for this derived key."""

    granted: int
    total: int


class KeyStore:
    """`kms` maps aliases to providers, for the key-store key. `who` stands in created_by and changed_by."""

    def __init__(
        self, connection: ServiceConnection, state: StateFolder, kms: Mapping[str, Kms], who: str = "pgseal"
    ) -> None:
        self.changed = asyncio.Event()  # a NOTIFY came: a hint to read again
        self._connection = connection
        self._state = state
        self._kms = kms
        self._who = who
        self._key: tuple[tuple[bytes, str, bytes], StoreKey] | None = None
        self._head: Head | None = None
        self._head_mac = b""
        self._records: dict[int, KeyRecord] = {}
        self._macs: dict[int, bytes] = {}
        self._lease_floors: dict[tuple[int, str], int] = {}
        self._heard_on: Connection | None = None
        self._remembered = 0

    @property
    def realm(self) -> bytes:
        """The installation's realm; KeyUnavailable before the first read."""
        if self._head is None:
            raise KeyUnavailable("the key store has not been read yet")
        return self._head.realm

    @property
    def epoch(self) -> int:
        return self._head.epoch if self._head is not None else 0

    @property
    def records(self) -> Mapping[int, KeyRecord]:
        """All keys by id, as last verified."""
        return self._records

    # --- reading --------------------------------------------------------------------------------------

    async def read(self, *, full: bool = False) -> None:
        """Bring `records` up to date. Rows whose MAC is known are not read again unless `full`."""
        await self._unlock()

        async def work(connection: Connection) -> None:
            await self._listen(connection)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                row = await connection.fetchrow(_HEAD)
                await self._refresh(connection, row, full=full)

        await self._run(work)
        await self._remember()

    async def _listen(self, connection: Connection) -> None:
        if connection is not self._heard_on:
            await connection.add_listener(CHANNEL, lambda *_: self.changed.set())
            self._heard_on = connection

    async def _refresh(self, connection: Connection, row: asyncpg.Record | None, *, full: bool) -> None:
        """Within a transaction: verify the store as it is now, then know it."""
        head, head_mac = self._head_of(row)
        key = self._store_key(head)
        found = await connection.fetch("SELECT key_id, row_mac FROM pgseal.encryption_keys")
        macs: dict[int, bytes] = {row["key_id"]: row["row_mac"] for row in found}
        if (head, head_mac, macs) == (self._head, self._head_mac, self._macs) and not full:
            return
        if not is_equal(key.head(head, macs), head_mac):
            raise StoreTampered("the key store's head does not agree with its rows")
        self._check_head(head, head_mac)
        records = {key_id: self._records[key_id] for key_id in macs if key_id in self._records}
        wanted = [key_id for key_id, mac in macs.items() if full or self._macs.get(key_id) != mac]
        for start in range(0, len(wanted), _CHUNK):
            rows = await connection.fetch(_ROWS, wanted[start : start + _CHUNK])
            records |= _verified(key, rows, macs, head)
            await asyncio.sleep(0)
        if records.keys() != macs.keys():
            raise StoreTampered("rows of the key store changed while they were read")
        check_progress(self._records, records)
        self._head, self._head_mac, self._records, self._macs = head, head_mac, records, macs

    def _head_of(self, row: asyncpg.Record | None) -> tuple[Head, bytes]:
        if row is None:
            if self._head is not None or self._state.read() is not None:
                raise StoreTampered("the key store's head row is gone")
            raise KeyUnavailable("the key store is not initialised", hint="run pgseal init")
        return Head(*list(row.values())[:-1]), row["head_mac"]

    def _check_head(self, head: Head, head_mac: bytes) -> None:
        known = self._head
        if known is not None and (head.realm != known.realm or head.epoch < known.epoch):
            raise StoreTampered("the key store was rolled back or exchanged")
        if known is not None and head.epoch == known.epoch and not is_equal(head_mac, self._head_mac):
            raise StoreTampered("the key store changed without a new epoch")
        self._state.check(Seen(head.realm, head.epoch, head_mac))

    async def _remember(self) -> None:
        assert self._head is not None
        if self._remembered == self._head.epoch:
            return
        seen = Seen(self._head.realm, self._head.epoch, self._head_mac)
        try:
            await asyncio.to_thread(self._state.remember, seen)
        except OSError as error:
            raise KeyUnavailable(f"the state folder cannot be written: {error.strerror}") from None
        self._remembered = seen.epoch

    # --- the key-store key ------------------------------------------------------------------------------

    async def _unlock(self) -> None:
        """Have the key-store key of the head row as it stands, before a transaction needs it."""

        async def work(connection: Connection) -> asyncpg.Record | None:
            return await connection.fetchrow(_HEAD)

        if self._key is not None:
            return
        head, _ = self._head_of(await self._run(work))
        kms = self._kms_of(head.kek_alias)
        plain = await kms.unwrap(head.wrapped_store_key, store_context(head.realm))
        self._key = ((head.realm, head.kek_alias, head.wrapped_store_key), StoreKey(plain, head.realm))
        overwrite(plain)

    def _store_key(self, head: Head) -> StoreKey:
        assert self._key is not None
        identity, key = self._key
        if identity != (head.realm, head.kek_alias, head.wrapped_store_key):
            raise StoreTampered("the key-store key was exchanged")
        return key

    def _kms_of(self, alias: str) -> Kms:
        kms = self._kms.get(alias)
        if kms is None:
            raise KeyUnavailable(f"kms '{alias}' is not configured", hint="add it to `kms:` of the configuration")
        return kms

    async def initialise(self, kek_alias: str) -> bool:
        """Make head row, realm and key-store key; False where there are some already. Safe to repeat."""

        async def look(connection: Connection) -> tuple[bool, int]:
            has_head = await connection.fetchrow(_HEAD) is not None
            return has_head, await connection.fetchval("SELECT count(*) FROM pgseal.encryption_keys")

        has_head, n_keys = await self._run(look)
        if has_head:
            return False
        if n_keys or self._state.read() is not None:
            raise StoreTampered("the key store's head row is gone")
        realm = os.urandom(REALM_SIZE)
        made = await self._kms_of(kek_alias).generate_data_key(store_context(realm))
        head = Head(realm, 1, 0, kek_alias, made.wrapped)
        head_mac = StoreKey(made.plain, realm).head(head, {})
        overwrite(made.plain)

        async def insert(connection: Connection) -> str:
            return await connection.execute(
                "INSERT INTO pgseal.key_store_head (realm, epoch, last_key_id, kek_alias, wrapped_store_key,"
                " head_mac) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                realm,
                head.epoch,
                head.last_key_id,
                kek_alias,
                made.wrapped,
                head_mac,
            )

        return await self._run(insert) == "INSERT 0 1"

    # --- changes ----------------------------------------------------------------------------------------

    async def create(self, new: NewKey) -> KeyRecord:
        """The first version of a key, ACTIVE; where another proxy was first, its key. KeyUnavailable where the
        tenant's key is there but may not seal: that is never healed by making another."""

        def change(head: Head, records: Mapping[int, KeyRecord]) -> tuple[KeyRecord, ...]:
            line = [r for r in records.values() if r.line == (new.tenant, new.key_type, new.purpose.value)]
            return () if line else (self._new_record(new, head, line),)

        await self._change(change)
        return self._active(new)

    async def rotate(self, old_key_id: int, new: NewKey) -> KeyRecord:
        """The next version becomes ACTIVE and the old one ROTATED, unless another proxy did it already."""

        def change(head: Head, records: Mapping[int, KeyRecord]) -> tuple[KeyRecord, ...]:
            old = records.get(old_key_id)
            if old is None or old.status is not KeyStatus.ACTIVE:
                return ()
            line = [record for record in records.values() if record.line == old.line]
            rotated = replace(old, status=KeyStatus.ROTATED, rotated_at=_now(), changed_by=self._who)
            return rotated, self._new_record(new, head, line)

        await self._change(change)
        return self._active(new)

    async def set_status(self, key_id: int, status: KeyStatus) -> KeyRecord:
        """Move one key to a later status. DESTROYED drops the wrapped key. KeyUnavailable where it may not."""

        def change(head: Head, records: Mapping[int, KeyRecord]) -> tuple[KeyRecord, ...]:
            old = records.get(key_id)
            if old is None or status not in FOLLOWERS[old.status]:
                raise KeyUnavailable(f"key {key_id} cannot become {status.value}")
            wrapped = None if status is KeyStatus.DESTROYED else old.wrapped_dek
            return (replace(old, status=status, wrapped_dek=wrapped, changed_by=self._who),)

        await self._change(change)
        return self._records[key_id]

    def _new_record(self, new: NewKey, head: Head, line: Iterable[KeyRecord]) -> KeyRecord:
        previous = max(line, key=lambda record: record.version, default=None)
        version = previous.version + 1 if previous else 1
        if new.purpose is Purpose.INDEX and version > MAX_INDEX_VERSION:
            raise KeyUnavailable("an index has no version beyond 15", hint="move the column to a new context")
        if head.last_key_id >= MAX_KEY_ID:
            raise KeyUnavailable("the realm has no key id left")
        now = _now()
        return KeyRecord(
            key_id=head.last_key_id + 1,
            tenant=new.tenant,
            name=f"{new.tenant}/{new.key_type}/{new.purpose.value}/{version}",
            key_type=new.key_type,
            purpose=new.purpose,
            version=version,
            status=KeyStatus.ACTIVE,
            algorithm=ALGORITHM,
            kek_alias=new.kek_alias,
            wrapped_dek=new.wrapped_dek,
            parent_key_id=previous.key_id if previous else None,
            created_at=now,
            activated_at=now,
            expires_at=None,
            rotated_at=None,
            last_used_at=None,
            rollback_until=None,
            compliance_tags=(),
            authorised_services=(),
            access_policy=None,
            correlation_id=None,
            created_by=self._who,
            changed_by=self._who,
            epoch=head.epoch + 1,
        )

    def _active(self, new: NewKey) -> KeyRecord:
        wanted = (new.tenant, new.key_type, new.purpose.value)
        for record in self._records.values():
            if record.line == wanted and record.is_active(_now()):
                return record
        raise KeyUnavailable(f"no key of type {new.key_type} may seal for this tenant")

    async def _change(self, change: Change) -> None:
        """One change of the store: verify, change, MAC, raise the epoch, tell. Nothing to change is no epoch."""
        await self._unlock()

        async def work(connection: Connection) -> None:
            async with connection.transaction(isolation="read_committed"):
                row = await connection.fetchrow(_HEAD + " FOR UPDATE")
                await self._refresh(connection, row, full=False)
                assert self._head is not None
                changed = change(self._head, self._records)
                after = await self._write(connection, self._head, changed) if changed else None
            if after is not None:
                head, head_mac, records, macs = after
                self._head, self._head_mac = head, head_mac
                self._records, self._macs = {**self._records, **records}, macs

        await self._run(work)
        await self._remember()

    async def _write(
        self, connection: Connection, old: Head, changed: tuple[KeyRecord, ...]
    ) -> tuple[Head, bytes, dict[int, KeyRecord], dict[int, bytes]]:
        key = self._store_key(old)
        last_key_id = max(old.last_key_id, *(record.key_id for record in changed))
        head = replace(old, epoch=old.epoch + 1, last_key_id=last_key_id)
        records = {record.key_id: replace(record, epoch=head.epoch) for record in changed}
        macs = dict(self._macs)
        for record in records.values():
            macs[record.key_id] = key.row(record)
            await connection.execute(_WRITE, *row_of(record), macs[record.key_id])
        head_mac = key.head(head, macs)
        await connection.execute(
            "UPDATE pgseal.key_store_head SET epoch = $1, last_key_id = $2, head_mac = $3",
            head.epoch,
            head.last_key_id,
            head_mac,
        )
        await connection.execute("SELECT pg_catalog.pg_notify($1, $2)", CHANNEL, str(head.epoch))
        return head, head_mac, records, macs

    # --- leases -----------------------------------------------------------------------------------------

    async def lease(self, key_id: int, context: str, wanted: int) -> Lease:
        """Up to `wanted` seals of suite 1 for one derived key; KeyUnavailable when its 2^32 are used up."""
        await self._unlock()
        assert self._key is not None
        key = self._key[1]

        async def work(connection: Connection) -> int:
            async with connection.transaction(isolation="read_committed"):
                zero = (key_id, context, 0)
                await connection.execute(
                    "INSERT INTO pgseal.nonce_leases VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                    *zero,
                    key.lease(*zero),
                )
                row = await connection.fetchrow(
                    "SELECT leased, lease_mac FROM pgseal.nonce_leases WHERE key_id = $1 AND context = $2"
                    " FOR UPDATE",
                    key_id,
                    context,
                )
                assert row is not None
                leased: int = row["leased"]
                if not is_equal(
                    key.lease(key_id, context, leased), row["lease_mac"]
                ) or leased < self._lease_floors.get((key_id, context), 0):
                    raise StoreTampered(f"the nonce lease of key {key_id} was changed outside pgseal")
                total = min(leased + wanted, MAX_LEASED)
                await connection.execute(
                    "UPDATE pgseal.nonce_leases SET leased = $3, lease_mac = $4"
                    " WHERE key_id = $1 AND context = $2",
                    key_id,
                    context,
                    total,
                    key.lease(key_id, context, total),
                )
            self._lease_floors[key_id, context] = total
            return total - leased

        granted = await self._run(work)
        if granted == 0:
            raise KeyUnavailable(f"key {key_id} has sealed all it may", hint="rotate the key")
        return Lease(granted, self._lease_floors[key_id, context])

    # --- the connection ---------------------------------------------------------------------------------

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Foreign errors end here: a store that cannot be asked is StoreUnavailable."""
        try:
            return await self._connection.run(work)
        except ConnectionFailure as error:
            raise StoreUnavailable(f"the key store cannot be reached: {error.message}") from None
        except asyncpg.UndefinedTableError:
            raise KeyUnavailable("the key store has no tables", hint="run pgseal init") from None
        except (asyncpg.PostgresError, TimeoutError) as error:
            code = getattr(error, "sqlstate", None) or "timeout"
            raise StoreUnavailable(f"the key store does not answer ({code})") from None


def _verified(
    key: StoreKey, rows: Iterable[asyncpg.Record], macs: Mapping[int, bytes], head: Head
) -> dict[int, KeyRecord]:
    """Rows as records, each under its MAC, none beyond the head."""
    found = {}
    for row in rows:
        record = record_of(dict(row))
        if not is_equal(row["row_mac"], macs[record.key_id]):
            raise StoreTampered(f"row {record.key_id} of the key store was changed outside pgseal")
        key.verify_row(record, row["row_mac"])
        if record.epoch > head.epoch or record.key_id > head.last_key_id:
            raise StoreTampered(f"row {record.key_id} of the key store is ahead of its head")
        found[record.key_id] = record
    return found


def _now() -> datetime:
    return datetime.now(UTC)
