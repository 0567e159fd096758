"""What is refused over sealed columns, with its code: nothing that could answer wrongly reaches the server."""

from __future__ import annotations

import pytest

from proxy.errors import NotAllowed, PgsealError
from proxy.rules import Read
from proxy.sql.catalog import Column, Relation
from proxy.sql.draft import Draft
from proxy.sql.infer import plan_statement
from proxy.sql.lexer import lex
from proxy.sql.plan import Overlay
from tests.unit.sql import catalogs
from tests.unit.sql.plans import plan

EXPRESSIONS = [
    "upper(ssn)",
    "length(ssn)",
    "md5(ssn)",
    "ssn || 'x'",
    "'x' || ssn",
    "pin + 1",
    "- pin",
    "ssn < 'x'",
    "ssn >= 'x'",
    "ssn BETWEEN 'a' AND 'b'",
    "ssn LIKE 'a%'",
    "ssn NOT ILIKE 'a'",
    "ssn ~ 'a'",
    "ssn SIMILAR TO 'a'",
    "ssn OPERATOR(public.=) 'x'",
    "(ssn, id) < ('x', 1)",
    "ROW(ssn, 1)",
    "ROW(staff.*)",
    "greatest(ssn, 'x')",
    "min(ssn)",
    "string_agg(ssn, ',')",
    "JSON_OBJECT('a': ssn)",
    "staff",
    "ssn(staff)",
    "staff.length",
    "f(a => ssn)",
    "ssn::int",
    "ssn::varchar(2)",
    "ssn::bytea",
    "CAST(pin AS text)",
    'ssn COLLATE "own"',
    "ssn = 'x' COLLATE \"own\"",
    "ssn = 'x' COLLATE public.\"C\"",
    "ssn AT TIME ZONE 'utc'",
    "(ssn)[1]",
    "(ssn).x",
    "extract(year from ssn)",
    "substring(ssn from 1 for 2)",
    "trim(ssn)",
    "ssn IS NORMALIZED",
    "ssn IS DOCUMENT",
    "ssn IS TRUE",
    "xmlelement(name a, ssn)",
    "CASE WHEN ssn THEN 1 END",
    "CASE WHEN true THEN ssn ELSE name END",
    "CASE WHEN true THEN ssn ELSE pin END",
    "COALESCE(ssn, name)",
    "COALESCE(upper(name), ssn)",
    "NULLIF(name, ssn)",
    "ssn = name",
    "ssn = upper(name)",
    "ssn = pin",
    "ssn = now()::text",
    "ssn = ANY(string_to_array('a', ','))",
    "ssn = ANY(SELECT name FROM staff)",
    "ssn IN (SELECT upper(name) FROM staff)",
    "(ssn, name) IN (SELECT name, ssn FROM staff)",
    "ssn > ALL (SELECT ssn FROM staff)",
    "ssn < ANY('{a}')",
    "secret = 'x'",
    "count(DISTINCT secret)",
    "count(*) FILTER (WHERE ssn)",
    "count(*) FILTER (WHERE upper(ssn) = 'X')",
    "sum(pin)",
    "lag(ssn, pin) OVER ()",
    "lag(ssn) OVER (ORDER BY ssn)",
    "lag(ssn, 1, name) OVER ()",
    "count(*) OVER (PARTITION BY secret)",
    "sum(id) OVER (ORDER BY id ROWS pin PRECEDING)",
    "percentile_disc(0.5) WITHIN GROUP (ORDER BY pin)",
    "patient_of(1)",
    "query_to_xml('select', true, true, '')",
    "current_setting(ssn)",
    "set_config('a', ssn, true)",
    "unnest(ARRAY[ssn])",
    "ssn = 'x'::no_such_domain",
    "ssn = pg_catalog.lower(name)",
    "(SELECT upper(s.ssn) FROM staff s)",
    "(SELECT s.ssn || staff.ssn FROM staff s)",
    "grouping(ssn)",
    "old.ssn || 'x' FROM staff old --",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expression_that_is_not_listed_over_a_sealed_column_is_refused(expression: str) -> None:
    """Each would run on bytea without an error, or answer wrongly."""
    with pytest.raises(PgsealError) as refusal:
        plan(f"SELECT {expression}\nFROM staff" if "--" not in expression else f"SELECT {expression}\n")
    assert refusal.value.sqlstate == "PS001"
    assert refusal.value.hint


STATEMENTS = [
    ("SELECT ssn FROM staff ORDER BY ssn", "PS001"),
    ("SELECT ssn AS name FROM staff ORDER BY name", "PS001"),
    ("SELECT id, ssn FROM staff ORDER BY 2", "PS001"),
    ("SELECT ssn FROM staff UNION ALL SELECT 'x' ORDER BY 1", "PS001"),
    ("SELECT DISTINCT ON (ssn) id FROM staff", "PS001"),
    ("SELECT DISTINCT COALESCE(ssn, 'x') FROM staff", "PS001"),
    ("SELECT DISTINCT secret FROM staff", "PS001"),
    ("SELECT DISTINCT ssn FROM staff ORDER BY ssn", "PS001"),
    ("SELECT secret FROM staff UNION SELECT secret FROM staff", "PS001"),
    ("SELECT ssn FROM staff INTERSECT SELECT ssn FROM staff", "PS001"),
    ("SELECT ssn FROM staff EXCEPT ALL SELECT ssn FROM staff", "PS001"),
    ("SELECT COALESCE(ssn, 'x'), count(*) FROM staff GROUP BY COALESCE(ssn, 'x')", "PS001"),
    ("SELECT DISTINCT ON (2) id, ssn FROM staff", "PS001"),
    ("SELECT ssn FROM staff INTERSECT SELECT ssn FROM staff", "PS001"),
    ("SELECT ssn FROM staff EXCEPT ALL SELECT 'x'", "PS001"),
    ("SELECT ssn FROM staff UNION ALL SELECT name FROM staff", "PS001"),
    ("SELECT ssn FROM staff UNION ALL SELECT pin FROM staff", "PS001"),
    ("SELECT * FROM staff GROUP BY ssn", "PS001"),
    ("SELECT secret FROM staff GROUP BY secret", "PS001"),
    ("SELECT ssn::text AS k, count(*) FROM staff GROUP BY k", "PS001"),
    ("SELECT secret, count(*) FROM staff GROUP BY 1", "PS001"),
    ("SELECT coalesce(ssn, 'x'), count(*) FROM staff GROUP BY 1", "PS001"),
    ("SELECT count(*) FROM staff GROUP BY secret", "PS001"),
    ("SELECT count(*) FROM staff GROUP BY ROLLUP (ssn)", "PS001"),
    ("SELECT count(*) FROM staff GROUP BY GROUPING SETS ((id, ssn), ())", "PS001"),
    ("SELECT ssn FROM staff WHERE ssn", "PS001"),
    ("SELECT ssn FROM staff LIMIT (SELECT pin FROM staff)", "PS001"),
    ("SELECT s.id FROM staff s JOIN staff t USING (ssn)", "PS001"),
    ("SELECT * FROM staff s NATURAL JOIN staff t", "PS001"),
    ("SELECT * FROM staff NATURAL JOIN f(1)", "PS001"),
    ("SELECT v.ssn FROM (VALUES ('x')) v(ssn) JOIN staff USING (ssn)", "PS001"),
    ("SELECT s.id FROM staff s JOIN memos m ON s.ssn = m.body", "PS001"),
    ("SELECT * FROM staff, f(1)", "PS001"),
    ("SELECT * FROM f(1), staff", "PS001"),
    ("SELECT ssn, f.* FROM staff, f(1)", "PS001"),
    ("SELECT g.* FROM staff, LATERAL f(ssn) g", "PS001"),
    ("SELECT x FROM staff, ROWS FROM (f(ssn), g(1)) AS r(x)", "PS001"),
    ("SELECT j.a FROM staff, json_table(ssn, '$' COLUMNS (a int)) j", "PS001"),
    ("SELECT x.a FROM staff, xmltable('/x' PASSING (ssn::xml) COLUMNS a int) x", "PS001"),
    ("SELECT id FROM staff TABLESAMPLE system ((SELECT pin FROM staff))", "PS001"),
    ("SELECT ssn FROM staff JOIN patients ON staff.id = patients.id", "PS001"),
    ("SELECT id FROM staff JOIN no_such_table ON true", "PS001"),
    ("WITH RECURSIVE r(a) AS (SELECT ssn FROM staff UNION ALL SELECT a || 'x' FROM r) SELECT a FROM r", "PS001"),
    ("WITH RECURSIVE r(a) AS (SELECT ssn FROM staff UNION SELECT a FROM r) SELECT a FROM r", "PS001"),
    ("WITH c(a) AS (SELECT ssn FROM staff) SELECT upper(a) FROM c", "PS001"),
    ("WITH c(a) AS (SELECT 'x') SELECT upper(a) FROM c JOIN staff ON a = ssn", "PS001"),
    (
        "WITH RECURSIVE r(a) AS (SELECT ssn FROM staff UNION ALL SELECT a FROM r) "
        "SEARCH DEPTH FIRST BY a SET o SELECT a FROM r",
        "PS001",
    ),
    (
        "WITH RECURSIVE a AS (SELECT reason FROM visits), visits AS (SELECT ssn AS reason FROM staff) "
        "SELECT 1 FROM a WHERE reason = 'x'",
        "PS001",
    ),
    ("WITH RECURSIVE staff AS (SELECT * FROM staff) SELECT ssn FROM staff", "PS001"),
    ("SELECT 1 FROM staff s WHERE staff.ssn = 'x'", "PS001"),
    ("SELECT 1 FROM staff s, (SELECT 1 WHERE s.ssn = 'x') q", "PS001"),
    ("SELECT ssn INTO copy FROM staff", "PS006"),
    ("SELECT * FROM attic.patients", "PS006"),
    ("SELECT * FROM broken", "PS006"),
    ("SELECT * FROM pgseal.encryption_keys", "PS001"),
    ("SELECT * FROM pgseal.anything", "PS001"),
    ("SELECT body FROM bound", "PS001"),
    ("SELECT a.id, b.body FROM bound a, bound b", "PS001"),
    ("SELECT 1 FROM patients WHERE email = 'x'", "PS001"),
    ("SELECT 1 FROM patients WHERE lower(email) = 'x'", "PS001"),
    ("SELECT 1 FROM patients WHERE lower(email) = upper('x')", "PS001"),
    ("SELECT count(DISTINCT email) FROM patients", "PS001"),
    ("SELECT 1 FROM staff WHERE lower(ssn) = lower('x')", "PS001"),
    ("SELECT 1 FROM staff WHERE ssn = 5", "42883"),
    ("SELECT 1 FROM staff WHERE pin = true", "42883"),
    ("UPDATE staff SET pin = true", "42804"),
    ("SELECT COALESCE(pin, 5.5) FROM staff", "42804"),
    ("UPDATE staff SET pin = CASE WHEN id = 1 THEN 5.5 ELSE 2 END", "42804"),
    ("SELECT 1 FROM staff WHERE ssn = '{a}'::text[]", "42804"),
    ("SELECT 1 FROM staff WHERE ssn = ANY('a'::text)", "42804"),
    ("SELECT 1 FROM patients WHERE hospital_id = 'a' AND dob = 5", "42883"),
    ("MERGE INTO staff s USING visits v ON v.id = s.id WHEN MATCHED THEN UPDATE SET ssn = v.reason", "PS001"),
    ("MERGE INTO visits v USING staff s ON v.id = s.id WHEN MATCHED THEN UPDATE SET reason = s.ssn", "PS001"),
    ("MERGE INTO staff s USING visits v ON false WHEN NOT MATCHED THEN INSERT VALUES (v.id)", "PS001"),
    ("INSERT INTO staff (id, name) SELECT id, ssn FROM staff", "PS001"),
    ("INSERT INTO staff (ssn, level) SELECT name, level FROM staff", "PS001"),
    ("INSERT INTO staff (ssn, level) SELECT level, ssn FROM staff", "PS001"),
    ("INSERT INTO staff (id, ssn) SELECT 1, 'x' UNION SELECT 2, 'y'", "PS001"),
    ("INSERT INTO staff (id, ssn) SELECT 1, NULLIF('x', ssn) FROM staff", "PS001"),
    ("INSERT INTO staff (ssn, level) SELECT f.* FROM f(1)", "PS001"),
    ("INSERT INTO visits (id, reason) SELECT id, ssn FROM staff", "PS001"),
    ("WITH i AS (INSERT INTO visits (reason) SELECT ssn FROM staff RETURNING id) SELECT id FROM i", "PS001"),
    ("INSERT INTO staff (ssn, level) VALUES (current_user, 'x')", "PS001"),
    ("INSERT INTO staff (ssn, level) VALUES ('a' || now(), 'x')", "PS001"),
    ("INSERT INTO staff (ssn, level) VALUES (other.now()::text, 'x')", "PS001"),
    ("INSERT INTO staff (ssn, level) VALUES (nextval(name), 'x')", "PS001"),
    ("INSERT INTO staff (ssn, level) VALUES (random()::text, 'x')", "PS001"),
    ("INSERT INTO staff (ssn, level) SELECT now()::text, 'x'", "PS001"),
    ("UPDATE staff SET ssn = gen_random_uuid()", "PS001"),
    ("UPDATE staff SET ssn = nextval('s')", "PS001"),
    ("INSERT INTO staff (ssn[1], level) VALUES ('a', 'x')", "PS001"),
    ("INSERT INTO staff (id, ssn, level) VALUES (1, 'x', 'y') ON CONFLICT (level) DO NOTHING", "PS001"),
    ("INSERT INTO staff (id, ssn, level) VALUES (1, 'x', 'y') ON CONFLICT (lower(ssn)) DO NOTHING", "PS001"),
    ("INSERT INTO staff (id, ssn, level) VALUES (1, 'x', 'y') ON CONFLICT (upper(ssn)) DO NOTHING", "PS001"),
    ("INSERT INTO staff (id, level) VALUES (1, 'y') ON CONFLICT (id) WHERE ssn > 'x' DO NOTHING", "PS001"),
    (
        "INSERT INTO staff (id, level) VALUES (1, 'y') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.level",
        "PS001",
    ),
    (
        "INSERT INTO staff (id, level) VALUES (1, 'y') ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.level",
        "PS001",
    ),
    (
        "INSERT INTO staff (id, level) VALUES (1, 'y') "
        "ON CONFLICT (id) DO UPDATE SET id = 2 WHERE staff.ssn > 'x'",
        "PS001",
    ),
    ("INSERT INTO bound (body) VALUES ('x')", "PS001"),
    ("INSERT INTO bound (id, body) VALUES (DEFAULT, 'x')", "PS001"),
    ("INSERT INTO patient_doors (number) VALUES ('x')", "PS001"),
    ("UPDATE patient_doors SET number = 'x'", "PS001"),
    ("UPDATE staff SET ssn = upper(ssn)", "PS001"),
    ("UPDATE staff SET ssn = ssn || 'x'", "PS001"),
    ("UPDATE staff SET pin = pin + 1", "PS001"),
    ("UPDATE staff SET ssn = name", "PS001"),
    ("UPDATE staff SET name = ssn", "PS001"),
    ("UPDATE staff SET name = COALESCE(ssn, 'x')", "PS001"),
    ("UPDATE staff SET secret = ssn", "PS001"),
    ("UPDATE staff SET (ssn, name) = (SELECT name, ssn FROM staff)", "PS001"),
    ("UPDATE staff SET (ssn, name) = (SELECT f.* FROM f(1))", "PS001"),
    ("UPDATE staff SET ssn[1] = 'x'", "PS001"),
    ("UPDATE staff SET ssn = 'x' WHERE ssn > 'a'", "PS001"),
    ("UPDATE staff SET ssn = random()::text", "PS001"),
    ("UPDATE bound SET body = 'x' WHERE id > 1", "PS001"),
    ("UPDATE bound SET body = 'x' WHERE id = 1 OR true", "PS001"),
    ("UPDATE bound SET id = 2", "PS006"),
    ("DELETE FROM staff RETURNING ssn || 'x'", "PS001"),
    ("DELETE FROM staff RETURNING (SELECT max(ssn) FROM staff)", "PS001"),
    ("DELETE FROM staff WHERE upper(ssn) = 'X'", "PS001"),
]


@pytest.mark.parametrize(("sql", "sqlstate"), STATEMENTS)
def test_statement_that_cannot_be_proven_is_refused(sql: str, sqlstate: str) -> None:
    """No third outcome beside works and refused; the refusal says why and what to write."""
    with pytest.raises(PgsealError) as refusal:
        plan(sql)
    assert refusal.value.sqlstate == sqlstate
    assert refusal.value.message


DENIED = [
    "SELECT ssn FROM staff",
    "SELECT * FROM staff",
    "TABLE staff",
    "SELECT id FROM staff WHERE ssn = 'x'",
    "SELECT count(DISTINCT ssn) FROM staff",
    "WITH c AS (SELECT * FROM staff) SELECT id FROM c",
    "INSERT INTO staff (ssn, level) VALUES ('x', 'y')",
    "INSERT INTO staff (id) VALUES (1)",
    "INSERT INTO staff (level) VALUES (DEFAULT)",
    "UPDATE staff SET ssn = NULL",
    "UPDATE staff SET pin = DEFAULT",
    "UPDATE staff SET name = 'x' RETURNING *",
    "DELETE FROM staff WHERE pin = 5",
]


@pytest.mark.parametrize("sql", DENIED)
def test_role_that_may_not_read_neither_selects_nor_compares_nor_assigns(sql: str) -> None:
    """PS005, whatever the form."""
    with pytest.raises(NotAllowed) as refusal:
        plan(sql, catalogs.env(Read.DENY))
    assert refusal.value.sqlstate == "PS005"
    assert refusal.value.column is not None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, name, count(ssn) FROM staff WHERE ssn IS NOT NULL GROUP BY id, name",
        "SELECT EXISTS (SELECT * FROM staff)",
        "UPDATE staff SET name = 'x' WHERE id = 1",
        "DELETE FROM staff WHERE id = 1",
    ],
)
def test_role_that_may_not_read_may_count_and_test_for_null(sql: str) -> None:
    """What shows no cell is allowed."""
    assert plan(sql, catalogs.env(Read.DENY)).sql == sql


