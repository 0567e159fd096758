"""TLS of both legs: contexts, and what SCRAM binds a channel to (RFC 5929, tls-server-end-point).

ALPN is "postgresql"; a client that starts with TLS directly must select it. One reason to change: TLS policy.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from proxy.config import ClientTlsConfig, ServerConfig, Tls

ALPN: Final = "postgresql"


def client_leg_context(settings: ClientTlsConfig) -> ssl.SSLContext | None:
    """For accepting; None where no certificate is configured. Raises OSError and ssl.SSLError."""
    if settings.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(settings.cert, settings.key)
    context.set_alpn_protocols([ALPN])
    if settings.ca is not None:
        context.load_verify_locations(settings.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def server_leg_context(leg: ServerConfig) -> ssl.SSLContext | None:
    """For connecting; None for `tls: disable`. Raises OSError and ssl.SSLError."""
    if leg.tls is Tls.DISABLE:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([ALPN])
    if leg.tls is Tls.REQUIRE:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif leg.ca is not None:
        context.load_verify_locations(leg.ca)
    else:
        context.load_default_certs()
    if leg.cert is not None:
        context.load_cert_chain(leg.cert, leg.key)
    return context


def certificate_binding(path: Path) -> bytes:
    """Binding of the first certificate of a PEM file: what clients see of this proxy."""
    return _end_point(x509.load_pem_x509_certificates(path.read_bytes())[0])


def peer_binding(peer: ssl.SSLObject) -> bytes:
    """Binding of the certificate the peer showed; empty where it has none."""
    der = peer.getpeercert(binary_form=True)
    return _end_point(x509.load_der_x509_certificate(der)) if der else b""


def peer_common_name(peer: ssl.SSLObject) -> str | None:
    """CN of a verified client certificate; None without certificate or without exactly one CN."""
    der = peer.getpeercert(binary_form=True)  # what CERT_OPTIONAL accepted is verified
    if not der:
        return None
    names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else None


def _end_point(certificate: x509.Certificate) -> bytes:
    """Hash by the certificate's signature algorithm, SHA-256 for MD5 and SHA-1; empty where it names none."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None:
        return b""
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)
