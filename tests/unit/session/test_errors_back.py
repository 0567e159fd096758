"""What is kept of the server's words over a protected relation, and what takes their place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.session import errors_back
from proxy.session.errors_back import Source, may_hold_cell
from proxy.sql.plan import Overlay
from proxy.values.base import Settings
from proxy.wire.backend import parse_error_fields
from tests.unit.sql import worlds as catalogs

SNAPSHOT = catalogs.snapshot()
RULES = SNAPSHOT.rules.tables["public", "patients"].columns
SOURCE = Source(SNAPSHOT, Overlay(), (RULES["ssn"],), None, False, Settings())
CELL = bytes.fromhex("a60b3501130000000142") + bytes(range(40))


def shown(source: Source = SOURCE, **fields: str) -> dict[str, str]:
    raw = [(ord(kind), text.encode()) for kind, text in fields.items()]
    found = parse_error_fields(errors_back.shown(raw, source)[5:])
    return {chr(kind): text.decode() for kind, text in found}


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ("Key (ssn)=(\\xa60b35) already exists.", "Key (ssn) already exists."),
        ('Key ("substring"(ssn, 10, 15))=(\\x0102) already exists.', "Key (ssn) already exists."),
        ("Key (SUBSTRING(ssn FROM 10 FOR 15))=(\\x0102) already exists.", "Key (ssn) already exists."),
        ('Key ((substr(ssn, 13, 20) COLLATE "C"))=(AbC) already exists.', "Key (ssn) already exists."),
        ('Key (a, "substring"("S n", 10, 15))=(1, \\x01) already exists.', 'Key (a, "S n") already exists.'),
        ("Key (id)=(7) already exists.", "Key (id)=(7) already exists."),
        ("Key (lower(name))=(x) already exists.", "Key (lower(name)) already exists."),
        ("Key (x)=(\\xa60b35) already exists.", "Key (x) already exists."),
        ("Schl\u00fcssel (id)=(7) existiert bereits.", "Schl\u00fcssel (id)=(7) existiert bereits."),
        ("(\\xa60b3501)=(1)", None),
        ("something else", None),
        ("", None),
    ],
)
def test_key_of_a_unique_violation_is_its_columns(detail: str, expected: str | None) -> None:
    """Tokens by every spelling PostgreSQL has for them; values only where all of the key are plain columns."""
    assert shown(C="23505", M="m", D=detail).get("D") == expected


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ('Key (ssn)=(\\x01) is not present in table "t".', 'Key (ssn) is not present in table "t".'),
        ('Key (id)=(1) is still referenced from table "t".', 'Key (id)=(1) is still referenced from table "t".'),
        ('Key (ssn)=() is not present in table "x".) said', None),
    ],
)
def test_key_of_a_foreign_key_violation_is_its_columns(detail: str, expected: str | None) -> None:
    """Both directions."""
    assert shown(C="23503", M="m", D=detail).get("D") == expected


@pytest.mark.parametrize(
    "code", ["22P02", "22003", "22021", "P0001", "23505", "42804", "XX000", "57014", "01000"]
)
@pytest.mark.parametrize(
    "written",
    [
        "\\x" + CELL.hex(), "\\X" + CELL.hex().upper(), CELL.hex(), CELL[10:25].hex(), "pgs1EwAAAAFC",
        "\\246\\0135\\001", "0xa6 0x0b", 'row (1,"\\\\xa60b35")',
    ],
)  # fmt: skip
def test_message_that_quotes_a_cell_is_exchanged(code: str, written: str) -> None:
    """Whatever its SQLSTATE, which stays, and in whatever way the cell is written."""
    found = shown(C=code, M=f'invalid "{written}"', D=written, H=written, W=written, q=written, p="1", n="name")
    assert found["C"] == code
    assert "public.patients.ssn" in found["M"]
    assert written not in str(found)
    assert (found["n"], {"D", "H", "W", "q", "p"} & set(found)) == ("name", set())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("23502", 'null value in column "ssn" of relation "patients" violates not-null constraint'),
        ("22P02", 'invalid input syntax for type integer: "abc"'),
        ("P0001", "Account 7b0e5a34-5c0e-4f0a-8e57-2b3f0a3c9d11 is closed"),
        ("42703", 'column "AVeryLongNameOfAColumnInCamelCase" does not exist'),
        ("40001", "could not serialize access due to concurrent update"),
    ],
)
def test_message_without_a_cell_stays(code: str, message: str) -> None:
    """Applications and people read them."""
    assert shown(C=code, M=message)["M"] == message


def test_name_with_a_field_of_its_own_stays_whatever_it_looks_like() -> None:
    """A constraint may be called as a token is written."""
    name = "aBcDeFgHiJkLmNoPqRsTuVwX"
    message = f'duplicate key value violates unique constraint "{name}"'
    assert shown(C="23505", M=message, n=name)["M"] == message


def test_type_of_a_column_is_its_logical_one() -> None:
    """The client knows of no bytea."""
    message = 'column "ssn" is of type bytea but expression is of type integer'
    assert shown(C="42804", M=message)["M"] == 'column "ssn" is of type text but expression is of type integer'


@given(st.binary(min_size=15, max_size=15))
def test_token_in_hex_is_seen_whatever_its_bytes(token: bytes) -> None:
    """With the sign of bytea and without."""
    assert may_hold_cell(token.hex().encode())
    assert may_hold_cell(b"\\x" + token.hex().encode())


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_message(raw: bytes) -> None:
    """The server's bytes are outside bytes."""
    text = raw.replace(b"\0", b"")
    for code in (b"23505", b"23503", b"23514", b"22P02", b"42601", text[:5]):
        fields = [(ord("C"), code), (ord("M"), text), (ord("D"), text), (ord("n"), text), (ord("P"), text)]
        assert errors_back.shown(fields, SOURCE)[:1] == b"E"
        assert errors_back.shown_notice(fields, SOURCE)[:1] == b"N"
