"""Rules against a live schema: each kind of disagreement is found, and the SQL it prints mends it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.dsn import parse_dsn
from proxy.rules import (
    ColumnRule,
    Isolation,
    Mode,
    Read,
    RoleRule,
    Ruleset,
    Scope,
    Storage,
    TableRule,
    TenantFrom,
    TenantRule,
)
from proxy.service.connection import ServiceTarget, connected
from proxy.service.findings import Finding, Report, Weight
from proxy.service.schema_check import check, refusing
from proxy.sql.guard import guard_expression, guard_name
from proxy.values.base import LogicalType
from tests.conftest import Database

TEXT = LogicalType("text", -1, "text", 25, 1009, -1)
BOOL = LogicalType("bool", -1, "bool", 16, 1000, 1)
FIXED = TenantRule(TenantFrom.FIXED, "main")
BY_ROW = TenantRule(TenantFrom.COLUMN, "hospital_id")


def column(name: str = "ssn", **options: object) -> ColumnRule:
    given: dict[str, object] = {"type": TEXT, "search": True, **options}
    return ColumnRule("public.patients", name, context=f"public.patients.{name}", **given)  # type: ignore[arg-type]


def rules(*columns: ColumnRule, tenant: TenantRule = FIXED, **options: object) -> Ruleset:
    table = TableRule("public", "patients", tenant, {rule.column: rule for rule in columns}, **options)  # type: ignore[arg-type]
    roles: Mapping[str, RoleRule] = {"app": RoleRule(Read.PLAIN)}
    return Ruleset("app", 1, {("public", "patients"): table}, roles)


def guarded(rule: ColumnRule, extra: str = "") -> str:
    """CREATE TABLE as pgseal itself would make it."""
    return (
        f"CREATE TABLE patients (id int PRIMARY KEY, hospital_id int NOT NULL, {rule.column} {rule.storage.value}"
        f" CONSTRAINT {guard_name(rule)} CHECK ({guard_expression(rule)}) {extra})"
    )


async def checked(database: Database, ruleset: Ruleset) -> Report:
    async with connected(ServiceTarget(parse_dsn(database.dsn()))) as connection:
        return await check(connection, ruleset)


async def found(database: Database, ruleset: Ruleset) -> dict[str, Finding]:
    return {
        finding.code: finding for table in (await checked(database, ruleset)).tables for finding in table.findings
    }


@pytest.mark.parametrize("storage", list(Storage))
@pytest.mark.parametrize(
    "options", [{"search": True}, {"search": False}, {"mode": Mode.DETERMINISTIC, "search": False}]
)
async def test_check_table_as_pgseal_makes_it_serves(
    database: Database, storage: Storage, options: dict[str, object]
) -> None:
    """PostgreSQL's own text of a guard is recognised as the guard, for each mode and storage."""
    rule = column(storage=storage, **options)
    database.execute(guarded(rule))
    report = await checked(database, rules(rule))
    assert not report.tables[0].is_refused, report.tables[0].findings
    assert report.tables[0].verdict == "serves"


async def test_check_absent_table_is_a_note(database: Database) -> None:
    """A table that CREATE TABLE through pgseal will make is not refused."""
    report = await checked(database, rules(column()))
    assert [finding.code for finding in report.tables[0].findings] == ["table_missing"]
    assert report.is_clean


async def test_check_absent_column_is_a_note(database: Database) -> None:
    """A column that ADD COLUMN through pgseal will make is not refused."""
    database.execute("CREATE TABLE patients (id int)")
    assert (await checked(database, rules(column()))).is_clean


@pytest.mark.parametrize("storage", list(Storage))
async def test_check_plaintext_column_prints_ddl_that_mends_an_empty_table(
    database: Database, storage: Storage
) -> None:
    """The one statement changes type, drops the default and adds the guard; then the table serves."""
    database.execute("CREATE TABLE patients (id int, ssn varchar(11) DEFAULT 'none')")
    rule = column(storage=storage)
    finding = (await found(database, rules(rule)))["wrong_type"]
    assert finding.weight is Weight.REFUSES
    for statement in finding.ddl:
        database.execute(statement)
    assert not (await checked(database, rules(rule))).tables[0].is_refused


