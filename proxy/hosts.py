"""Addresses as configuration writes them, and what counts as loopback. One reason to change: that notion."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(raw: object) -> Address:
    """'127.0.0.1:6432', '[::1]:6432', 'name:6432' -> Address; ValueError otherwise."""
    if isinstance(raw, Address):
        return raw
    host, colon, port = raw.rpartition(":") if isinstance(raw, str) else ("", "", "")
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError("must be an address and a port, such as 127.0.0.1:6432")
    if host.startswith("[") and host.endswith("]"):
        return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if not _NAME.match(host):
        raise ValueError("must be an address and a port, such as 127.0.0.1:6432")
    return Address(host, int(port))


def is_loopback(host: str) -> bool:
    """True for loopback addresses, `localhost` and the folder of a Unix socket."""
    if host.lower() in ("localhost", "localhost.") or host.startswith(("/", "@")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
