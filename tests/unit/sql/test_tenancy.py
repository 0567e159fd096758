"""Of which tenant: the proofs that count, and PS002 where there is none."""

from __future__ import annotations

import pytest

from proxy.errors import TenantUnknown
from proxy.sql.plan import TenantOf, Use
from proxy.values.constants import Cast, Lifted, Param
from proxy.values.registry import parse_type
from tests.unit.sql.catalogs import with_database_tenant
from tests.unit.sql.plans import plan

PROVEN = [
    "SELECT 1 FROM patients WHERE hospital_id = 'a' AND ssn = 'x'",
    "SELECT 1 FROM patients p WHERE 'a' = p.hospital_id AND (id = 1 AND p.ssn = 'x')",
    "SELECT p.ssn = 'x' FROM patients p WHERE p.hospital_id = 'a'",
    "SELECT 1 FROM visits v JOIN patients p ON p.hospital_id = 'a' AND p.ssn = 'x'",
    "SELECT 1 FROM visits v LEFT JOIN patients p ON p.hospital_id = 'a' AND p.ssn = 'x'",
    "SELECT 1 FROM visits v LEFT JOIN patients p ON p.hospital_id = v.hospital_id AND p.ssn = 'x' "
    "JOIN patients q ON q.hospital_id = 'a' AND q.hospital_id = p.hospital_id",
    "SELECT 1 FROM patients p JOIN patients q USING (hospital_id) WHERE hospital_id = 'a' AND p.ssn = q.ssn",
    "SELECT 1 FROM patients p LEFT JOIN patients q ON q.hospital_id = p.hospital_id AND q.ssn = p.ssn "
    "WHERE p.hospital_id = 'a'",
    "SELECT 1 FROM patients p, patients q WHERE p.hospital_id = 'a' AND q.hospital_id = 'a' AND p.ssn = q.ssn",
    "SELECT 1 FROM (SELECT * FROM patients) q WHERE q.hospital_id = 'a' AND q.ssn = 'x'",
    "SELECT 1 FROM (SELECT ssn FROM patients WHERE hospital_id = 'a') q WHERE q.ssn = 'x'",
    "WITH c AS (SELECT ssn, hospital_id h FROM patients) SELECT 1 FROM c WHERE h = 'a' AND ssn = 'x'",
    "SELECT 1 FROM patients p WHERE p.hospital_id = 'a' AND EXISTS "
    "(SELECT 1 FROM patients q WHERE q.hospital_id = 'a' AND q.ssn = p.ssn)",
    "SELECT 1 FROM patients p, patients q WHERE p.hospital_id = q.hospital_id AND p.ssn = q.ssn",
    "SELECT 1 FROM patients p JOIN patients q USING (hospital_id) WHERE p.ssn = q.ssn",
    "SELECT 1 FROM patients p LEFT JOIN patients q ON p.hospital_id = q.hospital_id AND p.ssn = q.ssn",
    "SELECT 1 FROM patients p JOIN patients q ON (p.hospital_id, p.ssn) = (q.hospital_id, q.ssn)",
    "SELECT 1 FROM patients p WHERE NOT EXISTS (SELECT 1 FROM patients q "
    "WHERE q.hospital_id = p.hospital_id AND q.ssn = p.ssn)",
    "SELECT 1 FROM patients p WHERE p.hospital_id = 'a' AND EXISTS "
    "(SELECT 1 FROM patients q WHERE q.hospital_id = p.hospital_id AND q.ssn = 'x')",
    "SELECT 1 FROM patients p WHERE p.ssn = (SELECT q.ssn FROM patients q WHERE q.hospital_id = p.hospital_id)",
    "SELECT 1 FROM patients WHERE (hospital_id, ssn) = ('a', 'x')",
    "SELECT badge, hospital_id FROM patients GROUP BY badge, hospital_id",
    "SELECT p.ssn, p.hospital_id, count(*) FROM patients p GROUP BY p.hospital_id, p.ssn",
    "SELECT DISTINCT ssn, hospital_id FROM patients",
    "SELECT ssn, hospital_id FROM patients UNION SELECT ssn, hospital_id FROM patients",
    "SELECT hospital_id, badge FROM patients EXCEPT SELECT hospital_id, badge FROM patients",
    "SELECT count(*) OVER (PARTITION BY hospital_id, ssn) FROM patients",
    "SELECT 1 FROM patients WHERE lower(email) = lower('x')",
    "SELECT 1 FROM staff WHERE ssn = 'x'",
    "SELECT 1 FROM rls_memos WHERE body = 'x'",
    "UPDATE patients SET ssn = 'y' WHERE hospital_id = 'a' AND ssn = 'x'",
    "DELETE FROM patients WHERE hospital_id = 'a' AND ssn = 'x'",
    "UPDATE patients SET ssn = 'y', hospital_id = hospital_id WHERE hospital_id = 'a'",
    "UPDATE patients p SET ssn = q.ssn FROM patients q WHERE p.hospital_id = q.hospital_id",
    "UPDATE patients p SET ssn = q.ssn FROM patients q WHERE p.hospital_id = 'a' AND q.hospital_id = 'a'",
    "INSERT INTO patients (hospital_id, ssn) SELECT hospital_id, ssn FROM patients",
    "INSERT INTO patients (hospital_id, ssn) SELECT 'a', ssn FROM patients WHERE hospital_id = 'a'",
    "INSERT INTO patients (hospital_id, ssn) SELECT p.hospital_id, 'x' FROM patients p WHERE p.hospital_id = 'a'",
    "INSERT INTO patients (hospital_id, ssn) SELECT 'a', 'x'",
    "INSERT INTO patients (id, ssn) VALUES (1, NULL)",
    "INSERT INTO patients (id) VALUES (1)",
    "UPDATE patients SET ssn = NULL, badge = DEFAULT",
    "UPDATE patients SET name = 'n'",
    "INSERT INTO patients (id, hospital_id, ssn) VALUES (1, 'a', 'x') "
    "ON CONFLICT (id, hospital_id) DO UPDATE SET ssn = EXCLUDED.ssn, badge = 'y'",
    "INSERT INTO patients (id, hospital_id, ssn) VALUES (1, 'a', 'x'), (2, 'b', 'y') "
    "ON CONFLICT (id, hospital_id) DO UPDATE SET ssn = EXCLUDED.ssn",
    "INSERT INTO wards (id, hospital_id, head) VALUES (1, 'a', 'x') ON CONFLICT (id) DO UPDATE "
    "SET hospital_id = EXCLUDED.hospital_id, code = EXCLUDED.code, head = 'y'",
    "UPDATE wards SET hospital_id = 'b', code = 'x', head = NULL WHERE id = 1",
    "INSERT INTO memos (body) VALUES ('x')",
    "UPDATE memos SET body = 'x'",
]

