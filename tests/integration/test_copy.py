"""COPY over protected tables both ways, against a twin without encryption: the same bytes in and out, the same
errors, and only envelopes in the table.

Rows come and go as bytes of the COPY data, cut where the test says, so that nothing of a driver stands between.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import pytest

from proxy.embedded import EmbeddedPostgres
from tests.twins import Twins, Way, twin_databases

MODES: Final = {
    "det": "mode: deterministic",
    "eq": "search: equality",
    "rnd": "storage: bytea",
    "detx": "mode: deterministic, storage: text",
    "eqx": "search: equality, storage: text",
    "rndx": "storage: text",
}
CANARIES: Final = (b"canary", b"987-65")


def rules() -> str:
    lines = ["version: 1", "tables:"]
    for mode, words in MODES.items():
        lines += [
            f"  public.p_{mode}:",
            "    tenant: {from: column, name: org}",
            "    columns:",
            f"      ssn: {{type: text, {words}}}",
            f"      born: {{type: date, {words}}}",
            f"      blob: {{type: bytea, {words}}}",
        ]
    lines += [
        "  public.typed:",
        "    tenant: {from: fixed, name: main}",
        "    columns: {n: {type: numeric}, t: {type: timestamptz}, j: {type: jsonb}, v: {type: varchar(5)}}",
        "  public.given:",
        "    tenant: {from: setting, name: app.tenant_id}",
        "    columns: {ssn: {type: text, default: 'canary default'}}",
        "roles:",
        "  app: {read: plain, cross_tenant: true}",
        "  reader: {read: deny}",
        "  backup: {read: raw, write: raw}",
        "  one: {read: plain, tenants: ['1']}",
    ]
    return "\n".join(lines) + "\n"


def ddl() -> list[str]:
    columns = "id int NOT NULL, org int, ssn text, name text, born date, blob bytea"
    made = [f"CREATE TABLE p_{mode} ({columns})" for mode in MODES]
    made.append("CREATE TABLE typed (id int, n numeric, t timestamptz, j jsonb, v varchar(5))")
    made.append("CREATE TABLE given (id int, ssn text DEFAULT 'canary default')")
    return made


@pytest.fixture(scope="module")
def twins(postgres: EmbeddedPostgres) -> Iterator[Twins]:
    """One table for each mode and storage, and some more."""
    with twin_databases(postgres, rules(), ddl(), []) as made:
        yield made


@dataclass(frozen=True, slots=True)
class Ended:
    """How a COPY ended. `context` is where, without any value."""

    tag: str = ""
    sqlstate: str = ""
    message: str = ""
    context: str = ""


def copy_in(connection: psycopg.Connection[Any], statement: str, chunks: Sequence[bytes]) -> Ended:
    """The whole of a COPY FROM STDIN."""
    cursor = connection.cursor()
    try:
        with cursor.copy(statement.encode()) as copy:
            for chunk in chunks:
                copy.write(chunk)
    except psycopg.Error as error:
        return ended(error)
    return Ended(tag=cursor.statusmessage or "")


def ended(error: psycopg.Error) -> Ended:
    found = error.diag
    context = (found.context or "").split(': "')[0].split(": null")[0]
    return Ended("", error.sqlstate or "", found.message_primary or "", context)


def copy_out(connection: psycopg.Connection[Any], statement: str) -> bytes | Ended:
    """All data of a COPY TO STDOUT."""
    try:
        with connection.cursor().copy(statement.encode()) as copy:
            return b"".join(bytes(part) for part in copy)
    except psycopg.Error as error:
        return ended(error)


def cut(data: bytes, seed: int) -> list[bytes]:
    """In pieces of any size."""
    rnd = random.Random(seed)
    parts = []
    while data:
        size = rnd.choice((1, 2, 3, 7, 50, 1000))
        parts.append(data[:size])
        data = data[size:]
    return parts


def empty(twins: Twins, table: str) -> None:
    for side in (twins.proxied, twins.plain):
        side.connection.execute(f"TRUNCATE {table}".encode())


def rows(twins: Twins, table: str) -> tuple[Any, Any]:
    text = f"SELECT * FROM {table} ORDER BY id"
    return twins.proxied.rows(text), twins.plain.rows(text)


def check_in(twins: Twins, table: str, statement: str, data: bytes, seeds: Sequence[int] = (0, 1)) -> Ended:
    """Both ends, tables and errors are the same, whole and in pieces."""
    statement = statement.format(t=table)
    found = Ended()
    for chunks in ([data], *(cut(data, seed) for seed in seeds)):
        empty(twins, table)
        found = copy_in(twins.proxied.connection, statement, chunks)
        wanted = copy_in(twins.plain.connection, statement, chunks)
        assert (found.tag, found.sqlstate) == (wanted.tag, wanted.sqlstate), (found, wanted)
        assert found.sqlstate != "" or rows(twins, table)[0] == rows(twins, table)[1]
        assert_sealed(twins, table)
    return found


def assert_sealed(twins: Twins, table: str) -> None:
    """Nothing of the values lies in the table."""
    for (stored,) in twins.stored(f"SELECT t::text FROM {table} t"):
        raw = stored.encode()
        assert not any(canary in raw or canary.hex().encode() in raw for canary in CANARIES)


LINES: Final = (
    b"1\t1\tcanary one\tname\t2001-02-03\t\\\\x00ff\n"
    b"2\t2\t\\N\tn\\tn\t\\N\t\\N\n"
    b"3\t1\tcanary\\ttab\\nline\\\\back \\x41\\101 \\q\t\\N\tinfinity\tca\\\\\\\\nary\n"
    b"4\t1\t\t\t0044-03-15 BC\t\n"
)
CSV: Final = (
    b"1,1,canary one,name,2001-02-03,\\x00ff\n"
    b'2,2,,"n,n",,\n'
    b'3,1,"canary ""quoted"", and\nnew line",,infinity,"ca\\\\nary"\n'
    b'4,1,"",x,,""\n'
    b'5,1,a"b,c"d,x,1999-12-31,\n'
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("options", "data"),
    [
        ("", LINES),
        ("", LINES[:-1]),
        ("", LINES.replace(b"\n", b"\r\n").replace(b"\\\r\n", b"\\\n")),
        ("", LINES.replace(b"\n", b"\r")),
        ("", LINES + b"\\.\ncanary behind the end\n"),
        ("(FORMAT csv)", CSV),
        ("(FORMAT csv)", CSV.replace(b"\n", b"\r\n")),
        ("CSV HEADER", b"any,thing\n" + CSV),
        ("(FORMAT csv, HEADER match)", b"id,org,ssn,name,born,blob\n" + CSV),
        ("(DELIMITER 'X', NULL 'none')", LINES.replace(b"\t", b"X").replace(b"\\N", b"none")),
        ("(DELIMITER '_')", LINES.replace(b"\t", b"_")),
        (
            "(FORMAT csv, DELIMITER ';', QUOTE 'c', NULL 'nil')",
            b"1;1;cccanaryc;n;nil;nil\n2;2;nil;x;nil;\\x6161\n",
        ),
        ("(FORMAT csv, QUOTE '''', ESCAPE '\\')", b"1,1,'canary \\'q\\' \\\\ \\n',name,,\n"),
        ("(FORMAT csv, FORCE_NULL (ssn, name), FORCE_NOT_NULL (blob))", b'1,1,"","",,\n2,1,x,,,""\n'),
        ("(FORMAT csv, NULL 'q', FORCE_NOT_NULL (ssn))", b"1,1,q,q,q,q\n"),
        ("WHERE id > 2", LINES),
        ("WHERE ssn IS NOT NULL", LINES),
    ],
    ids=range(17),
)
def test_copy_in_stores_what_the_twin_stores(twins: Twins, mode: str, options: str, data: bytes) -> None:
    """Every option, whole and in pieces."""
    found = check_in(twins, f"p_{mode}", "COPY {t} FROM STDIN " + options, data)
    assert found.tag.startswith("COPY ")


@pytest.mark.parametrize("mode", MODES)
def test_copy_out_is_what_the_twin_gives(twins: Twins, mode: str) -> None:
    """Tables, lists of columns and queries; text and CSV with options, and binary."""
    table = f"p_{mode}"
    check_in(twins, table, "COPY {t} FROM STDIN", LINES, seeds=())
    for what in (
        f"{table}",
        f"{table} (ssn)",
        f"{table} (name, blob, ssn, id)",
        f"public.{table} (id, name)",
        f"(SELECT ssn, name AS n, ssn AS again FROM {table} ORDER BY id)",
        f"(SELECT id, born FROM {table} WHERE org = 1 ORDER BY id)",
        f"(UPDATE {table} SET name = 'x' WHERE id = 1 RETURNING id, ssn)",
    ):
        for options in (
            "",
            "(DELIMITER 'X', NULL 'a')",
            "(FORMAT csv)",
            "CSV HEADER FORCE QUOTE *",
            "(FORMAT csv, NULL 'NIL', QUOTE '''', ESCAPE '\\', DELIMITER '1')",
            "(FORMAT binary)",
            "(ENCODING 'latin1')",
        ):
            statement = f"COPY {what} TO STDOUT {options}"
            found = copy_out(twins.proxied.connection, statement)
            assert found == copy_out(twins.plain.connection, statement), statement
            assert isinstance(found, bytes)


@pytest.mark.parametrize("mode", MODES)
def test_copy_binary_goes_in_as_it_came_out(twins: Twins, mode: str) -> None:
    """Whole and in pieces of any size."""
    table = f"p_{mode}"
    check_in(twins, table, "COPY {t} FROM STDIN", LINES, seeds=())
    data = copy_out(twins.plain.connection, f"COPY {table} TO STDOUT (FORMAT binary)")
    assert isinstance(data, bytes)
    assert check_in(twins, table, "COPY {t} FROM STDIN (FORMAT binary)", data, seeds=range(5)).tag == "COPY 4"


@pytest.mark.parametrize(
    ("statement", "data", "context"),
    [
        (
            "COPY {t} FROM STDIN",
            b"1\t1\tcanary\tn\t2001-01-01\t\n2\t1\tcanary\tn\t2001-13-01\t\n",
            "line 2, column born",
        ),
        ("COPY {t} FROM STDIN", b"1\t1\tcanary\n", "line 1"),
        ("COPY {t} FROM STDIN", b"1\t1\tcanary\tn\t\\N\t\\N\tcanary\n", "line 1"),
        ("COPY {t} (ssn, id, org) FROM STDIN", b"canary,1\n", "line 1"),
        ("COPY {t} FROM STDIN", b"1\t1\tcanary\tn\t\\N\t\\N\r\n2\t1\tc\tn\t\\N\t\\N\n", "line 2"),
        ("COPY {t} FROM STDIN", b"1\t1\tcanary\xff\tn\t\\N\t\\N\n", "line 1"),
        ("COPY {t} FROM STDIN", b"x\t1\tcanary\tn\t\\N\t\\N\n", "line 1, column id"),
        ("COPY {t} FROM STDIN", b"\\N\t1\tcanary\tn\t\\N\t\\N\n", "line 1"),
        ("COPY {t} FROM STDIN (FORMAT csv)", b'1,1,"canary\n', "line 1"),
        ("COPY {t} FROM STDIN (FORMAT csv)", b"1,1,canary,n,nonsense,\n", "line 1, column born"),
        ("COPY {t} FROM STDIN (FORMAT csv, HEADER match)", b"id,org,snn,name,born,blob\n", "line 1"),
        ("COPY {t} FROM STDIN (FORMAT csv, HEADER match)", b"id,org\n", "line 1"),
        ("COPY {t} FROM STDIN (FORMAT binary)", b"nonsense, and canary of it", ""),
        ("COPY {t} (nothing) FROM STDIN", b"1\n", ""),
        ("COPY {t} FROM STDIN (DELIMITER 'ab')", b"1\n", ""),
    ],
    ids=range(15),
)
def test_copy_in_of_bad_data_fails_as_the_twin(twins: Twins, statement: str, data: bytes, context: str) -> None:
    """PostgreSQL's SQLSTATE, message and place, the session in step, a transaction failed, nothing stored."""
    table = "p_eq"
    for chunks in ([data], cut(data, 1), [data, LINES * 50]):
        empty(twins, table)
        text = statement.format(t=table)
        found = copy_in(twins.proxied.connection, text, chunks)
        wanted = copy_in(twins.plain.connection, text, chunks)
        assert found.sqlstate == wanted.sqlstate, (found, wanted)
        assert found.sqlstate
        assert context in found.context
        assert "canary" not in found.message + found.context
        assert rows(twins, table) == ([], [])
    for side in (twins.proxied, twins.plain):
        side.connection.execute("BEGIN")
        copy_in(side.connection, text, [data])
        assert side.run("SELECT 1", (), Way.LITERALS)[0].sqlstate == "25P02"
        side.connection.execute("ROLLBACK")


