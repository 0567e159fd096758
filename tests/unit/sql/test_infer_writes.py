"""What writing to sealed columns becomes: each value a cell of its column, for the tenant of its row."""

from __future__ import annotations

import pytest

from proxy.errors import PgsealError
from proxy.sql.plan import TenantOf
from proxy.values.constants import Cast, Const, Lifted, Param
from proxy.values.registry import parse_type
from tests.unit.sql.plans import plan

INSERTED = [
    (
        "INSERT INTO staff (id, ssn, level) VALUES (1, 'x', 'y')",
        "INSERT INTO staff (id, ssn, level) VALUES (1, <0>, <1>)",
    ),
    (
        "INSERT INTO staff (ssn, level) VALUES ('x', 'y'), (NULL, text 'z') RETURNING *",
        "INSERT INTO staff (ssn, level) VALUES (<0>, <1>), (NULL, <2>) RETURNING *",
    ),
    ("INSERT INTO staff VALUES (1, 'n', 'x', 5, 'y')", "INSERT INTO staff VALUES (1, 'n', <0>, <1>, <2>)"),
    ("INSERT INTO staff (id) VALUES (1), (2)", 'INSERT INTO staff (id, "level") VALUES (1, <0>), (2, <1>)'),
    ("INSERT INTO staff VALUES (1, 'n')", 'INSERT INTO staff ("id", "name", "level") VALUES (1, \'n\', <0>)'),
    (
        "INSERT INTO public.staff AS s VALUES (1, 'n', 'x')",
        'INSERT INTO public.staff AS s ("id", "name", "ssn", "level") VALUES (1, \'n\', <0>, <1>)',
    ),
    ("INSERT INTO staff (id, level) VALUES (1, DEFAULT)", "INSERT INTO staff (id, level) VALUES (1, <0>)"),
    (
        "INSERT INTO staff (id, ssn, level) VALUES (1, DEFAULT, NULL)",
        "INSERT INTO staff (id, ssn, level) VALUES (1, DEFAULT, NULL)",
    ),
    ("INSERT INTO staff DEFAULT VALUES", 'INSERT INTO staff ("level") VALUES (<0>)'),
    ("INSERT INTO rls_memos DEFAULT VALUES", "INSERT INTO rls_memos DEFAULT VALUES"),
    (
        "INSERT INTO staff (ssn, level) SELECT 'x', 'y' UNION ALL SELECT 'z', NULL",
        "INSERT INTO staff (ssn, level) SELECT <0>, <2> UNION ALL SELECT <1>, NULL::bytea",
    ),
    (
        "INSERT INTO staff (ssn, level) SELECT * FROM (VALUES ('x', 'y')) v",
        "INSERT INTO staff (ssn, level) SELECT * FROM (VALUES (<0>, <1>)) v",
    ),
    (
        "INSERT INTO staff (id, ssn) SELECT 1, 'x' WHERE 1 IS DISTINCT FROM 2 UNION ALL (SELECT 2, 'y' LIMIT 1)",
        'INSERT INTO staff (id, ssn, "level") SELECT 1, <0>, <2> WHERE 1 IS DISTINCT FROM 2 UNION ALL '
        "(SELECT 2, <1>, <3> LIMIT 1)",
    ),
    (
        "WITH c(a) AS (SELECT 'x') INSERT INTO staff (ssn, level) SELECT a, NULL FROM c",
        "WITH c(a) AS (SELECT <0>) INSERT INTO staff (ssn, level) SELECT a, NULL FROM c",
    ),
    (
        "INSERT INTO staff (ssn, level) SELECT ssn, level FROM staff WHERE id = 1",
        "INSERT INTO staff (ssn, level) SELECT ssn, level FROM staff WHERE id = 1",
    ),
    (
        "INSERT INTO staff (ssn, level) SELECT unnest('{a}'::text[]), 'y'",
        "INSERT INTO staff (ssn, level) SELECT unnest(<0>), <1>",
    ),
    (
        "INSERT INTO staff (id, ssn, level) VALUES (1, 'x', 'y') ON CONFLICT (id) DO NOTHING",
        "INSERT INTO staff (id, ssn, level) VALUES (1, <0>, <1>) ON CONFLICT (id) DO NOTHING",
    ),
    (
        "INSERT INTO staff (id, ssn, level) VALUES (1, 'x', 'y') ON CONFLICT (id) DO UPDATE "
        "SET ssn = EXCLUDED.ssn, level = 'z', pin = DEFAULT WHERE staff.ssn = 'w' RETURNING ssn",
        "INSERT INTO staff (id, ssn, level) VALUES (1, <0>, <1>) ON CONFLICT (id) DO UPDATE "
        "SET ssn = EXCLUDED.ssn, level = <3>, pin = DEFAULT "
        "WHERE substring(staff.ssn from 10 for 15) = <2> RETURNING ssn",
    ),
    (
        "INSERT INTO staff (id, ssn, level) VALUES (1, 'x', 'y') ON CONFLICT (ssn) DO NOTHING",
        "INSERT INTO staff (id, ssn, level) VALUES (1, <0>, <1>) ON CONFLICT "
        "(substring(ssn from 10 for 15)) DO NOTHING",
    ),
    (
        "INSERT INTO staff (id, level) VALUES (1, 'y') ON CONFLICT (id) DO UPDATE "
        "SET (level, name) = (EXCLUDED.level, 'z'), ssn = COALESCE(EXCLUDED.ssn, staff.ssn)",
        "INSERT INTO staff (id, level) VALUES (1, <0>) ON CONFLICT (id) DO UPDATE "
        "SET (level, name) = (EXCLUDED.level, 'z'), ssn = COALESCE(EXCLUDED.ssn, staff.ssn)",
    ),
]

