"""Messages of the client against the manual's table in `tests/oracle.py`, both ways, and malformed."""

from __future__ import annotations

import pytest

from proxy.errors import ProtocolViolation
from proxy.wire import frontend as f
from tests import playbook
from tests.oracle import FRONTEND, decode, encode

PARSES = [f.Parse(b"", b"", ()), f.Parse(b"n", "sé".encode(), (0, 25, 1 << 31, 4294967295))]
BINDS = [
    f.Bind(b"", b"", (), [], ()),
    f.Bind(b"p", b"s", (0,), [b"a", None, b""], (1,)),
    f.Bind(b"p", b"s", (0, 1, 0), [b"a", None, b"\0" * 300], (0, 1, 1)),
    f.Bind(b"", b"s", (1,), [b"x"] * 65535, ()),
]


@pytest.mark.parametrize("message", PARSES)
def test_parse_built_is_the_manuals_and_reads_back(message: f.Parse) -> None:
    """The same fields by the oracle and by ourselves."""
    raw = f.build_parse(message)
    told = decode(FRONTEND, raw)
    assert (told.fields["name"], told.sql, tuple(told.oids)) == (message.name, message.text, message.oids)
    assert f.parse_parse(raw[5:]) == message


@pytest.mark.parametrize("message", BINDS)
def test_bind_built_is_the_manuals_and_reads_back(message: f.Bind) -> None:
    """Formats of none, one or each; NULL, empty and 65,535 values."""
    raw = f.build_bind(message)
    told = decode(FRONTEND, raw)
    assert (told.portal, told.statement, told.parameters) == (message.portal, message.statement, message.values)
    assert f.parse_bind(raw[5:]) == message
    assert f.bind_names(raw, 5, len(raw)) == (message.portal, message.statement)


@pytest.mark.parametrize("cut", range(len(f.build_parse(PARSES[1])) - 5))
def test_parse_cut_anywhere_is_a_violation(cut: int) -> None:
    """No prefix of a Parse is one."""
    with pytest.raises(ProtocolViolation):
        f.parse_parse(f.build_parse(PARSES[1])[5:][:cut])


@pytest.mark.parametrize("cut", range(len(f.build_bind(BINDS[1])) - 5))
def test_bind_cut_anywhere_is_a_violation(cut: int) -> None:
    """No prefix of a Bind is one."""
    with pytest.raises(ProtocolViolation):
        f.parse_bind(f.build_bind(BINDS[1])[5:][:cut])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0\1\0\2\0\0\0\0",  # format code 2
        b"\0\0\0\2\0\0\0\1\0\1\0\0\0\1a\0\0",  # two formats, one value
        b"\0\0\0\0\0\1\x7f\xff\xff\xff\0\0",  # a value larger than the message
        b"\0\0\0\0\0\0\0\0x",  # trailing bytes
        b"\0\0\0\0\xff\xff",
        b"\0\0\xff\xff",
    ],
)
def test_malformed_bind_is_a_violation(body: bytes) -> None:
    """Counts, sizes and codes that disagree."""
    with pytest.raises(ProtocolViolation):
        f.parse_bind(body)


@pytest.mark.parametrize("body", [b"\0\0\0\1", b"\0\0\0\0x", b"\0x", b"x"])
def test_malformed_parse_is_a_violation(body: bytes) -> None:
    """As above."""
    with pytest.raises(ProtocolViolation):
        f.parse_parse(body)


@pytest.mark.parametrize("body", [b"", b"p", b"p\0s"])
def test_names_of_a_cut_bind_are_none(body: bytes) -> None:
    """The names end before the message does, or there are none; what stands behind it is not read."""
    assert f.bind_names(body + b"\0\0", 0, len(body)) is None


def test_messages_pgseal_makes_are_the_manuals() -> None:
    """Byte for byte."""
    assert f.build_query(b"select 1") == playbook.query("select 1")
    assert f.build_describe_statement(b"n") == playbook.describe_statement("n")
    assert f.build_describe_portal(b"n") == playbook.describe_portal("n")
    assert f.build_close_statement(b"n") == playbook.close_statement("n")
    assert f.build_execute(b"n", 5) == playbook.execute("n", 5)
    assert f.build_copy_fail(b"why") == playbook.copy_fail("why")
    assert (playbook.flush(), playbook.sync()) == (f.FLUSH_MESSAGE, f.SYNC_MESSAGE)
    assert encode(FRONTEND, "Terminate") == f.TERMINATE_MESSAGE


def test_formats_expand_to_one_each() -> None:
    """None is text for all, one is for all."""
    assert f.expand_formats((), 2) == (0, 0)
    assert f.expand_formats((1,), 3) == (1, 1, 1)
    assert f.expand_formats((1, 0), 2) == (1, 0)