@pytest.mark.parametrize("mode", ["det", "eq", "rnd"])
@pytest.mark.parametrize(
    ("options", "data"),
    [
        ("(DEFAULT '\\D')", b"1\t1\t\\D\tn\t\\D\t\\N\n"),
        ("(FORMAT csv, DEFAULT '\\D')", b'1,1,\\D,n,"2001-01-01",\n2,1,"\\D",n,,\n'),
        ("(ON_ERROR ignore)", b"1\t1\tc\tn\tbad\t\\N\nx\t1\tc\tn\t\\N\t\\N\n3\t1\tc\tn\t\\N\t\\N\n"),
        ("(ON_ERROR stop, LOG_VERBOSITY verbose)", b"1\t1\tc\tn\tbad\t\\N\n"),
        ("(FORMAT csv, ON_ERROR ignore, REJECT_LIMIT 1)", b"1,1,c,n,bad,\n2,1,c,n,bad,\n"),
        ("(FORMAT csv, HEADER)", b"canary,1\n1,1,c,n,,\n\\.\n2,1,canary\n"),
    ],
    ids=range(6),
)
def test_copy_options_of_later_versions_do_what_the_twin_does(
    twins: Twins, mode: str, options: str, data: bytes
) -> None:
    """Where the server knows them; where not, its refusal."""
    check_in(twins, f"p_{mode}", "COPY {t} FROM STDIN " + options, data)


