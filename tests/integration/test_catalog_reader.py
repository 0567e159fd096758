"""The snapshot of a live catalog: columns, kin, views, functions, what is watched and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise

import asyncpg
import pytest

from proxy.rules import Isolation, Ruleset, TableRule, TenantFrom, TenantRule, Through
from proxy.service.catalog_reader import fingerprint, read_snapshot
from proxy.service.schema_check import check
from proxy.sql.catalog import Snapshot
from proxy.sql.guard import guard_expression, guard_name
from tests.conftest import Database
from tests.unit.sql.worlds import PATIENTS, RULES, SSN


def guarded(column: str) -> str:
    rule = PATIENTS.columns[column]
    return f'"{column}" {rule.storage.value} CONSTRAINT {guard_name(rule)} CHECK ({guard_expression(rule)})'


TABLE = f"""
CREATE TABLE public.patients (id int PRIMARY KEY, gone int, hospital_id int NOT NULL, {guarded("ssn")},
  {guarded("email")}, {guarded("badge")}, name text, UNIQUE (hospital_id, name));
ALTER TABLE public.patients DROP COLUMN gone;
"""
ONLY = replace(RULES, tables={("public", "patients"): PATIENTS})


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    found = await asyncpg.connect(database.dsn(), server_settings={"search_path": ""})
    yield found
    await found.close()


async def snapshot_of(connection: asyncpg.Connection, ddl: str, rules: Ruleset = ONLY) -> Snapshot:
    await connection.execute(ddl)
    return await read_snapshot(connection, rules, await check(connection, rules), 7)


async def test_snapshot_protected_table_has_sealed_columns_and_attnums(connection: asyncpg.Connection) -> None:
    """Dropped columns leave their attribute number; the tenant column and unique keys are known."""
    snapshot = await snapshot_of(connection, TABLE)
    patients = snapshot.relations[("public", "patients")]
    assert (patients.refused, patients.tenant_column, snapshot.epoch) == (None, "hospital_id", 7)
    assert {name: sealed.attnum for name, sealed in patients.sealed.items()} == {"ssn": 4, "email": 5, "badge": 6}
    assert set(patients.unique_columns) == {("id",), ("hospital_id", "name")}
    assert snapshot.sealed_at(patients.oid, 4) == patients.sealed["ssn"]
    assert {b"patients", b"set_config", b"pgseal"} <= snapshot.watched
    assert snapshot.server_version > 140000


async def test_snapshot_without_rules_watches_nothing(connection: asyncpg.Connection) -> None:
    """Every statement of such a database passes."""
    snapshot = await snapshot_of(connection, TABLE, replace(RULES, tables={}))
    assert snapshot.watched == frozenset()
    assert ("public", "patients") in snapshot.relations


async def test_snapshot_guard_missing_or_type_plain_refuses_the_table_alone(
    connection: asyncpg.Connection,
) -> None:
    """The reason has the DDL that mends it."""
    snapshot = await snapshot_of(
        connection,
        f"{TABLE} ALTER TABLE public.patients DROP CONSTRAINT {guard_name(SSN)}; CREATE TABLE public.v ()",
    )
    reason = snapshot.relations[("public", "patients")].refused
    assert reason is not None
    assert "guard" in reason
    assert "ADD CONSTRAINT" in reason
    assert snapshot.relations[("public", "v")].refused is None


async def test_snapshot_views_show_sealed_columns_through_nesting(connection: asyncpg.Connection) -> None:
    """A view's column that is a sealed column is sealed there, under its own name and number."""
    snapshot = await snapshot_of(
        connection,
        f"""{TABLE}
        CREATE VIEW public.one AS SELECT hospital_id AS h, ssn AS social, name FROM public.patients;
        CREATE VIEW public.two AS SELECT o.name, o.social AS s FROM public.one o JOIN public.one q ON q.h = o.h;
        CREATE VIEW public.plain AS SELECT id, name FROM public.patients;""",
    )
    one, two = snapshot.relations[("public", "one")], snapshot.relations[("public", "two")]
    assert (one.refused, two.refused) == (None, None)
    assert {name: (s.attnum, s.rule) for name, s in one.sealed.items()} == {"social": (2, SSN)}
    assert {name: (s.attnum, s.rule) for name, s in two.sealed.items()} == {"s": (2, SSN)}
    assert (one.is_simple_view, two.is_simple_view) == (True, False)
    assert one.tenant_column == "h"
    assert snapshot.relations[("public", "plain")].sealed == {}
    assert {b"one", b"two", b"plain"} <= snapshot.watched


@pytest.mark.parametrize(
    "query",
    [
        "SELECT length(ssn) AS n FROM public.patients",
        "SELECT upper(badge) AS n FROM public.patients",
        "SELECT id FROM public.patients WHERE ssn IN (SELECT 'x'::bytea)",
        "SELECT id FROM public.patients ORDER BY ssn",
    ],
)
async def test_snapshot_view_that_computes_with_cells_is_refused(
    connection: asyncpg.Connection, query: str
) -> None:
    """Its columns cannot be traced, so no use of it can be right."""
    snapshot = await snapshot_of(connection, f"{TABLE} CREATE VIEW public.odd AS {query};")
    assert snapshot.relations[("public", "odd")].refused is not None


