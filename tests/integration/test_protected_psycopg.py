"""psycopg 3 over protected columns: every form of parameter, result, cursor and pipeline equals plain columns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import ClientCursor, RawCursor, sql
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

from tests.integration.protected.all_types import LIST, NAMES, ROWS, RULES, SETUP, holds_envelopes
from tests.sealed import Sealed, sealed_database

PLACES = ", ".join(["%s"] * len(NAMES))
PLAINLY = [tuple(row.values()) for row in ROWS]


@pytest.fixture(scope="module")
def sealed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP) as made:
        yield made


@pytest.fixture
def connection(sealed) -> Iterator[psycopg.Connection[Any]]:
    sealed.stored("TRUNCATE cells, twins")
    with sealed.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        yield connection
    assert holds_envelopes(sealed)


def fill(connection: psycopg.Connection[Any], form: str = "%s") -> None:
    for table in ("cells", "twins"):
        for number, row in enumerate(PLAINLY):
            places = ", ".join([form] * len(row))
            values = binary_json(row) if form == "%b" else row
            connection.execute(
                f"INSERT INTO {table} (id, {LIST}) VALUES (%s, {places})".encode(), (number, *values)
            )


def binary_json(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A binary string is of type text, which PostgreSQL assigns to no json."""
    made = {"a_json": Json, "a_jsonb": Jsonb}
    return tuple(
        made[name](value, dumps=str) if name in made and value is not None else value
        for name, value in zip(NAMES, row, strict=True)
    )


def both(connection: psycopg.Connection[Any], statement: str, *values: Any, **options: Any) -> list[Any]:
    """The rows of a statement over `cells`, which has to answer and to be described as over `twins`."""
    answers = []
    for table in ("cells", "twins"):
        cursor = connection.execute(statement.format(t=table).encode(), values or None, **options)
        described = [
            (c.name, c.type_code, c.internal_size, c.precision, c.scale) for c in cursor.description or ()
        ]
        answers.append((described, cursor.rowcount, cursor.fetchall() if described else []))
    assert answers[0] == answers[1]
    return answers[0][2]


@pytest.mark.parametrize("form", ["%s", "%t", "%b"])
@pytest.mark.parametrize("is_binary", [False, True])
def test_values_of_every_type_are_written_and_read_as_plain(connection, form, is_binary):
    """Text and binary parameters, text and binary results, descriptions included."""
    fill(connection, form)
    rows = both(connection, f"SELECT id, {LIST} FROM {{t}} ORDER BY id", binary=is_binary)
    assert [row[1] for row in rows] == [row["a_text"] for row in ROWS]
    assert len(both(connection, "SELECT * FROM {t}", binary=is_binary)) == len(ROWS)


@pytest.mark.parametrize("cursor_factory", [psycopg.Cursor, ClientCursor])
def test_literals_and_parameters_find_rows(sealed, connection, cursor_factory):
    """Equality by token and by deterministic cells, with values in the statement and beside it."""
    fill(connection)
    with sealed.connect(cursor_factory=cursor_factory) as asking:
        for name in ("a_text", "a_varchar", "a_int", "a_number", "a_date", "a_uuid"):
            for number, row in enumerate(ROWS[:2]):
                assert both(asking, f"SELECT id FROM {{t}} WHERE {name} = %s", row[name]) == [(number,)]
                assert both(asking, f"SELECT id FROM {{t}} WHERE {name} = ANY(%s)", [row[name]]) == [(number,)]
                assert both(asking, f"SELECT {name} FROM {{t}} WHERE {name} <> %s", row[name])


def test_raw_cursor_speaks_numbered_parameters(sealed, connection):
    """One parameter in two places, written $1."""
    fill(connection)
    with sealed.connect(cursor_factory=RawCursor) as asking:
        statement = "SELECT id, a_text FROM {t} WHERE $1::text IS NULL OR a_text = $1"
        assert both(asking, statement, "") == [(1, "")]
        update = "UPDATE {t} SET a_text = $1 WHERE a_text = $2 RETURNING a_text, id"
        assert both(asking, update, "new", "") == [("new", 1)]


