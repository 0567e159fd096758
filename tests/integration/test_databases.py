"""What the connections of a worker share: one refresh for all who ask, locks, databases that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.audit.events import Outcome, StatementEvent, Subject
from proxy.dsn import parse_dsn
from proxy.errors import ConnectionFailure, SchemaMismatch
from proxy.metrics import Counters
from proxy.net.databases import Databases, Shared
from proxy.net.news import News
from proxy.net.server import Login
from proxy.rules import ColumnRule, Read, RoleRule, Ruleset, TableRule, TenantFrom, TenantRule
from proxy.rules_lock import Lock
from proxy.service.connection import ServiceTarget, connected
from proxy.service.lock_reader import locked_relations
from proxy.session.connection import Session, Splice
from proxy.session.interface import CatalogNeed
from proxy.sql.guard import guard_expression, guard_name
from proxy.values.registry import parse_type
from tests.conftest import Database

SSN = ColumnRule("public.patients", "ssn", parse_type("text"), "public.patients.ssn")
CREATE = f"CREATE TABLE patients (id int, ssn bytea CONSTRAINT {guard_name(SSN)} CHECK ({guard_expression(SSN)}))"


@dataclass(slots=True)
class Trail:
    """Keeps what is recorded; stands where the auditor does."""

    events: list[Any] = field(default_factory=list)
    is_writable: bool = True

    def write(self, events: Any) -> None:
        self.events += events


def rules(database: str, *tables: str) -> Ruleset:
    made = {
        ("public", name): TableRule(
            "public", name, TenantRule(TenantFrom.FIXED, "main"), {"ssn": SSN} if name == "patients" else {}
        )
        for name in tables
    }
    return Ruleset(database, 1, made, {"app": RoleRule(Read.PLAIN)})


@asynccontextmanager
async def serving(database: Database, *tables: str, **shared: Any) -> AsyncIterator[Databases]:
    """The services of a worker over one ruled database."""
    given = Shared(cast(Any, None), cast(Any, Trail()), Counters(), b"k" * 32, **shared)
    target = ServiceTarget(parse_dsn(database.dsn()))
    found = Databases({database.name: rules(database.name, *tables)}, target, given)
    try:
        yield found
    finally:
        await found.close()


def login(database: str) -> Login:
    return Login("app", database, (("user", "app"),), False, "trust", "127.0.0.1", False, False, 0, False)


async def test_open_database_with_rules_is_a_session_without_is_a_splice(database: Database) -> None:
    """A database without rules passes untouched, and is listed."""
    async with serving(database, "patients") as databases:
        assert isinstance(await databases.open(login(database.name)), Session)
        assert isinstance(await databases.open(login("postgres")), Splice)
        assert databases.without_rules == {"postgres"}


async def test_open_unreachable_server_is_refused_and_tried_again(database: Database) -> None:
    """The first log-in says why; nothing of the failure is kept once the server answers."""
    given = Shared(cast(Any, None), cast(Any, Trail()), Counters(), b"k" * 32)
    away = ServiceTarget(parse_dsn(f"postgresql://postgres@127.0.0.1:1/{database.name}"))
    databases = Databases({database.name: rules(database.name, "patients")}, away, given)
    await databases.load()
    with pytest.raises(ConnectionFailure):
        await databases.open(login(database.name))
    await databases.close()


async def test_ensure_catalog_need_gives_one_new_snapshot_to_all_who_ask(database: Database) -> None:
    """Twenty sessions with the same stale epoch cost one or two reads, and all see the new table."""
    async with serving(database, "patients") as databases:
        await databases.load()
        shared = databases.by_name[database.name]
        stale = shared.snapshot.epoch
        database.execute(CREATE)
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(databases.ensure((CatalogNeed(stale, database.name),)))
        assert shared.snapshot.epoch in (stale + 1, stale + 2)
        assert ("public", "patients") in shared.snapshot.relations


async def test_refresh_asked_during_a_read_waits_for_a_later_one(database: Database) -> None:
    """What was committed after a read began is in the snapshot that a later asker gets."""
    async with serving(database, "patients") as databases:
        await databases.load()
        shared = databases.by_name[database.name]
        async with asyncio.TaskGroup() as group:
            group.create_task(shared.refresh())
            await asyncio.sleep(0)
            await asyncio.to_thread(database.execute, CREATE)
            group.create_task(shared.refresh())
        assert ("public", "patients") in shared.snapshot.relations


async def test_poll_unchanged_catalog_keeps_the_snapshot(database: Database) -> None:
    """The fingerprint is the same, so nothing is read and no plan is lost."""
    async with serving(database, "patients") as databases:
        await databases.load()
        shared = databases.by_name[database.name]
        before = shared.snapshot
        assert not await shared.poll()
        assert shared.snapshot is before


async def test_open_after_a_clients_ddl_sees_it(database: Database) -> None:
    """A log-in that follows recorded DDL gets a snapshot with it, without waiting for the next poll."""
    async with serving(database, "patients") as databases:
        await databases.load()
        database.execute(CREATE)
        subject = Subject("s", None, "app", "", "", "", "", "CREATE TABLE", ())
        event = StatementEvent(subject, 0.0, 0, 0, 0, (), Outcome.OK)
        databases.record([event])
        await databases.open(login(database.name))
        assert ("public", "patients") in databases.by_name[database.name].snapshot.relations


async def test_change_rules_that_do_not_fit_changes_nothing(database: Database) -> None:
    """A table that would be refused under the new rules keeps the old ones in force."""
    database.execute("CREATE TABLE patients (id int, ssn text)")
    async with serving(database) as databases:
        await databases.load()
        before = databases.by_name[database.name].rules
        with pytest.raises(SchemaMismatch, match="is text in the table"):
            await databases.change_rules({database.name: rules(database.name, "patients")})
        assert databases.by_name[database.name].rules is before
        assert databases.tables_refused() == {}


async def test_change_rules_new_database_is_served(database: Database) -> None:
    """A rules file more: the database's next log-in is a session."""
    database.execute(CREATE)
    given = Shared(cast(Any, None), cast(Any, Trail()), Counters(), b"k" * 32)
    databases = Databases({}, ServiceTarget(parse_dsn(database.dsn())), given)
    await databases.change_rules({database.name: rules(database.name, "patients")})
    assert isinstance(await databases.open(login(database.name)), Session)
    await databases.close()


