"""asyncpg through the proxy over plain tables: binary formats, introspection, Flush, bursts of Close, COPY."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import uuid

import asyncpg
import pytest
import pytest_asyncio

pytestmark = pytest.mark.wire


@pytest.fixture
def where(plain):
    return {"host": plain.host, "port": plain.port, "user": "postgres", "database": plain.database, "ssl": False}


@pytest_asyncio.fixture
async def connection(where):
    connection = await asyncpg.connect(**where)
    await connection.execute("CREATE TABLE t (id int PRIMARY KEY, s text, at timestamptz, n numeric)")
    await connection.execute("INSERT INTO t SELECT g, 's' || g FROM generate_series(1, 100) g")
    yield connection
    await connection.close()


async def test_asyncpg_round_trips_values(connection):
    """Every type travels in binary and comes back equal."""
    at = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    values = [7, 2**40, decimal.Decimal("-12.50"), 1.5, True, "zwölf 🐘", b"\0\xff", at.date(), at]
    values += [uuid.UUID(int=77), None, [1, None, 3], '{"a": [1]}', asyncpg.Range(1, 5)]
    row = await connection.fetchrow(
        "SELECT $1::int4, $2::int8, $3::numeric, $4::float8, $5::bool, $6::text, $7::bytea, $8::date, "
        "$9::timestamptz, $10::uuid, $11::text, $12::int4[], $13::json, $14::int4range",
        *values,
    )
    assert list(row) == values


async def test_asyncpg_prepared_statement_describes_and_repeats(connection):
    """Parameters and attributes are told once; each run answers."""
    statement = await connection.prepare("SELECT s, id FROM t WHERE id = $1")
    assert [p.name for p in statement.get_parameters()] == ["int4"]
    assert [a.name for a in statement.get_attributes()] == ["s", "id"]
    assert [await statement.fetchval(n) for n in range(1, 30)] == [f"s{n}" for n in range(1, 30)]


async def test_asyncpg_introspects_unknown_types(connection):
    """Enums, composites and domains are looked up on the same connection and decoded."""
    await connection.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (m mood, n int); CREATE DOMAIN pos AS int"
    )
    row = await connection.fetchrow("SELECT $1::mood, ROW('ok', 2)::pair, $2::pos, ARRAY['sad']::mood[]", "ok", 5)
    assert (row[0], tuple(row[1]), row[2], row[3]) == ("ok", ("ok", 2), 5, ["sad"])


async def test_asyncpg_executemany_and_its_failure(connection):
    """Thousands of rows in one pipeline; one bad row undoes all."""
    await connection.executemany("INSERT INTO t (id, s) VALUES ($1, $2)", [(n, "x") for n in range(1000, 4000)])
    assert await connection.fetchval("SELECT count(*) FROM t") == 3100
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.executemany("INSERT INTO t (id) VALUES ($1)", [(9001,), (9002,), (1,), (9003,)])
    assert await connection.fetchval("SELECT count(*) FROM t") == 3100


async def test_asyncpg_copies_records_in_and_out(connection, tmp_path):
    """Binary COPY with types asked by a prepared SELECT; text COPY out of a query."""
    now = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    records = [(n, f"r{n}", now, decimal.Decimal(n)) for n in range(5000, 8000)]
    assert await connection.copy_records_to_table("t", records=records) == "COPY 3000"
    target = tmp_path / "out.csv"
    answer = await connection.copy_from_query(
        "SELECT id, s FROM t WHERE id > $1", 7990, output=target, format="csv"
    )
    assert answer == "COPY 9"
    assert target.read_text().splitlines()[0] == "7991,r7991"
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.copy_records_to_table("t", records=records[:1])


async def test_asyncpg_cursor_fetches_in_portions(connection):
    """A portal in a transaction, forward and by hand."""
    async with connection.transaction():
        assert [r[0] async for r in connection.cursor("SELECT id FROM t ORDER BY id", prefetch=7)] == [
            *range(1, 101)
        ]
        cursor = await connection.cursor("SELECT id FROM t ORDER BY id")
        await cursor.forward(10)
        assert [r[0] for r in await cursor.fetch(2)] == [11, 12]


async def test_asyncpg_transactions_nest_and_roll_back(connection):
    """Savepoints, an error inside, and the state after."""
    async with connection.transaction(isolation="serializable"):
        await connection.execute("INSERT INTO t (id) VALUES (500)")
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with connection.transaction():
                await connection.fetch("SELECT 1 / (id - id) FROM t")
        await connection.execute("INSERT INTO t (id) VALUES (501)")
    assert await connection.fetchval("SELECT count(*) FROM t WHERE id >= 500") == 2


async def test_asyncpg_listens(connection, where):
    """Notifications of another connection reach the listener."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    await connection.add_listener("door", lambda _c, _pid, _channel, payload: heard.put_nowait(payload))
    other = await asyncpg.connect(**where)
    await other.execute("NOTIFY door, 'knock'")
    assert await asyncio.wait_for(heard.get(), 10) == "knock"
    await other.close()
    await connection.remove_listener("door", lambda *_: None)


async def test_asyncpg_timeout_cancels_the_statement(connection):
    """The driver sends a CancelRequest; the connection stays usable."""
    with pytest.raises(TimeoutError):
        await connection.fetch("SELECT pg_sleep(60)", timeout=0.2)
    assert await connection.fetchval("SELECT 1") == 1


async def test_asyncpg_pool_resets_and_is_reused(where):
    """Twenty workers share three connections, each reset by the driver's four statements."""
    async with asyncpg.create_pool(**where, min_size=1, max_size=3) as pool:

        async def work(n: int) -> int:
            async with pool.acquire() as connection:
                await connection.execute(f"SET application_name = 'w{n}'")
                return await connection.fetchval("SELECT $1::int + 1", n)

        assert await asyncio.gather(*(work(n) for n in range(20))) == [n + 1 for n in range(20)]


async def test_asyncpg_statement_cache_overflows_and_closes(where):
    """Bursts of Close and Sync as statements are evicted."""
    connection = await asyncpg.connect(**where, statement_cache_size=5)
    for n in range(60):
        assert await connection.fetchval(f"SELECT {n} + $1::int", 1) == n + 1
    await connection.close()


async def test_asyncpg_changed_table_is_prepared_anew(connection, where):
    """A cached statement over an altered table is re-prepared by the driver, as it is directly."""
    assert len(await connection.fetchrow("SELECT * FROM t LIMIT 1")) == 4
    other = await asyncpg.connect(**where)
    await other.execute("ALTER TABLE t ADD extra int")
    await other.close()
    assert len(await connection.fetchrow("SELECT * FROM t LIMIT 1")) == 5


async def test_asyncpg_errors_carry_their_fields(connection):
    """SQLSTATE, position and detail arrive whole."""
    with pytest.raises(asyncpg.UndefinedColumnError) as caught:
        await connection.fetch("SELECT 'ééé', nope")
    assert caught.value.position == "15"
    with pytest.raises(asyncpg.UniqueViolationError, match="Key \\(id\\)=\\(1\\) already exists"):
        await connection.execute("INSERT INTO t (id) VALUES (1)")