def test_statements_become_prepared_after_five(connection):
    """The sixth execution goes by a named statement; every answer is the same."""
    for number in range(12):
        both(connection, "INSERT INTO {t} (id, a_text, a_int) VALUES (%s, %s, %s)", number, f"n{number}", number)
        assert both(connection, "SELECT a_int FROM {t} WHERE a_text = %s", f"n{number}") == [(number,)]
        assert both(connection, "SELECT a_text FROM {t} WHERE id = %s", number, prepare=True) == [(f"n{number}",)]
    prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert prepared[0] >= 6


def test_executemany_writes_and_returns(connection):
    """Batches in one pipeline, with and without RETURNING."""
    statement = f"INSERT INTO cells (id, {LIST}) VALUES (%s, {PLACES}) RETURNING a_text, a_uuid"
    with connection.cursor() as cursor:
        cursor.executemany(statement, [(n, *PLAINLY[n % 3]) for n in range(60)], returning=True)
        returned = [cursor.fetchone() for _ in cursor.results()]
        assert returned == [(ROWS[n % 3]["a_text"], ROWS[n % 3]["a_uuid"]) for n in range(60)]
        cursor.executemany("UPDATE cells SET a_text = %s WHERE id = %s", [(f"m{n}", n) for n in range(60)])
    rows = connection.execute("SELECT a_text FROM cells ORDER BY id").fetchall()
    assert rows == [(f"m{n}",) for n in range(60)]


def test_pipeline_keeps_order_and_survives_an_error(connection):
    """Several statements and syncs in flight; a refusal fails its batch only."""
    with connection.pipeline() as pipeline:
        connection.execute("INSERT INTO cells (id, a_text) VALUES (1, %s)", ("one",))
        first = connection.execute("SELECT a_text FROM cells WHERE id = %s", (1,))
        plain = connection.execute("SELECT 7")
        pipeline.sync()
        assert (first.fetchone(), plain.fetchone()) == (("one",), (7,))
        with pytest.raises(psycopg.Error) as raised:
            connection.execute("SELECT id FROM cells WHERE a_text LIKE %s", ("o%",))
            pipeline.sync()
        assert raised.value.sqlstate == "PS001"
        connection.execute("UPDATE cells SET a_text = %s WHERE a_text = %s", ("two", "one"))
        found = connection.execute("SELECT a_text, a_int FROM cells")
        pipeline.sync()
        assert found.fetchall() == [("two", None)]


def test_rows_stream_one_by_one(connection):
    """Single-row mode, and fetching by name."""
    fill(connection)
    with connection.cursor(row_factory=dict_row) as cursor:
        streamed = list(cursor.stream(f"SELECT {LIST} FROM cells ORDER BY id"))
    expected = both(connection, f"SELECT {LIST} FROM {{t}} ORDER BY id")
    assert [tuple(row.values()) for row in streamed] == expected


def test_transactions_and_savepoints_undo_sealed_writes(connection):
    """Nested blocks, with an error caught inside."""
    with connection.transaction():
        connection.execute("INSERT INTO cells (id, a_text) VALUES (1, 'outer')")
        with pytest.raises(psycopg.errors.UniqueViolation) as raised, connection.transaction():
            connection.execute("UPDATE cells SET a_text = 'inner'")
            connection.execute("INSERT INTO cells (id, a_text) VALUES (1, 'twice')")
        assert raised.value.diag.message_detail == "Key (id)=(1) already exists."
        assert connection.execute("SELECT a_text FROM cells").fetchall() == [("outer",)]
        raise psycopg.Rollback
    assert connection.execute("SELECT a_text FROM cells").fetchall() == []


def test_bad_values_give_postgresqls_own_errors(connection):
    """What does not fit the logical type fails as on a plain column."""
    cases = [
        ("INSERT INTO {t} (id, a_varchar) VALUES (1, %s)", "x" * 21),
        ("INSERT INTO {t} (id, a_small) VALUES (1, '32768')", None),
        ("INSERT INTO {t} (id, a_number) VALUES (1, %s)", 10**9),
        ("INSERT INTO {t} (id, a_date) VALUES (1, '2023-02-29')", None),
        ("INSERT INTO {t} (id, a_uuid) VALUES (1, 'no')", None),
        ("INSERT INTO {t} (id, a_jsonb) VALUES (1, '{{')", None),
    ]
    for statement, value in cases:
        states = []
        for table in ("cells", "twins"):
            with pytest.raises(psycopg.Error) as raised:
                connection.execute(statement.format(t=table).encode(), None if value is None else (value,))
            states.append(raised.value.sqlstate)
        assert states[0] == states[1], statement


