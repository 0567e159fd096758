"""asyncpg over protected columns: prepared statements, binary values and introspection as on plain ones."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from tests.integration.protected.all_types import COLUMNS, LIST, NAMES, ROWS, RULES, SETUP, holds_envelopes
from tests.sealed import Sealed, sealed_database

PLACES = ", ".join(f"${n + 2}" for n in range(len(NAMES)))
PLAINLY = [tuple(row.values()) for row in ROWS]
INSERT = f"INSERT INTO {{t}} (id, {LIST}) VALUES ($1, {PLACES})"


@pytest.fixture(scope="module")
def sealed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP) as made:
        yield made


@pytest.fixture
async def connection(sealed) -> AsyncIterator[asyncpg.Connection]:
    sealed.stored("TRUNCATE cells, twins")
    connection = await asyncpg.connect(f"{sealed.dsn()}?sslmode=disable")
    yield connection
    await connection.close()
    assert holds_envelopes(sealed)


async def fill(connection: asyncpg.Connection) -> None:
    for table in ("cells", "twins"):
        await connection.executemany(
            INSERT.format(t=table), list(zip(range(3), *zip(*PLAINLY, strict=True), strict=True))
        )


async def both(connection: asyncpg.Connection, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows over `cells`; they and what the statement is said to take and to give must be as over `twins`."""
    answers = []
    for table in ("cells", "twins"):
        prepared = await connection.prepare(statement.format(t=table))
        taken, given = prepared.get_parameters(), prepared.get_attributes()
        answers.append((taken, given, [tuple(row) for row in await prepared.fetch(*values)]))
    assert answers[0] == answers[1]
    return answers[0][2]


async def test_values_of_every_type_are_written_and_read_as_plain(connection):
    """executemany, binary both ways; parameters and columns are described with their logical types."""
    await fill(connection)
    rows = await both(connection, f"SELECT id, {LIST} FROM {{t}} ORDER BY id")
    assert [row[1:] for row in rows] == PLAINLY
    prepared = await connection.prepare(INSERT.format(t="cells"))
    named = [taken.name for taken in prepared.get_parameters()]
    assert named == ["int4", *(kind.partition("(")[0] for kind, _ in COLUMNS.values())]


@pytest.mark.parametrize("name", ["a_text", "a_int", "a_number", "a_date", "a_uuid"])
async def test_equality_takes_binary_values_and_arrays(connection, name):
    """=, <>, IN, = ANY and IS DISTINCT FROM."""
    await fill(connection)
    one, other = ROWS[0][name], ROWS[1][name]
    assert await both(connection, f"SELECT id FROM {{t}} WHERE {name} = $1", one) == [(0,)]
    assert await both(connection, f"SELECT {name} FROM {{t}} WHERE {name} <> $1", one) == [(other,)]
    assert await both(connection, f"SELECT id FROM {{t}} WHERE {name} IN ($1, $2) ORDER BY id", one, other) == [
        (0,),
        (1,),
    ]
    assert await both(connection, f"SELECT id FROM {{t}} WHERE {name} = ANY($1)", [other, None]) == [(1,)]
    assert await both(connection, f"SELECT id FROM {{t}} WHERE {name} IS DISTINCT FROM $1 ORDER BY id", one) == [
        (1,),
        (2,),
    ]
    assert await both(connection, f"SELECT id FROM {{t}} WHERE $1 = {name} AND id = $2", None, 2) == []


async def test_statements_are_introspected_once_and_reused(connection):
    """The statement cache, a Describe before, and none after."""
    await fill(connection)
    for number in range(20):
        await connection.execute(
            "UPDATE cells SET a_varchar = $1, a_small = $2 WHERE id = $3", f"v{number}", number, 1
        )
        row = await connection.fetchrow("SELECT a_varchar, a_small FROM cells WHERE id = $1", 1)
        assert dict(row) == {"a_varchar": f"v{number}", "a_small": number}
    await connection.reload_schema_state()
    assert await connection.fetchval("SELECT a_varchar FROM cells WHERE id = 1") == "v19"


async def test_cursors_walk_in_steps(connection):
    """A portal with a row limit, forwards, inside a transaction."""
    await connection.executemany(
        "INSERT INTO cells (id, a_text) VALUES ($1, $2)", [(n, f"t{n}") for n in range(130)]
    )
    async with connection.transaction():
        walked = [
            row["a_text"] async for row in connection.cursor("SELECT a_text FROM cells ORDER BY id", prefetch=13)
        ]
        cursor = await connection.cursor("SELECT a_text FROM cells WHERE id > $1 ORDER BY id", 5)
        assert [row["a_text"] for row in await cursor.fetch(2)] == ["t6", "t7"]
        assert await cursor.forward(10) == 10
        assert (await cursor.fetchrow())["a_text"] == "t18"
    assert walked == [f"t{n}" for n in range(130)]