async def test_check_plaintext_column_with_rows_ddl_changes_nothing(database: Database) -> None:
    """On a table with values the guard fails and takes the change of type back with it."""
    database.execute("CREATE TABLE patients (id int, ssn text); INSERT INTO patients VALUES (1, 'x')")
    finding = (await found(database, rules(column())))["wrong_type"]
    with pytest.raises(Exception, match="is violated by some row"):
        database.execute(finding.ddl[0])
    assert "wrong_type" in await found(database, rules(column()))


async def test_check_guard_missing_is_mended_by_its_ddl(database: Database) -> None:
    """Two statements: the guard NOT VALID, then validated."""
    database.execute("CREATE TABLE patients (id int, ssn bytea)")
    finding = (await found(database, rules(column())))["guard_missing"]
    assert len(finding.ddl) == 2
    for statement in finding.ddl:
        database.execute(statement)
    assert not (await checked(database, rules(column()))).tables[0].is_refused


async def test_check_guard_not_validated_is_refused(database: Database) -> None:
    """Rows from before the guard may hold plaintext."""
    rule = column()
    database.execute("CREATE TABLE patients (id int, ssn bytea)")
    database.execute(
        f"ALTER TABLE patients ADD CONSTRAINT {guard_name(rule)} CHECK ({guard_expression(rule)}) NOT VALID"
    )
    assert (await found(database, rules(rule)))["guard_not_validated"].weight is Weight.REFUSES


async def test_check_guard_of_another_mode_is_refused_and_mended(database: Database) -> None:
    """A guard that lets token-less cells pass is not the guard of a searchable column."""
    database.execute(guarded(column(search=False)))
    finding = (await found(database, rules(column())))["guard_differs"]
    for statement in finding.ddl:
        database.execute(statement)
    assert not (await checked(database, rules(column()))).tables[0].is_refused


async def test_check_weakened_guard_of_the_right_name_is_refused(database: Database) -> None:
    """A constraint that only has the name is found by its expression."""
    rule = column()
    database.execute(
        f"CREATE TABLE patients (id int, ssn bytea CONSTRAINT {guard_name(rule)}"
        f" CHECK ({guard_expression(rule)} OR true))"
    )
    assert "guard_differs" in await found(database, rules(rule))


async def test_check_guard_without_inheritance_is_refused(database: Database) -> None:
    """Children of the table would go without the guard."""
    rule = column()
    database.execute(
        f"CREATE TABLE patients (id int, ssn bytea,"
        f" CONSTRAINT {guard_name(rule)} CHECK ({guard_expression(rule)}) NO INHERIT)"
    )
    assert "guard_not_inherited" in await found(database, rules(rule))


async def test_check_guard_without_a_rule_is_refused(database: Database) -> None:
    """A guarded table that no rule names is refused by itself; so is a guarded column without its rule."""
    database.execute(guarded(column("notes")).replace("patients", "others", 1))
    report = await checked(database, rules(column()))
    assert set(report.refused()) == {("public", "others")}
    database.execute(guarded(column("notes")))
    assert ("public", "patients") in (await checked(database, rules(column()))).refused()


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("DEFAULT '\\x00'", "default"),
        ("UNIQUE", "unique"),
        (", CHECK (length(ssn) > 3)", "check"),
        (", EXCLUDE (ssn WITH =)", "exclude"),
        (", n int GENERATED ALWAYS AS (length(ssn)) STORED", "generated_from"),
    ],
)
async def test_check_what_cannot_stand_on_ciphertext_is_refused(
    database: Database, extra: str, code: str
) -> None:
    """Default, uniqueness, checks, exclusion and generated columns look at envelopes; the DDL removes them."""
    database.execute(guarded(column(), extra))
    finding = (await found(database, rules(column())))[code]
    assert finding.weight is Weight.REFUSES
    for statement in finding.ddl:
        database.execute(statement)
    assert not (await checked(database, rules(column()))).tables[0].is_refused


async def test_check_null_default_is_allowed(database: Database) -> None:
    """DEFAULT NULL says nothing."""
    database.execute(guarded(column(), "DEFAULT NULL"))
    assert not (await checked(database, rules(column()))).tables[0].is_refused


async def test_check_unique_on_search_column_proposes_the_token_index(database: Database) -> None:
    """The replacement is unique over tenant and token, and is then recognised."""
    rule = column()
    database.execute(guarded(rule, "UNIQUE"))
    ruleset = rules(rule, tenant=BY_ROW)
    finding = (await found(database, ruleset))["unique"]
    for statement in finding.ddl:
        database.execute(statement)
    after = await found(database, ruleset)
    assert not after.keys() & {"unique", "no_token_index", "unique_without_tenant"}


