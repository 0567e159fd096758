"""Casts around branches and columns of constants, and the names that constants give their columns."""

from __future__ import annotations

import pytest

from proxy.errors import Unsupported
from proxy.sql.plan import Planned
from proxy.sql.planner import Planner
from proxy.values.base import Settings
from proxy.values.constants import Inputs, assign_value, evaluate
from tests.unit.sql.catalogs import env
from tests.unit.sql.plans import plan

TAKEN_AWAY = [
    (
        "UPDATE staff SET ssn = (CASE WHEN (id = 8) THEN 'x' WHEN (id = 9) THEN 'y' ELSE NULL END)::varchar(150) "
        "WHERE id IN (8, 9)",
        "UPDATE staff SET ssn = (CASE WHEN (id = 8) THEN <0> WHEN (id = 9) THEN <1> ELSE NULL::bytea END)::bytea "
        "WHERE id IN (8, 9)",
    ),
    (
        "UPDATE staff SET ssn = CAST(CASE WHEN id = 8 THEN 'x' ELSE ssn END AS text) WHERE id = 8",
        "UPDATE staff SET ssn = CAST(CASE WHEN id = 8 THEN <0> ELSE ssn END AS bytea) WHERE id = 8",
    ),
    (
        "UPDATE staff SET ssn = COALESCE('x', ssn)::text::varchar",
        "UPDATE staff SET ssn = COALESCE(<0>, ssn)::bytea::bytea",
    ),
    (
        "UPDATE staff SET pin = CASE id WHEN 1 THEN CASE WHEN name = 'n' THEN '5' ELSE '6' END::int END::int4",
        "UPDATE staff SET pin = CASE id WHEN 1 THEN CASE WHEN name = 'n' THEN <0> ELSE <1> END::bytea END::bytea",
    ),
    (
        "INSERT INTO staff (ssn, pin, level) SELECT a::VARCHAR(20), b::numeric(6, 0)::INTEGER, 'x' "
        "FROM (VALUES ('a', 1), ('b', 2)) AS v(a, b)",
        None,
    ),
    (
        "INSERT INTO staff (ssn, level) SELECT a::VARCHAR(20), 'x' FROM (VALUES ('a', 1), ('b', 2)) AS v(a, b)",
        "INSERT INTO staff (ssn, level) SELECT a, <2> FROM (VALUES (<0>, 1), (<1>, 2)) AS v(a, b)",
    ),
    (
        "SELECT id FROM staff WHERE ssn = (CASE WHEN id = 1 THEN 'x' ELSE 'y' END)::text",
        "SELECT id FROM staff WHERE substring(ssn from 10 for 15) = "
        "(CASE WHEN id = 1 THEN <0> ELSE <1> END)::bytea",
    ),
    ("UPDATE staff SET ssn = CASE WHEN id = 1 THEN ssn ELSE 'x' END::varchar(3)", None),
    ("UPDATE staff SET ssn = CASE WHEN id = 1 THEN 'x'::text ELSE 5 END::varchar(3)", None),
    ("UPDATE staff SET pin = CASE WHEN id = 1 THEN ssn ELSE 'x' END::int", None),
    ("SELECT COALESCE(ssn, 'none')::varchar(3) FROM staff", None),
    ("SELECT COALESCE(pin, 1)::text FROM staff", None),
    (
        "INSERT INTO staff (ssn, level) SELECT COALESCE(v.a::varchar(2), v.b), 'x' "
        "FROM (VALUES ('a', 'b')) v(a, b)",
        None,
    ),
    (
        "INSERT INTO staff (ssn, level) SELECT a::varchar(2), 'x' FROM (SELECT a FROM (VALUES ('a')) v(a)) q",
        "INSERT INTO staff (ssn, level) SELECT a, <1> FROM (SELECT a FROM (VALUES (<0>)) v(a)) q",
    ),
    (
        "INSERT INTO staff (ssn, level) SELECT a::varchar(2), a FROM (SELECT a FROM (VALUES ('a')) v(a)) q",
        None,
    ),
    (
        "INSERT INTO staff (ssn, level) SELECT q.a::varchar(2), 'x' FROM (SELECT a FROM (VALUES ('abc')) v(a)) q "
        "JOIN staff s ON s.ssn = q.a",
        None,
    ),
]
NAMED = [
    ("SELECT 'x' UNION ALL SELECT ssn FROM staff", 'SELECT <0> AS "?column?" UNION ALL SELECT ssn FROM staff'),
    ("SELECT ((5)::int4), id FROM staff UNION ALL SELECT pin, id FROM staff", None),
    (
        "SELECT NULL::text UNION ALL SELECT ssn FROM staff",
        'SELECT NULL::bytea AS "text" UNION ALL SELECT ssn FROM staff',
    ),
    ("SELECT 'x' AS a UNION ALL SELECT ssn FROM staff", "SELECT <0> AS a UNION ALL SELECT ssn FROM staff"),
    (
        "SELECT * FROM (SELECT ('a'::varchar) UNION ALL SELECT ssn FROM staff) q",
        'SELECT * FROM (SELECT (<0>) AS "varchar" UNION ALL SELECT ssn FROM staff) q',
    ),
    (
        "SELECT (CASE WHEN id = 1 THEN ssn END::text), id FROM staff",
        'SELECT (CASE WHEN id = 1 THEN ssn END::bytea) AS "text", id FROM staff',
    ),
    ("SELECT COALESCE(ssn, 'x')::text FROM staff", "SELECT COALESCE(ssn, <0>)::bytea FROM staff"),
    ("SELECT 'plain', ssn FROM staff", "SELECT 'plain', ssn FROM staff"),
]


