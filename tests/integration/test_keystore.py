"""The key store on a real server: what pgseal changes holds, what anyone else changes is seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from proxy.errors import KeyUnavailable
from proxy.keys.kms.base import KmsRefused
from proxy.keys.kms.local import LocalKms
from proxy.keys.records import COLUMNS, KeyStatus, Purpose, StoreTampered
from proxy.keys.store import MAX_LEASED, KeyStore, StoreUnavailable
from proxy.keys.store_schema import STORE_DDL
from tests.conftest import Database
from tests.keystores import KEK, fresh_folder, install, new_key, opened
from tests.vectors import ddl

# how a database administrator might change each column directly
DIRECT = {
    "key_id": "key_id + 100",
    "tenant": "'mallory'",
    "name": "'x'",
    "key_type": "'OTHER'",
    "purpose": "'index'",
    "version": "9",
    "status": "'ROTATED'",
    "algorithm": "'NONE'",
    "kek_alias": "'other'",
    "wrapped_dek": "'\\x00'::bytea",
    "parent_key_id": "7",
    "created_at": "created_at + interval '1 microsecond'",
    "activated_at": "NULL",
    "expires_at": "'infinity'",
    "rotated_at": "now()",
    "last_used_at": "now()",
    "rollback_until": "'2999-01-01'",
    "compliance_tags": "'{x}'",
    "authorised_services": "'{x}'",
    "access_policy": "''",
    "correlation_id": "''",
    "created_by": "'x'",
    "changed_by": "'x'",
    "epoch": "epoch - 1",
    "row_mac": "'\\x00'::bytea",
}


async def prepared(store: KeyStore) -> None:
    """An initialised store with keys 1 (a, data) and 2 (b, index)."""
    assert await store.initialise("main")
    await store.read()
    await store.create(await new_key(store))
    await store.create(await new_key(store, "b", Purpose.INDEX))


def test_ddl_of_code_and_document_are_the_same() -> None:
    """The document's tables are the code's, word for word."""
    assert ddl("formats.md") == STORE_DDL


async def test_store_made_by_one_process_is_read_by_another(database: Database, tmp_path: Path) -> None:
    """Keys, their ids and their order come back verified."""
    install(database)
    async with opened(database, tmp_path / "1") as one, opened(database, tmp_path / "2") as two:
        await prepared(one)
        assert not await two.initialise("main")
        await two.read()
        assert two.records == one.records
        assert two.realm == one.realm and two.epoch == 3
        assert [r.key_id for r in one.records.values()] == [1, 2]
        assert {r.status for r in one.records.values()} == {KeyStatus.ACTIVE}


async def test_store_not_installed_or_initialised_says_what_to_run(database: Database, tmp_path: Path) -> None:
    """No tables and no head row are told apart from tampering."""
    async with opened(database, tmp_path) as store:
        with pytest.raises(KeyUnavailable, match="no tables"):
            await store.read()
        install(database)
        with pytest.raises(KeyUnavailable, match="not initialised"):
            await store.read()


async def test_create_by_many_proxies_at_once_makes_one_key(database: Database, tmp_path: Path) -> None:
    """The first key of a tenant is made once, and everyone gets that one."""
    install(database)
    async with opened(database, tmp_path / "1") as one, opened(database, tmp_path / "2") as two:
        await one.initialise("main")
        await asyncio.gather(one.read(), two.read())
        news = [await new_key(store, tenant=str(n)) for n in range(5) for store in (one, two)]
        made = await asyncio.gather(*(store.create(new) for new, store in zip(news, [one, two] * 5, strict=True)))
        assert [a.key_id for a in made[::2]] == [b.key_id for b in made[1::2]]
        assert {r.key_id for r in made} == {1, 2, 3, 4, 5}
        await one.read(full=True)
        await two.read(full=True)
        assert one.records == two.records and len(one.records) == 5


@pytest.mark.parametrize("column", [*COLUMNS, "row_mac"])
async def test_read_of_a_row_changed_directly_is_tampering(
    database: Database, tmp_path: Path, column: str
) -> None:
    """Every column is under a MAC; the process that knew the row and a new one both see it."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
        database.execute(f"UPDATE pgseal.encryption_keys SET {column} = {DIRECT[column]} WHERE key_id = 1")
        with pytest.raises(StoreTampered):
            await store.read(full=True)
        async with opened(database, fresh_folder(tmp_path)) as fresh:
            with pytest.raises(StoreTampered):
                await fresh.read()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM pgseal.encryption_keys WHERE key_id = 2",
        "UPDATE pgseal.key_store_head SET epoch = 2",
        "UPDATE pgseal.key_store_head SET epoch = 4",
        "UPDATE pgseal.key_store_head SET last_key_id = 1",
        "UPDATE pgseal.key_store_head SET realm = '\\x00000000000000000000000000000000'",
        "UPDATE pgseal.key_store_head SET kek_alias = 'other'",
        "UPDATE pgseal.key_store_head SET wrapped_store_key = '\\x00'",
        "UPDATE pgseal.key_store_head SET head_mac = '\\x00'",
        "DELETE FROM pgseal.key_store_head",
        'INSERT INTO pgseal.encryption_keys SELECT (jsonb_populate_record(k, \'{"key_id": 3, "version": 2, '
        '"status": "ROTATED"}\')).* FROM pgseal.encryption_keys k WHERE key_id = 1',
    ],
)
async def test_read_of_a_store_changed_directly_is_tampering(
    database: Database, tmp_path: Path, statement: str
) -> None:
    """Rows removed or added, and every field of the head."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
        database.execute(statement)
        with pytest.raises(StoreTampered):
            await store.read()
        with pytest.raises(StoreTampered):
            await store.create(await new_key(store, "c"))


async def test_new_process_with_exchanged_head_fields_refuses(database: Database, tmp_path: Path) -> None:
    """A wrapped key-store key of another realm, or an alias nobody configured, opens nothing."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
    for assignment in ("realm = '\\x00000000000000000000000000000000'", "kek_alias = 'other'"):
        database.execute(f"UPDATE pgseal.key_store_head SET {assignment}")
        async with opened(database, fresh_folder(tmp_path)) as fresh:
            with pytest.raises(KeyUnavailable):
                await fresh.read()


