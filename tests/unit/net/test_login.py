"""Which road a log-in takes, as a table; and the small messages around it."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from proxy.config import AuthMode
from proxy.errors import InvalidAuthorization, PgsealError, ProtocolViolation
from proxy.net.login import Road, Situation, _check_flag, _split_initial, choose, shown
from proxy.net.scram import VerifierDiffers

OK, CLEAR, MD5, GSS, SASL = 0, 3, 5, 7, 10
PLAIN = Situation(
    mode=AuthMode.AUTO,
    request=OK,
    offers_scram=True,
    client_tls=False,
    server_tls=False,
    is_clear_safe=True,
    has_verifier=False,
    has_certificate=False,
    proxy_certificate=False,
)
TLS = {"client_tls": True, "server_tls": True}
REFUSED = None


@pytest.mark.parametrize(
    ("mode", "request_code", "facts", "road"),
    [
        ("auto", OK, {}, Road.TRUST),
        ("relay", OK, {}, Road.TRUST),
        ("auto", OK, {"has_verifier": True}, Road.PROVE_HERE),
        ("terminate", OK, {}, Road.PROVE_HERE),
        ("pinned", OK, {}, Road.PROVE_HERE),
        ("pinned", OK, {"has_certificate": True}, Road.TRUST),
        ("relay", OK, {"proxy_certificate": True}, REFUSED),
        ("auto", OK, {"proxy_certificate": True}, REFUSED),
        ("auto", OK, {"proxy_certificate": True, "has_verifier": True}, Road.PROVE_HERE),
        ("relay", OK, {"proxy_certificate": True, "has_certificate": True}, Road.TRUST),
        ("auto", CLEAR, {}, Road.RELAY),
        ("relay", CLEAR, {"is_clear_safe": False}, REFUSED),
        ("auto", CLEAR, {"is_clear_safe": False}, REFUSED),
        ("terminate", CLEAR, {}, REFUSED),
        ("pinned", CLEAR, {"has_certificate": True}, REFUSED),
        ("auto", MD5, {"is_clear_safe": False}, Road.RELAY),
        ("relay", MD5, {"has_verifier": True}, Road.RELAY),
        ("terminate", MD5, {"has_verifier": True}, REFUSED),
        ("pinned", MD5, {}, REFUSED),
        ("relay", SASL, TLS, Road.RELAY),
        ("auto", SASL, TLS, Road.RELAY),
        ("auto", SASL, TLS | {"has_verifier": True}, Road.TERMINATE),
        ("auto", SASL, {"client_tls": True, "has_verifier": True}, Road.RELAY),
        ("auto", SASL, {"server_tls": True, "has_verifier": True}, Road.RELAY),
        ("terminate", SASL, {}, Road.TERMINATE),
        ("pinned", SASL, TLS, Road.TERMINATE),
        ("terminate", SASL, {"offers_scram": False}, REFUSED),
        ("auto", SASL, TLS | {"offers_scram": False, "has_verifier": True}, Road.RELAY),
        ("relay", GSS, {}, REFUSED),
        ("auto", 99, {}, REFUSED),
    ],
)
def test_road_of_a_login_is_the_sound_one(mode, request_code, facts, road):
    """Where none is sound the reason is given as FATAL 28000."""
    now = replace(PLAIN, mode=AuthMode(mode), request=request_code, **facts)
    if road is REFUSED:
        with pytest.raises(InvalidAuthorization) as caught:
            choose(now)
        assert caught.value.severity == "FATAL"
    else:
        assert choose(now) is road


@pytest.mark.parametrize("flag", [b"n,,", b"p=tls-server-end-point,,", b""])
def test_flag_other_than_y_passes(flag):
    """Those the server judges itself."""
    message = flag + b"n=,r=abc"
    _check_flag(b"SCRAM-SHA-256\0" + struct.pack("!i", len(message)) + message)


def test_flag_y_is_refused_with_what_to_do():
    """It would fail at the server, for a reason that is not the client's."""
    message = b"y,,n=,r=abc"
    with pytest.raises(InvalidAuthorization) as caught:
        _check_flag(b"SCRAM-SHA-256\0" + struct.pack("!i", len(message)) + message)
    assert "channel_binding=disable" in str(caught.value.hint)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"SCRAM",
        b"SCRAM\0",
        b"SCRAM\0\0\0\0",
        b"S\0\0\0\0\x05abc",
        b"S\0\xff\xff\xff\xffabc",
        b"S\0\xff\xff\xff\xfe",
    ],
)
def test_initial_response_of_a_broken_layout_is_refused(body):
    """Sizes and bytes must agree."""
    with pytest.raises(ProtocolViolation):
        _split_initial(body)


def test_initial_response_without_bytes_is_empty():
    """Size -1."""
    assert _split_initial(b"X\0\xff\xff\xff\xff") == ("X", b"")


def test_error_shown_hides_that_verifiers_differ():
    """The client hears of a wrong password; other errors are shown as they are."""
    hidden = shown(VerifierDiffers("the server's verifier differs", severity="FATAL"), "ann")
    assert b"C28P01\0" in hidden and b'user "ann"' in hidden and b"verifier" not in hidden
    plain = shown(PgsealError("reason", severity="FATAL"), "ann")
    assert b"Mreason\0" in plain
