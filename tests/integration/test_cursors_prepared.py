"""SQL cursors, PREPARE and EXECUTE over protected tables: conversations that answer as on the twin, and attacks.

Each conversation runs statement by statement in one transaction on both sides. One reason to change: such a
conversation is promised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import asyncpg
import psycopg
import pytest

from proxy.embedded import EmbeddedPostgres
from tests.sql_world import CANARIES, SEALED, VARIANTS, Variant, ddl, rows, rules
from tests.twins import MAGICS, Twins, Way, assert_only_envelopes, twin_databases

EQ = next(variant for variant in VARIANTS if variant.name == "eq_bytea")
SERVED: Final = "SELECT id, ssn, pin, born, COALESCE(level, '-') AS level FROM {t} ORDER BY id"
Step = str | tuple[Any, ...]
CONVERSATIONS: Final[dict[str, tuple[Step, ...]]] = {
    "every direction": (
        f"DECLARE c SCROLL CURSOR FOR {SERVED}",
        *(f"FETCH {way} FROM c" for way in ("NEXT", "PRIOR", "FIRST", "LAST", "ABSOLUTE 3", "ABSOLUTE -2")),
        *(f"FETCH {way} FROM c" for way in ("RELATIVE -1", "RELATIVE 0", "0", "2", "-1", "FORWARD", "FORWARD 2")),
        *(f"FETCH {way} IN c" for way in ("BACKWARD", "BACKWARD 2", "FORWARD ALL", "BACKWARD ALL", "ALL")),
        *("MOVE FIRST IN c", "FETCH c", "MOVE 2 IN c", "FETCH c", "MOVE BACKWARD ALL IN c", "FETCH c"),
        *("CLOSE c", "FETCH c"),
    ),
    "binary cursor": (f"DECLARE b BINARY CURSOR FOR {SERVED}", "FETCH 2 FROM b", "FETCH ALL FROM b", "CLOSE b"),
    "a cursor with a value": (
        ("DECLARE v CURSOR FOR SELECT ssn FROM {t} WHERE id = ?1 OR COALESCE(ssn, ?2) IS NULL", 3, "none"),
        "FETCH ALL FROM v",
    ),
    "savepoints": (
        f"DECLARE a CURSOR FOR {SERVED}",
        "SAVEPOINT s",
        "DECLARE b CURSOR WITH HOLD FOR SELECT ssn FROM {t} ORDER BY id",
        *("FETCH b", "ROLLBACK TO s", "FETCH a", "DECLARE b CURSOR FOR SELECT 'plain', 5", "FETCH b"),
        *("RELEASE s", "CLOSE ALL", "FETCH a"),
    ),
    "names": (
        'DECLARE "Odd ""name" CURSOR FOR SELECT ssn FROM {t} ORDER BY id',
        *('FETCH "Odd ""name"', 'MOVE "Odd ""name"', 'FETCH 1 FROM "Odd ""name"', 'CLOSE "Odd ""name"'),
        *("DECLARE MiXed CURSOR FOR SELECT ssn FROM {t} ORDER BY id", "FETCH mixed", "FETCH MIXED"),
    ),
    "one name, two cursors": (
        *("DECLARE c CURSOR FOR SELECT ssn FROM {t} ORDER BY id", "FETCH c", "CLOSE c"),
        *("DECLARE c CURSOR FOR SELECT name, ssn FROM {t} ORDER BY id", "FETCH c", "CLOSE c"),
        *("DECLARE c CURSOR FOR SELECT note FROM visits ORDER BY id", "FETCH c"),
    ),
    "WHERE CURRENT OF": (
        *("DECLARE c CURSOR FOR SELECT * FROM {t} WHERE id > 1 FOR UPDATE", "FETCH c"),
        ("UPDATE {t} SET ssn = ?1 WHERE CURRENT OF c RETURNING id, ssn", "moved"),
        *("FETCH c", "DELETE FROM {t} WHERE CURRENT OF c", "SELECT id, ssn FROM {t} ORDER BY id"),
    ),
    "prepared reads": (
        "PREPARE q AS SELECT id, ssn, pin FROM {t} WHERE id = $1 OR COALESCE(ssn, $2) IS NULL",
        *("EXECUTE q(1, 'x')", "EXECUTE q(2, NULL)", "EXECUTE q(1 + 2, lower('X'))", "EXECUTE q('5', 'y'::text)"),
        *("DEALLOCATE q", "EXECUTE q(1, 'x')"),
    ),
    "prepared writes": (
        "PREPARE w (int, text, int) AS INSERT INTO {t} (id, ssn, pin, name) VALUES ($1, $2, $3, 'n') RETURNING *",
        *("EXECUTE w(20, 'one', 1)", "EXECUTE w(21, E'two\\n', '2')", "EXECUTE w(22, NULL, NULL)"),
        "PREPARE u AS UPDATE {t} SET ssn = $2, level = 'same' WHERE id = $1",
        *("EXECUTE u(20, 'changed')", "EXECUTE u(21, 'it''s')", "EXECUTE u(20, $$again$$)"),
    ),
    "prepared constants": (
        "PREPARE k AS INSERT INTO {t} (id, ssn, born) VALUES ($1, 'constant', '2001-02-03') RETURNING ssn, born",
        *("EXECUTE k(20)", "EXECUTE k(21)", 'PREPARE "Q ü"(int) AS DELETE FROM {t} WHERE id = $1 RETURNING ssn'),
        *('EXECUTE "Q ü"(20)', "EXECUTE k(22)", "DEALLOCATE ALL", "EXECUTE k(23)"),
    ),
    "wrong arguments": ("PREPARE q AS SELECT ssn FROM {t} WHERE ssn IS NULL AND id = $1", "EXECUTE q(1, 2)"),
    "wrong number for a sealed one": ("PREPARE q AS INSERT INTO {t} (id, ssn) VALUES ($1, $2)", "EXECUTE q(1)"),
}


@pytest.fixture(scope="module")
def twins(postgres: EmbeddedPostgres) -> Iterator[Twins]:
    with twin_databases(postgres, rules(), [*ddl()], [*rows()]) as made:
        yield made


def _table_is_sealed(twins: Twins, variant: Variant) -> None:
    table = variant.table("people")
    assert_only_envelopes(twins, table, SEALED["people"], variant.storage, CANARIES)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation_answers_as_on_plain_columns(twins: Twins, name: str, variant: Variant) -> None:
    """Rows, tags, types and errors of each statement equal the twin's, and the table holds envelopes."""
    for way in (Way.LITERALS, Way.TEXT, Way.BINARY):
        for side in (twins.proxied, twins.plain):
            side.run("BEGIN", (), Way.LITERALS)
        try:
            for step in CONVERSATIONS[name]:
                text, *values = step if isinstance(step, tuple) else (step,)
                statement = variant.fill(text)
                found, wanted = (side.run(statement, values, way) for side in (twins.proxied, twins.plain))
                assert found == wanted, f"{way.value}: {statement}: {found[0].error}"
        finally:
            for side in (twins.proxied, twins.plain):
                side.run("ROLLBACK", (), Way.LITERALS)
                side.run("DEALLOCATE ALL", (), Way.LITERALS)
    _table_is_sealed(twins, variant)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
