"""What reading over sealed columns becomes: the server's SQL, the slots, the columns that are opened."""

from __future__ import annotations

import pytest

from tests.unit.sql.plans import plan

BY_TOKEN = "substring(ssn from 10 for 15)"

SAME = [
    ("SELECT * FROM staff", "-,-,ssn,pin,level,secret"),
    ("SELECT s.* FROM public.staff s", "-,-,ssn,pin,level,secret"),
    ("SELECT s.x, y FROM staff s(i, x, y)", "-,ssn"),
    ("TABLE staff", "-,-,ssn,pin,level,secret"),
    ('SELECT "ssn" AS "Number", public.staff.pin FROM public.staff', "ssn,pin"),
    ("SELECT (s).ssn, (s).name FROM staff s", "ssn,-"),
    ("SELECT (s).* FROM staff s", "-,-,ssn,pin,level,secret"),
    ("SELECT ctid, s.xmin, ssn FROM staff s", "-,-,ssn"),
    ("SELECT q.a FROM (SELECT ssn AS a FROM staff) q", "ssn"),
    ("SELECT a FROM (SELECT ssn, pin FROM staff) q(a, b)", "ssn"),
    ("WITH c AS (SELECT * FROM staff) SELECT ssn, c.name FROM c", "ssn,-"),
    ("WITH c(a) AS MATERIALIZED (SELECT ssn FROM staff) SELECT * FROM c, c d", "ssn,ssn"),
    (
        "WITH RECURSIVE r(a, n) AS (SELECT ssn, 1 FROM staff UNION ALL SELECT a, n + 1 FROM r WHERE n < 3) "
        "SELECT a FROM r",
        "ssn",
    ),
    ("SELECT l.x FROM staff s, LATERAL (SELECT s.ssn AS x) l", "ssn"),
    ("SELECT (SELECT ssn FROM staff LIMIT 1), 1", "ssn,-"),
    ("SELECT ssn FROM staff UNION ALL SELECT ssn FROM staff", "ssn"),
    ("SELECT count(ssn), count(*), ssn IS NULL, secret IS NOT NULL FROM staff GROUP BY id", "-,-,-,-"),
    ("SELECT CASE WHEN id = 1 THEN ssn END, COALESCE(ssn, ssn) FROM staff", "ssn,ssn"),
    (
        "SELECT lag(ssn) OVER (ORDER BY id), nth_value(pin, 2) OVER w FROM staff WINDOW w AS (ORDER BY id)",
        "ssn,pin",
    ),
    ("SELECT ssn FROM staff ORDER BY name, id DESC LIMIT 5 OFFSET 1 FOR UPDATE OF staff", "ssn"),
    ("SELECT ssn FROM staff TABLESAMPLE system (10) WHERE name = 'x'", "ssn"),
    ("SELECT * FROM staff JOIN visits USING (id)", "-,-,ssn,pin,level,secret,-,-,-"),
    ("SELECT * FROM visits NATURAL LEFT JOIN staff", "-,-,-,-,-,ssn,pin,level,secret"),
    ("SELECT j.* FROM (staff s JOIN visits v ON s.id = v.patient_id) AS j", "-,-,ssn,pin,level,secret,-,-,-,-"),
    (
        "SELECT badge FROM patients WHERE hospital_id = 'a' "
        "UNION SELECT badge FROM patients p WHERE hospital_id = 'a'",
        "badge",
    ),
    ("SELECT DISTINCT id, ssn, secret FROM staff", "-,ssn,secret"),
    ("SELECT id, ssn, count(*) FROM staff GROUP BY id, ssn", "-,ssn,-"),
    ("SELECT badge, count(*) FROM patients WHERE hospital_id = 'a' GROUP BY badge", "badge,-"),
    ("SELECT EXISTS (SELECT * FROM staff)", "-"),
    ("SELECT id, name FROM staff, generate_series(1, 3) g", "-,-"),
    ("SELECT * FROM archive.patients", "-,-"),
    ("SELECT id, body FROM bound", "-,body"),
    ("SELECT number FROM patient_list", "ssn"),
    ("SELECT name AS ssn FROM staff ORDER BY ssn", "-"),
]


