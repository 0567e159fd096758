"""Statements written to get round the encryption: each answers as on the twin without it, or is refused; the
server never sees a plaintext, in no text and no parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.attack_reads import READS
from tests.attack_sources import SOURCES
from tests.attack_world import DDL, ROWS, RULES, seen_by, talkative_server
from tests.attack_writes import WRITES
from tests.twins import Twins, twin_databases

LOUD = frozenset({"42804", "42846", "42883"})  # PostgreSQL's own refusals of a type, where it would convert
Answer = list[tuple[str, list[tuple[Any, ...]]]] | str


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    """The protected database and its twin, on a server that logs all."""
    with talkative_server() as server, twin_databases(server, RULES, DDL, ROWS) as made:
        yield made


def _answers(connection: psycopg.Connection[Any], statement: str, is_extended: bool) -> Answer:
    """Tag and rows (without order) of every result, or the SQLSTATE; nothing stays."""
    connection.execute("BEGIN")
    cursor = psycopg.RawCursor(connection) if is_extended else psycopg.ClientCursor(connection)
    found = []
    try:
        cursor.execute(statement.encode(), [] if is_extended else None, prepare=is_extended or None)
        while True:
            result = cursor.pgresult
            assert result is not None
            columns, rows = range(result.nfields), range(result.ntuples)
            cells = [tuple(result.get_value(row, column) for column in columns) for row in rows]
            found.append((cursor.statusmessage or "", sorted(cells, key=repr)))
            if not cursor.nextset():
                return found
    except psycopg.Error as error:
        assert error.sqlstate, statement
        return error.sqlstate
    finally:
        connection.execute("ROLLBACK")


def _assert_safe(twins: Twins, statement: str, is_extended: bool) -> None:
    server, name = twins.sealed.server, twins.sealed.name
    since = server.log_path.stat().st_size
    mine = _answers(twins.proxied.connection, statement, is_extended)
    assert seen_by(server, name, since) == [], statement
    if isinstance(mine, str) and (mine.startswith("PS") or mine in LOUD):
        return
    theirs = _answers(twins.plain.connection, statement, is_extended)
    if statement.startswith("EXPLAIN"):  # of tokens and other widths: the plan of another text
        assert "canary" not in repr(mine)
        mine, theirs = mine and mine[0][0], theirs and theirs[0][0]
    assert mine == theirs, statement


@pytest.mark.parametrize("is_extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("topic", [*WRITES, *SOURCES, *READS])
def test_attack_by_statement_is_answered_rightly_or_refused(twins: Twins, topic: str, is_extended: bool) -> None:
    """A topic's statements, one after another on one connection, so that their plans share the caches."""
    for statement in {**WRITES, **SOURCES, **READS}[topic]:
        _assert_safe(twins, statement, is_extended)
        assert not twins.proxied.connection.closed, statement
