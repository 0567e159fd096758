"""psycopg 3 through the proxy over plain tables: sync, async, pipeline, COPY, binary, cursors, cancel, notify."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import threading
import uuid

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

pytestmark = pytest.mark.wire

VALUES = (
    7,
    2**40,
    decimal.Decimal("12345.6789"),
    1.5,
    True,
    "zwölf 🐘",
    b"\x00\xff\x10",
    datetime.date(1999, 12, 31),
    datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC),
    uuid.UUID(int=77),
    None,
    [1, 2, 3],
)
TYPES = (
    "int4",
    "int8",
    "numeric",
    "float8",
    "bool",
    "text",
    "bytea",
    "date",
    "timestamptz",
    "uuid",
    "text",
    "int4[]",
)


@pytest.fixture
def dsn(plain):
    return f"host={plain.host} port={plain.port} user=postgres dbname={plain.database}"


@pytest.fixture
def connection(dsn):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'; CREATE TABLE t (id int PRIMARY KEY, s text)")
        connection.execute("INSERT INTO t SELECT g, 's' || g FROM generate_series(1, 100) g")
        yield connection


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("prepare", [False, True])
def test_psycopg_round_trips_values(binary, prepare, connection):
    """Every type comes back equal in text and binary, prepared or not."""
    marks = ", ".join(f"%{'b' if binary else 's'}::{name}" for name in TYPES)
    with connection.cursor(binary=binary) as cursor:
        for _ in range(7):
            assert cursor.execute(f"SELECT {marks}", VALUES, prepare=prepare).fetchone() == VALUES


def test_psycopg_prepares_after_five_runs_and_deallocates(connection):
    """The driver's own threshold, eviction and DEALLOCATE ALL work."""
    connection.prepare_threshold, connection.prepared_max = 2, 3
    for n in range(60):
        text = sql.SQL("SELECT s, {} FROM t WHERE id = %s").format(sql.Literal(n % 5))
        assert connection.execute(text, (n + 1,)).fetchone() == (f"s{n + 1}", n % 5)
    connection.execute("DEALLOCATE ALL")
    connection.execute("DISCARD ALL")


def test_psycopg_transaction_with_an_error_rolls_back(connection):
    """Savepoints, errors with their fields, and the status after them."""
    with pytest.raises(psycopg.errors.UniqueViolation) as caught, connection.transaction():
        connection.execute("INSERT INTO t VALUES (1000, 'x')")
        with pytest.raises(psycopg.errors.DivisionByZero), connection.transaction():
            connection.execute("SELECT 1 / 0")
        connection.execute("INSERT INTO t VALUES (1, 'dup')")
    assert (caught.value.diag.table_name, caught.value.diag.constraint_name) == ("t", "t_pkey")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (100,)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_psycopg_several_results_of_one_text(connection):
    """nextset walks through the results of a multi-statement query."""
    cursor = connection.execute("SELECT 1; SELECT 2, 3; INSERT INTO t VALUES (500, 'n'); SELECT 4")
    got = []
    while True:
        got.append(cursor.fetchall() if cursor.description else cursor.statusmessage)
        if not cursor.nextset():
            break
    assert got == [[(1,)], [(2, 3)], "INSERT 0 1", [(4,)]]


def test_psycopg_executemany_with_returning(connection):
    """A batch goes as a pipeline; each result arrives."""
    with connection.cursor() as cursor:
        rows = [(n, f"n{n}") for n in range(200, 400)]
        cursor.executemany("INSERT INTO t VALUES (%s, %s) RETURNING id", rows, returning=True)
        got = []
        while True:
            got += cursor.fetchall()
            if not cursor.nextset():
                break
    assert got == [(n,) for n in range(200, 400)]


def test_psycopg_pipeline_keeps_results_apart_and_survives_an_error(connection):
    """What follows a failed statement is aborted up to the next sync, and no further."""
    with connection.pipeline() as pipeline:
        first = connection.execute("SELECT s FROM t WHERE id = %s", (1,))
        pipeline.sync()
        connection.execute("SELECT 1 / (id - 1) FROM t WHERE id = %s", (1,))
        connection.execute("INSERT INTO t VALUES (900, 'skipped')")
        with pytest.raises(psycopg.errors.DivisionByZero):
            pipeline.sync()
        last = connection.execute("SELECT count(*) FROM t")
        assert (first.fetchone(), last.fetchone()) == (("s1",), (100,))