@pytest.mark.parametrize(("sql", "results"), SAME)
def test_read_that_compares_nothing_keeps_its_text(sql: str, results: str) -> None:
    """Projection edits nothing, and each result column is known."""
    outcome = plan(sql)
    assert outcome.sql == sql
    assert outcome.slots == ()
    assert outcome.plan.results is not None
    assert ",".join(r.column.rule.column if r.column else "-" for r in outcome.plan.results) == results
    assert outcome.plan.hides_detail or "archive" in sql


COMPARED = [
    ("ssn = 'x'", f"{BY_TOKEN} = <0>"),
    ("'x' = ssn", "<0> = substring(ssn from 10 for 15)"),
    ("ssn <> 'x'", f"{BY_TOKEN} <> <0>"),
    ("ssn != 'x'", f"{BY_TOKEN} != <0>"),
    ("NOT ssn = 'x'", f"NOT {BY_TOKEN} = <0>"),
    ("ssn OPERATOR(pg_catalog.=) 'x'", f"{BY_TOKEN} OPERATOR(pg_catalog.=) <0>"),
    ("ssn IN ('x', 'y', NULL)", f"{BY_TOKEN} IN (<0>, <1>, NULL)"),
    ("ssn NOT IN ('x')", f"{BY_TOKEN} NOT IN (<0>)"),
    ("ssn = ANY('{a,b}')", f"{BY_TOKEN} = ANY(<0>)"),
    ("ssn = ANY('{a,b}'::text[])", f"{BY_TOKEN} = ANY(<0>)"),
    ("ssn = ANY(ARRAY['a', 'b'])", f"{BY_TOKEN} = ANY(<0>)"),
    ("ssn = ANY(ARRAY['a', s.ssn])", f"{BY_TOKEN} = ANY(ARRAY[<0>, substring(s.ssn from 10 for 15)])"),
    ("ssn <> ALL('{a,b}'::varchar[])", f"{BY_TOKEN} <> ALL(<0>)"),
    ("ssn IS DISTINCT FROM 'x'", f"{BY_TOKEN} IS DISTINCT FROM <0>"),
    ("ssn IS NOT DISTINCT FROM NULL", f"{BY_TOKEN} IS NOT DISTINCT FROM NULL"),
    ("(ssn, id) = ('x', 1)", "(substring(ssn from 10 for 15), id) = (<0>, 1)"),
    ("(ssn, id) IN (('x', 1), ('y', 2))", "(substring(ssn from 10 for 15), id) IN ((<0>, 1), (<1>, 2))"),
    ("ssn IN (SELECT ssn FROM staff)", f"{BY_TOKEN} IN (SELECT {BY_TOKEN} FROM staff)"),
    ("ssn = ANY (SELECT ssn FROM staff)", f"{BY_TOKEN} = ANY (SELECT {BY_TOKEN} FROM staff)"),
    ("ssn IN (VALUES ('x'), ('y'))", f"{BY_TOKEN} IN (VALUES (<0>), (<1>))"),
    (
        "(ssn, id) IN (SELECT ssn, id FROM staff)",
        f"(substring(ssn from 10 for 15), id) IN (SELECT {BY_TOKEN}, id FROM staff)",
    ),
    ("(SELECT ssn FROM staff LIMIT 1) = 'x'", f"(SELECT {BY_TOKEN} FROM staff LIMIT 1) = <0>"),
    (
        "EXISTS (SELECT 1 FROM staff t WHERE t.ssn = s.ssn)",
        "EXISTS (SELECT 1 FROM staff t WHERE substring(t.ssn from 10 for 15) = substring(s.ssn from 10 for 15))",
    ),
    ("ssn = 'x'::text::varchar(3)", f"{BY_TOKEN} = <0>"),
    ("ssn = CAST(('x') AS text)", f"{BY_TOKEN} = <0>"),
    ("ssn = text 'x'", f"{BY_TOKEN} = <0>"),
    ("ssn = ('a' || 'b') || lower('C')", f"{BY_TOKEN} = <0>"),
    ("ssn = ('x')", f"{BY_TOKEN} = (<0>)"),
    ("ssn = NULL::text", f"{BY_TOKEN} = NULL"),
    ("ssn::text = 'x'", "substring(ssn from 10 for 15) = <0>"),
    ("COALESCE(ssn, 'none') = 'x'", "COALESCE(substring(ssn from 10 for 15), <0>) = <1>"),
    ("CASE ssn WHEN 'x' THEN true END", f"CASE {BY_TOKEN} WHEN <0> THEN true END"),
    (
        "pin = 5 OR pin = - 5 OR pin = '7'",
        "substring(pin from 10 for 15) = <0> OR substring(pin from 10 for 15) = <1> "
        "OR substring(pin from 10 for 15) = <2>",
    ),
    ("s . /* c */ ssn = 'x'", "substring(s . /* c */ ssn from 10 for 15) = <0>"),
    ("(s).ssn = 'x'", "substring((s).ssn from 10 for 15) = <0>"),
]


