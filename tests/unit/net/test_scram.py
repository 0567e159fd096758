"""SCRAM by RFC 7677's vector, by a client and a server of ours against each other, and by hostile messages."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigError, InvalidAuthorization, InvalidPassword, PgsealError, ProtocolViolation
from proxy.net.scram import (
    SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS,
    ScramClient,
    ScramServer,
    Verifier,
    VerifierDiffers,
    derive_keys,
    saslprep,
    wipe,
)

VERIFIER = Verifier.from_password("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
BINDING = bytes(range(32))


def client_key(password: str = "pencil") -> bytearray:
    return bytearray(derive_keys(password, VERIFIER.salt, VERIFIER.iterations)[0])


def converse(client: ScramClient, server: ScramServer) -> None:
    """Both to their end."""
    server_first = server.first(client.mechanism, client.first())
    client.check(server.final(client.final(server_first)))


def test_server_given_the_vector_of_rfc_7677_answers_as_it_says(monkeypatch):
    """Nonces, proof and signature of section 3."""
    server_nonce = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    monkeypatch.setattr(
        "proxy.net.scram._b64", lambda raw: server_nonce if raw == b"nonce" else base64.b64encode(raw)
    )
    monkeypatch.setattr("proxy.net.scram.os.urandom", lambda size: b"nonce")
    server = ScramServer(VERIFIER)
    first = server.first(SCRAM_SHA_256, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = server.final(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert final == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert server.client_key == client_key()


@pytest.mark.parametrize("offered", [(SCRAM_SHA_256,), (SCRAM_SHA_256_PLUS, SCRAM_SHA_256)])
@pytest.mark.parametrize("binding", [b"", BINDING])
def test_client_key_in_place_of_a_password_proves_itself(binding, offered):
    """With and without channel binding; both signatures fit."""
    can_bind = binding if SCRAM_SHA_256_PLUS in offered else b""
    converse(ScramClient(VERIFIER, client_key(), offered, binding), ScramServer(VERIFIER, binding=can_bind))


def test_client_key_of_another_password_is_refused():
    """And nothing of it is kept."""
    server = ScramServer(VERIFIER)
    with pytest.raises(InvalidPassword):
        converse(ScramClient(VERIFIER, client_key("pencil2"), (SCRAM_SHA_256,), b""), server)
    assert server.client_key == b""


def test_mock_exchange_refuses_even_the_right_proof():
    """It goes as far as any other and then fails."""
    with pytest.raises(InvalidPassword):
        converse(ScramClient(VERIFIER, client_key(), (SCRAM_SHA_256,), b""), ScramServer(VERIFIER, is_mock=True))


def test_downgraded_client_is_refused_where_plus_is_offered():
    """A client that thinks the server cannot bind was lied to."""
    client = ScramClient(VERIFIER, client_key(), (SCRAM_SHA_256,), BINDING)
    with pytest.raises(InvalidAuthorization, match="negotiation error"):
        converse(client, ScramServer(VERIFIER, binding=BINDING))


def test_channel_of_another_certificate_is_refused():
    """Someone stands between."""
    client = ScramClient(VERIFIER, client_key(), (SCRAM_SHA_256_PLUS,), bytes(32))
    with pytest.raises(InvalidAuthorization, match="binding check failed"):
        converse(client, ScramServer(VERIFIER, binding=BINDING))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,m=ext,n=user,r=abc",
        b"n,a=admin,n=user,r=abc",
        b"x,,n=,r=abc",
        b"nn,,n=,r=abc",
        b"p=tls-unique,,n=,r=abc",
        b"p=tls-server-end-point,,n=,r=abc",
        b"n,,n=,r=",
        b"n,,n=,r=a\x00b",
        b"n,,n=,r=\xff",
        b"n,,r=abc,n=",
    ],
)
def test_client_first_that_is_malformed_is_refused(message):
    """Each with a documented error."""
    with pytest.raises((ProtocolViolation, InvalidAuthorization)):
        ScramServer(VERIFIER).first(SCRAM_SHA_256, message)


@pytest.mark.parametrize(
    "change", ["nonce", "channel", "no_proof", "short_proof", "not_base64", "empty", "order"]
)
def test_client_final_that_is_malformed_is_refused(change):
    """Each with a documented error, and no key is learnt."""
    client, server = ScramClient(VERIFIER, client_key(), (SCRAM_SHA_256,), b""), ScramServer(VERIFIER)
    final = client.final(server.first(SCRAM_SHA_256, client.first()))
    channel, nonce, proof = final.split(b",", 2)
    broken = {
        "nonce": b",".join((channel, nonce + b"x", proof)),
        "channel": b",".join((b"c=eSws", nonce, proof)),
        "no_proof": b",".join((channel, nonce)),
        "short_proof": b",".join((channel, nonce, b"p=" + base64.b64encode(bytes(31)))),
        "not_base64": b",".join((channel, nonce, b"p=%%%%")),
        "empty": b"",
        "order": b",".join((nonce, channel, proof)),
    }[change]
    with pytest.raises(PgsealError):
        server.final(broken)
    assert server.client_key == b""


@given(st.binary(max_size=80), st.binary(max_size=120))
def test_server_given_any_bytes_ends_in_a_documented_error(first, final):
    """Nothing but PgsealError comes out of hostile messages."""
    server = ScramServer(VERIFIER)
    with pytest.raises(PgsealError):
        server.first(SCRAM_SHA_256, first)
        server.final(final)


@given(st.binary(max_size=80))
def test_client_given_any_bytes_ends_in_a_documented_error(server_first):
    """A hostile server gets no proof."""
    with pytest.raises(PgsealError):
        ScramClient(VERIFIER, client_key(), (SCRAM_SHA_256,), b"").final(server_first)


def test_server_first_with_another_salt_or_count_gets_no_proof():
    """The verifier is not the server's: the proof would only help someone guess."""
    for salt, count in ((b"AAAA", b"4096"), (base64.b64encode(VERIFIER.salt), b"4097")):
        client = ScramClient(VERIFIER, client_key(), (SCRAM_SHA_256,), b"")
        nonce = client.first().partition(b"r=")[2]
        with pytest.raises(VerifierDiffers):
            client.final(b"r=%bX,s=%b,i=%b" % (nonce, salt, count))