UPDATED = [
    ("UPDATE staff SET ssn = 'x' WHERE id = 1", "UPDATE staff SET ssn = <0> WHERE id = 1"),
    (
        "UPDATE staff SET ssn = NULL, level = DEFAULT, pin = DEFAULT",
        "UPDATE staff SET ssn = NULL, level = <0>, pin = DEFAULT",
    ),
    ("UPDATE staff SET (ssn, name) = ('x', 'y')", "UPDATE staff SET (ssn, name) = (<0>, 'y')"),
    ("UPDATE staff SET (ssn, name) = ROW('x', 'y')", "UPDATE staff SET (ssn, name) = ROW(<0>, 'y')"),
    ("UPDATE staff SET (ssn, name) = (SELECT 'x', 'y')", "UPDATE staff SET (ssn, name) = (SELECT <0>, 'y')"),
    ("UPDATE staff SET ssn = COALESCE(NULL, ssn)", "UPDATE staff SET ssn = COALESCE(NULL::bytea, ssn)"),
    ("UPDATE staff SET ssn = ssn", "UPDATE staff SET ssn = ssn"),
    (
        "UPDATE staff SET ssn = CASE id WHEN 1 THEN 'a' ELSE ssn END",
        "UPDATE staff SET ssn = CASE id WHEN 1 THEN <0> ELSE ssn END",
    ),
    ("UPDATE staff SET pin = - 5", "UPDATE staff SET pin = <0>"),
    (
        "UPDATE staff s SET ssn = v.a FROM (VALUES (1, 'x')) v(i, a) WHERE v.i = s.id RETURNING s.*, v.i",
        "UPDATE staff s SET ssn = v.a FROM (VALUES (1, <0>)) v(i, a) WHERE v.i = s.id RETURNING s.*, v.i",
    ),
    (
        "UPDATE staff s SET ssn = t.ssn FROM staff t WHERE t.id = s.id",
        "UPDATE staff s SET ssn = t.ssn FROM staff t WHERE t.id = s.id",
    ),
    (
        "UPDATE patient_list SET number = 'x' WHERE hospital_id = 'a'",
        "UPDATE patient_list SET number = <0> WHERE hospital_id = 'a'",
    ),
    (
        "DELETE FROM staff WHERE ssn = 'x' RETURNING *",
        "DELETE FROM staff WHERE substring(ssn from 10 for 15) = <0> RETURNING *",
    ),
    (
        "DELETE FROM visits USING staff s WHERE s.ssn = 'x' AND s.id = visits.id",
        "DELETE FROM visits USING staff s WHERE substring(s.ssn from 10 for 15) = <0> AND s.id = visits.id",
    ),
    (
        "WITH d AS (DELETE FROM staff RETURNING ssn, level) INSERT INTO staff (ssn, level) SELECT * FROM d",
        "WITH d AS (DELETE FROM staff RETURNING ssn, level) INSERT INTO staff (ssn, level) SELECT * FROM d",
    ),
]


@pytest.mark.parametrize(("sql", "becomes"), INSERTED + UPDATED)
def test_write_of_constants_and_own_cells_seals_the_constants(sql: str, becomes: str) -> None:
    """Each constant that lands in a sealed column is a cell; NULL and DEFAULT without a rule's stay."""
    outcome = plan(sql)
    assert outcome.sql == becomes
    assert outcome.plan.is_dml and outcome.plan.hides_detail


def test_insert_of_rows_of_several_tenants_seals_each_for_its_own() -> None:
    """The tenant is the row's own literal."""
    outcome = plan("INSERT INTO patients (hospital_id, ssn) VALUES ('a', 'x'), ('b', 'y')")
    assert [slot.tenant for slot in outcome.slots] == [TenantOf(Lifted(0), 25), TenantOf(Lifted(2), 25)]


def test_insert_select_from_values_seals_each_row_for_its_own_tenant() -> None:
    """Columns of a VALUES list keep the row of each constant."""
    outcome = plan(
        "INSERT INTO patients (hospital_id, ssn) SELECT v.h, v.s FROM (VALUES ('a', 'x'), ('b', 'y')) v(h, s)"
    )
    assert [slot.tenant for slot in outcome.slots] == [TenantOf(Lifted(0), 25), TenantOf(Lifted(2), 25)]


