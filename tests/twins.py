"""A protected database and its twin without encryption, and one statement run in both, in every way drivers do.

What comes back is compared as bytes of the wire: rows, tag, names, type OIDs, sizes, typmods and SQLSTATE. One
reason to change: how a statement is run and what of its outcome counts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import asyncpg
import psycopg
from psycopg import sql

from proxy.embedded import EmbeddedPostgres
from tests.sealed import OWNER, Sealed, running_loop, sealed_database

N_REPEATS: Final = 3
MAGICS: Final = {"bytea": b"\xa6\x0b\x35", "text": b"pgs1"}
_PLACEHOLDER: Final = re.compile(r"\?(\d+)")


class Way(Enum):
    """How a statement with values is sent."""

    LITERALS = "simple, literals"
    TEXT = "extended, text"
    BINARY = "extended, binary"
    PREPARED = "prepared"
    ASYNCPG = "asyncpg"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the client got. `columns` are (name, type OID, size, typmod); values are bytes as sent, but for
    asyncpg, which hands out objects. `parameters`: OIDs told by asyncpg."""

    rows: tuple[tuple[Any, ...], ...] = ()
    tag: str = ""
    columns: tuple[tuple[str, int, int, int], ...] = ()
    parameters: tuple[int, ...] = ()
    sqlstate: str = ""
    error: BaseException | None = field(default=None, compare=False)

    def sorted(self) -> Outcome:
        """The same with rows in an order of its own, for results without ORDER BY."""
        rows = tuple(sorted(self.rows, key=repr))
        return Outcome(rows, self.tag, self.columns, self.parameters, self.sqlstate, self.error)