UNKNOWN = [
    "SELECT 1 FROM patients WHERE ssn = 'x'",
    "SELECT 1 FROM patients WHERE hospital_id = 'a' OR ssn = 'x'",
    "SELECT 1 FROM patients WHERE NOT (hospital_id = 'a' AND ssn = 'x')",
    "SELECT 1 FROM patients WHERE hospital_id <> 'a' AND ssn = 'x'",
    "SELECT 1 FROM patients WHERE hospital_id IN ('a') AND ssn = 'x'",
    "SELECT 1 FROM patients WHERE hospital_id = name AND ssn = 'x'",
    "SELECT 1 FROM patients WHERE hospital_id = upper(name) AND ssn = 'x'",
    "SELECT 1 FROM patients WHERE hospital_id = NULL AND ssn = 'x'",
    "SELECT 1 FROM patients WHERE hospital_id = 5 AND ssn = 'x'",
    "SELECT 1 FROM patients WHERE name = 'a' AND ssn = 'x'",
    "SELECT 1 FROM patients WHERE hospital_id OPERATOR(public.=) 'a' AND ssn = 'x'",
    "SELECT 1 FROM patients p LEFT JOIN visits v ON p.hospital_id = 'a' WHERE p.ssn = 'x'",
    "SELECT 1 FROM patients p FULL JOIN visits v ON p.hospital_id = 'a' WHERE p.ssn = 'x'",
    "SELECT 1 FROM patients p FULL JOIN visits v USING (hospital_id) WHERE hospital_id = 'a' AND p.ssn = 'x'",
    "SELECT 1 FROM patients p LEFT JOIN patients q ON q.hospital_id = p.hospital_id "
    "WHERE q.hospital_id = 'a' OR p.ssn = 'x'",
    "SELECT 1 FROM patients p, patients q WHERE p.hospital_id = 'a' AND q.hospital_id = 'b' AND p.ssn = q.ssn",
    "SELECT 1 FROM patients p, patients q WHERE p.hospital_id = 'a' AND p.ssn = q.ssn",
    "WITH c AS (SELECT * FROM patients) SELECT 1 FROM c a, c b WHERE a.hospital_id = 'a' AND a.ssn = b.ssn",
    "SELECT 1 FROM (SELECT ssn FROM patients WHERE ssn = 'x' LIMIT 1) q, patients p WHERE p.hospital_id = 'a'",
    "SELECT 1 FROM (SELECT * FROM patients WHERE ssn = 'x' LIMIT 1) q WHERE q.hospital_id = 'a'",
    "SELECT count(DISTINCT ssn) FROM patients",
    "SELECT badge, name FROM patients GROUP BY badge, name",
    "SELECT badge, q.hospital_id FROM patients p, visits q GROUP BY badge, q.hospital_id",
    "SELECT DISTINCT ssn, min(hospital_id) FROM patients GROUP BY id, hospital_id, ssn",
    "SELECT DISTINCT ssn FROM patients",
    "SELECT count(*) OVER (PARTITION BY ssn) FROM patients",
    "SELECT ssn, hospital_id FROM patients UNION SELECT ssn, name FROM patients",
    "SELECT ssn, hospital_id, id FROM patients UNION SELECT ssn, name, id FROM patients",
    "SELECT 1 FROM patients p JOIN patients q ON p.hospital_id = q.hospital_id OR p.ssn = q.ssn",
    "SELECT 1 FROM patients p FULL JOIN patients q ON p.hospital_id = q.hospital_id AND q.ssn = 'x'",
    "SELECT 1 FROM patients p JOIN patients q ON p.hospital_id = q.hospital_id AND p.ssn = q.ssn AND q.ssn = 'x'",
    "SELECT lag(p.ssn) OVER (ORDER BY p.id) = q.ssn FROM patients p, patients q "
    "WHERE p.hospital_id = q.hospital_id",
    "SELECT 1 FROM patients p WHERE EXISTS (SELECT 1 FROM patients q WHERE q.ssn = p.ssn)",
    "SELECT 1 FROM patients p WHERE EXISTS (SELECT 1 FROM patients q "
    "WHERE q.hospital_id <> p.hospital_id AND q.ssn = p.ssn)",
    "SELECT 1 FROM patients p WHERE ssn = 'x' AND EXISTS (SELECT 1 FROM visits v WHERE v.hospital_id = 'a')",
    "SELECT 1 FROM patients p WHERE (p.hospital_id, p.ssn) <> ('a', 'x')",
    "SELECT 1 FROM patients p WHERE (p.hospital_id, p.ssn) IS DISTINCT FROM ('a', 'x')",
    "SELECT badge FROM patients UNION SELECT badge FROM patients WHERE hospital_id = 'a'",
    "SELECT 1 FROM memos WHERE body = 'x'",
    "INSERT INTO patients (id, ssn) VALUES (1, 'x')",
    "INSERT INTO patients (hospital_id, ssn) VALUES (DEFAULT, 'x')",
    "INSERT INTO patients (hospital_id, ssn) VALUES (NULL, 'x')",
    "INSERT INTO patients (hospital_id, ssn) VALUES (upper(current_user), 'x')",
    "INSERT INTO patients (hospital_id, ssn) VALUES ((SELECT 'a'), 'x')",
    "INSERT INTO patients (hospital_id, ssn) VALUES ('a', 'x'), (current_user, 'y')",
    "INSERT INTO patients (hospital_id, ssn) SELECT v.h, 'x' FROM (VALUES ('a', 's')) v(h, s)",
    "INSERT INTO patients (hospital_id, ssn) SELECT name, 'x' FROM visits, patients",
    "INSERT INTO patients (hospital_id, ssn) SELECT 'b', ssn FROM patients WHERE hospital_id = 'a'",
    "INSERT INTO patients (hospital_id, ssn) SELECT p.hospital_id, q.ssn FROM patients p, patients q",
    "INSERT INTO patients (hospital_id, ssn) SELECT 'a', 'x' UNION ALL SELECT 'b', 'y'",
    "INSERT INTO wards DEFAULT VALUES",
    "INSERT INTO wards (id) VALUES (1)",
    "UPDATE patients SET ssn = 'x' WHERE id = 1",
    "UPDATE patients SET hospital_id = 'b' WHERE hospital_id = 'a'",
    "UPDATE patients SET hospital_id = 'b', ssn = 'x' WHERE hospital_id = 'a'",
    "UPDATE wards SET hospital_id = 'b', code = code, head = NULL WHERE hospital_id = 'a'",
    "UPDATE wards SET hospital_id = name FROM patients",
    "UPDATE wards SET hospital_id = upper(hospital_id), code = 'x', head = 'y'",
    "UPDATE wards SET (hospital_id, code, head) = (SELECT 'b', 'x', 'y')",
    "UPDATE wards SET hospital_id = DEFAULT, code = 'x', head = 'y'",
    "UPDATE patients p SET ssn = q.ssn FROM patients q WHERE p.id = q.id",
    "INSERT INTO patients (id, hospital_id, ssn) VALUES (1, 'a', 'x') "
    "ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn",
    "INSERT INTO patients (id, hospital_id, ssn) VALUES (1, 'a', 'x') ON CONFLICT (id) DO UPDATE SET ssn = 'y'",
    "INSERT INTO patients (id, hospital_id, ssn) VALUES (1, 'a', 'x'), (2, 'b', 'y') "
    "ON CONFLICT (id, hospital_id) DO UPDATE SET ssn = 'z'",
    "INSERT INTO patients (id, hospital_id) VALUES (1, 'a') "
    "ON CONFLICT (id) DO UPDATE SET hospital_id = EXCLUDED.hospital_id",
]