def test_insert_select_with_casts_of_a_values_column_takes_them_away() -> None:
    """The form in which SQLAlchemy inserts many rows in order; of the plain columns the casts stay."""
    outcome = plan(
        "INSERT INTO patients (hospital_id, dob, name) SELECT p0::VARCHAR, p1::DATE, p2::VARCHAR FROM (VALUES "
        "($1::VARCHAR, $2::DATE, $3, 0), ($4, $5, $6, 1)) AS imp_sen(p0, p1, p2, sen_counter) "
        "ORDER BY sen_counter RETURNING patients.id, patients.id AS id__1",
        extended=True,
    )
    assert outcome.sql == (
        "INSERT INTO patients (hospital_id, dob, name) SELECT p0::VARCHAR, p1, p2::VARCHAR FROM (VALUES "
        "($1::VARCHAR, <0>, $3, 0), ($4, <1>, $6, 1)) AS imp_sen(p0, p1, p2, sen_counter) "
        "ORDER BY sen_counter RETURNING patients.id, patients.id AS id__1"
    )
    assert [slot.tenant.expr for slot in outcome.slots] == [Cast(Param(0), parse_type("varchar")), Param(3)]
    assert [param.oid for param in outcome.client_params] == [0, 1082, 0, 0, 1082, 0]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO patients (hospital_id, ssn) SELECT v.h::int, v.s FROM (VALUES ('07', 'x')) v(h, s)",
        "INSERT INTO patients (hospital_id, ssn) SELECT v.h::varchar(1), v.s FROM (VALUES ('ab', 'x')) v(h, s)",
        "INSERT INTO patients (hospital_id, ssn) SELECT q.h, q.s FROM "
        "(SELECT v.h::int AS h, v.s FROM (VALUES ('07', 'x')) v(h, s)) q",
        "INSERT INTO patients (hospital_id, dob) SELECT 'a', v.s::timestamp FROM (VALUES ('x')) v(s)",
        "INSERT INTO patients (hospital_id, ssn) SELECT 'a', v.s::int::text FROM (VALUES ('1')) v(s)",
    ],
)
def test_insert_select_with_a_cast_that_changes_values_is_refused(sql: str) -> None:
    """The tenant, or the value, would be another than the server computes."""
    with pytest.raises(PgsealError):
        plan(sql)


def test_default_of_the_rule_is_a_literal_of_the_plan() -> None:
    """The rule's default is sealed for each row anew."""
    outcome = plan("INSERT INTO staff (id) VALUES (1)")
    assert [slot.expr for slot in outcome.slots] == [Const(b"junior")]


def test_insert_with_bound_columns_carries_their_values() -> None:
    """`bind: [id]` needs the row's id beside the value."""
    outcome = plan("INSERT INTO bound (id, body) VALUES (7, 'x')")
    assert outcome.slots[0].bound == (Lifted(0),)


def test_update_of_a_bound_column_takes_its_row_from_the_conjuncts() -> None:
    """`id = 7` says which row the cell is bound to; an assigned id is the new row."""
    assert plan("UPDATE bound SET body = 'x' WHERE id = 7").slots[0].bound == (Lifted(1),)
    assert plan("UPDATE bound SET body = 'x', id = 8 WHERE id = 7").slots[0].bound == (Lifted(1),)


def test_update_returning_opens_all_sealed_columns() -> None:
    """RETURNING is a result like that of SELECT."""
    results = plan("UPDATE staff SET ssn = 'x' RETURNING *, 1").plan.results
    assert results is not None
    assert [bool(r.column) for r in results] == [False, False, True, True, True, True, False]


def test_returning_old_and_new_are_resolved_from_version_18_on() -> None:
    """old.ssn and new.ssn are cells, not ciphertext shown as it is."""
    from tests.unit.sql.catalogs import env

    results = plan(
        "UPDATE staff SET ssn = 'x' RETURNING old.ssn, new.name", env(server_version=180001)
    ).plan.results
    assert results is not None
    assert [bool(r.column) for r in results] == [True, False]


def test_accesses_tell_what_was_read_written_and_compared() -> None:
    """Rights and audit go by column."""
    outcome = plan("UPDATE staff SET ssn = 'x' WHERE pin = 5 RETURNING level")
    told = {a.column.rule.column: (a.reads, a.writes, a.compares) for a in outcome.plan.accesses}
    assert told == {"ssn": (False, True, False), "pin": (False, False, True), "level": (True, False, False)}


def test_parameter_of_an_insert_is_the_tenant_of_its_row() -> None:
    """A parameter is known at Bind, which is soon enough."""
    outcome = plan("INSERT INTO patients (hospital_id, ssn) VALUES ($1, $2)", extended=True)
    assert outcome.slots[0].tenant == TenantOf(Param(0), 25)