@pytest.mark.parametrize(("sql", "becomes"), TAKEN_AWAY)
def test_cast_around_branches_is_one_of_cells_or_refused(sql: str, becomes: str | None) -> None:
    """The server cannot cast a cell; what would change a cell's value is refused."""
    if becomes is None:
        with pytest.raises(Unsupported) as caught:
            plan(sql)
        assert caught.value.column is not None
    else:
        assert plan(sql).sql == becomes


def test_null_among_branches_is_of_the_type_of_cells() -> None:
    """NULLs alone would be text, which a bytea column does not take."""
    branches = "UPDATE staff SET ssn = CASE WHEN id = 1 THEN NULL ELSE NULL END"
    assert plan(branches).sql == branches.replace("NULL", "NULL::bytea")
    rows = "INSERT INTO staff (id, ssn, level) SELECT i, s, 'x' FROM (VALUES (1, NULL), (2, NULL)) v(i, s)"
    assert plan(rows).sql.endswith("FROM (VALUES (1, NULL::bytea), (2, NULL::bytea)) v(i, s)")
    assert plan("UPDATE staff SET ssn = NULL").sql == "UPDATE staff SET ssn = NULL"


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        ("CASE WHEN id = 1 THEN 'abcdef' ELSE 'xyz' END::varchar(3)", [b"abc", b"xyz"]),
        ("CASE WHEN id = 1 THEN 'abcdef'::text ELSE 'uvwxyz' END::varchar(3)::text", [b"abc", b"uvw"]),
        ("CASE WHEN id = 1 THEN 'a' WHEN id = 2 THEN NULL ELSE 'b' END::text", [b"a", b"b"]),
    ],
)
def test_cast_around_branches_is_applied_to_each_constant(expression: str, values: list[bytes]) -> None:
    """A cast to varchar(n) cuts, where an assignment would fail."""
    found = Planner().plan(f"UPDATE staff SET ssn = {expression}".encode(), env(), None)
    assert isinstance(found, Planned)
    inputs = Inputs(Settings(), found.constants)
    made = []
    for slot in found.plan.slots:
        value = evaluate(slot.expr, inputs)
        assert value is not None
        made.append(assign_value(value, slot.column.rule.type, Settings()))
    assert made == values


def test_parameter_under_a_cast_around_branches_is_text() -> None:
    """PostgreSQL resolves branches of parameters alone to text before the cast."""
    outcome = plan(
        "UPDATE staff SET ssn = (CASE WHEN id = $1 THEN $2 ELSE NULL END)::varchar(150) WHERE id IN ($3)",
        extended=True,
    )
    assert [param.oid for param in outcome.client_params] == [0, 25, 0]


@pytest.mark.parametrize(("sql", "becomes"), NAMED)
def test_constant_as_an_output_keeps_its_name(sql: str, becomes: str | None) -> None:
    """What is written in a literal's place has another name of its own."""
    if becomes is None:
        assert plan(sql).sql.startswith('SELECT (<0>) AS "int4", id')
    else:
        assert plan(sql).sql == becomes
