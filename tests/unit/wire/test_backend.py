"""Messages of the server against the manual's table in `tests/oracle.py`, both ways, and malformed."""

from __future__ import annotations

import pytest

from proxy.errors import CellNotOpen, ProtocolViolation, Unsupported
from proxy.wire import backend as b
from tests.oracle import BACKEND, decode, encode

FIELDS = (b.Field(b"a", 0, 0, 25, -1, -1, 0), b.Field("é".encode(), 4294967295, -7, 17, 4, 258, 1))


def test_row_description_built_is_the_manuals_and_reads_back() -> None:
    """Every field, OIDs beyond 31 bits included."""
    raw = b.build_row_description(FIELDS)
    told = decode(BACKEND, raw).columns[1]
    assert told == ("é".encode(), 4294967295, -7, 17, 4, 258, 1)
    assert b.parse_row_description(raw[5:]) == FIELDS


@pytest.mark.parametrize("cut", range(len(b.build_row_description(FIELDS)) - 5))
def test_row_description_cut_anywhere_is_a_violation(cut: int) -> None:
    """No prefix is one."""
    with pytest.raises(ProtocolViolation):
        b.parse_row_description(b.build_row_description(FIELDS)[5:][:cut])


@pytest.mark.parametrize("oids", [(), (17,), (0, 4294967295)])
def test_parameter_description_reads_back(oids: tuple[int, ...]) -> None:
    """Both ways."""
    raw = b.build_parameter_description(oids)
    assert tuple(decode(BACKEND, raw).oids) == oids == b.parse_parameter_description(raw[5:])


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\1", b"\0\1\0\0\0", b"\0\0x"])
def test_malformed_parameter_description_is_a_violation(body: bytes) -> None:
    """Count and size must agree."""
    with pytest.raises(ProtocolViolation):
        b.parse_parameter_description(body)


def test_parameter_status_reads_name_and_value() -> None:
    """Bytes that are no UTF-8 raise nothing."""
    assert b.parse_parameter_status(b"TimeZone\0UTC\0") == ("TimeZone", "UTC")
    assert b.parse_parameter_status(b"a\0\xff\0")[0] == "a"
    with pytest.raises(ProtocolViolation):
        b.parse_parameter_status(b"a\0b")


def test_error_fields_read_back() -> None:
    """In order, and again."""
    raw = encode(BACKEND, "ErrorResponse", fields=[("S", b"ERROR"), ("C", b"42601"), ("M", b"")])
    fields = b.parse_error_fields(raw[5:])
    assert fields == [(ord("S"), b"ERROR"), (ord("C"), b"42601"), (ord("M"), b"")]
    assert b.build_error_fields(fields) == raw


@pytest.mark.parametrize("body", [b"", b"\0", b"SERROR\0\0"])
def test_error_fields_end_at_the_terminator(body: bytes) -> None:
    """An empty one is legal."""
    assert len(b.parse_error_fields(body)) == (1 if len(body) > 1 else 0)


def test_error_field_without_its_end_is_a_violation() -> None:
    """A text must end."""
    with pytest.raises(ProtocolViolation):
        b.parse_error_fields(b"SERROR")


def test_error_response_names_column_and_page() -> None:
    """The fields drivers look at, a hint with the page, the column in the message."""
    error = Unsupported("no length() of it", column="public.t.c", hint="Do else.")
    error.character = 7
    told = decode(BACKEND, b.error_response(error))
    assert [told.note(letter) for letter in "SVCP"] == ["ERROR", "ERROR", "PS001", "7"]
    assert told.note("M") == "public.t.c: no length() of it"
    assert told.note("H").startswith("Do else. See ") and told.note("H").endswith("#ps001.")


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("write it out", "Write it out."),
        ("Write it out.", "Write it out."),
        ("pgseal compares only", "pgseal compares only."),
        ("`pgseal check` says more", "`pgseal check` says more."),
        ("is the disk full?", "Is the disk full?"),
        ("SET a = 'b'", "SET a = 'b'."),
    ],
)
def test_hint_of_an_error_response_is_a_sentence(hint: str, shown: str) -> None:
    """PostgreSQL's style: a hint begins with a capital and ends with a full stop; names stay as they are."""
    told = decode(BACKEND, b.error_response(ProtocolViolation("m", hint=hint)))
    assert told.note("H") == shown


def test_error_response_has_no_page_for_postgresqls_own_codes() -> None:
    """Nor a hint where there is none; NUL in a text cannot end the message."""
    told = decode(BACKEND, b.error_response(ProtocolViolation("a\0b", severity="FATAL")))
    assert (told.note("V"), told.note("M"), told.note("H")) == ("FATAL", "a?b", "")


def test_error_response_is_written_in_the_clients_encoding() -> None:
    """`encode` is applied to each text."""
    raw = b.error_response(CellNotOpen("ü"), lambda text: text.encode("latin-1"))
    assert b"M\xfc" in raw


def test_notice_response_is_the_manuals() -> None:
    """Severity NOTICE, code 00000."""
    told = decode(BACKEND, b.notice_response("dropped", "why"))
    assert [told.note(letter) for letter in "SVCMH"] == ["NOTICE", "NOTICE", "00000", "dropped", "why"]