@pytest.mark.parametrize("sql", PROVEN)
def test_statement_that_proves_one_tenant_is_planned(sql: str) -> None:
    """A conjunct, the row's own value, a copy along with the tenant column, or a table of one tenant."""
    plan(sql)


@pytest.mark.parametrize("sql", UNKNOWN)
def test_statement_that_does_not_prove_one_tenant_is_refused(sql: str) -> None:
    """PS002 names the column and says how to prove it."""
    with pytest.raises(TenantUnknown) as refusal:
        plan(sql)
    assert refusal.value.column is not None
    assert refusal.value.hint


def test_proof_by_two_equal_literals_makes_the_plan_depend_on_both() -> None:
    """Another text of the same template may have two tenants there."""
    outcome = plan(
        "SELECT 1 FROM patients p, patients q WHERE p.hospital_id = 'a' AND q.hospital_id = 'a' AND p.ssn = q.ssn"
    )
    assert outcome.pinned == frozenset({1, 2})


def test_proof_by_a_parameter_is_the_tenant_of_slots_and_reads() -> None:
    """The same expression serves the token's index key and the cells that are opened."""
    outcome = plan("SELECT ssn FROM patients WHERE hospital_id = $1::varchar(5) AND ssn = $2", extended=True)
    tenant = TenantOf(Cast(Param(0), parse_type("varchar(5)")), 25)
    assert outcome.slots[0].tenant == tenant
    assert outcome.plan.read_tenants == (tenant,)


