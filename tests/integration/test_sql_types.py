"""Every logical type through the proxy: in text and in binary, written, read and compared as on plain columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg import pq

from proxy.embedded import EmbeddedPostgres
from tests.logical_types import BY_NAME, KINDS, Kind, rules
from tests.twins import Twins, assert_only_envelopes, twin_databases

TEXT, BINARY = 0, 1
Cells = list[list[bytes | None]]


@pytest.fixture(scope="module")
def twins(postgres: EmbeddedPostgres) -> Iterator[Twins]:
    """A table of each type."""
    with twin_databases(postgres, rules(), [kind.ddl() for kind in KINDS], []) as made:
        yield made


@pytest.fixture(autouse=True)
def empty(twins: Twins, request: pytest.FixtureRequest) -> None:
    """Every test begins with an empty table and the session's own settings."""
    for side in (twins.proxied, twins.plain):
        side.connection.execute("RESET ALL")
        if "name" in request.fixturenames:
            side.connection.execute(f"TRUNCATE {BY_NAME[request.getfixturevalue('name')].table}".encode())


class Pair:
    """The same message to both sides; what comes back must be the same."""

    def __init__(self, twins: Twins) -> None:
        self.proxied = twins.proxied.connection
        self.plain = twins.plain.connection

    def same(self, text: str, values: Sequence[bytes | None], formats: Sequence[int], **more: Any) -> Any:
        """Runs in extended protocol on both; the twin's (SQLSTATE, columns, rows)."""
        found = _run(self.proxied, text, values, formats, **more)
        wanted = _run(self.plain, text, values, formats, **more)
        assert found == wanted, f"{text} {[v and v[:60] for v in values]}\n  proxied {found}\n  plain   {wanted}"
        return wanted

    def same_simple(self, text: str) -> Any:
        """The same in simple protocol."""
        found, wanted = (_shown(c.pgconn.exec_(text.encode())) for c in (self.proxied, self.plain))
        assert found == wanted, f"{text[:200]}\n  proxied {found}\n  plain   {wanted}"
        return wanted

    def made(self, expression: str, result_format: int) -> bytes | None:
        """A value of the plain server in wire form."""
        result = self.plain.pgconn.exec_params(f"SELECT {expression}".encode(), None, result_format=result_format)
        assert result.status == pq.ExecStatus.TUPLES_OK, result.error_message
        return result.get_value(0, 0)


def _run(
    connection: psycopg.Connection[Any],
    text: str,
    values: Sequence[bytes | None],
    formats: Sequence[int],
    oids: Sequence[int] | None = None,
    result_format: int = TEXT,
) -> Any:
    return _shown(connection.pgconn.exec_params(text.encode(), values, oids, formats, result_format))


