"""Each type's display form, wire forms and errors, as expected texts."""

from __future__ import annotations

import pytest

from proxy.errors import PgsealError
from proxy.values.base import Settings
from proxy.values.registry import BASE, codec, parse_type

DEEP = "[" * 1001 + "]" * 1001

READ = [
    ("int4", " 42\n", "42"),
    ("int4", "+0012", "12"),
    ("int4", "-0", "0"),
    ("int8", "-9223372036854775808", "-9223372036854775808"),
    ("numeric", "1e2", "100"),
    ("numeric", "1.50e1", "15.0"),
    ("numeric", "-0.00", "0.00"),
    ("numeric", ".5", "0.5"),
    ("numeric", "-inf", "-Infinity"),
    ("numeric(5,2)", "999.994", "999.99"),
    ("numeric(5,2)", "-1.005", "-1.01"),
    ("numeric(3,-2)", "12345", "12300"),
    ("float8", "1e15", "1e+15"),
    ("float8", "123456789012345", "123456789012345"),
    ("float8", "0.00001", "1e-05"),
    ("float8", "0.0001", "0.0001"),
    ("float8", "1e23", "9.999999999999999e+22"),
    ("float8", "5e-324", "5e-324"),
    ("float8", "-0", "-0"),
    ("float8", "+infinity", "Infinity"),
    ("bool", " YE ", "t"),
    ("bool", "of", "f"),
    ("uuid", "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("varchar(3)", "abc   ", "abc"),
    ("varchar(3)", "äöü", "äöü"),
    ("text", "abc   ", "abc   "),
    ("date", "2020-02-29", "2020-02-29"),
    ("date", "January 8, 1999", "1999-01-08"),
    ("date", "1/18/1999", "1999-01-18"),
    ("date", "19990108", "1999-01-08"),
    ("date", "1999.008", "1999-01-08"),
    ("date", "99-Jan-08 BC", None),
    ("date", "0044-03-15 BC", "0044-03-15 BC"),
    ("date", "12345-01-02", "12345-01-02"),
    ("date", "-infinity", "-infinity"),
    ("timestamp", "2020-01-02T03:04:05.1234567", "2020-01-02 03:04:05.123457"),
    ("timestamp", "2020-01-02 24:00", "2020-01-03 00:00:00"),
    ("timestamp", "2020-01-02 12:30 am", "2020-01-02 00:30:00"),
    ("timestamp", "Thu Jan 02 03:04:05 2020", "2020-01-02 03:04:05"),
    ("timestamp(0)", "2020-01-02 03:04:05.5", "2020-01-02 03:04:06"),
    ("timestamptz", "2020-01-02 03:04:05+05:30", "2020-01-01 21:34:05+00"),
    ("timestamptz", "2020-07-02 03:04 America/New_York", "2020-07-02 07:04:00+00"),
    ("timestamptz", "2020-07-02 03:04 europe/berlin", "2020-07-02 01:04:00+00"),
    ("timestamptz", "2020-01-02 03:04Z", "2020-01-02 03:04:00+00"),
    ("json", ' {"a" : 1, "a":2} ', ' {"a" : 1, "a":2} '),
    ("jsonb", '{"bb":1.0,"a":[],"bb":{"c":-0}}', '{"a": [], "bb": {"c": 0}}'),
    ("jsonb", '"\\u00e9\\ud83d\\ude00\\u001f"', '"é😀\\u001f"'),
    ("jsonb", "1e3", "1000"),
    ("jsonb", " [true,false , null] ", "[true, false, null]"),
    ("jsonb", '{"\\u0061":true,"b":[false,null,{}]}', '{"a": true, "b": [false, null, {}]}'),
    ("jsonb", '"a\\n\x7f\\/"', '"a\\n\x7f/"'),
    ("jsonb", "[1E+2, -0, -0.0, 1e-2]", "[100, 0, 0.0, 0.01]"),
    ("bytea", "\\x6162", "ab"),
    ("bytea", "a\\\\\\142", "a\\b"),
]


@pytest.mark.parametrize(("type_name", "given", "display"), READ)
def test_read_text_accepted_input_gives_canonical_display(
    type_name: str, given: str, display: str | None
) -> None:
    """Text becomes the type's one canonical text; None stands for a refusal as bad syntax or range."""
    chosen = codec(parse_type(type_name))
    if display is None:
        with pytest.raises(PgsealError):
            chosen.read_text(given.encode(), Settings())
        return
    shown = chosen.read_text(given.encode(), Settings())
    assert shown == display.encode()
    assert chosen.read_binary(chosen.show_binary(shown, Settings()), Settings()) == shown


FAILS = [
    ("int4", "abc", "22P02"),
    ("int4", "", "22P02"),
    ("int4", "1.0", "22P02"),
    ("int2", "32768", "22003"),
    ("int4", "9" * 5000, "22003"),
    ("int4", "0x1F", "PS001"),
    ("int4", "1_000", "PS001"),
    ("int4", "1__0", "22P02"),
    ("numeric", "1_0.5", "PS001"),
    ("numeric", "..1", "22P02"),
    ("numeric", "1e200000", "22003"),
    ("numeric", "1e-20000", "22003"),
    ("numeric(5,2)", "1000", "22003"),
    ("numeric(5,2)", "inf", "22003"),
    ("float8", "1e400", "22003"),
    ("float8", "1e-400", "22003"),
    ("float8", "0x1p3", "PS001"),
    ("float8", "one", "22P02"),
    ("bool", "o", "22P02"),
    ("bool", "maybe", "22P02"),
    ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "22P02"),
    ("varchar(3)", "abcd", "22001"),
    ("text", "a\0b", "22021"),
    ("date", "abc", "22007"),
    ("date", "", "22007"),
    ("date", "2020-13-01", "22008"),
    ("date", "2021-02-29", "22008"),
    ("date", "0000-01-01", "22008"),
    ("date", "5874898-01-01", "22008"),
    ("date", "today", "PS001"),
    ("date", "J2451187", "PS001"),
    ("timestamp", "2020-01-01 25:00", "22008"),
    ("timestamp", "294277-01-01", "22008"),
    ("timestamptz", "2020-01-01 10:00 PST", "PS001"),
    ("timestamptz", "2020-01-01 10:00 Nowhere/Land", "22023"),
    ("timestamptz", "2020-01-01 10:00+16", "22009"),
    ("timestamptz", "now", "PS001"),
    ("json", "{'a':1}", "22P02"),
    ("json", '{"a":1,}', "22P02"),
    ("json", "", "22P02"),
    ("json", "[1", "22P02"),
    ("json", "]", "22P02"),
    ("json", '"a\nb"', "22P02"),
    ("json", "01", "22P02"),
    ("json", "{1:2}", "22P02"),
    ("json", '{"a":}', "22P02"),
    ("json", "[,]", "22P02"),
    ("json", "NaN", "22P02"),
    ("jsonb", "[-Infinity]", "22P02"),
    ("jsonb", "1e999999", "22003"),
    ("json", "1 2", "22P02"),
    ("json", DEEP, "PS001"),
    ("jsonb", '"\\u0000"', "22P05"),
    ("jsonb", '"\\ud800"', "22P02"),
    ("bytea", "\\x0", "22023"),
    ("bytea", "\\xzz", "22023"),
    ("bytea", "\\9", "22P02"),
]