def test_assigned_tenant_column_is_the_tenant_of_the_new_cells() -> None:
    """The new tenant, not the one of the WHERE clause."""
    outcome = plan("UPDATE wards SET hospital_id = 'b', code = 'x', head = 'y' WHERE hospital_id = 'a'")
    assert {slot.tenant for slot in outcome.slots} == {TenantOf(Lifted(0), 25)}


def test_upsert_over_the_tenant_column_seals_for_the_proposed_row() -> None:
    """Both rows of a conflict over the tenant column are of one tenant."""
    outcome = plan(
        "INSERT INTO patients (id, hospital_id) VALUES (1, 'a') "
        "ON CONFLICT (id, hospital_id) DO UPDATE SET ssn = 'y'"
    )
    assert [slot.tenant for slot in outcome.slots] == [TenantOf(Lifted(1), 25)]


def test_update_without_a_proof_is_guarded_by_the_session_tenant() -> None:
    """Rows of another tenant make the server fail the statement instead of taking a cell of this one."""
    outcome = plan(
        "UPDATE patients p SET ssn = $1, phone = 'x' WHERE id = 1", with_database_tenant(), extended=True
    )
    assert outcome.sql == (
        "UPDATE patients p SET "
        """ssn = (CASE WHEN "p"."hospital_id"::text = <1> THEN <0> """
        """ELSE ('pgseal'||coalesce("p"."hospital_id"::text,''))::int::text::bytea END), """
        """phone = (CASE WHEN "p"."hospital_id"::text = <3> THEN <2> """
        """ELSE ('pgseal'||coalesce("p"."hospital_id"::text,''))::int::text END) WHERE id = 1"""
    )
    assert [(slot.use, slot.tenant) for slot in outcome.slots[:2]] == [
        (Use.CELL, TenantOf()),
        (Use.TENANT, TenantOf()),
    ]
    assert [param.oid for param in outcome.server_params] == [17, 25, 25, 25]


def test_update_with_a_proof_is_not_guarded() -> None:
    """A conjunct is proof enough."""
    outcome = plan("UPDATE patients SET ssn = 'x' WHERE hospital_id = 'a'", with_database_tenant())
    assert outcome.sql == "UPDATE patients SET ssn = <0> WHERE hospital_id = 'a'"


@pytest.mark.parametrize(
    "sql", ["SELECT 1 FROM patients WHERE ssn = 'x'", "INSERT INTO patients (id, ssn) VALUES (1, 'x')"]
)
def test_session_tenant_alone_proves_nothing_of_rows_with_a_tenant_column(sql: str) -> None:
    """Without isolation the table holds other tenants' rows."""
    with pytest.raises(TenantUnknown):
        plan(sql, with_database_tenant())