@pytest.mark.parametrize("binary", [False, True])
def test_server_side_cursor_of_psycopg_reads_as_on_plain_columns(
    twins: Twins, variant: Variant, binary: bool
) -> None:
    """It describes the portal of its DECLARE, fetches in shares and scrolls."""
    found = []
    for side in (twins.proxied, twins.plain):
        with side.connection.transaction():
            cursor = side.connection.cursor("served", binary=binary, scrollable=True)
            cursor.execute(variant.fill(SERVED).encode())
            types = [column.type_code for column in cursor.description or ()]
            parts = [cursor.fetchone(), cursor.fetchmany(2), types]
            cursor.scroll(0, "absolute")
            cursor.itersize = 2
            found.append((parts, list(cursor)))
            cursor.close()
    assert found[0] == found[1]


def test_held_cursor_outlives_its_transaction(twins: Twins) -> None:
    """WITH HOLD is read after COMMIT, and until CLOSE."""
    for side in (twins.proxied, twins.plain):
        with side.connection.transaction():
            side.connection.execute(f"DECLARE h CURSOR WITH HOLD FOR {EQ.fill(SERVED)}".encode())
    steps = ("FETCH 2 FROM h", "FETCH BACKWARD 1 FROM h", "CLOSE h", "FETCH h")
    for step in steps:
        assert twins.proxied.run(step, (), Way.TEXT) == twins.plain.run(step, (), Way.TEXT)