def test_server_signature_that_is_wrong_is_refused():
    """It does not hold the ServerKey."""
    client, server = ScramClient(VERIFIER, client_key(), (SCRAM_SHA_256,), b""), ScramServer(VERIFIER)
    server.final(client.final(server.first(SCRAM_SHA_256, client.first())))
    for final in (b"v=" + base64.b64encode(bytes(32)), b"e=other-error", b"", b"v="):
        with pytest.raises(VerifierDiffers):
            client.check(final)


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", "\u0007"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("a\u00a0b", "a b"),
        ("\u00ad", "\u00ad"),
    ],
)
def test_saslprep_of_the_examples_of_rfc_4013_is_theirs(text, prepared):
    """What RFC 4013 prohibits is used as it is, as PostgreSQL and libpq do."""
    assert saslprep(text) == prepared


def test_verifier_written_and_read_is_the_same():
    """And never shows its keys."""
    assert Verifier.parse(str(VERIFIER)) == VERIFIER
    assert "key" not in repr(VERIFIER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "md5" + "0" * 32,
        "secret",
        "SCRAM-SHA-256$0:AAAA$"
        + base64.b64encode(bytes(32)).decode()
        + ":"
        + base64.b64encode(bytes(32)).decode(),
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
        "SCRAM-SHA-256$4096:AAA$AAAA:AAAA",
        "SCRAM-SHA-1$4096:AAAA$AAAA:AAAA",
    ],
)
def test_verifier_of_another_form_is_refused_without_quoting_it(text):
    """A password put there by mistake must not end in a log."""
    with pytest.raises(ConfigError) as caught:
        Verifier.parse(text)
    assert not text or text not in caught.value.message


def test_wipe_overwrites_in_place():
    """Every reference sees zeros."""
    secret = bytearray(b"abc")
    alias = memoryview(secret)
    wipe(secret)
    assert bytes(alias) == bytes(3)