async def test_type_codecs_apply_to_logical_types(connection):
    """A codec set for jsonb sees jsonb, although the table has bytea."""
    import json

    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await connection.execute("INSERT INTO cells (id, a_jsonb) VALUES (1, $1)", {"deep": [1, {"ä": None}]})
    assert await connection.fetchval("SELECT a_jsonb FROM cells") == {"deep": [1, {"ä": None}]}


async def test_returning_and_upsert_give_plaintext(connection):
    """RETURNING of INSERT, ON CONFLICT and UPDATE."""
    statement = (
        "INSERT INTO {t} (id, a_text, a_int) VALUES (1, $1, $2)"
        " ON CONFLICT (id) DO UPDATE SET a_text = EXCLUDED.a_text RETURNING a_text, a_int"
    )
    assert await both(connection, statement, "one", 1) == [("one", 1)]
    assert await both(connection, statement, "two", 2) == [("two", 1)]
    assert await both(
        connection, "UPDATE {t} SET a_int = $1 WHERE a_text = $2 RETURNING *, 1 AS n", 5, "two"
    ) == [(1, "two", None, None, None, 5, *[None] * 11, 1)]


async def test_transactions_roll_back(connection):
    """Nested transactions are savepoints."""
    await fill(connection)
    with pytest.raises(ZeroDivisionError):
        async with connection.transaction():
            await connection.execute("DELETE FROM cells WHERE a_text = $1", "")
            with pytest.raises(asyncpg.UniqueViolationError):
                async with connection.transaction():
                    await connection.execute("INSERT INTO cells (id, a_text) VALUES (0, 'twice')")
            assert await connection.fetchval("SELECT count(a_text) FROM cells") == 1
            raise ZeroDivisionError
    assert await connection.fetchval("SELECT count(a_text) FROM cells") == 2


async def test_refusals_leave_the_connection_usable(connection):
    """PS001 with the column's name, at Parse; the statement after it works."""
    await fill(connection)
    for statement in ("SELECT upper(a_text) FROM cells", "SELECT id FROM cells ORDER BY a_text"):
        with pytest.raises(asyncpg.PostgresError) as raised:
            await connection.fetch(statement)
        assert raised.value.sqlstate == "PS001"
        assert "public.cells.a_text" in str(raised.value)
    assert await connection.fetchval("SELECT a_bool FROM cells WHERE id = 0") is True


async def test_records_are_copied_in_and_out(connection):
    """copy_records_to_table in binary, copy_to_table and copy_from_table in CSV."""
    await fill(connection)
    records = [(100 + n, f"plain as day {n}", n % 2 == 0) for n in range(500)]
    columns = ["id", "a_text", "a_bool"]
    assert await connection.copy_records_to_table("cells", records=records, columns=columns) == "COPY 500"
    found = await connection.fetch("SELECT id, a_text, a_bool FROM cells WHERE id >= 100 ORDER BY id")
    assert [tuple(row) for row in found] == records
    out = io.BytesIO()
    await connection.copy_from_table("cells", columns=columns, output=out, format="csv", header=True)
    await connection.execute("DELETE FROM cells")
    out.seek(0)
    await connection.copy_to_table("cells", columns=columns, source=out, format="csv", header=True)
    found = await connection.fetch("SELECT id, a_text, a_bool FROM cells WHERE id >= 100 ORDER BY id")
    assert [tuple(row) for row in found] == records
    binary = io.BytesIO()
    await connection.copy_from_query("SELECT a_text FROM cells WHERE id = 100", output=binary, format="binary")
    assert b"plain as day 0" in binary.getvalue()


async def test_a_pool_of_connections_resets_and_works(sealed, connection):
    """Acquire and release with asyncpg's own reset, sixty tasks on four connections."""
    await fill(connection)
    async with asyncpg.create_pool(f"{sealed.dsn()}?sslmode=disable", min_size=1, max_size=4) as pool:

        async def work(number: int) -> Any:
            return await pool.fetchval("SELECT a_text FROM cells WHERE id = $1", number % 2)

        found = await asyncio.gather(*(work(n) for n in range(60)))
    assert found == [ROWS[n % 2]["a_text"] for n in range(60)]