async def test_check_unique_token_without_tenant_column_is_refused(database: Database) -> None:
    """Within one tenant tokens are equal; across tenants never, unless the scope is the table."""
    rule = column()
    database.execute(guarded(rule))
    database.execute("CREATE UNIQUE INDEX ON patients ((substring(ssn from 10 for 15)))")
    assert "unique_without_tenant" in await found(database, rules(rule, tenant=BY_ROW))
    wide = column(scope=Scope.TABLE)
    assert "unique_without_tenant" not in await found(database, rules(wide, tenant=BY_ROW))


@pytest.mark.parametrize("storage", list(Storage))
async def test_check_search_without_index_prints_the_index(database: Database, storage: Storage) -> None:
    """The note's DDL makes an index that the check then recognises, for both storages."""
    rule = column(storage=storage)
    database.execute(guarded(rule))
    finding = (await found(database, rules(rule)))["no_token_index"]
    assert finding.weight is Weight.NOTES
    database.execute(finding.ddl[0])
    assert "no_token_index" not in await found(database, rules(rule))


async def test_check_plain_index_over_ciphertext_warns(database: Database) -> None:
    """It serves no query; it can be dropped."""
    database.execute(guarded(column()))
    database.execute("CREATE INDEX by_ssn ON patients (ssn)")
    finding = (await found(database, rules(column())))["useless_index"]
    assert finding.weight is Weight.WARNS
    database.execute(finding.ddl[0])
    assert "useless_index" not in await found(database, rules(column()))


async def test_check_foreign_key_over_randomised_cells_is_refused(database: Database) -> None:
    """Deterministic cells may be referenced, randomised ones never match."""
    rule = column(mode=Mode.DETERMINISTIC, search=False)
    database.execute(guarded(rule, "UNIQUE"))
    database.execute("CREATE TABLE visits (ssn bytea REFERENCES patients (ssn))")
    assert "foreign_key" not in await found(database, rules(rule))
    assert "foreign_key" in await found(database, rules(column()))


async def test_check_policy_over_protected_column_is_refused(database: Database) -> None:
    """Row-level security over a cell needs a token column."""
    database.execute(guarded(column()))
    database.execute("CREATE POLICY p ON patients USING (ssn IS NOT NULL AND length(ssn) > 1)")
    assert (await found(database, rules(column())))["policy"].weight is Weight.REFUSES


async def test_check_row_level_security_is_verified(database: Database) -> None:
    """isolation: rls is believed only when it is enabled, forced and has a policy over the tenant column."""
    ruleset = rules(column(), tenant=BY_ROW, isolation=Isolation.RLS)
    database.execute(guarded(column()))
    before = await found(database, ruleset)
    assert {"rls_off", "rls_policy_missing"} <= before.keys()
    for code in ("rls_off", "rls_policy_missing"):
        for statement in before[code].ddl:
            database.execute(statement)
    assert not (await checked(database, ruleset)).tables[0].is_refused


async def test_check_policy_for_a_setting_names_a_column_that_is_there(database: Database) -> None:
    """With the tenant in a setting there is SQL only where a column is named as the setting is."""
    rule = rules(column(), tenant=TenantRule(TenantFrom.SETTING, "shop.owner"), isolation=Isolation.RLS)
    database.execute(guarded(column()))
    assert (await found(database, rule))["rls_policy_missing"].ddl == ()
    database.execute("ALTER TABLE patients ADD COLUMN owner text")
    ddl = (await found(database, rule))["rls_policy_missing"].ddl
    assert "'shop.owner'" in ddl[0]
    database.execute(ddl[0])
    assert "rls_policy_missing" not in await found(database, rule)


async def test_check_tenant_only_with_a_tenant_column_is_refused(database: Database) -> None:
    """A table cannot hold one tenant and have the tenant in each row."""
    database.execute(guarded(column()))
    ruleset = rules(column(), tenant=BY_ROW, isolation=Isolation.TENANT_ONLY)
    assert "isolation_contradiction" in await found(database, ruleset)


