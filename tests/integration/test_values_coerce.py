"""Assignment, comparison and constant expressions against a real server's own casts, operators and functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
from psycopg import pq

from proxy.errors import PgsealError, Unsupported
from proxy.values.base import LogicalType, Settings
from proxy.values.coerce import assign, comparable
from proxy.values.constants import Call, Cast, Const, Expr, Inputs, evaluate
from proxy.values.registry import base_of, codec, parse_type

NEW_YORK: Final = Settings(time_zone="America/New_York", date_style="SQL, DMY")
ISO_NEW_YORK: Final = Settings(time_zone="America/New_York")
SAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "text": ("", "a", "A", "12", "1.0", " 1", "2020-01-01", "true", "long text, éß", "1   "),
    "varchar": ("abc", "abc  ", "abcdefgh"),
    "int2": ("0", "1", "-5", "32767", "-32768"),
    "int4": ("0", "1", "-5", "40000", "2147483647"),
    "int8": ("0", "1", "-5", "40000", "9223372036854775807"),
    "numeric": ("0", "-0.0", "1", "1.0", "1.50", "1.5", "2.5", "-2.5", "NaN", "Infinity", "1e20", "99.995", "-5"),
    "float8": ("0", "-0", "1", "1.5", "2.5", "-5", "NaN", "-Infinity", "1e20", "0.1", "1e300"),
    "bool": ("t", "f"),
    "date": ("2020-01-01", "1999-12-31", "2020-03-08", "infinity", "0044-03-15 BC", "5874897-12-31"),
    "timestamp": (
        *("2020-01-01 00:00:00", "2020-01-01 12:34:56.789", "2020-03-08 02:30:00", "2020-11-01 01:30:00"),
        *("-infinity", "1999-12-31 00:00:00", "2020-03-08 03:30:00"),
    ),
    "timestamptz": (
        *("2020-01-01 00:00:00+00", "2020-01-01 05:00:00+00", "2020-11-01 05:30:00+00", "2020-11-01 06:30:00+00"),
        *("infinity", "2020-03-08 07:30:00+00", "1999-12-31 05:00:00+00", "2020-03-08 05:00:00+00"),
    ),
    "uuid": ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",),
    "json": ('{"a": 1}', "[1, 2.50]"),
    "jsonb": ('{"a": 1}', "[1, 2.50]", "1.0", "1"),
    "bytea": ("\\x00ff", "abc"),
}
TARGETS: Final = (
    *("text", "varchar(4)", "int2", "int4", "int8", "numeric", "numeric(4,1)", "float8", "bool", "date"),
    *("timestamp", "timestamp(0)", "timestamptz", "uuid", "json", "jsonb", "bytea"),
)


@pytest.fixture
def connection(database) -> Iterator[psycopg.Connection]:
    """A direct connection in autocommit, under New York's time and day-month order."""
    with psycopg.connect(database.dsn(), autocommit=True) as opened:
        opened.execute("SET TimeZone = 'America/New_York'")
        opened.execute("SET DateStyle = 'SQL, DMY'")
        yield opened


def ask(
    connection: psycopg.Connection, statement: str, *values: bytes, oids: tuple[int, ...] = ()
) -> bytes | str | None:
    """The first cell in binary, None for NULL; the SQLSTATE as str when it fails."""
    result = connection.pgconn.exec_params(statement.encode(), list(values), list(oids) or None, None, 1)
    if result.status != pq.ExecStatus.TUPLES_OK:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        assert state is not None
        return state.decode()
    return result.get_value(0, 0)


def source_cases() -> Iterator[tuple[LogicalType, bytes]]:
    """Every sample as the display form of its type."""
    for name, texts in SAMPLES.items():
        type_ = parse_type(name)
        for text in texts:
            yield type_, codec(type_).read_text(text.encode(), Settings())


@pytest.mark.parametrize("target_sql", TARGETS)
@pytest.mark.parametrize("binary", [False, True])
def test_assign_any_source_type_as_the_server(
    connection: psycopg.Connection, target_sql: str, binary: bool
) -> None:
    """A parameter of every declared type into a column of every type: the server's value or its SQLSTATE."""
    target = parse_type(target_sql)
    connection.execute(f"CREATE TEMP TABLE one (c {target_sql})".encode())
    found = []
    for source, display in source_cases():
        show = codec(source).show_binary if binary else codec(source).show_text
        raw = show(display, ISO_NEW_YORK)
        result = connection.pgconn.exec_params(
            b"INSERT INTO one VALUES ($1) RETURNING c", [raw], [source.oid], [int(binary)], 1
        )
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        theirs = state.decode() if state else result.get_value(0, 0)
        try:
            stored = assign(raw, binary=binary, source_oid=source.oid, target=target, settings=NEW_YORK)
            ours: bytes | str = codec(target).show_binary(stored, NEW_YORK)
        except PgsealError as error:
            ours = error.sqlstate
        if ours != theirs:
            found.append((source.name, display, theirs, ours))
    assert not found


