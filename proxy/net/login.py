"""Who the client is: authentication of one connection (manual: "Start-up", "SASL Authentication").

The server is asked first; its authentication request and the mode choose the road (`choose`):

| server asks      | relay, auto                                | terminate, pinned                     |
|------------------|--------------------------------------------|---------------------------------------|
| nothing (Ok)     | trusted, unless the proxy's own certificate| the client proves itself by SCRAM to  |
|                  | or a verifier at hand asks for proof here  | the proxy, or by certificate          |
| cleartext        | relayed where nobody can listen            | refused, there is no password to send |
| MD5              | relayed                                    | refused                               |
| SASL             | relayed, PLUS taken out of the list; auto  | SCRAM twice, ClientKey passed through |
|                  | terminates between two TLS legs            |                                       |

A client whose TLS leg ends here must not be told of the server's channel binding, and one that then says it
could have bound ("y") is refused by the server: such a log-in works only terminated.
One reason to change: a method of authentication.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from proxy.config import AuthMode
from proxy.errors import InvalidAuthorization, InvalidPassword, PgsealError, ProtocolViolation, ServerUnreachable
from proxy.net.edge import Edge
from proxy.net.scram import (
    SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS,
    ScramClient,
    ScramServer,
    Verifier,
    VerifierDiffers,
    wipe,
)
from proxy.net.startup import Startup, negotiation
from proxy.net.verifiers import Verifiers
from proxy.wire.backend import error_response, parse_error_fields
from proxy.wire.framing import frame

MAX_CLIENT_MESSAGE: Final = 65_535
MAX_SERVER_MESSAGE: Final = 1 << 20
_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_RELAYED: Final = frozenset({_CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE})
_UNSUPPORTED: Final = {2: "Kerberos", 6: "SCM credentials", 7: "GSSAPI", 8: "GSSAPI", 9: "SSPI"}
_INT32 = struct.Struct("!i")


class Refused(Exception):
    """The server refused the log-in; the client has its ErrorResponse already."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class ClientLeg:
    """`common_name` is that of a verified client certificate; `binding` of the proxy's own one."""

    edge: Edge
    address: str
    is_tls: bool
    is_local: bool
    common_name: str | None = None
    binding: bytes = b""


@dataclass(frozen=True, slots=True)
class ServerSide:
    """`binding` of the server's certificate, empty without TLS; `shows_certificate`: the proxy has its own."""

    edge: Edge
    is_tls: bool
    is_local: bool
    binding: bytes = b""
    shows_certificate: bool = False


@dataclass(frozen=True, slots=True)
class Proof:
    """How a log-in ended. `proved`: by something the database cannot change (certificate, verifier kept here).
    `server_ok` is the server's AuthenticationOk, not yet sent to the client."""

    proved: bool
    method: str
    server_ok: bytes


class Road(Enum):
    TRUST = "trust"
    RELAY = "relay"
    PROVE_HERE = "prove here"  # SCRAM with the client only; the server asks nothing
    TERMINATE = "terminate"  # SCRAM with both


@dataclass(frozen=True, slots=True)
class Situation:
    """What `choose` looks at."""

    mode: AuthMode
    request: int
    offers_scram: bool
    client_tls: bool
    server_tls: bool
    is_clear_safe: bool  # cleartext can be read by neither network
    has_verifier: bool
    has_certificate: bool  # the client's, verified, of that user
    proxy_certificate: bool  # the server may have let the proxy in by the proxy's own certificate


def choose(now: Situation) -> Road:
    """The road of a log-in; raises InvalidAuthorization with the reason where none is sound."""
    is_strict = now.mode in (AuthMode.TERMINATE, AuthMode.PINNED)
    is_auto = now.mode is AuthMode.AUTO
    match now.request:
        case 0:  # AuthenticationOk
            return _choose_unasked(now, is_strict)
        case 3 | 5 if is_strict:
            raise _no(
                "the server asks for a password, which the proxy does not have; use scram-sha-256 in pg_hba.conf"
            )
        case 3 if not now.is_clear_safe:
            raise _no("the server asks for a password in clear, which is relayed only under TLS or on loopback")
        case 3 | 5:
            return Road.RELAY
        case 10 if is_strict and not now.offers_scram:
            raise _no("the server does not offer SCRAM-SHA-256, the only SASL mechanism the proxy can terminate")
        case 10:
            is_between = now.client_tls and now.server_tls and now.offers_scram
            is_terminated = is_strict or (is_auto and is_between and now.has_verifier)
            return Road.TERMINATE if is_terminated else Road.RELAY
        case other:
            name = _UNSUPPORTED.get(other, "unknown")
            raise _no(f"the server asks for an authentication method that cannot pass a proxy ({name})")


