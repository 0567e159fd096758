"""Data keys as a session sees them: unwrapped, with derived keys at hand, and the read-only view of them.

A session never waits: what is not there yet is a `Need`, returned to the relay, which ensures it and steps
again. What can never be there (unknown id, KMS down past its bound) is raised as an error instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.rules import ColumnRule


@dataclass(frozen=True, slots=True)
class ActiveKeyNeed:
    """The active data key of (tenant, key type, purpose) for sealing; made when the tenant has none."""

    tenant: str
    key_type: str
    purpose: str  # 'data' | 'index'


@dataclass(frozen=True, slots=True)
class KeyIdNeed:
    """The data key of an envelope's key id, for opening."""

    key_id: int


@dataclass(frozen=True, slots=True)
class LeaseNeed:
    """A block of nonces for the derived key of a column under a data key."""

    key_id: int
    context: str


KeyNeed = ActiveKeyNeed | KeyIdNeed | LeaseNeed


# decrypt(nonce, sealed, AAD), raising InvalidTag or ValueError; the AAD up to the token; the offset behind it
Inline = tuple[Callable[[bytes, bytes, bytes], bytes], bytes, int]


class ColumnKeys(Protocol):
    """The derived keys of one column under one data key (and, for tokens, the index key). Ask for them anew
    for each statement: only `opening`'s stay good for the rows of one result. `tenant` is empty where the cells
    belong to the domain of all tenants (deterministic, `scope: table`)."""

    key_id: int
    tenant: str

    def seal(self, display: bytes, token: bytes | None, bound: tuple[bytes, ...]) -> bytes | LeaseNeed:
        """Display form -> envelope bytes. Suite 1 takes one nonce of the lease; none left: the need."""
        ...

    def open(self, envelope: bytes, bound: tuple[bytes, ...]) -> bytes:
        """Envelope -> display form. Raises CellNotOpen, one message for every cause."""
        ...

    def inline(self, head: bytes) -> Inline | None:
        """What opens padded cells that begin with this header (9 bytes) and are bound to nothing, for the row
        loop; None: `open` decides. Asked for anew at each step, so that a key taken back stops there too."""
        ...


class TokenKey(Protocol):
    """The derived index key of one column: tokens of randomised columns."""

    def token(self, equality_form: bytes) -> bytes:
        """15 bytes."""
        ...


class KeyView(Protocol):
    """What a session may ask without waiting. Each returns None where the relay must ensure the need first;
    raises KeyUnavailable or CellNotOpen where waiting would not help."""

    def sealing(self, rule: ColumnRule, tenant: str) -> ColumnKeys | None:
        """Keys to seal a cell of this column for this tenant (status ACTIVE only)."""
        ...

    def tokens(self, rule: ColumnRule, tenant: str) -> TokenKey | None: ...

    def opening(self, rule: ColumnRule, key_id: int) -> ColumnKeys | None:
        """Keys to open a cell. The caller compares `tenant` with what the statement may see."""
        ...

    def sealing_needs(self, rule: ColumnRule, tenant: str) -> tuple[KeyNeed, ...]:
        """What to ensure before `sealing` (and `tokens`) return something."""
        ...

    def token_needs(self, rule: ColumnRule, tenant: str) -> tuple[KeyNeed, ...]:
        """What to ensure before `tokens` returns something."""
        ...