def test_assign_abbreviated_zone_is_unsupported() -> None:
    """What the SQL style shows of a zoned time ends in an abbreviation, which depends on the server's files."""
    with pytest.raises(Unsupported):
        assign(
            b"31/12/2019 19:00:00 EST",
            binary=False,
            source_oid=1184,
            target=parse_type("timestamptz"),
            settings=NEW_YORK,
        )


def equality_of(display: bytes, source: LogicalType, target: LogicalType) -> bytes | str | None:
    try:
        return comparable(
            codec(source).show_binary(display, NEW_YORK),
            binary=True,
            source_oid=source.oid,
            target=target,
            settings=NEW_YORK,
        )
    except PgsealError as error:
        return error.sqlstate


@pytest.mark.parametrize("target_name", [name for name in SAMPLES if name not in ("json", "float8")])
def test_comparable_any_source_type_equals_when_the_server_says_so(
    connection: psycopg.Connection, target_name: str
) -> None:
    """Equality forms of a column's value and a parameter of any type agree exactly where `=` is true."""
    target = parse_type(target_name)
    found, n_compared = [], 0
    cells = [codec(target).read_text(text.encode(), Settings()) for text in SAMPLES[target_name]]
    for source, display in source_cases():
        ours = equality_of(display, source, target)
        if ours == Unsupported.sqlstate:
            continue
        for cell in cells:
            theirs = ask(
                connection,
                f"SELECT $1::text::{target_name} = $2",
                codec(target).show_text(cell, NEW_YORK),
                codec(source).show_text(display, NEW_YORK),
                oids=(25, source.oid),
            )
            said: bytes | str = ours if isinstance(ours, str) else bytes([ours == codec(target).equality(cell)])
            n_compared += 1
            if said != theirs:
                found.append((cell, source.name, display, theirs, said))
    assert not found
    assert n_compared > len(cells)


def test_equality_of_same_type_pairs_agrees_with_the_server(connection: psycopg.Connection) -> None:
    """Forms of two values of one type are the same bytes exactly where the server's `=` is true."""
    pairs: dict[str, tuple[str, ...]] = {
        "numeric": ("1", "1.0", "1.00", "10", "-0", "0", "0.000", "NaN", "Infinity", "-Infinity", "100", "1e2"),
        "jsonb": (
            '{"a":1.0,"b":[]}',
            '{"b":[],"a":1}',
            '{"a":1}',
            '"1"',
            "1",
            "1.00",
            '{"a":"1"}',
            "[1]",
            "-0",
            "0",
        ),
        "text": ("a", "A", "a ", "é", "e\u0301", ""),
        "timestamptz": ("2020-01-01 00:00:00+00", "2020-01-01 02:00:00+02", "infinity", "-infinity"),
        "bool": ("t", "yes", "f"),
        "bytea": ("abc", "\\x616263", "\\x00"),
    }
    for name, texts in pairs.items():
        type_ = parse_type(name)
        forms = [codec(type_).equality(codec(type_).read_text(text.encode(), Settings())) for text in texts]
        for first, first_form in zip(texts, forms, strict=True):
            for second, second_form in zip(texts, forms, strict=True):
                statement = f"SELECT $1::text::{name} = $2::text::{name}"
                theirs = ask(connection, statement, first.encode(), second.encode())
                assert theirs == bytes([first_form == second_form]), (name, first, second)


def test_cast_every_pair_as_the_server(connection: psycopg.Connection) -> None:
    """Explicit casts between every two types: the server's value or its SQLSTATE."""
    found = []
    for source, display in source_cases():
        for target_sql in TARGETS:
            target = parse_type(target_sql)
            shown = codec(source).show_text(display, NEW_YORK)
            theirs = ask(connection, f"SELECT $1::{target_sql}", shown, oids=(source.oid,))
            ours = answer(Cast(Cast(Const(display_text(display, source)), source), target))
            if ours not in (theirs, Unsupported.sqlstate):
                found.append((source.name, display, target_sql, theirs, ours))
    assert not found


def display_text(display: bytes, type_: LogicalType) -> bytes:
    """The display form as a literal (bytea's is raw bytes)."""
    return codec(type_).show_text(display, Settings())


def answer(expr: Expr) -> bytes | str | None:
    """pgseal's value in binary form, None for NULL, the SQLSTATE where it fails."""
    try:
        value = evaluate(expr, Inputs(NEW_YORK))
    except PgsealError as error:
        return error.sqlstate
    if value is None:
        return None
    type_ = value.type or parse_type("text")
    return codec(base_of(type_)).show_binary(value.content, NEW_YORK)


def text(value: str | None) -> Const:
    return Const(None if value is None else value.encode())


def number(value: str) -> Const:
    return Const(value.encode(), "numeric" if "." in value else "int")