@pytest.mark.parametrize(("condition", "becomes"), COMPARED)
def test_equality_over_a_searchable_column_compares_tokens(condition: str, becomes: str) -> None:
    """The column's side is the token's expression, the value's side a slot, and comments stay."""
    outcome = plan(f"SELECT 1 FROM staff s WHERE {condition}")
    assert outcome.sql == f"SELECT 1 FROM staff s WHERE {becomes}"
    assert {use for _, use in outcome.uses} <= {"token"}


def test_equality_over_a_deterministic_column_compares_envelopes() -> None:
    """The column stays, and the value is the whole envelope."""
    outcome = plan("SELECT 1 FROM patients WHERE badge = 'x' AND hospital_id = 'a'")
    assert outcome.sql == "SELECT 1 FROM patients WHERE badge = <0> AND hospital_id = 'a'"
    assert outcome.uses == [("badge", "token")]


def test_equality_with_text_storage_uses_substr_in_collation_c() -> None:
    """The one spelling that the expression index has."""
    outcome = plan("SELECT 1 FROM patients WHERE phone = 'x' AND hospital_id = 'a'")
    assert outcome.sql == (
        "SELECT 1 FROM patients WHERE substr(phone,13,20) COLLATE \"C\" = <0> AND hospital_id = 'a'"
    )


def test_comment_at_the_end_does_not_swallow_an_insertion() -> None:
    """What is inserted stands before a line comment."""
    outcome = plan("SELECT 1 FROM staff WHERE 'x' = -- why\n ssn -- end")
    assert outcome.sql == "SELECT 1 FROM staff WHERE <0> = -- why\n substring(ssn from 10 for 15) -- end"


@pytest.mark.parametrize(
    ("condition", "becomes"),
    [
        ("lower(email) = lower('X')", "substring(email from 10 for 15) = <0>"),
        ("UPPER(p.email::text) = UPPER('x')", "substring(p.email from 10 for 15) = <0>"),
        ("lower('X') = lower(email)", "<0> = substring(email from 10 for 15)"),
    ],
)
def test_nocase_equality_folds_both_sides(condition: str, becomes: str) -> None:
    """lower() or upper() on both sides is how a nocase column compares; scope table needs no tenant."""
    assert plan(f"SELECT 1 FROM patients p WHERE {condition}").sql == f"SELECT 1 FROM patients p WHERE {becomes}"


