"""The derived keys a session holds: one column under one data key, with the lease its nonces are counted by.

`open` and `seal` run once a cell, so `open` is the cells' own bound method; taking a key back exchanges it.
One reason to change: what a session may do with a key (`material.ColumnKeys`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import urandom
from typing import Final, NoReturn

from proxy.crypto.envelope import NONCE_SIZE, not_open
from proxy.crypto.suites import DeterministicCells, RandomisedCells
from proxy.errors import KeyUnavailable
from proxy.keys.material import Inline, LeaseNeed

FIRST_LEASE: Final = 1 << 16  # seals; each further lease of a derived key is twice as large
LARGEST_LEASE: Final = 1 << 24
ROTATE_AT: Final = 1 << 31  # leased to all together: then the data key gets a new version
Open = Callable[[bytes, tuple[bytes, ...]], bytes]


@dataclass(slots=True)
class NonceLease:
    """Seals that are left to this process for one derived key. `refusal` raises while there is a reason to."""

    need: LeaseNeed
    left: int
    refusal: Callable[[], None]

    def taken(self) -> bool:
        """Count one seal; False where a lease is needed first, KeyUnavailable where there is none to be had."""
        if self.left > 0:
            self.left -= 1
            return True
        self.refusal()
        return False


def _no_lease() -> NoReturn:
    raise KeyUnavailable("this key opens cells, it does not seal")


OPENING_ONLY = NonceLease(LeaseNeed(0, ""), 0, _no_lease)


class RandomisedKeys:
    """Suite 1 with its lease; `OPENING_ONLY` for a key that may not seal."""

    __slots__ = ("_cells", "_lease", "inline", "key_id", "open", "tenant")

    def __init__(self, key_id: int, tenant: str, cells: RandomisedCells, lease: NonceLease) -> None:
        self.key_id = key_id
        self.tenant = tenant
        self._cells = cells
        self._lease = lease
        self.open: Open = cells.open
        self.inline: Callable[[bytes], Inline | None] = cells.inline

    def seal(self, display: bytes, token: bytes | None, bound: tuple[bytes, ...]) -> bytes | LeaseNeed:
        """Display form -> envelope, or the lease that is needed first."""
        if not self._lease.taken():
            return self._lease.need
        return self._cells.seal(display, token, bound, urandom(NONCE_SIZE))

    def revoke(self) -> None:
        """From now on nothing opens and nothing seals, also for those who still hold this."""
        self.open = _closed
        self.inline = _nothing
        self._lease = NonceLease(self._lease.need, 0, _revoked)


class DeterministicKeys:
    """Suite 2. `token` is what equality compares: the whole envelope."""

    __slots__ = ("inline", "key_id", "open", "seal", "tenant", "token")

    def __init__(self, key_id: int, tenant: str, cells: DeterministicCells) -> None:
        self.key_id = key_id
        self.tenant = tenant
        self.inline: Callable[[bytes], Inline | None] = _nothing
        self.open: Open = cells.open
        self.seal: Callable[[bytes, bytes | None, tuple[bytes, ...]], bytes | LeaseNeed] = cells.seal
        self.token: Callable[[bytes], bytes] = cells.token

    def revoke(self) -> None:
        """From now on nothing opens and nothing seals, also for those who still hold this."""
        self.open = _closed
        self.seal = self.token = _revoked


AnyKeys = RandomisedKeys | DeterministicKeys


def _nothing(_head: bytes) -> None:
    """No short way: `open` decides."""


def _closed(_envelope: bytes, _bound: tuple[bytes, ...]) -> NoReturn:
    raise not_open()


def _revoked(*_: object) -> NoReturn:
    raise KeyUnavailable("the key may not be used any more")