def test_copy_default_of_the_rules_is_what_the_twin_has(twins: Twins) -> None:
    """For a column that the list leaves out, and where the marker asks for it."""
    for side in (twins.proxied, twins.plain):
        side.connection.execute("SET app.tenant_id = 'a'")
    check_in(twins, "given", "COPY {t} (id) FROM STDIN", b"1\n2\n")
    check_in(twins, "given", "COPY {t} FROM STDIN (DEFAULT '\\D')", b"1\t\\D\n2\tcanary\n")


def test_copy_of_all_types_is_what_the_twin_gives(twins: Twins) -> None:
    """Under settings that change how values are written."""
    data = (
        b'1\t1.50\t2001-02-03 04:05:06+02\t{"a": [1, "x\\\\ty"]}\tabc\n'
        b"2\tNaN\tinfinity\tnull\t\\N\n3\t-0.000\t1999-01-01 00:00+00\t\\N\t\n"
    )
    check_in(twins, "typed", "COPY {t} FROM STDIN", data)
    assert check_in(twins, "typed", "COPY {t} (v) FROM STDIN", b"canary\n").sqlstate == "22001"
    check_in(twins, "typed", "COPY {t} FROM STDIN", data, seeds=())
    for setting in ("TimeZone = 'Europe/Berlin'", "DateStyle = 'German'", "DateStyle = 'ISO, DMY'"):
        for side in (twins.proxied, twins.plain):
            side.connection.execute(f"SET {setting}".encode())
        for options in ("", "(FORMAT csv)", "(FORMAT binary)"):
            statement = f"COPY typed TO STDOUT {options}"
            found = copy_out(twins.proxied.connection, statement)
            assert found == copy_out(twins.plain.connection, statement), (setting, options)
