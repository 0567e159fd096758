"""The start-up packet: what it may be, what the server gets of it, and what the client is told of the version."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import FeatureNotSupported, InvalidAuthorization, PgsealError, ProtocolViolation
from proxy.net.startup import (
    CANCEL_REQUEST,
    Replication,
    check_request_size,
    decoded_parameters,
    negotiation,
    parse_startup,
)

V3_0, V3_2 = 3 << 16, 3 << 16 | 2


def body(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"".join(b"%b\0%b\0" % pair for pair in pairs) + b"\0"


USER = (b"user", b"ann")


def told(minor: int, *names: bytes) -> bytes:
    """NegotiateProtocolVersion's body."""
    return struct.pack("!ii", 3 << 16 | minor, len(names)) + b"".join(name + b"\0" for name in names)


def test_packet_of_known_parameters_is_the_clients_own():
    """Order, repeated settings and bytes that are not UTF-8 stay."""
    sent = body(USER, (b"TimeZone", b"UTC"), (b"x.y", b"\xff"), (b"TimeZone", b"CET"), (b"options", b""))
    packet = parse_startup(V3_0, sent).packet()
    assert packet == struct.pack("!ii", 8 + len(sent), V3_0) + sent


def test_packet_of_a_later_minor_with_unknown_options_is_cut_to_ours():
    """What libpq's grease sends never reaches the server."""
    startup = parse_startup(3 << 16 | 9999, body((b"_pq_.a", b"1"), USER, (b"_pq_.b", b"")))
    assert startup.packet()[4:] == struct.pack("!i", V3_2) + body(USER)
    assert startup.unknown == (b"_pq_.a", b"_pq_.b")


@pytest.mark.parametrize(
    ("minor", "options", "server", "expected"),
    [
        (0, (), None, None),
        (2, (), None, None),
        (2, (), told(0), told(0)),
        (9999, (), None, told(2)),
        (9999, (), told(0), told(0)),
        (0, ((b"_pq_.a", b"1"),), None, told(0, b"_pq_.a")),
        (2, ((b"_pq_.a", b"1"),), None, told(2, b"_pq_.a")),
        (2, ((b"_pq_.a", b"1"),), told(0), told(0, b"_pq_.a")),
        (2, (), told(2, b"_pq_.odd"), told(2, b"_pq_.odd")),
    ],
)
def test_negotiation_merges_ours_and_the_servers(minor, options, server, expected):
    """One message, or none where there is nothing to say."""
    answer = negotiation(parse_startup(3 << 16 | minor, body(USER, *options)), server)
    assert answer == (b"" if expected is None else b"v" + struct.pack("!i", len(expected) + 4) + expected)


@pytest.mark.parametrize(
    "server", [b"", b"\0\0\0", told(0)[:7], told(2, b"x")[:-1], struct.pack("!ii", 9 << 16, 0)]
)
def test_negotiation_that_the_server_sends_broken_is_refused(server):
    """A server that cannot say its version is none."""
    with pytest.raises(ProtocolViolation):
        negotiation(parse_startup(V3_2, body(USER)), server)


@pytest.mark.parametrize("code", [0, 2 << 16, 4 << 16, 80877103, 80877104, -1, 0x47455420])
def test_startup_of_another_major_is_refused(code):
    """0A000, as PostgreSQL says it."""
    with pytest.raises(FeatureNotSupported):
        parse_startup(code, body(USER))


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"user",
        b"user\0ann",
        b"user\0ann\0",
        b"user\0ann\0\0\0",
        b"user\0ann\0\0x\0\0",
        b"\0\0\0",
        body(USER, USER),
        body(USER, (b"options", b"a"), (b"options", b"b")),
        body(USER, (b"database", b"a"), (b"database", b"a")),
    ],
)
def test_startup_of_a_broken_layout_is_refused(broken):
    """Also a name given twice, of which two readers could take different ones."""
    with pytest.raises(ProtocolViolation):
        parse_startup(V3_0, broken)


@pytest.mark.parametrize("name", [b"x" * 64, b"\xff"])
@pytest.mark.parametrize("parameter", [b"user", b"database"])
def test_name_that_the_server_would_read_otherwise_is_refused(parameter, name):
    """Too long names are cut there; bytes that are not UTF-8 have no name in the rules."""
    pairs = {b"user": b"ann", parameter: name}
    with pytest.raises(InvalidAuthorization):
        parse_startup(V3_0, body(*pairs.items()))


def test_database_not_given_is_the_user():
    """As the server has it; an empty one too."""
    assert parse_startup(V3_0, body(USER)).database == "ann"
    assert parse_startup(V3_0, body(USER, (b"database", b""))).database == "ann"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Replication.NONE),
        (b"false", Replication.NONE),
        (b"F", Replication.NONE),
        (b"no", Replication.NONE),
        (b"off", Replication.NONE),
        (b"0", Replication.NONE),
        (b"database", Replication.WANTED),
        (b"true", Replication.WANTED),
        (b"T", Replication.WANTED),
        (b"Yes", Replication.WANTED),
        (b"on", Replication.WANTED),
        (b"1", Replication.WANTED),
        (b"", Replication.UNCLEAR),
        (b"o", Replication.UNCLEAR),
        (b"maybe", Replication.UNCLEAR),
        (b"Database", Replication.UNCLEAR),
    ],
)
def test_replication_is_read_as_the_server_reads_it(value, expected):
    """Its booleans may be cut short; `database` may not."""
    pairs = (USER,) if value is None else (USER, (b"replication", value))
    assert parse_startup(V3_0, body(*pairs)).replication is expected


def test_parameters_decoded_keep_foreign_bytes_apart():
    """Two different byte strings never become one text; the application's name stays printable."""
    startup = parse_startup(
        V3_0, body(USER, (b"a.b", b"\xff"), (b"a.c", b"\xfe"), (b"application_name", b"\xff"))
    )
    named = dict(decoded_parameters(startup))
    assert named["a.b"] != named["a.c"]
    assert named["application_name"] == "\\xff"


@pytest.mark.parametrize("size", [-1, 0, 4, 7, 10_001, 0x47455420])
def test_size_out_of_bounds_is_refused(size):
    """Before anything is allocated."""
    assert check_request_size(size) is not None


@pytest.mark.parametrize(("size", "is_legal"), [(15, False), (16, True), (268, True), (269, False)])
def test_size_of_a_cancel_request_has_its_own_bounds(size, is_legal):
    """Keys have 4 to 256 bytes."""
    assert (check_request_size(size, CANCEL_REQUEST) is None) is is_legal


@given(st.integers(-(2**31), 2**31 - 1) | st.just(V3_0), st.binary(max_size=200))
def test_startup_of_any_bytes_ends_in_success_or_a_documented_error(code, sent):
    """And what succeeds is forwarded in a form that parses to the same."""
    try:
        startup = parse_startup(code, sent)
    except PgsealError:
        return
    again = parse_startup(3 << 16 | startup.forwarded_minor, startup.packet()[8:])
    assert again.parameters == startup.parameters
