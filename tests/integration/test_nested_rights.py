"""Arrays and JSON documents with cells: rights, tenants, masks and counts as of cells alone; attacks by paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.integration.masked import opened
from tests.sealed import Sealed, sealed_database

RULES = """\
version: 1
tenant: {from: setting, name: app.tenant_id, required: true}
tables:
  public.people:
    columns:
      name: {type: text, search: equality, mask: first1}
      age:  {type: int4}
      soft: {type: text, on_denied: "null"}
      tied: {type: text, bind: [id]}
roles:
  default: {read: deny}
  app: {read: plain, cross_tenant: true}
  north: {read: plain, tenants: [north]}
  analyst: {read: mask}
  blind: {read: "null"}
"""
ROLES = ("north", "analyst", "blind", "denied")
SETUP = (
    "CREATE TABLE people (id int PRIMARY KEY, note text, name text, age int, soft text, tied text)",
    "CREATE TABLE plain (id int PRIMARY KEY, doc jsonb, words text)",
    f"GRANT ALL ON people, plain TO {', '.join(ROLES)}",
)
DOCUMENT = "SELECT json_agg(json_build_object('id', id, 'name', name, 'age', age) ORDER BY id) FROM people"


@pytest.fixture(scope="module")
def sealed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP, roles=ROLES) as made:
        with made.connect() as connection:
            for number, tenant in ((1, "north"), (2, "south")):
                connection.execute("SELECT set_config('app.tenant_id', %s, false)", [tenant])
                connection.execute(
                    "INSERT INTO people VALUES (%s, 'n', %s, %s, %s, %s)",
                    [number, f"Name of {tenant}", 40 + number, f"soft {tenant}", "tied"],
                )
        yield made


def rows(sealed: Sealed, user: str | None, statement: str, tenant: str = "north") -> list[tuple[Any, ...]]:
    with sealed.connect(*([user] if user else [])) as connection:
        connection.execute("SELECT set_config('app.tenant_id', %s, false)", [tenant])
        return connection.execute(statement.encode()).fetchall()


def refusal(sealed: Sealed, user: str | None, statement: str) -> str:
    with pytest.raises(psycopg.Error) as raised:
        rows(sealed, user, statement)
    assert "Name of" not in str(raised.value)
    return raised.value.sqlstate or ""


def test_cells_of_other_tenants_within_a_document_are_refused(sealed: Sealed) -> None:
    """A cell in a document is one of its tenant; where the rule says so it is NULL instead."""
    assert len(rows(sealed, None, DOCUMENT)[0][0]) == 2
    assert refusal(sealed, "north", DOCUMENT) in ("PS005", "PS002")
    assert refusal(sealed, "north", "SELECT array_agg(name) FROM people") in ("PS005", "PS002")
    only = rows(sealed, "north", DOCUMENT.replace("FROM people", "FROM people WHERE id = 1"))
    assert only == [([{"id": 1, "name": "Name of north", "age": 41}],)]
    soft = (
        "SELECT array_agg(soft ORDER BY id), json_agg(soft ORDER BY id), jsonb_agg(soft ORDER BY id) FROM people"
    )
    assert rows(sealed, "north", soft) == [(["soft north", None],) * 3]


def test_masks_and_null_reach_into_documents(sealed: Sealed) -> None:
    """Who may not read sees within a document what would be seen of the column."""
    alone = rows(sealed, "analyst", "SELECT name, age FROM people WHERE id = 1")[0]
    made = "ARRAY[name], json_build_array(name, age), to_jsonb(q)"
    one = f"SELECT {made} FROM (SELECT name, age FROM people WHERE id = 1) q"
    shown = rows(sealed, "analyst", one)[0]
    assert alone[0] == "N***"
    assert shown == ([alone[0]], list(alone), {"name": alone[0], "age": alone[1]})
    assert rows(sealed, "blind", one)[0] == ([None], [None, None], {"name": None, "age": None})


def test_log_in_that_may_not_read_is_refused_a_document(sealed: Sealed) -> None:
    """Also where the cells stand in a whole row."""
    for statement in (DOCUMENT, "SELECT row_to_json(p) FROM people p", "SELECT array_agg(age) FROM people"):
        assert refusal(sealed, "denied", statement) == "PS005"


def test_cells_within_documents_are_counted_one_by_one(sealed: Sealed) -> None:
    """The trail has as many cells as were opened."""
    before = opened(sealed)
    rows(sealed, None, DOCUMENT)
    rows(sealed, None, "SELECT array_agg(name), array_agg(age) FROM people")
    assert opened(sealed) - before == 8


def test_bound_cell_within_a_document_is_refused(sealed: Sealed) -> None:
    """A cell that is bound to its row opens beside the column it is bound to only."""
    for statement in ("SELECT json_agg(tied) FROM people", "SELECT to_json(p) FROM people p"):
        assert refusal(sealed, None, statement) == "PS001"


def test_plain_text_like_a_cell_stays_text(sealed: Sealed) -> None:
    """What a cell is, is said by its place: an envelope that was put into a plain column is never opened."""
    stolen = sealed.stored("SELECT name::text, encode(name, 'base64') FROM people WHERE id = 1")[0]
    with sealed.connect() as connection:
        connection.execute("SET app.tenant_id = 'north'")
        connection.execute("DELETE FROM plain")
        connection.execute(
            "INSERT INTO plain VALUES (1, %s::jsonb, %s)",
            [json.dumps({"name": stolen[0], stolen[0]: [stolen[1]]}), stolen[0]],
        )
        text = (
            "SELECT json_build_object('name', p.words, 'doc', p.doc, 'q', q.name, 'all', p) FROM plain p,"
            " people q WHERE q.id = 1"
        )
        found = connection.execute(text.encode()).fetchone()
    assert found is not None
    document = found[0]
    assert document["q"] == "Name of north"
    assert document["name"] == document["all"]["words"] == document["doc"]["name"] == stolen[0]
    assert document["doc"][stolen[0]] == [stolen[1]]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT json_build_object('name', p.words, 'name', q.name) FROM plain p, people q",
        "SELECT json_build_object(p.words, q.name) FROM plain p, people q",
        "SELECT to_jsonb(q) || jsonb_build_object('name', p.words) FROM plain p, people q",
        "SELECT COALESCE(to_jsonb(q), p.doc) FROM plain p, people q",
        "SELECT to_jsonb(q) FROM people q UNION ALL SELECT doc FROM plain",
        "SELECT CASE WHEN q.id = 1 THEN to_jsonb(q.name) ELSE to_jsonb(p.words) END FROM plain p, people q",
        "SELECT ARRAY[q.name, p.words] FROM plain p, people q",
        "INSERT INTO plain (id, doc) SELECT 9, to_jsonb(name) FROM people",
        "INSERT INTO plain (id, words) SELECT 9, x FROM (SELECT to_json(name)::text FROM people) q(x)",
        "UPDATE people SET name = (SELECT to_json(name) FROM people WHERE id = 1) WHERE id = 2",
        "UPDATE plain SET doc = jsonb_build_array((SELECT name FROM people WHERE id = 1))",
        "SELECT * FROM people p, LATERAL jsonb_to_record(to_jsonb(p)) AS r(name text)",
        "SELECT (SELECT x.name FROM json_populate_record(NULL::people, row_to_json(p)) x) FROM people p",
        "COPY (SELECT json_agg(name) FROM people) TO STDOUT",
        "SELECT 1 FROM people p ORDER BY row_to_json(p)::text",
        "SELECT id FROM people GROUP BY id, ARRAY[name]",
        "SELECT p.name FROM (SELECT row_to_json(q) AS name FROM people q) p WHERE p.name::text LIKE '%N%'",
    ],
)
def test_path_that_leads_cells_elsewhere_is_refused(sealed: Sealed, statement: str) -> None:
    """No plain place takes a cell, no cell's place takes plain text, nothing looks into a document."""
    assert refusal(sealed, None, statement).startswith("PS")
    assert sealed.stored("SELECT count(*) FROM plain WHERE id = 9")[0][0] == 0


def test_cursor_over_documents_shows_them_opened(sealed: Sealed) -> None:
    """Each FETCH opens its own rows."""
    with sealed.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL app.tenant_id = 'north'")
        connection.execute("DECLARE c CURSOR FOR SELECT json_build_array(id, name) FROM people ORDER BY id")
        assert connection.execute("FETCH 1 FROM c").fetchall() == [([1, "Name of north"],)]
        assert connection.execute("FETCH ALL FROM c").fetchall() == [([2, "Name of south"],)]