async def test_read_of_a_row_restored_to_an_older_version_is_tampering(
    database: Database, tmp_path: Path
) -> None:
    """A compromised key cannot be made ACTIVE again by putting its old, well MACed row back."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
        database.execute("CREATE TABLE old AS SELECT * FROM pgseal.encryption_keys")
        await store.set_status(1, KeyStatus.COMPROMISED)
        database.execute(
            "DELETE FROM pgseal.encryption_keys WHERE key_id = 1;"
            "INSERT INTO pgseal.encryption_keys SELECT * FROM old WHERE key_id = 1"
        )
        for folder in (tmp_path, fresh_folder(tmp_path)):
            async with opened(database, folder) as fresh:
                with pytest.raises(StoreTampered):
                    await fresh.read()
        with pytest.raises(StoreTampered):
            await store.read(full=True)


async def test_read_of_a_whole_store_rolled_back_is_seen_by_the_state_folder(
    database: Database, tmp_path: Path
) -> None:
    """Rows and head of an earlier epoch agree with each other, but not with what was seen."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
        database.execute(
            "CREATE TABLE old AS SELECT * FROM pgseal.encryption_keys;"
            "CREATE TABLE old_head AS SELECT * FROM pgseal.key_store_head"
        )
        await store.set_status(1, KeyStatus.COMPROMISED)
        database.execute(
            "TRUNCATE pgseal.encryption_keys, pgseal.key_store_head;"
            "INSERT INTO pgseal.encryption_keys SELECT * FROM old;"
            "INSERT INTO pgseal.key_store_head SELECT * FROM old_head"
        )
        with pytest.raises(StoreTampered, match="rolled back"):
            await store.read()
    async with opened(database, tmp_path) as restarted:
        with pytest.raises(StoreTampered, match="rolled back"):
            await restarted.read()


async def test_initialise_after_the_store_was_emptied_is_tampering(database: Database, tmp_path: Path) -> None:
    """An emptied store is not quietly made anew by a process that has seen it."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
        database.execute("TRUNCATE pgseal.encryption_keys, pgseal.key_store_head")
        with pytest.raises(StoreTampered):
            await store.initialise("main")
    async with opened(database, tmp_path) as restarted:
        with pytest.raises(StoreTampered):
            await restarted.read()


async def test_rotate_by_two_proxies_at_once_makes_one_version(database: Database, tmp_path: Path) -> None:
    """The old key is ROTATED, one new version ACTIVE, its parent the old one."""
    install(database)
    async with opened(database, tmp_path / "1") as one, opened(database, tmp_path / "2") as two:
        await prepared(one)
        await two.read()
        first, second = await asyncio.gather(one.rotate(1, await new_key(one)), two.rotate(1, await new_key(two)))
        assert first == second
        assert (first.version, first.parent_key_id, first.status) == (2, 1, KeyStatus.ACTIVE)
        await one.read()
        assert one.records[1].status is KeyStatus.ROTATED and one.records[1].rotated_at is not None
        assert len(one.records) == 3


async def test_rotate_of_an_index_ends_at_version_15(database: Database, tmp_path: Path) -> None:
    """Fifteen index versions fit the envelope's flags; there is no sixteenth."""
    install(database)
    async with opened(database, tmp_path) as store:
        await store.initialise("main")
        await store.read()
        record = await store.create(await new_key(store, "", Purpose.INDEX))
        for version in range(2, 16):
            record = await store.rotate(record.key_id, await new_key(store, "", Purpose.INDEX))
            assert record.version == version
        with pytest.raises(KeyUnavailable, match="15"):
            await store.rotate(record.key_id, await new_key(store, "", Purpose.INDEX))
        assert store.records[record.key_id].status is KeyStatus.ACTIVE