@pytest.mark.parametrize(("type_name", "given", "sqlstate"), FAILS, ids=[f"{t}-{g[:20]!r}" for t, g, _ in FAILS])
def test_read_text_refused_input_has_the_servers_code_and_no_value(
    type_name: str, given: str, sqlstate: str
) -> None:
    """Bad input fails with PostgreSQL's SQLSTATE, or PS001 where PostgreSQL would take it; never the value."""
    with pytest.raises(PgsealError) as caught:
        codec(parse_type(type_name)).read_text(given.encode(), Settings())
    assert caught.value.sqlstate == sqlstate
    assert len(given) < 4 or given not in caught.value.message


BINARY_FAILS = [
    ("int4", b"\0\0\0", "08P01"),
    ("int4", b"\0\0\0\0\0", "22P03"),
    ("float8", b"", "08P01"),
    ("bool", b"", "08P01"),
    ("uuid", bytes(15), "08P01"),
    ("date", b"\x7f\xff\xff\xfe", "22008"),
    ("timestamp", b"\x7f" + b"\xff" * 6 + b"\xfe", "22008"),
    ("numeric", bytes(7), "08P01"),
    ("numeric", b"\0\1\0\0\0\0\0\0\x27\x10", "22P03"),
    ("numeric", b"\0\0\0\0\x80\0\0\0", "22P03"),
    ("numeric", b"\xff\xff\0\0\0\0\0\0", "08P01"),
    ("jsonb", b"\2{}", "XX000"),
    ("jsonb", b"", "08P01"),
    ("text", b"\xff", "22021"),
]


@pytest.mark.parametrize(("type_name", "raw", "sqlstate"), BINARY_FAILS)
def test_read_binary_refused_input_has_the_servers_code(type_name: str, raw: bytes, sqlstate: str) -> None:
    """Binary of the wrong size or content fails as the server's receive function does."""
    with pytest.raises(PgsealError) as caught:
        codec(parse_type(type_name)).read_binary(raw, Settings())
    assert caught.value.sqlstate == sqlstate