def test_table_of_the_transaction_comes_before_the_catalog() -> None:
    """A relation made in the open transaction is resolved first, a dropped one no more."""
    made = Relation(0, "public", "fresh", "r", (Column("id", 1, 23),))
    overlay = Overlay(((("public", "fresh"), made),))
    assert plan("SELECT s.id FROM staff s, fresh", catalogs.env(overlay=overlay)).plan.results
    with pytest.raises(PgsealError):
        plan("SELECT s.id FROM staff s, visits", catalogs.env(overlay=Overlay(((("public", "visits"), None),))))


def test_temporary_table_with_a_pinned_name_is_refused() -> None:
    """It would hide the protected table for the server."""
    hidden = Relation(0, "pg_temp", "staff", "r", (Column("id", 1, 23), Column("ssn", 2, 25)))
    with pytest.raises(PgsealError) as refusal:
        plan("SELECT ssn FROM staff", catalogs.env(overlay=Overlay(((("pg_temp", "staff"), hidden),))))
    assert refusal.value.sqlstate == "PS006"


@pytest.mark.parametrize("sql", ["SELECT ssn FROM staff", "INSERT INTO public.staff (ssn) VALUES ('x')"])
def test_protected_table_that_is_not_there_is_undefined(sql: str) -> None:
    """As PostgreSQL says it, and before the server sees it: the table may have been made a moment ago."""
    with pytest.raises(PgsealError) as refusal:
        plan(sql, catalogs.env(overlay=Overlay(((("public", "staff"), None),))))
    assert (refusal.value.sqlstate, bool(refusal.value.hint)) == ("42P01", True)
    assert refusal.value.message.endswith('staff" does not exist')


def test_search_path_before_pg_catalog_offers_no_equality() -> None:
    """An operator of another schema could be meant."""
    with pytest.raises(PgsealError):
        plan("SELECT 1 FROM staff WHERE ssn = 'x'", catalogs.env(search_path=("public", "pg_catalog")))


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    """RecursionError never leaves planning."""
    node: dict[str, object] = {"ColumnRef": {"fields": [{"String": {"sval": "ssn"}}]}}
    for _ in range(5000):
        node = {"NullTest": {"arg": node, "nulltesttype": "IS_NULL"}}
    table = {"RangeVar": {"relname": "staff", "relpersistence": "p"}}
    tree = {"SelectStmt": {"targetList": [{"ResTarget": {"val": node}}], "fromClause": [table]}}
    text = b"SELECT 1"
    draft = Draft(text, lex(text), catalogs.env(), False, (), {})
    with pytest.raises(PgsealError) as refusal:
        plan_statement(tree, draft)
    assert refusal.value.sqlstate == "PS001"