def test_psycopg_copy_in_and_out(connection):
    """Text rows, binary rows, a failing row, and a query's rows as bytes."""
    with connection.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN") as copy:
            for n in range(1000, 3000):
                copy.write_row((n, f"tab\t and \\ {n}"))
        with cursor.copy("COPY t FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for n in range(3000, 4000):
                copy.write_row((n, None if n % 2 else "b"))
        with pytest.raises(psycopg.errors.UniqueViolation), cursor.copy("COPY t FROM STDIN") as copy:
            copy.write_row((1000, "again"))
        with cursor.copy("COPY (SELECT * FROM t WHERE id >= 1000 ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
    assert len(rows) == 3000
    assert rows[0] == (1000, "tab\t and \\ 1000")
    assert rows[2001] == (3001, None)


def test_psycopg_copy_given_up_leaves_the_connection_usable(connection):
    """An exception in the block sends CopyFail."""
    with pytest.raises(ZeroDivisionError), connection.cursor().copy("COPY t FROM STDIN") as copy:
        copy.write_row((9000, "x"))
        _ = 1 / 0
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (100,)


def test_psycopg_server_cursor_fetches_and_scrolls(connection):
    """A named cursor with parameters is described, fetched in pieces, scrolled and closed."""
    with connection.transaction(), connection.cursor("sc", scrollable=True) as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT id FROM t WHERE id > %s ORDER BY id", (40,))
        assert [column.name for column in cursor.description] == ["id"]
        assert [row[0] for row in cursor] == list(range(41, 101))
        cursor.scroll(0, mode="absolute")
        assert cursor.fetchmany(2) == [(41,), (42,)]


def test_psycopg_stream_yields_rows_one_by_one(connection):
    """Single-row mode over a long result."""
    rows = connection.cursor(row_factory=dict_row).stream("SELECT g FROM generate_series(1, 5000) g")
    assert sum(row["g"] for row in rows) == 5000 * 5001 // 2


def test_psycopg_cancel_stops_a_statement(connection):
    """cancel_safe from another thread ends the sleep and only it."""
    timer = threading.Timer(0.2, connection.cancel_safe)
    timer.start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT pg_sleep(60)")
    timer.join()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_psycopg_notifications_arrive(connection, dsn):
    """One's own and those of another session, in order."""
    connection.execute("LISTEN door")
    with psycopg.connect(dsn, autocommit=True) as other:
        for n in range(3):
            other.execute("SELECT pg_notify('door', %s)", (str(n),))
    assert [note.payload for note in connection.notifies(timeout=10, stop_after=3)] == ["0", "1", "2"]


def test_psycopg_notices_reach_their_handler(connection):
    """A NOTICE inside a statement is heard with its text."""
    heard: list[str] = []
    connection.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary))
    connection.execute("DO $$ BEGIN RAISE NOTICE 'n1'; RAISE NOTICE 'n2'; END $$")
    assert heard == ["n1", "n2"]


def test_psycopg_two_phase_commit(connection, dsn):
    """Prepare in one connection, commit in another."""
    one = psycopg.connect(dsn)
    one.tpc_begin(one.xid(1, "golden", "branch"))
    one.execute("INSERT INTO t VALUES (7000, 'x')")
    one.tpc_prepare()
    one.close()
    with psycopg.connect(dsn, autocommit=True) as two:
        two.tpc_commit(next(x for x in two.tpc_recover() if x.gtrid == "golden"))
    assert connection.execute("SELECT s FROM t WHERE id = 7000").fetchone() == ("x",)


def test_psycopg_large_values_both_ways(connection):
    """Ten megabytes as text, binary and JSON."""
    big = "x" * 10_000_000
    assert connection.execute("SELECT %s::text", (big,)).fetchone() == (big,)
    assert connection.execute("SELECT %b::bytea", (big.encode(),), binary=True).fetchone() == (big.encode(),)
    assert connection.execute("SELECT %s::jsonb", (Jsonb([big]),)).fetchone() == ([big],)


def test_psycopg_client_side_binding_and_latin1(dsn):
    """Literals in the text, and another client encoding."""
    with psycopg.connect(dsn, client_encoding="latin1", cursor_factory=psycopg.ClientCursor) as connection:
        row = connection.execute("SELECT %s, %s, %s", ("é'\\", b"\x00'", datetime.date(2020, 1, 2))).fetchone()
        assert row == ("é'\\", b"\x00'", datetime.date(2020, 1, 2))


async def test_psycopg_async_connections_work_side_by_side(dsn):
    """Ten asynchronous connections, each with a transaction and a pipeline."""

    async def work(n: int) -> int:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            async with connection.transaction(), connection.pipeline():
                first = await connection.execute("SELECT %s::int", (n,))
                second = await connection.execute("SELECT %s::int * 2", (n,))
            return (await first.fetchone())[0] + (await second.fetchone())[0]

    assert await asyncio.gather(*(work(n) for n in range(10))) == [3 * n for n in range(10)]


async def test_psycopg_async_cancel_by_timeout(dsn):
    """A cancelled task cancels its statement; the connection lives on."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await connection.execute("SELECT pg_sleep(60)")
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