SHOWN = [
    (
        "timestamptz",
        "2020-07-01 12:00:00.5+00",
        Settings(time_zone="America/New_York"),
        "2020-07-01 08:00:00.5-04",
    ),
    ("timestamptz", "2020-07-01 12:00:00+00", Settings(time_zone="Asia/Kathmandu"), "2020-07-01 17:45:00+05:45"),
    ("timestamptz", "2020-07-01 12:00:00+00", Settings(time_zone="<+03>-03"), "2020-07-01 15:00:00+03"),
    (
        "timestamptz",
        "1850-01-01 12:00:00+00",
        Settings(time_zone="America/New_York"),
        "1850-01-01 07:03:58-04:56:02",
    ),
    (
        "timestamptz",
        "2020-07-01 12:00:00+00",
        Settings(date_style="Postgres, DMY", time_zone="America/New_York"),
        "Wed 01 Jul 08:00:00 2020 EDT",
    ),
    (
        "timestamptz",
        "20000-07-01 12:00:00+00",
        Settings(time_zone="America/New_York"),
        "20000-07-01 08:00:00-04",
    ),
    ("timestamptz", "infinity", Settings(time_zone="America/New_York"), "infinity"),
    ("timestamp", "2020-07-01 12:00:00", Settings(date_style="SQL, DMY"), "01/07/2020 12:00:00"),
    ("timestamp", "0001-07-01 12:00:00 BC", Settings(date_style="Postgres, MDY"), "Sat Jul 01 12:00:00 0001 BC"),
    ("date", "2020-07-01", Settings(date_style="German, DMY"), "01.07.2020"),
    ("date", "2020-07-01", Settings(date_style="Postgres, MDY"), "07-01-2020"),
    ("date", "2020-07-01", Settings(date_style="SQL, MDY"), "07/01/2020"),
    ("float8", "0.1", Settings(extra_float_digits=0), "0.1"),
    ("float8", "1e+23", Settings(extra_float_digits=-3), "1e+23"),
    ("float8", "0.30000000000000004", Settings(extra_float_digits=0), "0.3"),
    ("bytea", "a\\\x01é", Settings(bytea_output="escape"), "a\\\\\\001\\303\\251"),
    ("bytea", "ab", Settings(), "\\x6162"),
]


@pytest.mark.parametrize(("type_name", "display", "settings", "shown"), SHOWN)
def test_show_text_under_settings_prints_as_the_server(
    type_name: str, display: str, settings: Settings, shown: str
) -> None:
    """The session's settings decide the text a client sees."""
    assert codec(parse_type(type_name)).show_text(display.encode(), settings) == shown.encode()


def test_show_text_latin1_converts_and_refuses_what_it_lacks() -> None:
    """Text leaves in the client's encoding; a character it has not is 22P05."""
    text = codec(BASE["text"])
    assert text.show_text("é".encode(), Settings(client_encoding="LATIN1")) == b"\xe9"
    assert text.read_text(b"\xe9", Settings(client_encoding="LATIN1")) == "é".encode()
    with pytest.raises(PgsealError) as caught:
        text.show_text("漢".encode(), Settings(client_encoding="LATIN1"))
    assert caught.value.sqlstate == "22P05"


def test_read_text_unknown_encoding_is_unsupported() -> None:
    """An encoding whose table is not known is refused for text outside ASCII, and only there."""
    text, settings = codec(BASE["text"]), Settings(client_encoding="MULE_INTERNAL")
    assert text.read_text(b"plain", settings) == b"plain"
    with pytest.raises(PgsealError) as caught:
        text.read_text(b"\xe9", settings)
    assert caught.value.sqlstate == "PS001"


EQUAL = [
    ("numeric", "1.50", "1.5"),
    ("numeric", "-0.0", "0"),
    ("numeric", "100", "100"),
    ("numeric", "1e3", "1000"),
    ("text", "é  ", "é  "),
    ("jsonb", '{"b":1.0,"a":"1.0"}', '{"a": "1.0", "b": 1}'),
    ("timestamptz", "2020-01-01 02:00+02", "2020-01-01 00:00:00+00"),
]


@pytest.mark.parametrize(("type_name", "given", "form"), EQUAL)
def test_equality_form_is_one_for_all_equal_values(type_name: str, given: str, form: str) -> None:
    """What PostgreSQL calls equal has one form."""
    chosen = codec(parse_type(type_name))
    assert chosen.equality(chosen.read_text(given.encode(), Settings())) == form.encode()


def test_equality_nocase_folds_ascii_only() -> None:
    """Letters outside ASCII depend on a locale and stay."""
    assert codec(BASE["text"]).equality("ÀbC".encode(), nocase=True) == "Àbc".encode()


@pytest.mark.parametrize("type_name", ["float8", "json"])
def test_equality_not_offered_raises(type_name: str) -> None:
    """double precision and json have no equality form."""
    with pytest.raises(PgsealError):
        codec(BASE[type_name]).equality(b"1")