@dataclass(slots=True)
class Side:
    """Connections to one of the two databases."""

    dsn: str
    loop: asyncio.AbstractEventLoop
    connection: psycopg.Connection[Any] = field(init=False)
    asyncpg: Any = field(init=False)

    def __post_init__(self) -> None:
        self.connection = psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None)
        self.asyncpg = self._wait(asyncpg.connect(self.dsn))

    def _wait(self, job: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(job, self.loop).result(60)

    def close(self) -> None:
        self.connection.close()
        self._wait(self.asyncpg.close())

    def run(self, statement: str, values: Sequence[Any], way: Way) -> list[Outcome]:
        """One outcome; of PREPARED and ASYNCPG one for each repetition."""
        if way is Way.ASYNCPG:
            found: list[Outcome] = self._wait(_run_asyncpg(self.asyncpg, statement, values))
            return found
        return _run_psycopg(self.connection, statement, values, way)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Of a query without values, as text from the wire."""
        return list(_run_psycopg(self.connection, statement, (), Way.LITERALS)[0].rows)


def _run_psycopg(
    connection: psycopg.Connection[Any], statement: str, values: Sequence[Any], way: Way
) -> list[Outcome]:
    marks = {Way.BINARY: "b", Way.TEXT: "t", Way.PREPARED: "s", Way.LITERALS: "s"}
    mark = marks[way]
    text = _PLACEHOLDER.sub(lambda m: f"%(p{m[1]}){mark}", statement.replace("%", "%%"))
    named = {f"p{n}": value for n, value in enumerate(values, 1)}
    outcomes = []
    for _ in range(N_REPEATS if way is Way.PREPARED else 1):
        cursor: psycopg.Cursor[Any]
        if way is Way.LITERALS:
            cursor = psycopg.ClientCursor(connection)
        else:
            cursor = psycopg.Cursor(connection)
        try:
            prepare = way is Way.PREPARED or None
            cursor.execute(text.encode(), named, prepare=prepare, binary=way is Way.BINARY)
        except psycopg.Error as error:
            outcomes.append(Outcome(sqlstate=error.sqlstate or type(error).__name__, error=error))
        else:
            outcomes.append(_outcome(cursor))
    return outcomes


def _outcome(cursor: psycopg.Cursor[Any]) -> Outcome:
    result = cursor.pgresult
    assert result is not None
    n_columns = result.nfields
    columns = tuple(
        ((result.fname(i) or b"").decode(), result.ftype(i), result.fsize(i), result.fmod(i))
        for i in range(n_columns)
    )
    rows = tuple(tuple(result.get_value(row, i) for i in range(n_columns)) for row in range(result.ntuples))
    return Outcome(rows, cursor.statusmessage or "", columns)


async def _run_asyncpg(connection: Any, statement: str, values: Sequence[Any]) -> list[Outcome]:
    text = _PLACEHOLDER.sub(r"$\1", statement)
    outcomes = []
    for _ in range(2):
        try:
            prepared = await connection.prepare(text)
            rows = tuple(tuple(row) for row in await prepared.fetch(*values))
            columns = tuple((a.name, a.type.oid, 0, 0) for a in prepared.get_attributes())
            parameters = tuple(p.oid for p in prepared.get_parameters())
            outcomes.append(Outcome(rows, prepared.get_statusmsg(), columns, parameters))
        except asyncpg.PostgresError as error:
            outcomes.append(Outcome(sqlstate=str(error.sqlstate), error=error))
        except asyncpg.InterfaceError as error:  # found by the driver itself
            outcomes.append(Outcome(sqlstate=type(error).__name__, error=error))
    return outcomes


# --- the two databases -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Twins:
    """`proxied` and `plain` hold the same rows; `admin` looks at the protected tables beside the proxy."""

    sealed: Sealed
    proxied: Side
    plain: Side
    admin: psycopg.Connection[Any]
    reset: Callable[[Sequence[str]], None]

    def stored(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows as they lie in the database."""
        return self.admin.execute(statement.encode(), binary=True).fetchall()


@contextmanager
def twin_databases(
    postgres: EmbeddedPostgres, rules: str, ddl: Sequence[str], rows: Sequence[str]
) -> Iterator[Twins]:
    """Both are made by the same statements, one through the proxy."""
    with running_loop() as loop, sealed_database(postgres, rules, [*ddl, *rows]) as sealed:
        name = f"{sealed.name}_plain"
        _make_plain(postgres, name, [*ddl, *rows])
        proxied, plain = Side(sealed.dsn(), loop), Side(postgres.dsn(OWNER, name), loop)
        admin = sealed.direct()
        plain_admin = psycopg.connect(postgres.dsn(database=name), autocommit=True)
        try:
            yield Twins(sealed, proxied, plain, admin, Seeds(admin, plain_admin).reset)
        finally:
            proxied.close()
            plain.close()
            admin.close()
            plain_admin.close()
            _drop(postgres, name)


def _make_plain(postgres: EmbeddedPostgres, name: str, statements: Sequence[str]) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        made = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER))
        admin.execute(made)
    with psycopg.connect(postgres.dsn(OWNER, name), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _drop(postgres: EmbeddedPostgres, name: str) -> None:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


class Seeds:
    """Copies of tables as they were, beside the proxy: cells are copied as they are."""

    def __init__(self, *admins: psycopg.Connection[Any]) -> None:
        self._admins = admins
        self._kept: set[str] = set()

    def reset(self, tables: Sequence[str]) -> None:
        """Rows as at the first call for the table."""
        for table in tables:
            names = {"t": sql.Identifier(table), "seed": sql.Identifier(f"{table}_seed")}
            text = "TRUNCATE {t}; INSERT INTO {t} SELECT * FROM {seed}"
            if table not in self._kept:
                text = "CREATE TABLE {seed} AS TABLE {t}"
                self._kept.add(table)
            for admin in self._admins:
                admin.execute(sql.SQL(text).format(**names))


# --- what is asserted --------------------------------------------------------------------------------------


def assert_same(found: Sequence[Outcome], wanted: Sequence[Outcome], is_ordered: bool) -> None:
    """Both sides gave the same, run by run; only a repetition may fail, and then with the same error."""
    assert wanted[0].error is None, f"the twin itself failed: {wanted[0].error}"
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.sqlstate == theirs.sqlstate, f"{mine.sqlstate} {mine.error}"
        if not is_ordered:
            mine, theirs = mine.sorted(), theirs.sorted()
        assert mine == theirs, f"\n  proxied {mine}\n  plain   {theirs}"


def assert_refused(found: Outcome, sqlstate: str, named: str) -> None:
    """An error that says which column, why, and what to do instead."""
    assert found.sqlstate == sqlstate, f"got {found.sqlstate or found.tag}: {found.error}"
    message, hint = _told(found.error)
    assert any(name in message for name in named.split("|")), message
    assert len(message.split()) > 3, message
    assert hint, f"no hint: {message}"


def _told(error: BaseException | None) -> tuple[str, str]:
    match error:
        case psycopg.Error():
            return error.diag.message_primary or "", error.diag.message_hint or ""
        case asyncpg.PostgresError():
            return str(error), str(error.hint or "")
        case _:
            raise AssertionError(f"not an error of the server: {error!r}")


def assert_only_envelopes(
    twins: Twins, table: str, columns: Sequence[str], storage: str, canaries: Sequence[bytes]
) -> None:
    """Beside the proxy every cell is an envelope or NULL, NULL where the twin has NULL, and no planted text."""
    names = ", ".join(columns)
    cells = twins.stored(f"SELECT {names} FROM {table} ORDER BY id")
    values = twins.plain.rows(f"SELECT {names} FROM {table} ORDER BY id")
    magic = MAGICS[storage]
    assert len(cells) == len(values)
    for row, plain in zip(cells, values, strict=True):
        for cell, value in zip(row, plain, strict=True):
            assert (cell is None) == (value is None)
            if cell is not None:
                raw = cell.encode() if isinstance(cell, str) else bytes(cell)
                assert raw.startswith(magic)
                assert not any(canary in raw for canary in canaries)
