"""What a KMS does for pgseal, and how its failures look: one Protocol, two errors.

Every call carries an encryption context that binds realm, tenant and key type (docs/formats.md, "What the KMS is
told"). Provider, endpoint and key come from the configuration alone. One reason to change: what pgseal
asks of every provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from proxy.errors import KeyUnavailable

DEK_SIZE: Final = 32
Context = Mapping[str, str]


class KmsUnavailable(KeyUnavailable):
    """No answer now: connection, time-out, throttling, an internal failure. Asking later may help."""


class KmsRefused(KeyUnavailable):
    """An answer, and it is no: disabled or missing key, no access, a wrong context, tampered bytes."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """A new data key: 32 bytes in the clear, to be overwritten after use, and wrapped."""

    plain: bytearray = field(repr=False)
    wrapped: bytes = field(repr=False)


class Kms(Protocol):
    """One KEK. Methods raise KmsUnavailable or KmsRefused, never anything of a provider's library."""

    @property
    def alias(self) -> str:
        """The KEK's name in the configuration."""
        ...

    async def generate_data_key(self, context: Context) -> DataKey: ...

    async def unwrap(self, wrapped: bytes, context: Context) -> bytearray:
        """The 32 bytes of a wrapped data key."""
        ...

    async def check(self) -> None:
        """Returns when the KEK can be used; raises as the others do. For /readyz and `check`."""
        ...

    async def close(self) -> None: ...


def tenant_context(realm: bytes, tenant: str, key_type: str) -> dict[str, str]:
    """Encryption context of a data key; the empty tenant is the domain of all tenants."""
    owner = {"tenant": tenant} if tenant else {"domain": "table"}
    return {"realm": realm.hex(), **owner, "key_type": key_type}


def store_context(realm: bytes) -> dict[str, str]:
    """Encryption context of the key-store key."""
    return {"realm": realm.hex(), "domain": "key-store", "key_type": "KEY_STORE"}


CHECK_CONTEXT: Final[Context] = {"realm": "", "domain": "check", "key_type": "CHECK"}


def overwrite(secret: bytearray) -> None:
    """Zeros in place of a secret, as well as CPython can."""
    secret[:] = bytes(len(secret))