@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        ("CREATE VIEW shown AS SELECT ssn FROM patients", "is new and shows protected columns"),
        (f"DROP TABLE patients; {CREATE}", "is another relation of that name"),
        (
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'begin return new; end';"
            "CREATE TRIGGER t BEFORE INSERT ON patients FOR EACH ROW EXECUTE FUNCTION f()",
            "its triggers or rules are others",
        ),
    ],
)
async def test_locked_schema_that_changes_is_refused_until_approved(
    database: Database, behind: str, reason: str
) -> None:
    """With a lock, what lowers protection behind pgseal's back is PS006; the same state approved serves."""
    database.execute(CREATE)
    for moment in ("before", "after"):
        async with serving(database, "patients") as databases:
            await databases.load()
            shared = databases.by_name[database.name]
            async with connected(ServiceTarget(parse_dsn(database.dsn()))) as connection:
                lock = Lock(shared.rules, await locked_relations(connection, shared.snapshot))
        async with serving(database, "patients", locks={database.name: lock}) as databases:
            await databases.load()
            assert databases.tables_refused() == {}
            if moment == "before":
                database.execute(behind)
                await databases.by_name[database.name].poll()
                told = str(databases.tables_refused())
                assert reason in told and "public.patients: public.patients" not in told


@pytest.mark.parametrize("is_table_known", [False, True])
async def test_locked_schema_takes_tables_and_columns_that_are_ruled_since(
    database: Database, is_table_known: bool
) -> None:
    """What is protected now and was not when it was approved lowers nothing."""
    database.execute(CREATE)
    async with serving(database, "patients") as databases:
        await databases.load()
        shared = databases.by_name[database.name]
        async with connected(ServiceTarget(parse_dsn(database.dsn()))) as connection:
            (table,) = await locked_relations(connection, shared.snapshot)
    lock = Lock(rules(database.name), (replace(table, columns=()),) if is_table_known else ())
    async with serving(database, "patients", locks={database.name: lock}) as databases:
        await databases.load()
        assert databases.tables_refused() == {}


async def test_news_of_another_worker_is_heard_once(tmp_path: Path) -> None:
    """One tells, the other hears it by the file, and not again; a lone worker hears itself."""
    one, other = News(tmp_path), News(tmp_path)
    assert not other.is_new()
    one.tell()
    assert await other.wait(5.0)
    assert not other.is_new()
    alone = News(None)
    alone.tell()
    assert await alone.wait(5.0)
    assert not await alone.wait(0.01)


async def test_news_folder_that_is_not_there_is_silent(tmp_path: Path) -> None:
    """A hint only: nothing fails without it."""
    news = News(tmp_path / "gone")
    news.tell()
    assert await news.wait(1.0)
    assert not news.is_new()