CALLS: Final[tuple[tuple[str, Expr], ...]] = (
    ("lower('AbC')", Call("lower", (text("AbC"),))),
    ("upper('AbC-1')", Call("upper", (text("AbC-1"),))),
    ("btrim('  a b ')", Call("btrim", (text("  a b "),))),
    ("btrim('xxaxyx', 'xy')", Call("btrim", (text("xxaxyx"), text("xy")))),
    ("ltrim('xxa', 'x')", Call("ltrim", (text("xxa"), text("x")))),
    ("rtrim(E'a \\t ')", Call("rtrim", (text("a \t "),))),
    ("rtrim('aé', '')", Call("rtrim", (text("aé"), text("")))),
    ("'a' || 'b'", Call("||", (text("a"), text("b")))),
    ("'a' || 1.50", Call("||", (text("a"), number("1.50")))),
    ("'a' || NULL", Call("||", (text("a"), text(None)))),
    ("concat('a', NULL, 12, 'é')", Call("concat", (text("a"), text(None), number("12"), text("é")))),
    ("coalesce(NULL, 'x', 'y')", Call("coalesce", (text(None), text("x"), text("y")))),
    ("coalesce(NULL, '7', 8)", Call("coalesce", (text(None), text("7"), number("8")))),
    ("nullif('a', 'a')", Call("nullif", (text("a"), text("a")))),
    ("nullif(1, 2)", Call("nullif", (number("1"), number("2")))),
    ("2147483647 + 1", Call("+", (number("2147483647"), number("1")))),
    ("2147483648 + 1", Call("+", (number("2147483648"), number("1")))),
    ("1.50 + 2", Call("+", (number("1.50"), number("2")))),
    ("1.50 * 2.005", Call("*", (number("1.50"), number("2.005")))),
    ("1.5 - 1.50", Call("-", (number("1.5"), number("1.50")))),
    ("-7 / 2", Call("/", (number("-7"), number("2")))),
    ("7 / 0", Call("/", (number("7"), number("0")))),
    ("- 5", Call("-", (number("5"),))),
    ("- 0.0", Call("-", (number("0.0"),))),
    ("'5' + 1", Call("+", (text("5"), number("1")))),
    ("'x' + 1", Call("+", (text("x"), number("1")))),
    ("(-32768)::int2 - 1::int2", Call("-", tuple(Cast(number(n), parse_type("int2")) for n in ("-32768", "1")))),
    ("left('héllo', 2)", Call("left", (text("héllo"), number("2")))),
    ("left('hello', -2)", Call("left", (text("hello"), number("-2")))),
    ("right('hello', 2)", Call("right", (text("hello"), number("2")))),
    ("right('hello', -2)", Call("right", (text("hello"), number("-2")))),
    ("right('hello', 0)", Call("right", (text("hello"), number("0")))),
    ("substr('hello', 2)", Call("substr", (text("hello"), number("2")))),
    ("substr('hello', -1, 3)", Call("substr", (text("hello"), number("-1"), number("3")))),
    ("substr('hello', 2, 2147483647)", Call("substr", (text("hello"), number("2"), number("2147483647")))),
    ("substring('hello', 2, -1)", Call("substring", (text("hello"), number("2"), number("-1")))),
    ("substring('hello', 9, 1)", Call("substring", (text("hello"), number("9"), number("1")))),
    ("replace('aaa', 'aa', 'b')", Call("replace", (text("aaa"), text("aa"), text("b")))),
    ("replace('aaa', '', 'b')", Call("replace", (text("aaa"), text(""), text("b")))),
    ("length('héllo')", Call("length", (text("héllo"),))),
    ("length(1)", Call("length", (number("1"),))),
    ("encode('abc', 'hex')", Call("encode", (text("abc"), text("hex")))),
    ("encode(repeat('a', 57)::bytea, 'base64')", Call("encode", (text("a" * 57), text("base64")))),
    ("encode(repeat('a', 56)::bytea, 'base64')", Call("encode", (text("a" * 56), text("base64")))),
    ("encode(repeat('a', 90)::bytea, 'base64')", Call("encode", (text("a" * 90), text("base64")))),
    ("decode('6162', 'hex')", Call("decode", (text("6162"), text("hex")))),
    ("decode('616', 'hex')", Call("decode", (text("616"), text("hex")))),
    ("decode('YWI=', 'base64')", Call("decode", (text("YWI="), text("base64")))),
    ("decode('YWI', 'base64')", Call("decode", (text("YWI"), text("base64")))),
    ("'abcdef'::varchar(3)", Cast(text("abcdef"), parse_type("varchar(3)"))),
    ("'1.255'::numeric(5,2)", Cast(text("1.255"), parse_type("numeric(5,2)"))),
    ("1.5::int", Cast(number("1.5"), parse_type("int"))),
    ("2.5::float8::int", Cast(Cast(number("2.5"), parse_type("float8")), parse_type("int"))),
    ("true::int", Cast(Const(b"t", "bool"), parse_type("int"))),
    ("true::text", Cast(Const(b"t", "bool"), parse_type("text"))),
    ("9223372036854775808", number("9223372036854775808")),
)


@pytest.mark.parametrize(("sql", "expr"), CALLS, ids=[sql for sql, _ in CALLS])
def test_evaluate_listed_function_answers_as_the_server(
    connection: psycopg.Connection, sql: str, expr: Expr
) -> None:
    """Every listed function and operator: the server's value in binary form, or its SQLSTATE."""
    assert answer(expr) == ask(connection, f"SELECT {sql}")