def _choose_unasked(now: Situation, is_strict: bool) -> Road:
    if now.has_certificate:
        return Road.TRUST
    if is_strict or (now.mode is AuthMode.AUTO and now.has_verifier):
        return Road.PROVE_HERE
    if now.proxy_certificate:
        raise _no("the server let the proxy in by the proxy's own certificate, and the client showed no proof")
    return Road.TRUST


def _no(reason: str) -> InvalidAuthorization:
    return InvalidAuthorization(reason, severity="FATAL")


class Exchange:
    """One log-in over both edges; `run` returns its Proof or raises."""

    def __init__(
        self, mode: AuthMode, verifiers: Verifiers, startup: Startup, client: ClientLeg, server: ServerSide
    ):
        self._mode = mode
        self._verifiers = verifiers
        self._startup = startup
        self._client = client
        self._server = server

    async def run(self) -> Proof:
        """Sends the start-up packet and authenticates. Raises PgsealError (to be shown), Refused, Vanished."""
        self._server.edge.write(self._startup.packet())
        request, body = await self._first_request()
        by_certificate = self._client.common_name == self._startup.user
        road = choose(self._situation(request, body, by_certificate))
        match road:
            case Road.TRUST:
                return Proof(by_certificate, "certificate" if by_certificate else "trust", frame(b"R", body))
            case Road.PROVE_HERE:
                _, client_key, final = await self._prove()
                wipe(client_key)
                self._client.edge.write(final)
                return Proof(True, "scram", frame(b"R", body))
            case Road.TERMINATE:
                return Proof(True, "scram", await self._terminate(_mechanisms(body)))
            case Road.RELAY:
                return Proof(by_certificate, "relay", await self._relay(request, body))
            case _:
                assert_never(road)

    def _situation(self, request: int, body: bytes, by_certificate: bool) -> Situation:
        client, server = self._client, self._server
        return Situation(
            mode=self._mode,
            request=request,
            offers_scram=request == _SASL and SCRAM_SHA_256 in _mechanisms(body),
            client_tls=client.is_tls,
            server_tls=server.is_tls,
            is_clear_safe=(client.is_tls or client.is_local) and (server.is_tls or server.is_local),
            has_verifier=self._verifiers.get(self._startup.user) is not None,
            has_certificate=by_certificate,
            proxy_certificate=server.shows_certificate,
        )

    # --- the server's side

    async def _first_request(self) -> tuple[int, bytes]:
        """Its first authentication request; before it the client hears which protocol version it gets."""
        kind, body = await self._server.edge.message(MAX_SERVER_MESSAGE)
        told = None
        if kind == ord("v"):
            told = body
            kind, body = await self._server.edge.message(MAX_SERVER_MESSAGE)
        answer = negotiation(self._startup, told)
        if answer:
            self._client.edge.write(answer)
        return await self._request_of(kind, body)

    async def _next_request(self) -> tuple[int, bytes]:
        return await self._request_of(*await self._server.edge.message(MAX_SERVER_MESSAGE))

    async def _request_of(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Notices pass on; an ErrorResponse passes on and ends the log-in."""
        while kind == ord("N"):
            self._client.edge.write(frame(b"N", body))
            kind, body = await self._server.edge.message(MAX_SERVER_MESSAGE)
        if kind == ord("E"):
            raise self._refusal(body)
        if kind != ord("R") or len(body) < 4:
            raise ServerUnreachable("the server broke the protocol during start-up", severity="FATAL")
        return int(_INT32.unpack_from(body)[0]), body

    def _refusal(self, body: bytes) -> Refused:
        self._client.edge.write(frame(b"E", body))
        return Refused(_sqlstate(body))

    # --- relayed

    async def _relay(self, request: int, body: bytes) -> bytes:
        """Passes the exchange through as it is, but for PLUS. Returns the server's AuthenticationOk."""
        is_plus_hidden = False
        if request == _SASL:
            offered = _mechanisms(body)
            kept = tuple(name for name in offered if not name.endswith("-PLUS"))
            if not kept:
                raise _no("the server offers channel binding only, which cannot pass a proxy")
            is_plus_hidden = kept != offered
            body = _sasl_request(kept)
        while request in _RELAYED:
            self._client.edge.write(frame(b"R", body))
            answer = await self._client_answer()
            if request == _SASL and is_plus_hidden:
                _check_flag(answer)
            self._server.edge.write(frame(b"p", answer))
            request, body = await self._next_request()
            if request == _SASL_FINAL:
                self._client.edge.write(frame(b"R", body))
                request, body = await self._next_request()
        if request != _OK:
            raise ServerUnreachable("the server broke the protocol during authentication", severity="FATAL")
        return frame(b"R", body)

    async def _client_answer(self) -> bytes:
        kind, body = await self._client.edge.message(MAX_CLIENT_MESSAGE)
        if kind != ord("p"):
            raise ProtocolViolation(
                f"expected SASL or password response, got message type {kind}", severity="FATAL"
            )
        return body

    # --- terminated

    async def _terminate(self, offered: tuple[str, ...]) -> bytes:
        """SCRAM with the client, then with the server by its ClientKey. Returns AuthenticationOk."""
        verifier, client_key, final = await self._prove()
        try:
            ok = await self._prove_to_server(ScramClient(verifier, client_key, offered, self._server.binding))
        finally:
            wipe(client_key)
        self._client.edge.write(final)
        return ok

    async def _prove(self) -> tuple[Verifier, bytearray, bytes]:
        """(verifier, ClientKey, the AuthenticationSASLFinal still to be sent) of a client that proved itself."""
        user, client = self._startup.user, self._client
        known = self._verifiers.get(user)
        verifier = known or self._verifiers.mock(user)
        scram = ScramServer(verifier, binding=client.binding, is_mock=known is None)
        names = (SCRAM_SHA_256_PLUS, SCRAM_SHA_256) if client.binding else (SCRAM_SHA_256,)
        client.edge.write(frame(b"R", _sasl_request(names)))
        mechanism, message = _split_initial(await self._client_answer())
        if mechanism not in names:
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism", severity="FATAL")
        client.edge.write(frame(b"R", _INT32.pack(_SASL_CONTINUE) + scram.first(mechanism, message)))
        try:
            final = scram.final(await self._client_answer())
        except InvalidPassword:
            raise self._wrong_password() from None
        return verifier, scram.client_key, frame(b"R", _INT32.pack(_SASL_FINAL) + final)

    async def _prove_to_server(self, scram: ScramClient) -> bytes:
        first = scram.first()
        initial = scram.mechanism.encode() + b"\0" + _INT32.pack(len(first)) + first
        self._server.edge.write(frame(b"p", initial))
        challenge = await self._scram_answer(_SASL_CONTINUE)
        self._server.edge.write(frame(b"p", scram.final(challenge)))
        scram.check(await self._scram_answer(_SASL_FINAL))
        request, body = await self._next_request()
        if request != _OK:
            raise ServerUnreachable("the server broke the protocol during authentication", severity="FATAL")
        return frame(b"R", body)

    async def _scram_answer(self, expected: int) -> bytes:
        """A server that refuses the ClientKey holds another verifier."""
        kind, body = await self._server.edge.message(MAX_SERVER_MESSAGE)
        if kind == ord("E") and _sqlstate(body) == InvalidPassword.sqlstate:
            raise VerifierDiffers("the server refuses the proxy's verifier", severity="FATAL")
        request, body = await self._request_of(kind, body)
        if request != expected:
            raise ServerUnreachable("the server broke the protocol during authentication", severity="FATAL")
        return body[4:]

    def _wrong_password(self) -> PgsealError:
        user = self._startup.user
        return InvalidPassword(f'password authentication failed for user "{user}"', severity="FATAL")


def shown(error: PgsealError, user: str) -> bytes:
    """The ErrorResponse of a failed log-in. That verifiers differ is the operator's to know, not the client's."""
    if isinstance(error, VerifierDiffers):
        error = InvalidPassword(f'password authentication failed for user "{user}"', severity="FATAL")
    return error_response(error)


def _mechanisms(body: bytes) -> tuple[str, ...]:
    """AuthenticationSASL: int32 10, names each NUL-ended, NUL."""
    return tuple(name.decode("ascii", "replace") for name in body[4:].split(b"\0") if name)


def _sasl_request(names: tuple[str, ...]) -> bytes:
    return _INT32.pack(_SASL) + b"".join(name.encode() + b"\0" for name in names) + b"\0"


def _split_initial(body: bytes) -> tuple[str, bytes]:
    """SASLInitialResponse: mechanism NUL, int32 size (-1: none), bytes."""
    name, found, rest = body.partition(b"\0")
    if not found or len(rest) < 4:
        raise ProtocolViolation("malformed SASLInitialResponse", severity="FATAL")
    size, message = _INT32.unpack_from(rest)[0], rest[4:]
    if size != (len(message) if size >= 0 else -1) or (size < 0 and message):
        raise ProtocolViolation("malformed SASLInitialResponse", severity="FATAL")
    return name.decode("ascii", "replace"), message


def _check_flag(initial: bytes) -> None:
    """A client that says "y" would be refused by the server, and for a reason that is not its fault."""
    if _split_initial(initial)[1][:1] != b"y":
        return
    raise InvalidAuthorization(
        "SCRAM cannot be relayed between two TLS connections to a client that supports channel binding",
        hint="Connect with channel_binding=disable, or give the proxy the user's verifier (auth: verifiers).",
        severity="FATAL",
    )


def _sqlstate(body: bytes) -> str:
    return dict(parse_error_fields(body)).get(ord("C"), b"").decode("ascii", "replace")