def test_server_side_cursor_reads_what_a_plain_one_reads(connection):
    """psycopg's named cursor: DECLARE and FETCH of a few rows at a time."""
    fill(connection)
    found = []
    for table in ("cells", "twins"):
        with connection.transaction(), connection.cursor("c") as cursor:
            cursor.itersize = 2
            cursor.execute(f"SELECT id, a_text FROM {table} ORDER BY id")
            found.append(list(cursor))
    assert len(found[0]) == len(ROWS) and found[0] == found[1]


@pytest.mark.parametrize("form", ["", "(FORMAT binary)"])
def test_rows_are_copied_in_and_out(connection, form):
    """write_row and rows(), which takes each message of the server for one row."""
    fill(connection)
    connection.execute("DELETE FROM cells")
    wanted = [(n, f"plain\tas day {n}", None if n % 3 else True) for n in range(1000)]
    cursor = connection.cursor()
    with cursor.copy(f"COPY cells (id, a_text, a_bool) FROM STDIN {form}".encode()) as copy:
        copy.set_types(["int4", "text", "bool"])
        for row in wanted:
            copy.write_row(row)
    assert cursor.statusmessage == "COPY 1000"
    with cursor.copy(f"COPY cells (id, a_text, a_bool) TO STDOUT {form}".encode()) as copy:
        copy.set_types(["int4", "text", "bool"])
        assert sorted(copy.rows()) == wanted


def test_composed_identifiers_and_comments_change_nothing(connection):
    """Quoted names, schema, alias and comments."""
    fill(connection)
    query = sql.SQL("/* a */ SELECT c.{column} -- b\nFROM {table} AS c WHERE c.id = 0").format(
        column=sql.Identifier("a_text"), table=sql.Identifier("public", "cells")
    )
    assert connection.execute(query).fetchall() == [(ROWS[0]["a_text"],)]


@pytest.mark.parametrize("autocommit", [True, False])
def test_ddl_right_behind_the_ddl_that_made_the_table_is_rewritten(postgres, autocommit):
    """Each statement sees the table of the one before, in this transaction or the last, without any wait."""
    rules = RULES[: RULES.index("tables:")] + "tables: {public.made: {columns: {a: {type: text}}}}\n"
    with sealed_database(postgres, rules + "roles: {app: {read: plain}}\n") as sealed:
        for turn in range(5):
            with sealed.connect(autocommit=autocommit) as connection:
                connection.execute("CREATE TABLE made (id int)")
                connection.execute("ALTER TABLE made ADD COLUMN a varchar(10)")
                connection.execute("ALTER TABLE made ALTER COLUMN a TYPE varchar(20)")
                connection.execute("INSERT INTO made VALUES (1, %s)", (f"turn {turn}",))
                connection.execute("ALTER TABLE made ALTER COLUMN a TYPE text")
            with sealed.connect(autocommit=autocommit) as connection:
                assert connection.execute("SELECT a FROM made").fetchall() == [(f"turn {turn}",)]
            assert sealed.stored("SELECT pg_typeof(a)::text, length(a) > 37 FROM made") == [("bytea", True)]
            with sealed.connect(autocommit=autocommit) as connection:
                connection.execute("DROP TABLE made")


def test_async_connections_share_the_proxy(sealed, connection):
    """Forty statements on eight connections at once, each its own row."""
    connection.execute("SELECT 1")

    async def work(number: int) -> None:
        async with await psycopg.AsyncConnection.connect(sealed.dsn(), autocommit=True) as own:
            for turn in range(5):
                key = number * 100 + turn
                insert = "INSERT INTO cells (id, a_text, a_float) VALUES (%s, %s, %s)"
                await own.execute(insert, (key, f"w{key}", key / 7))
                cursor = await own.execute("SELECT a_float, a_text FROM cells WHERE a_text = %s", (f"w{key}",))
                assert await cursor.fetchall() == [(key / 7, f"w{key}")]

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(work(number))

    asyncio.run(main())
