"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677; manual: "SASL Authentication"), without I/O.

Both ends are here because pgseal stands between them. As a server it checks the client against a verifier and
so learns the ClientKey: `ClientKey = ClientProof XOR HMAC(StoredKey, AuthMessage)`. As a client it proves itself
to PostgreSQL with that same ClientKey, no password needed, since the verifier is PostgreSQL's own.

ClientKey equals the password for whoever holds it: it lives in a bytearray that `wipe` overwrites.
One reason to change: the mechanism.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stringprep
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from proxy.errors import ConfigError, InvalidAuthorization, InvalidPassword, ProtocolViolation

SCRAM_SHA_256: Final = "SCRAM-SHA-256"
SCRAM_SHA_256_PLUS: Final = "SCRAM-SHA-256-PLUS"
NONCE_SIZE: Final = 18
KEY_SIZE: Final = 32
MAX_ITERATIONS: Final = 10_000_000
_CBIND_TYPE: Final = "tls-server-end-point"
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d{1,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)")
_PRINTABLE = re.compile(rb"[\x21-\x2b\x2d-\x7e]+")  # RFC 5802 "printable": no comma


@dataclass(frozen=True, slots=True)
class Verifier:
    """What PostgreSQL keeps in pg_authid.rolpassword: enough to check a log-in, not to make one."""

    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`; raises ConfigError, never with the text."""
        match = _VERIFIER.fullmatch(text)
        if match is None:
            raise ConfigError("not a verifier of the form SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")
        try:
            salt, stored, server = (base64.b64decode(part, validate=True) for part in match.groups()[1:])
        except binascii.Error:
            raise ConfigError("a part of the verifier is not base64") from None
        iterations = int(match[1])
        if (
            not salt
            or len(stored) != KEY_SIZE
            or len(server) != KEY_SIZE
            or not 1 <= iterations <= MAX_ITERATIONS
        ):
            raise ConfigError("a part of the verifier has the wrong size")
        return cls(iterations, salt, stored, server)

    @classmethod
    def from_password(cls, password: str, salt: bytes, iterations: int = 4096) -> Verifier:
        """The verifier PostgreSQL itself would store for this password and salt."""
        client_key, server_key = derive_keys(password, salt, iterations)
        return cls(iterations, salt, _sha256(client_key), server_key)

    def __str__(self) -> str:
        salt, stored, server = (_b64(part).decode() for part in (self.salt, self.stored_key, self.server_key))
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


def derive_keys(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes]:
    """(ClientKey, ServerKey) of a password."""
    salted = PBKDF2HMAC(hashes.SHA256(), KEY_SIZE, salt, iterations).derive(saslprep(password).encode())
    return _hmac(salted, b"Client Key"), _hmac(salted, b"Server Key")


def saslprep(text: str) -> str:
    """RFC 4013; what it prohibits is taken as it is, which is what PostgreSQL and libpq do."""
    mapped = "".join(_mapped(char) for char in text)
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared or any(_is_prohibited(char) for char in prepared) or _breaks_bidi(prepared):
        return text
    return prepared


def wipe(secret: bytearray) -> None:
    """Overwrite in place: as well as Python can."""
    secret[:] = bytes(len(secret))


class ScramServer:
    """The proxy towards the client: `first` answers client-first, `final` answers client-final.

    `binding` is the hash of the proxy's own certificate, empty where PLUS is not offered. `is_mock` is set for a
    user without verifier: the exchange goes its full length and then fails as a wrong password does."""

    def __init__(self, verifier: Verifier, *, binding: bytes = b"", is_mock: bool = False) -> None:
        self._verifier = verifier
        self._binding = binding
        self._is_mock = is_mock
        self._gs2 = b""
        self._nonce = b""
        self._transcript = b""
        self.client_key = bytearray()

    def first(self, mechanism: str, message: bytes) -> bytes:
        """client-first -> server-first. Raises ProtocolViolation or InvalidAuthorization."""
        self._gs2, bare = _split_gs2(message)
        self._check_binding_flag(mechanism)
        client_nonce = _client_nonce(bare)
        self._nonce = client_nonce + _b64(os.urandom(NONCE_SIZE))
        answer = b"r=%b,s=%b,i=%d" % (self._nonce, _b64(self._verifier.salt), self._verifier.iterations)
        self._transcript = bare + b"," + answer
        return answer

    def final(self, message: bytes) -> bytes:
        """client-final -> server-final; `client_key` is known then. Raises InvalidPassword."""
        without_proof, found, proof_text = message.rpartition(b",p=")
        proof = _unb64(proof_text)
        if not found or len(proof) != KEY_SIZE:
            raise ProtocolViolation("malformed SCRAM message: client-final", severity="FATAL")
        self._check_channel(without_proof)
        transcript = self._transcript + b"," + without_proof
        client_key = bytearray(_xor(proof, _hmac(self._verifier.stored_key, transcript)))
        is_right = constant_time.bytes_eq(_sha256(bytes(client_key)), self._verifier.stored_key)
        if self._is_mock or not is_right:
            wipe(client_key)
            raise InvalidPassword("password authentication failed", severity="FATAL")
        self.client_key = client_key
        return b"v=" + _b64(_hmac(self._verifier.server_key, transcript))

    def _check_binding_flag(self, mechanism: str) -> None:
        flag = self._gs2[:1]
        is_plus = mechanism == SCRAM_SHA_256_PLUS
        if is_plus != (flag == b"p") or (is_plus and not self._binding):
            raise ProtocolViolation("malformed SCRAM message: channel binding flag", severity="FATAL")
        if is_plus and self._gs2 != b"p=%b,," % _CBIND_TYPE.encode():
            raise ProtocolViolation("unsupported SCRAM channel-binding type", severity="FATAL")
        if flag == b"y" and self._binding:
            raise InvalidAuthorization(
                "SCRAM channel binding negotiation error: the client thinks that the server does not support "
                "channel binding, but it does",
                severity="FATAL",
            )

    def _check_channel(self, without_proof: bytes) -> None:
        expected = self._gs2 + (self._binding if self._gs2[:1] == b"p" else b"")
        attributes = without_proof.split(b",")
        if len(attributes) < 2 or attributes[0][:2] != b"c=" or attributes[1][:2] != b"r=":
            raise ProtocolViolation("malformed SCRAM message: client-final", severity="FATAL")
        if not constant_time.bytes_eq(attributes[0][2:], _b64(expected)):
            raise InvalidAuthorization("SCRAM channel binding check failed", severity="FATAL")
        if not constant_time.bytes_eq(attributes[1][2:], self._nonce):
            raise ProtocolViolation("malformed SCRAM message: nonce does not match", severity="FATAL")


class VerifierDiffers(InvalidPassword):
    """The server's verifier is not the one this proxy was given."""


class ScramClient:
    """The proxy towards PostgreSQL, with ClientKey in place of a password.

    `binding` is the hash of the server's certificate, empty without TLS; PLUS is taken when it is offered."""

    def __init__(
        self, verifier: Verifier, client_key: bytearray, offered: tuple[str, ...], binding: bytes
    ) -> None:
        self._verifier = verifier
        self._client_key = client_key
        self._binding = b""
        self._server_signature = b""
        self.mechanism = SCRAM_SHA_256
        self._gs2 = b"n,,"
        if binding:
            self._gs2 = b"y,,"
            if SCRAM_SHA_256_PLUS in offered:
                self.mechanism = SCRAM_SHA_256_PLUS
                self._gs2, self._binding = b"p=%b,," % _CBIND_TYPE.encode(), binding
        self._nonce = _b64(os.urandom(NONCE_SIZE))

    def first(self) -> bytes:
        """client-first; the user name stays empty, PostgreSQL takes the one of the start-up packet."""
        return self._gs2 + b"n=,r=" + self._nonce

    def final(self, server_first: bytes) -> bytes:
        """server-first -> client-final. Raises VerifierDiffers when salt or iterations are not the verifier's."""
        attributes = server_first.split(b",")
        if [attribute[:2] for attribute in attributes[:3]] != [b"r=", b"s=", b"i="]:
            raise ProtocolViolation("malformed SCRAM message from the server", severity="FATAL")
        nonce, salt, iterations = (attribute[2:] for attribute in attributes[:3])
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ProtocolViolation("invalid SCRAM nonce from the server", severity="FATAL")
        if salt != _b64(self._verifier.salt) or iterations != b"%d" % self._verifier.iterations:
            raise VerifierDiffers("the server's verifier differs from the proxy's", severity="FATAL")
        without_proof = b"c=" + _b64(self._gs2 + self._binding) + b",r=" + nonce
        transcript = b"n=,r=%b,%b,%b" % (self._nonce, server_first, without_proof)
        self._server_signature = _hmac(self._verifier.server_key, transcript)
        proof = _xor(bytes(self._client_key), _hmac(self._verifier.stored_key, transcript))
        return without_proof + b",p=" + _b64(proof)

    def check(self, server_final: bytes) -> None:
        """Raises VerifierDiffers when the server does not hold the verifier's ServerKey."""
        attribute = server_final.split(b",")[0]
        is_right = constant_time.bytes_eq(_unb64(attribute[2:]), self._server_signature)
        if attribute[:2] != b"v=" or not self._server_signature or not is_right:
            raise VerifierDiffers("the server's SCRAM signature is wrong", severity="FATAL")


def _split_gs2(message: bytes) -> tuple[bytes, bytes]:
    """client-first -> (gs2 header with both commas, client-first-bare)."""
    parts = message.split(b",", 2)
    if len(parts) != 3 or parts[0][:1] not in (b"n", b"y", b"p"):
        raise ProtocolViolation("malformed SCRAM message: client-first", severity="FATAL")
    if parts[0][:1] != b"p" and len(parts[0]) != 1:
        raise ProtocolViolation("malformed SCRAM message: client-first", severity="FATAL")
    if parts[1]:
        raise InvalidAuthorization("a SCRAM authorization identity is not supported", severity="FATAL")
    return parts[0] + b",,", parts[2]


def _client_nonce(bare: bytes) -> bytes:
    attributes = bare.split(b",")
    if attributes[0][:2] == b"m=":
        raise ProtocolViolation("client requires an unsupported SCRAM extension", severity="FATAL")
    if len(attributes) < 2 or attributes[0][:2] != b"n=" or attributes[1][:2] != b"r=":
        raise ProtocolViolation("malformed SCRAM message: client-first", severity="FATAL")
    nonce = attributes[1][2:]
    if _PRINTABLE.fullmatch(nonce) is None:
        raise ProtocolViolation("non-printable characters in SCRAM nonce", severity="FATAL")
    return nonce


def _mapped(char: str) -> str:
    if stringprep.in_table_c12(char):
        return " "
    return "" if stringprep.in_table_b1(char) else char


_PROHIBITED: Final = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _is_prohibited(char: str) -> bool:
    return any(table(char) for table in _PROHIBITED)


def _breaks_bidi(text: str) -> bool:
    """RFC 3454 section 6: right-to-left text has no left-to-right character and such at both ends."""
    right_to_left = [stringprep.in_table_d1(char) for char in text]
    if not any(right_to_left):
        return False
    return any(map(stringprep.in_table_d2, text)) or not (right_to_left[0] and right_to_left[-1])


def _hmac(key: bytes, message: bytes) -> bytes:
    mac = HMAC(key, hashes.SHA256())
    mac.update(message)
    return mac.finalize()


def _sha256(message: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(message)
    return digest.finalize()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _b64(raw: bytes) -> bytes:
    return base64.b64encode(raw)


def _unb64(text: bytes) -> bytes:
    """Decoded, or empty where it is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