async def test_snapshot_materialized_view_is_refused(connection: asyncpg.Connection) -> None:
    """It holds copies of cells."""
    snapshot = await snapshot_of(
        connection, f"{TABLE} CREATE MATERIALIZED VIEW public.m AS TABLE public.patients;"
    )
    assert "materialized" in str(snapshot.relations[("public", "m")].refused)


async def test_snapshot_view_with_instead_trigger_needs_through_view(connection: asyncpg.Connection) -> None:
    """Code stands between the view and the table, unless the rule allows it."""
    ddl = f"""{TABLE} CREATE VIEW public.w AS SELECT id, ssn FROM public.patients;
    CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER t INSTEAD OF INSERT ON public.w FOR EACH ROW EXECUTE FUNCTION public.f();"""
    snapshot = await snapshot_of(connection, ddl)
    assert "INSTEAD OF" in str(snapshot.relations[("public", "w")].refused)
    rule = replace(PATIENTS, through=Through.VIEW)
    allowed = await snapshot_of(connection, "SELECT 1", replace(ONLY, tables={("public", "patients"): rule}))
    assert allowed.relations[("public", "w")].refused is None


async def test_snapshot_children_inherit_rule_and_sealed_columns(connection: asyncpg.Connection) -> None:
    """A child's own attribute numbers count; its guard came with the inheritance."""
    snapshot = await snapshot_of(
        connection,
        f"{TABLE} CREATE TABLE public.kid (extra int) INHERITS (public.patients);"
        f" CREATE TABLE public.grandkid () INHERITS (public.kid);",
    )
    for name in ("kid", "grandkid"):
        child = snapshot.relations[("public", name)]
        assert child.refused is None
        assert child.rule is PATIENTS
        assert child.sealed["ssn"].relation_oid == child.oid
        assert name.encode() in snapshot.watched


async def test_snapshot_partitions_are_protected(connection: asyncpg.Connection) -> None:
    """A partition can be named by itself."""
    columns = ", ".join(guarded(name) for name in PATIENTS.columns)
    snapshot = await snapshot_of(
        connection,
        f"CREATE TABLE public.patients (hospital_id int NOT NULL, {columns}) PARTITION BY LIST (hospital_id);"
        f" CREATE TABLE public.p1 PARTITION OF public.patients FOR VALUES IN (1);",
    )
    part = snapshot.relations[("public", "p1")]
    assert (part.refused, set(part.sealed), part.tenant_column) == (
        None,
        {"ssn", "email", "badge"},
        "hospital_id",
    )


async def test_snapshot_functions_over_protected_tables_are_watched(connection: asyncpg.Connection) -> None:
    """By row type, by code and by calls; what shows or compares cells is told apart from what does not."""
    snapshot = await snapshot_of(
        connection,
        f"""{TABLE}
        CREATE FUNCTION public.rows() RETURNS SETOF public.patients LANGUAGE sql AS 'TABLE public.patients';
        CREATE FUNCTION public.finder(text) RETURNS int LANGUAGE plpgsql
          AS 'BEGIN RETURN (SELECT id FROM public.patients WHERE ssn = $1::bytea); END';
        CREATE FUNCTION public.counter() RETURNS bigint LANGUAGE sql AS 'SELECT count(id) FROM public.patients';
        CREATE FUNCTION public.caller() RETURNS int LANGUAGE sql AS 'SELECT public.finder(''x'')';
        CREATE FUNCTION public.parsed() RETURNS bigint LANGUAGE sql
          BEGIN ATOMIC SELECT count(*) FROM public.patients; END;
        CREATE FUNCTION public.other() RETURNS int LANGUAGE sql AS 'SELECT 1';""",
    )
    assert {b"rows", b"finder", b"counter", b"caller", b"parsed"} <= snapshot.watched
    assert b"other" not in snapshot.watched
    assert snapshot.watched_functions == {"rows", "finder", "caller", "parsed"}


async def test_fingerprint_changes_with_ddl_and_not_with_rows(connection: asyncpg.Connection) -> None:
    """Cheap to ask, and every kind of DDL that a snapshot depends on moves it."""
    await connection.execute(TABLE)
    seen = [await fingerprint(connection)]
    await connection.execute("INSERT INTO public.patients (id, hospital_id) VALUES (1, 1)")
    assert await fingerprint(connection) == seen[-1]
    for ddl in (
        "ALTER TABLE public.patients ADD COLUMN more int",
        "ALTER TABLE public.patients RENAME more TO less",
        "CREATE VIEW public.v AS SELECT id FROM public.patients",
        "CREATE OR REPLACE VIEW public.v AS SELECT id FROM public.patients WHERE id > 1",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION public.f()",
        f"ALTER TABLE public.patients DROP CONSTRAINT {guard_name(SSN)}",
        "CREATE SCHEMA more",
        "CREATE INDEX ON public.patients (name)",
    ):
        await connection.execute(ddl)
        seen.append(await fingerprint(connection))
    assert all(before != after for before, after in pairwise(seen))


async def test_snapshot_setting_tenant_has_no_tenant_column(connection: asyncpg.Connection) -> None:
    """Only a rule with `from: column` names one."""
    rule: TableRule = replace(
        PATIENTS, tenant=TenantRule(TenantFrom.SETTING, "app.tenant_id"), isolation=Isolation.NONE
    )
    snapshot = await snapshot_of(connection, TABLE, replace(ONLY, tables={("public", "patients"): rule}))
    assert snapshot.relations[("public", "patients")].tenant_column is None