def test_one_text_with_cursor_and_prepared_statement_is_opened_in_order(twins: Twins) -> None:
    """DECLARE and FETCH, PREPARE and EXECUTE in one Query."""
    text = EQ.fill(
        "BEGIN; DECLARE m CURSOR FOR SELECT COALESCE(ssn, '') FROM {t} ORDER BY id; MOVE m; FETCH m; CLOSE m;"
        " PREPARE m AS SELECT ssn FROM {t} WHERE id = $1; EXECUTE m(1); DEALLOCATE m;"
        " PREPARE m AS SELECT COALESCE(ssn, '-') FROM {t} WHERE id = $1; EXECUTE m(4)"
    )
    heard = []
    for side in (twins.proxied, twins.plain):
        cursor = psycopg.ClientCursor(side.connection)
        cursor.execute(text.encode())
        results = []
        while cursor.nextset():
            results.append((cursor.statusmessage, cursor.fetchall() if cursor.description else None))
        heard.append(results)
        side.connection.execute("ROLLBACK")
        side.connection.execute("DEALLOCATE ALL")
    assert heard[0] == heard[1]
    assert [rows for _, rows in heard[0] if rows] == [[("987-65-4321",)], [("123-45-6789",)], [("-",)]]


def test_bind_of_a_name_that_sql_prepared_is_sealed(twins: Twins) -> None:
    """SQL and the protocol share one map, both ways."""
    connection = twins.sealed.connect()
    connection.execute(EQ.fill("PREPARE q AS SELECT id FROM {t} WHERE ssn = $1").encode())
    assert connection.pgconn.exec_prepared(b"q", [b"987-65-4321"]).get_value(0, 0) == b"2"
    connection.pgconn.prepare(b"p", EQ.fill("SELECT ssn FROM {t} WHERE ssn = $1").encode())
    assert connection.execute("EXECUTE p('987-65-4321')").fetchall() == [("987-65-4321",)]
    connection.close()


def test_prepared_constant_is_sealed_anew_at_each_execute(twins: Twins) -> None:
    """No two rows have one cell, though the text of PREPARE says the value once."""
    table = EQ.table("others")
    with twins.sealed.connect() as connection:
        connection.execute(f"PREPARE k AS INSERT INTO {table} (id, ssn) VALUES ($1, 'constant')".encode())
        connection.execute("EXECUTE k(70)")
        connection.execute("EXECUTE k(71)")
        cells = [row[0] for row in twins.stored(f"SELECT ssn FROM {table} WHERE id IN (70, 71)")]
        connection.execute(f"DELETE FROM {table} WHERE id >= 70".encode())
    assert len(set(cells)) == 2
    assert all(cell.startswith(MAGICS["bytea"]) for cell in cells)


