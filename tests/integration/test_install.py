"""`init` in a real database: what it makes, that it can be repeated, and what it hands back without rights."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxy.dsn import parse_dsn
from proxy.errors import ConfigError, ConnectionFailure
from proxy.service.connection import ServiceConnection, ServiceTarget, connected
from proxy.service.install import Preparation, as_script, prepare
from tests.conftest import Database

DDL = """
CREATE SCHEMA IF NOT EXISTS pgseal;
CREATE TABLE IF NOT EXISTS pgseal.encryption_keys (key_id bigint PRIMARY KEY);
REVOKE ALL ON pgseal.encryption_keys FROM PUBLIC;
"""


@pytest.fixture
def login(database: Database) -> Any:
    """The name of a service log-in of this test's own; log-ins belong to the whole server."""
    name = f"pgseal_{database.name}"
    yield name
    with database.connect() as admin:
        exists = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
        if exists:
            admin.execute(f"DROP OWNED BY {name} CASCADE".encode())
            admin.execute(f"DROP ROLE {name}".encode())


async def run(database: Database, login: str, user: str = "postgres", dry_run: bool = False) -> Preparation:
    async with connected(ServiceTarget(parse_dsn(database.dsn(user)))) as admin:
        return await prepare(admin, login, None, DDL, dry_run)


async def test_prepare_fresh_database_makes_login_schema_and_tables(database: Database, login: str) -> None:
    """The log-in is no superuser, owns schema pgseal and its tables, and PUBLIC gets nothing."""
    assert (await run(database, login)).is_done
    with database.connect() as admin:
        role = admin.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = %s", [login]
        ).fetchone()
        owners = admin.execute(
            "SELECT pg_get_userbyid(nspowner), (SELECT pg_get_userbyid(relowner) FROM pg_class"
            " WHERE oid = 'pgseal.encryption_keys'::regclass) FROM pg_namespace WHERE nspname = 'pgseal'"
        ).fetchone()
        public = admin.execute("SELECT has_schema_privilege('pg_monitor', 'pgseal', 'USAGE')").fetchone()
    assert role == (False, False, False, False)
    assert owners == (login, login)
    assert public == (False,)


async def test_prepare_repeated_has_nothing_left_to_do(database: Database, login: str) -> None:
    """A second run finds everything in place and changes nothing."""
    await run(database, login)
    assert (await run(database, login)).statements == ()


async def test_prepare_dry_run_changes_nothing(database: Database, login: str) -> None:
    """A dry run lists the statements and runs none."""
    planned = await run(database, login, dry_run=True)
    assert planned.statements and not planned.is_done
    with database.connect() as admin:
        assert admin.execute("SELECT to_regnamespace('pgseal')").fetchone() == (None,)


async def test_prepare_without_rights_hands_back_sql_that_an_administrator_can_run(
    database: Database, login: str
) -> None:
    """A log-in without CREATEROLE gets the statements; run by a superuser they complete the installation."""
    weak = f"weak_{database.name}"
    database.execute(f"CREATE ROLE {weak} LOGIN")
    try:
        answer = await run(database, login, user=weak)
        assert not answer.is_done
        database.execute(as_script(answer.statements))
        assert (await run(database, login)).statements == ()
    finally:
        database.execute(f"DROP ROLE {weak}")


async def test_prepare_schema_of_someone_else_is_refused(database: Database, login: str) -> None:
    """A schema pgseal that another role owns is not taken over."""
    database.execute("CREATE SCHEMA pgseal")
    with pytest.raises(ConfigError, match="belongs to"):
        await run(database, login)


async def test_prepare_superuser_login_is_refused(database: Database) -> None:
    """The service log-in must not be a superuser."""
    with pytest.raises(ConfigError, match="superuser"):
        await run(database, "postgres")


async def test_connection_settings_are_its_own(database: Database) -> None:
    """search_path is empty and the application name says who it is."""
    async with connected(ServiceTarget(parse_dsn(database.dsn()))) as connection:
        assert await connection.fetchval("SELECT current_setting('search_path')") in ("", '""')
        assert await connection.fetchval("SELECT current_setting('application_name')") == "pgseal"


async def test_connection_refused_message_has_no_credential(database: Database) -> None:
    """The reason of a failed log-in never quotes the DSN's password."""
    dsn = parse_dsn(f"postgresql://nobody_here:canary-7d1@127.0.0.1:{database.port}/{database.name}")
    with pytest.raises(ConnectionFailure) as caught:
        async with connected(ServiceTarget(dsn)):
            pass
    assert "canary" not in f"{caught.value!r} {caught.value.message} {caught.value.hint}"


async def test_service_connection_killed_by_the_server_is_opened_again(database: Database) -> None:
    """The work that broke fails with one error; the next is done on a new connection."""
    service = ServiceConnection(ServiceTarget(parse_dsn(database.dsn())))
    pid = await service.run(lambda connection: connection.fetchval("SELECT pg_backend_pid()"))
    with database.connect() as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    answers = []
    for _ in range(2):
        try:
            answers.append(await service.run(lambda connection: connection.fetchval("SELECT 1")))
        except ConnectionFailure:
            await asyncio.sleep(0)
    await service.close()
    assert answers[-1] == 1


async def test_service_connection_server_away_waits_between_tries() -> None:
    """After a refused try the next one is answered without asking the network, until the wait is over."""
    dsn = parse_dsn("postgresql://pgseal@127.0.0.1:1/app")
    service = ServiceConnection(ServiceTarget(dsn), first_wait_s=60)
    with pytest.raises(ConnectionFailure, match="failed"):
        await service.run(lambda connection: connection.fetchval("SELECT 1"))
    with pytest.raises(ConnectionFailure, match="next try"):
        await service.run(lambda connection: connection.fetchval("SELECT 1"))


async def test_service_connection_that_waits_for_a_lock_says_so_and_goes_on(database: Database) -> None:
    """The statement's own time ends; the connection is good for the next."""
    service = ServiceConnection(ServiceTarget(parse_dsn(database.dsn()), statement_timeout_s=0.1))
    try:
        with pytest.raises(ConnectionFailure, match="not done in time"):
            await service.run(lambda connection: connection.execute("SELECT pg_sleep(60)"))
        assert await service.run(lambda connection: connection.fetchval("SELECT 1")) == 1
    finally:
        await service.close()