async def test_create_where_the_tenants_key_may_not_seal_makes_no_other(
    database: Database, tmp_path: Path
) -> None:
    """A shredded tenant does not come back to life by the next INSERT."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
        assert (await store.set_status(1, KeyStatus.DESTROYED)).wrapped_dek is None
        with pytest.raises(KeyUnavailable):
            await store.create(await new_key(store))
        with pytest.raises(KeyUnavailable, match="cannot become"):
            await store.set_status(1, KeyStatus.ACTIVE)
        assert len(store.records) == 2


async def test_lease_by_two_processes_adds_up_and_ends_at_the_limit(database: Database, tmp_path: Path) -> None:
    """Leases never overlap, sum to 2^32 at most, and then there is none."""
    install(database)
    async with opened(database, tmp_path / "1") as one, opened(database, tmp_path / "2") as two:
        await prepared(one)
        await two.read()
        leases = await asyncio.gather(*(store.lease(1, "c", 1000) for store in (one, two) * 3))
        assert sorted(lease.total for lease in leases) == [1000, 2000, 3000, 4000, 5000, 6000]
        assert (await one.lease(1, "other", 7)).total == 7
        last = await two.lease(1, "c", MAX_LEASED)
        assert (last.granted, last.total) == (MAX_LEASED - 6000, MAX_LEASED)
        with pytest.raises(KeyUnavailable, match="sealed all"):
            await one.lease(1, "c", 1)


async def test_lease_row_changed_or_removed_is_tampering(database: Database, tmp_path: Path) -> None:
    """A count set back is seen by its MAC, a removed row by the process that took from it."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
        await store.lease(1, "c", 1000)
        database.execute("UPDATE pgseal.nonce_leases SET leased = 0")
        with pytest.raises(StoreTampered):
            await store.lease(1, "c", 1)
        database.execute("DELETE FROM pgseal.nonce_leases")
        with pytest.raises(StoreTampered):
            await store.lease(1, "c", 1)


async def test_store_under_another_kek_does_not_open(database: Database, tmp_path: Path) -> None:
    """Without the KEK that wrapped it the key-store key stays closed."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
    async with opened(database, tmp_path, {"main": LocalKms("main", bytes(32))}) as other:
        with pytest.raises(KmsRefused):
            await other.read()


async def test_change_of_one_process_reaches_the_other_as_a_hint(database: Database, tmp_path: Path) -> None:
    """A NOTIFY follows each change; the next light read has it."""
    install(database)
    async with opened(database, tmp_path / "1") as one, opened(database, tmp_path / "2") as two:
        await prepared(one)
        await two.read()
        two.changed.clear()
        await one.set_status(1, KeyStatus.INACTIVE)
        async with asyncio.timeout(10):
            await two.changed.wait()
        await two.read()
        assert two.records[1].status is KeyStatus.INACTIVE


async def test_store_whose_database_is_gone_is_unavailable(database: Database, tmp_path: Path) -> None:
    """A store that cannot be asked is PS003, and asked again later."""
    install(database)
    async with opened(database, tmp_path) as store:
        await prepared(store)
        with psycopg.connect(database.server.dsn(), autocommit=True) as admin:
            admin.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(database.name))
            )
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database.name]
            )
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await store.read()
            admin.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(database.name))
            )
    async with opened(database, tmp_path) as again:
        await again.read()
        assert len(again.records) == 2


async def test_no_table_of_the_store_holds_a_plain_key(database: Database, tmp_path: Path) -> None:
    """Neither data key nor key-store key is in any column, in any spelling."""
    install(database)
    kms = LocalKms("main", KEK)
    async with opened(database, tmp_path, {"main": kms}) as store:
        await store.initialise("main")
        await store.read()
        made = await kms.generate_data_key({"realm": store.realm.hex(), "tenant": "a", "key_type": "PHI"})
        new = await new_key(store)
        await store.create(type(new)(new.tenant, new.key_type, new.purpose, "main", made.wrapped))
        with database.connect() as connection:
            for table in ("encryption_keys", "key_store_head", "nonce_leases"):
                query = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier("pgseal", table))
                content = " ".join(row[0] for row in connection.execute(query).fetchall())
                assert made.plain.hex() not in content