def _shown(result: Any) -> Any:
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        return (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    n = result.nfields
    columns = [
        (result.fname(i), result.ftype(i), result.fsize(i), result.fmod(i), result.fformat(i)) for i in range(n)
    ]
    rows: Cells = [[result.get_value(row, i) for i in range(n)] for row in range(result.ntuples)]
    return result.command_status, columns, rows


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _insert(kind: Kind, one: str, number: int) -> str:
    columns = ", ".join(kind.columns)
    return f"INSERT INTO {kind.table} (id, {columns}) VALUES ({number}, {', '.join([one] * len(kind.columns))})"


def _assert_same_rows(twins: Twins, pair: Pair, kind: Kind) -> None:
    for result_format in (TEXT, BINARY):
        pair.same(f"SELECT * FROM {kind.table} ORDER BY id", [], [], result_format=result_format)
    for storage, last in (("bytea", "b"), ("text", "t")):
        columns = [name for name in kind.columns if name.endswith(last)]
        assert_only_envelopes(twins, kind.table, columns, storage, ())


def _fill(pair: Pair, kind: Kind) -> None:
    for number, value in enumerate(kind.good):
        pair.same_simple(_insert(kind, _quoted(value), number))
    pair.same_simple(_insert(kind, "NULL", 1000))


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_literal_of_every_type_reads_as_on_a_plain_column(twins: Twins, name: str) -> None:
    """Good ones are stored and shown the same; bad ones give the server's own SQLSTATE."""
    kind, pair = BY_NAME[name], Pair(twins)
    _fill(pair, kind)
    for number, value in enumerate(kind.alike, 2000):
        pair.same_simple(_insert(kind, f"{_quoted(value)}::{kind.type}", number))
    for number, value in enumerate(kind.bad, 3000):
        assert isinstance(pair.same_simple(_insert(kind, _quoted(value), number)), str)
    _assert_same_rows(twins, pair, kind)


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_text_parameter_of_every_type_reads_as_on_a_plain_column(twins: Twins, name: str) -> None:
    """Whether the client declares its type or not."""
    kind, pair = BY_NAME[name], Pair(twins)
    oid = int(pair.made(f"'{kind.type.split('(')[0]}'::regtype::oid", TEXT) or b"0")
    values = [*kind.good, *kind.bad, *kind.alike]
    for number, value in enumerate(values):
        text = _insert(kind, "$1", number)
        pair.same(text, [value.encode()], [TEXT])
        pair.same(_insert(kind, "$1", number + 1000), [value.encode()], [TEXT], oids=[oid])
    pair.same(_insert(kind, "$1", 5000), [None], [TEXT])
    _assert_same_rows(twins, pair, kind)


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_binary_parameter_of_every_type_reads_as_on_a_plain_column(twins: Twins, name: str) -> None:
    """As the server itself sends it; cut or lengthened it gives the server's own SQLSTATE."""
    kind, pair = BY_NAME[name], Pair(twins)
    for number, value in enumerate(kind.good):
        wire = pair.made(f"{_quoted(value)}::{kind.type}", BINARY)
        assert wire is not None
        for step, (sent, oids) in enumerate([(wire, None), (wire, [_oid(pair, kind)]), (wire[:-1], None)]):
            if sent or step < 2 or not wire:
                pair.same(_insert(kind, "$1", number * 10 + step), [sent], [BINARY], oids=oids)
    pair.same(_insert(kind, "$1", 5000), [None], [BINARY])
    _assert_same_rows(twins, pair, kind)


def _oid(pair: Pair, kind: Kind) -> int:
    return int(pair.made(f"'{kind.type.split('(')[0]}'::regtype::oid", TEXT) or b"0")


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if kind.has_equality])
def test_equality_of_every_type_finds_what_plain_columns_find(twins: Twins, name: str) -> None:
    """By literal, text and binary parameter, IN, and = ANY of an array."""
    kind, pair = BY_NAME[name], Pair(twins)
    _fill(pair, kind)
    values = (*kind.good, *kind.alike)
    for column in kind.comparable:
        head = f"SELECT id FROM {kind.table} WHERE {column}"
        for value in values:
            literal = f"{_quoted(value)}::{kind.type.split('(')[0]}"
            pair.same_simple(f"{head} = {_quoted(value)} ORDER BY id")
            pair.same_simple(f"{head} <> {literal} ORDER BY id")
            pair.same(f"{head} = $1 ORDER BY id", [value.encode()], [TEXT])
            pair.same(f"{head} = $1 ORDER BY id", [pair.made(literal, BINARY)], [BINARY])
        listed = ", ".join(_quoted(value) for value in values[:4])
        pair.same_simple(f"{head} IN ({listed}) ORDER BY id")
        pair.same(f"{head} NOT IN ({listed}, $1) ORDER BY id", [values[0].encode()], [TEXT])
        element = "text" if kind.type.startswith("varchar") else kind.type.split("(")[0]  # compared as text
        array = f"ARRAY[{listed}, NULL]::{element}[]"
        for form in (TEXT, BINARY):
            pair.same(f"{head} = ANY($1) ORDER BY id", [pair.made(array, form)], [form])
            pair.same(f"{head} <> ALL($1) ORDER BY id", [pair.made(array, form)], [form])
        pair.same(f"{head} = ANY($1) ORDER BY id", [b"{}"], [TEXT])
        pair.same(f"{head} IS NOT DISTINCT FROM $1 ORDER BY id", [None], [TEXT])


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if kind.has_equality])
def test_join_and_grouping_of_every_type_match_as_on_plain_columns(twins: Twins, name: str) -> None:
    """Tokens are equal exactly when the values are."""
    kind, pair = BY_NAME[name], Pair(twins)
    _fill(pair, kind)
    for number, value in enumerate(kind.alike, 2000):
        pair.same_simple(_insert(kind, _quoted(value), number))
    for column in kind.comparable:
        pair.same_simple(
            f"SELECT a.id, b.id FROM {kind.table} a JOIN {kind.table} b ON a.{column} = b.{column} ORDER BY 1, 2"
        )
        pair.same_simple(f"SELECT count(DISTINCT {column}) FROM {kind.table}")


SETTINGS = [
    ("date", "DateStyle", "German, DMY"),
    ("date", "DateStyle", "SQL, MDY"),
    ("date", "DateStyle", "Postgres, DMY"),
    ("timestamp", "DateStyle", "SQL, DMY"),
    ("timestamptz", "TimeZone", "America/New_York"),
    ("timestamptz", "TimeZone", "Asia/Kathmandu"),
    ("timestamptz", "DateStyle", "Postgres, MDY"),
    ("bytea", "bytea_output", "escape"),
    ("float8", "extra_float_digits", "-3"),
    ("float8", "extra_float_digits", "0"),
]


@pytest.mark.parametrize(("name", "setting", "value"), SETTINGS)
def test_settings_of_the_session_shape_values_as_on_plain_columns(
    twins: Twins, name: str, setting: str, value: str
) -> None:
    """Text goes in and comes out under the client's own settings."""
    kind, pair = BY_NAME[name], Pair(twins)
    pair.same_simple(f"SET {setting} = '{value}'")
    _fill(pair, kind)
    for number, text in enumerate(("03/04/2005", "03-04-2005", "2005-03-04 05:06:07"), 2000):
        pair.same(_insert(kind, "$1", number), [text.encode()], [TEXT])
    _assert_same_rows(twins, pair, kind)


def test_latin1_client_writes_and_reads_its_own_encoding(twins: Twins) -> None:
    """Cells hold UTF-8 whatever the client speaks."""
    kind, pair = BY_NAME["text"], Pair(twins)
    pair.same_simple(f"TRUNCATE {kind.table}")
    pair.same_simple("SET client_encoding = 'LATIN1'")
    for connection in (pair.proxied, pair.plain):
        insert = f"INSERT INTO {kind.table} (id, rb, eb) VALUES (1, 'caf\xe9', 'caf\xe9')".encode("latin-1")
        assert _shown(connection.pgconn.exec_(insert)) == (b"INSERT 0 1", [], [])
    pair.same(f"INSERT INTO {kind.table} (id, rb, eb) VALUES (2, $1, $1)", ["na\xefve".encode("latin-1")], [TEXT])
    pair.same(f"SELECT id, rb FROM {kind.table} WHERE eb = $1", ["caf\xe9".encode("latin-1")], [TEXT])
    pair.same_simple(f"SELECT * FROM {kind.table} ORDER BY id")
    pair.same_simple("RESET client_encoding")
    pair.same_simple(f"SELECT * FROM {kind.table} ORDER BY id")