ATTACKS: Final = (
    ("PREPARE q AS INSERT INTO {t} (id, ssn) VALUES ($1, $2)", "EXECUTE q(90, current_user)", "PS001"),
    ("PREPARE q AS INSERT INTO {t} (id, ssn) VALUES ($1, $2)", "EXECUTE q(90, md5(random()::text))", "PS001"),
    ("PREPARE q AS INSERT INTO {t} (id, ssn) VALUES ($1, $2)", "EXECUTE q(90, 'a' || $1)", "PS001"),
    ("PREPARE q AS INSERT INTO {t} (id, ssn) VALUES ($1, $2)", "EXECUTE q(90)", "42601"),
    ("PREPARE q AS INSERT INTO {t} (id, pin) VALUES ($1, $2)", "EXECUTE q(90, 'no number')", "22P02"),
    ("PREPARE q AS SELECT COALESCE(ssn, '') FROM {t}", "CREATE TABLE copied AS EXECUTE q", "PS006"),
    (
        "PREPARE q AS SELECT COALESCE(ssn, '') FROM {t}",
        "EXPLAIN ANALYZE CREATE TABLE copied AS EXECUTE q",
        "PS006",
    ),
    ("SELECT 1", "PREPARE q AS SELECT upper(ssn) FROM {t}", "PS001"),
    ("SELECT 1", "DECLARE c CURSOR WITH HOLD FOR SELECT ssn || 'x' FROM {t}", "PS001"),
    ("SELECT 1", "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM {t} ORDER BY ssn", "PS001"),
    ("SELECT 1", "DECLARE c CURSOR WITH HOLD FOR SELECT set_config('search_path', 'x', false) FROM {t}", "PS001"),
)


@pytest.mark.parametrize(("first", "second", "sqlstate"), ATTACKS)
def test_attack_by_cursor_or_prepared_statement_is_refused(
    twins: Twins, first: str, second: str, sqlstate: str
) -> None:
    """In both protocols, with nothing stored and the connection usable."""
    for is_binary in (False, True):
        with twins.sealed.connect() as connection:
            connection.execute(EQ.fill(first).encode())
            with pytest.raises(psycopg.Error) as error:
                connection.execute(EQ.fill(second).encode(), binary=is_binary)
            assert error.value.sqlstate == sqlstate
            assert connection.execute(EQ.fill("SELECT count(*) FROM {t} WHERE id = 90").encode()).fetchone() == (
                0,
            )


def test_execute_prepared_by_asyncpg_follows_its_name(twins: Twins) -> None:
    """A Parse of EXECUTE is bound once where it writes, and not after its name means something else."""

    async def talk() -> list[object]:
        connection = await asyncpg.connect(twins.sealed.dsn())
        await connection.execute(EQ.fill("PREPARE q AS UPDATE {o} SET ssn = $2 WHERE id = $1 RETURNING ssn"))
        once = await connection.prepare("EXECUTE q(2, 'written')")
        heard: list[object] = [await once.fetchval()]
        other = await connection.prepare("EXECUTE q(2, '555-55-5555')")
        for text in ("", "DEALLOCATE q; PREPARE q AS SELECT 'plain' WHERE $1 > 0 AND $2 <> ''"):
            if text:
                await connection.execute(text)
            try:
                heard.append(await (other if text else once).fetchval())
            except asyncpg.PostgresError as error:
                heard.append(error.sqlstate)
        await connection.execute(EQ.fill("UPDATE {o} SET ssn = '555-55-5555' WHERE id = 2"))
        await connection.close()
        return heard

    assert asyncio.run(talk()) == ["written", "PS001", "0A000"]


def test_cursor_of_a_function_never_shows_a_cell(twins: Twins) -> None:
    """What a function opens is not known: its columns are refused by what they are."""
    body = EQ.fill("DECLARE c refcursor := 'opened'; BEGIN OPEN c FOR SELECT ssn FROM {t}; RETURN c; END")
    with twins.sealed.direct() as beside:
        beside.execute(f"CREATE FUNCTION opens() RETURNS refcursor LANGUAGE plpgsql AS $${body}$$".encode())
    with twins.sealed.connect(autocommit=False) as connection, pytest.raises(psycopg.Error) as error:
        connection.execute("SELECT opens()")
        connection.execute("FETCH opened")
    assert error.value.sqlstate == "PS001"
