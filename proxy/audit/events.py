"""What an audit event says, as plain values; `chain.py` gives it its place, `sinks.py` writes it.

Never a statement text, a value, a literal or a key. One reason to change: the fields of the record
(docs/formats.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    DENIED = "denied"


@dataclass(slots=True)  # not frozen: one is made for each statement, and freezing costs as much as all the rest
class StatementEvent:
    """One Execute or sub-statement that touched protected columns, or one refusal. `time_s` is seconds since
    the epoch, `duration_s` from request sent to last reply; `fingerprint` is a keyed hash of the template."""

    time_s: float
    session: str
    tenant: str | None
    user: str
    application: str
    client_address: str
    correlation_id: str
    fingerprint: str
    tag: str
    columns: tuple[str, ...]
    n_cells_sealed: int
    n_cells_opened: int
    n_rows: int
    key_ids: tuple[int, ...]
    outcome: Outcome
    sqlstate: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SystemEvent:
    """Everything that is not a statement: key operation, configuration change, log-in, start and stop,
    security event. `fields` are names and plain scalars, sorted by name when written."""

    time_s: float
    kind: str  # 'login', 'config.reload', 'key.generate', 'security.wrong_verifier' ...
    fields: tuple[tuple[str, str | int | float | bool | None], ...] = ()


Event = StatementEvent | SystemEvent