GROUPED = [
    (
        "SELECT ssn, count(*) FROM staff GROUP BY ssn",
        'SELECT (array_agg(ssn))[1] AS "ssn", count(*) FROM staff GROUP BY substring(ssn from 10 for 15)',
    ),
    (
        "SELECT ((ssn)), id FROM staff GROUP BY ssn, name",
        'SELECT (array_agg(ssn))[1] AS "ssn", id FROM staff GROUP BY substring(ssn from 10 for 15), name',
    ),
    (
        "SELECT s.ssn::text AS k FROM staff s GROUP BY s.ssn",
        "SELECT (array_agg(s.ssn))[1] AS k FROM staff s GROUP BY substring(s.ssn from 10 for 15)",
    ),
    (
        "SELECT q.ssn FROM (SELECT ssn FROM staff GROUP BY ssn) q",
        'SELECT q.ssn FROM (SELECT (array_agg(ssn))[1] AS "ssn" FROM staff '
        "GROUP BY substring(ssn from 10 for 15)) q",
    ),
    (
        "SELECT ssn, count(*) FROM staff GROUP BY 1",
        'SELECT (array_agg(ssn))[1] AS "ssn", count(*) FROM staff GROUP BY substring(ssn from 10 for 15)',
    ),
    (
        'SELECT s."ssn" AS k, name FROM staff s GROUP BY k, name',
        'SELECT (array_agg(s."ssn"))[1] AS k, name FROM staff s GROUP BY substring(s."ssn" from 10 for 15), name',
    ),
    (
        "SELECT count(*) FROM staff GROUP BY ssn",
        "SELECT count(*) FROM staff GROUP BY substring(ssn from 10 for 15)",
    ),
    ("SELECT count(DISTINCT ssn) FROM staff", "SELECT count(DISTINCT substring(ssn from 10 for 15)) FROM staff"),
    (
        "SELECT count(*) OVER (PARTITION BY ssn ORDER BY id) FROM staff",
        "SELECT count(*) OVER (PARTITION BY substring(ssn from 10 for 15) ORDER BY id) FROM staff",
    ),
    (
        "SELECT ssn = 'x', count(*) FROM staff GROUP BY ssn HAVING ssn = 'x'",
        "SELECT substring(ssn from 10 for 15) = <0>, count(*) FROM staff "
        "GROUP BY substring(ssn from 10 for 15) HAVING substring(ssn from 10 for 15) = <1>",
    ),
    (
        "SELECT 1 FROM staff WHERE ssn IN (SELECT DISTINCT ssn FROM staff)",
        f"SELECT 1 FROM staff WHERE {BY_TOKEN} IN (SELECT DISTINCT {BY_TOKEN} FROM staff)",
    ),
]


@pytest.mark.parametrize(("sql", "becomes"), GROUPED)
def test_grouping_of_a_searchable_column_uses_the_token(sql: str, becomes: str) -> None:
    """Keys are tokens; a column shown beside its own key is any cell of the group."""
    assert plan(sql).sql == becomes


JOINED = [
    (
        "SELECT a.id FROM staff a JOIN staff b ON a.ssn = b.ssn",
        "SELECT a.id FROM staff a JOIN staff b "
        "ON substring(a.ssn from 10 for 15) = substring(b.ssn from 10 for 15)",
    ),
    (
        "WITH c(v) AS (VALUES ('x'), ('y')) SELECT s.ssn FROM staff s JOIN c ON s.ssn = c.v",
        "WITH c(v) AS (VALUES (<0>), (<1>)) SELECT s.ssn FROM staff s JOIN c ON "
        "substring(s.ssn from 10 for 15) = substring(c.v from 10 for 15)",
    ),
    (
        "SELECT 'x' UNION ALL SELECT ssn FROM staff",
        'SELECT <0> AS "?column?" UNION ALL SELECT ssn FROM staff',
    ),
    ("SELECT COALESCE(ssn, 'none') FROM staff", "SELECT COALESCE(ssn, <0>) FROM staff"),
    (
        "SELECT nullif(badge, 'x') FROM patients WHERE hospital_id = 'a'",
        "SELECT nullif(badge, <0>) FROM patients WHERE hospital_id = 'a'",
    ),
    ("SELECT ssn::text, CAST(ssn AS text) FROM staff", "SELECT ssn, ssn FROM staff"),
]


@pytest.mark.parametrize(("sql", "becomes"), JOINED)
def test_constants_that_flow_into_a_sealed_column_are_sealed(sql: str, becomes: str) -> None:
    """Joins, set operations and branches pass the type through."""
    outcome = plan(sql)
    assert outcome.sql.replace(" ,", ",").replace(" FROM", "FROM").replace(" ", "") == becomes.replace(" ", "")


def test_cells_of_values_joined_to_a_column_are_whole_and_compared_by_token() -> None:
    """A VALUES column is a cell like any other, whose token is taken where it is compared."""
    outcome = plan("SELECT 1 FROM staff s JOIN (VALUES ('x')) v(a) ON v.a = s.ssn")
    assert outcome.uses == [("ssn", "cell")]


def test_result_columns_that_are_not_known_and_all_plain_are_left_open() -> None:
    """A function of unknown columns beside plain ones only is the server's matter."""
    assert plan("SELECT f.*, staff.name FROM staff, f(1)").plan.results is None


def test_ordinals_make_the_plan_depend_on_their_value() -> None:
    """ORDER BY 2 may be plain where ORDER BY 1 is not."""
    outcome = plan("SELECT ssn, id FROM staff ORDER BY 2")
    assert outcome.pinned == frozenset({0})
