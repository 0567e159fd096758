"""What an audit event says, as plain values; `chain.py` gives it its place, `sinks.py` writes it.

Never a statement text, a value, a literal or a key. One reason to change: the members of an event
(docs/audit-format.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    DENIED = "denied"
    OBSERVED = "observed"  # it was passed, and will be refused once the column holds cells


@dataclass(frozen=True, slots=True)
class Subject:
    """What all runs of one statement by one session have in common: who, and which statement over which columns.
    Made once and kept, since building and encoding it costs more than the rest of an event. `fingerprint` is a
    keyed hash of the template."""

    session: str
    tenant: str | None
    user: str
    application: str
    client_address: str
    correlation_id: str
    fingerprint: str
    tag: str
    columns: tuple[str, ...]
    form: bytes = field(default=b"", init=False, repr=False, compare=False)  # kept for `encode.py`, its only user


@dataclass(slots=True)  # not frozen: one is made for each statement, and freezing costs as much as all the rest
class StatementEvent:
    """One Execute or sub-statement that touched protected columns, or one refusal. `time_s` is seconds since
    the epoch, `duration_s` from request sent to last reply."""

    subject: Subject
    time_s: float
    n_cells_sealed: int
    n_cells_opened: int
    n_rows: int
    key_ids: tuple[int, ...]
    outcome: Outcome
    sqlstate: str = ""
    duration_s: float = 0.0

    @property
    def session(self) -> str:
        return self.subject.session

    @property
    def tenant(self) -> str | None:
        return self.subject.tenant

    @property
    def user(self) -> str:
        return self.subject.user

    @property
    def application(self) -> str:
        return self.subject.application

    @property
    def client_address(self) -> str:
        return self.subject.client_address

    @property
    def correlation_id(self) -> str:
        return self.subject.correlation_id

    @property
    def fingerprint(self) -> str:
        return self.subject.fingerprint

    @property
    def tag(self) -> str:
        return self.subject.tag

    @property
    def columns(self) -> tuple[str, ...]:
        return self.subject.columns


@dataclass(frozen=True, slots=True)
class SystemEvent:
    """Everything that is not a statement: key operation, configuration change, log-in, start and stop,
    security event. `fields` are names and plain scalars, sorted by name when written."""

    time_s: float
    kind: str  # 'login', 'config.reload', 'key.generate', 'security.wrong_verifier' ...
    fields: tuple[tuple[str, str | int | float | bool | None], ...] = ()


Event = StatementEvent | SystemEvent