async def test_check_tenant_and_bind_columns_must_exist(database: Database) -> None:
    """A tenant or bind column that is not there refuses the table."""
    rule = column(bind=("absent",))
    database.execute(guarded(rule))
    codes = await found(database, rules(rule, tenant=TenantRule(TenantFrom.COLUMN, "nowhere")))
    assert {"tenant_column_missing", "bind_missing"} <= codes.keys()


async def test_check_nullable_tenant_column_warns(database: Database) -> None:
    """It serves; rows without a tenant are refused one by one."""
    rule = column()
    database.execute(guarded(rule).replace("hospital_id int NOT NULL", "hospital_id int"))
    finding = (await found(database, rules(rule, tenant=BY_ROW)))["tenant_column_null"]
    assert finding.weight is Weight.WARNS


async def test_check_triggers_rules_and_views_are_named(database: Database) -> None:
    """A rewrite rule refuses the table; a trigger warns; a view is noted, a materialised one warns."""
    rule = column()
    database.execute(guarded(rule))
    database.execute("CREATE VIEW shown AS SELECT ssn FROM patients")
    database.execute("CREATE MATERIALIZED VIEW copied AS SELECT ssn FROM patients")
    database.execute(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'begin return new; end';"
        "CREATE TRIGGER t BEFORE INSERT ON patients FOR EACH ROW EXECUTE FUNCTION f();"
        "CREATE RULE r AS ON DELETE TO patients DO INSTEAD NOTHING"
    )
    codes = await found(database, rules(rule))
    weights = {
        code: codes[code].weight for code in ("view", "materialized view", "trigger", "rule") if code in codes
    }
    assert codes["materialized_view"].weight is Weight.WARNS
    assert weights == {"view": Weight.NOTES, "trigger": Weight.WARNS, "rule": Weight.REFUSES}


async def test_check_view_in_place_of_a_table_is_refused(database: Database) -> None:
    """A rule names a table."""
    database.execute("CREATE VIEW patients AS SELECT 1 AS id, '\\x00'::bytea AS ssn")
    assert "not_a_table" in await found(database, rules(column()))


async def test_check_partitioned_table_serves_unless_cut_by_ciphertext(database: Database) -> None:
    """A protected column may not be the partition key; any other may."""
    rule = column()
    database.execute(guarded(rule).replace("PRIMARY KEY", "") + " PARTITION BY HASH (id)")
    assert not (await checked(database, rules(rule))).tables[0].is_refused
    database.execute("DROP TABLE patients")
    database.execute(guarded(rule).replace("PRIMARY KEY", "") + " PARTITION BY HASH (ssn)")
    assert "partition_key" in await found(database, rules(rule))


async def test_check_equality_over_two_values_is_refused_without_a_reason(database: Database) -> None:
    """bool with search tells every value; accept_leakage takes it."""
    assert (await found(database, rules(column(type=BOOL))))["few_values"].weight is Weight.REFUSES
    assert "few_values" not in await found(database, rules(column(type=BOOL, accept_leakage="public anyway")))


async def test_check_namesake_is_noted_until_it_is_declared(database: Database) -> None:
    """Another relation of the same bare name is PS006 to use unless not_protected lists it."""
    database.execute("CREATE SCHEMA archive; CREATE TABLE archive.patients (id int)")
    assert "namesake" in await found(database, rules(column()))


async def test_check_default_role_that_reads_warns(database: Database) -> None:
    """Everyone may read: legal, and shown."""
    base = rules(column())
    open_rules = Ruleset(base.database, 1, base.tables, {"default": RoleRule(Read.PLAIN)})
    assert "default_reads" in await found(database, open_rules)


async def test_check_one_refused_table_leaves_the_others(database: Database) -> None:
    """Only the table that disagrees is marked, with its reason and the SQL to run."""
    other = ColumnRule("public.visits", "notes", TEXT, "public.visits.notes")
    database.execute("CREATE TABLE patients (id int, ssn bytea)")
    database.execute(
        f"CREATE TABLE visits (notes bytea CONSTRAINT {guard_name(other)} CHECK ({guard_expression(other)}))"
    )
    base = rules(column())
    tables = {**base.tables, ("public", "visits"): TableRule("public", "visits", FIXED, {"notes": other})}
    ruleset = Ruleset("app", 1, tables, base.roles)
    marked = refusing(ruleset, await checked(database, ruleset)).refused
    assert set(marked) == {("public", "patients")}
    assert "has no guard" in marked[("public", "patients")]
    assert "ALTER TABLE" in marked[("public", "patients")]
