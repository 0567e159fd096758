"""What a session is given: who its client is, and what its database offers without waiting.

One reason to change: what a session needs from the rest of the proxy.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Protocol

from proxy.errors import PgsealError
from proxy.keys.material import KeyView
from proxy.metrics import Counters
from proxy.session.statements import Description
from proxy.sql.catalog import Snapshot
from proxy.sql.plan import Access, Env, NotPlanned, Plan, Planned, StatementPlan
from proxy.sql.template import shape_digest

_MANY: Final = 1000  # slots; plans of more are let go of once nothing uses them


class TextPlanner(Protocol):
    """The planner with its caches, shared by all sessions of a database."""

    def plan(self, text: bytes, env: Env, param_oids: tuple[int, ...] | None) -> Planned | NotPlanned: ...


class AuditState(Protocol):
    @property
    def is_writable(self) -> bool:
        """False where the sink failed and the policy blocks protected statements."""
        ...


class Runtime(Protocol):
    """One protected database: everything is read without waiting, and may be exchanged between two steps."""

    @property
    def snapshot(self) -> Snapshot: ...

    @property
    def planner(self) -> TextPlanner: ...

    @property
    def keys(self) -> KeyView: ...

    @property
    def audit(self) -> AuditState: ...

    @property
    def counters(self) -> Counters: ...

    @property
    def descriptions(self) -> Descriptions: ...

    @property
    def fingerprints(self) -> Fingerprints: ...

    @property
    def fingerprint_key(self) -> bytes:
        """Keys the fingerprint of a statement's template in audit events."""
        ...


class Descriptions:
    """The server's descriptions of planned statements, checked; shared by the sessions of a database, bounded."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._known: dict[int, tuple[Plan, int, Description]] = {}

    def get(self, plan: Plan, epoch: int) -> Description | None:
        found = self._known.get(id(plan))
        return found[2] if found is not None and found[0] is plan and found[1] == epoch else None

    def put(self, plan: Plan, epoch: int, description: Description) -> None:
        if len(plan.slots) > _MANY:
            return
        if len(self._known) >= self._capacity:
            self._known.clear()
        self._known[id(plan)] = (plan, epoch, description)


class Observed:
    """Refusals that observing has found, each told once: (fingerprint of the statement, refusal); bounded."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._told: set[tuple[str, str, str]] = set()
        self._new: list[tuple[str, PgsealError]] = []

    def note(self, fingerprint: str, error: PgsealError) -> None:
        key = (fingerprint, error.sqlstate, error.message)
        if key not in self._told:
            if len(self._told) >= self._capacity:
                self._told.clear()
            self._told.add(key)
            self._new.append((fingerprint, error))

    def take(self) -> list[tuple[str, PgsealError]]:
        """What is new since the last call."""
        new, self._new = self._new, []
        return new


class Fingerprints:
    """What audit events say of a plan: a keyed hash of the statement without literals and comments, and the
    columns; bounded."""

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._known: dict[int, tuple[Plan, str]] = {}
        self._columns: dict[int, tuple[tuple[Access, ...], tuple[str, ...]]] = {}
        self.observed = Observed()

    def columns(self, plan: StatementPlan) -> tuple[str, ...]:
        """The protected columns a statement touches, sorted."""
        accesses = plan.accesses
        found = self._columns.get(id(accesses))
        if found is not None and found[0] is accesses:
            return found[1]
        labels = tuple(sorted({access.column.rule.label for access in accesses}))
        if len(self._columns) >= self._capacity:
            self._columns.clear()
        self._columns[id(accesses)] = (accesses, labels)
        return labels

    def of(self, planned: Planned, key: bytes) -> str:
        """16 hexadecimal digits; the same for all texts of one plan."""
        if planned.digest:
            return _keyed(planned.digest, key)
        found = self._known.get(id(planned.plan))
        if found is not None and found[0] is planned.plan:
            return found[1]
        made = _keyed(shape_digest(planned.text, planned.tokens), key)
        if len(self._known) >= self._capacity:
            self._known.clear()
        self._known[id(planned.plan)] = (planned.plan, made)
        return made


def _keyed(digest: bytes, key: bytes) -> str:
    return hmac.new(key, digest, sha256).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end, as proved (or not) at log-in. `parameters` are those of the start-up message."""

    user: str
    database: str
    session_id: str
    address: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def application(self) -> str:
        return self.parameters.get("application_name", "")
