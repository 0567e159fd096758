"""What a session leaves behind: counters, and one audit event for each statement that touched protected columns.

Never a text, a value, a literal or a key. One reason to change: what is counted or recorded of a statement.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.audit.events import Outcome, StatementEvent, Subject
from proxy.errors import NotAllowed, PgsealError
from proxy.metrics import Verdict
from proxy.session.settings import SessionSettings
from proxy.session.statements import Execution
from proxy.sql.plan import Kind, Plan, StatementPlan

if TYPE_CHECKING:
    from proxy.session.copy_out import CopyOut
    from proxy.session.openers import Opener
    from proxy.session.output import Output
    from proxy.session.runtime import Client, Runtime
    from proxy.session.sealing import Sealer

MAX_SUBJECTS: Final = 128
_OK: Final = Outcome.OK
_TRACEPARENT: Final = re.compile(rb"traceparent='([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})'")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A subject, and the plans by whose identity it is found."""

    plan: StatementPlan
    whole: Plan
    subject: Subject


class Records:
    """Owned by one session."""

    def __init__(self, client: Client, runtime: Runtime, settings: SessionSettings, out: Output) -> None:
        self._client = client
        self._runtime = runtime
        self._settings = settings
        self._counters = runtime.counters
        self._out = out
        self._n_refusals = 0
        self._application: tuple[int, str] = (-1, "")  # version of the settings, value
        self._correlated: tuple[bytes, str] = (b"", "")
        self._subjects: dict[tuple[int, int, str | None, str], _Kept] = {}

    def refusal(self, error: PgsealError) -> int:
        """Counts and audits a refusal; its number names it in the server's log."""
        self._n_refusals += 1
        counters = self._counters
        counters.count_refusal(error.sqlstate)
        counters.statements[Verdict.REFUSED] += 1
        if error.sqlstate.startswith("PS"):
            subject = self._subject(columns=(error.column,) if error.column else ())
            outcome = Outcome.DENIED if isinstance(error, NotAllowed) else Outcome.REFUSED
            self._out.events.append(StatementEvent(subject, time.time(), 0, 0, 0, (), outcome, error.sqlstate))
        return self._n_refusals

    def observed(self, error: PgsealError, fingerprint: str) -> None:
        """Counts and audits a statement that is passed and would be refused if its table held cells."""
        self._counters.count_observed(error.sqlstate)
        subject = self._subject(fingerprint=fingerprint, columns=(error.column,) if error.column else ())
        event = StatementEvent(subject, time.time(), 0, 0, 0, (), Outcome.OBSERVED, error.sqlstate)
        self._out.events.append(event)

    def sealed(self, sealer: Sealer) -> None:
        for label, count in sealer.n_sealed.items():
            self._counters.count_sealed(label, count)

    def opened(self, opener: Opener | CopyOut) -> tuple[int, set[int]]:
        """The cells it opened since the last event, now counted, and the ids of their keys."""
        n_opened, key_ids = 0, set[int]()
        for column in opener.columns:
            self._counters.count_opened(column.label, column.n_opened)
            n_opened += column.n_opened
            column.n_opened = 0
            key_ids |= column.used
            column.used.clear()
        return n_opened, key_ids

    def finish(self, execution: Execution, outcome: Outcome, sqlstate: str = "") -> None:
        """One Execute or sub-statement ended, in the first way that is told of it."""
        if execution.is_recorded:
            return
        execution.is_recorded = True
        n_opened = 0
        if execution.opener is not None:
            n_opened, key_ids = self.opened(execution.opener)
            execution.key_ids |= key_ids
        if execution.plan.kind is not Kind.PLANNED:
            self._counters.n_irrelevant += 1
            return
        self._counters.n_planned += 1
        now, start_s = time.time(), execution.start_s
        self._out.events.append(
            StatementEvent(
                self.subject(execution),
                now,
                execution.n_sealed,
                n_opened,
                execution.n_rows,
                tuple(sorted(execution.key_ids)),
                outcome,
                sqlstate,
                now - start_s if start_s else 0.0,
            )
        )

    def usual(
        self, subject: Subject, start_s: float, n_rows: int, n_opened: int, key_ids: tuple[int, ...]
    ) -> StatementEvent:
        """The event of a planned statement that sealed nothing and ended well: `finish` without an execution.
        What it opened is counted by column already; `key_ids` are sorted."""
        self._counters.n_planned += 1
        now = time.time()
        return StatementEvent(subject, now, 0, n_opened, n_rows, key_ids, _OK, "", now - start_s)

    # --- subjects

    def subject(self, execution: Execution) -> Subject:
        """Of a planned statement's runs. It holds while tenant and settings stay, and is the same object for all
        that differ in nothing, unless its text names a trace."""
        planned, plan, tenant = execution.planned, execution.plan, execution.tenant
        key = (id(plan), id(planned.plan), tenant, self._application_name())
        correlation = self._correlation(planned.text)
        if not correlation:
            found = self._subjects.get(key)
            if found is not None:
                return found.subject
        fingerprints = self._runtime.fingerprints
        subject = self._subject(
            tenant,
            correlation,
            fingerprints.of(planned, self._runtime.fingerprint_key),
            plan.tag,
            fingerprints.columns(plan),
        )
        if not correlation:  # which is another with each request
            if len(self._subjects) >= MAX_SUBJECTS:
                self._subjects.clear()
            self._subjects[key] = _Kept(plan, planned.plan, subject)
        return subject

    def _subject(
        self,
        tenant: str | None = None,
        correlation: str = "",
        fingerprint: str = "",
        tag: str = "",
        columns: tuple[str, ...] = (),
    ) -> Subject:
        client, application = self._client, self._application_name()
        return Subject(
            client.session_id,
            tenant,
            client.user,
            application,
            client.address,
            correlation,
            fingerprint,
            tag,
            columns,
        )

    def _application_name(self) -> str:
        if self._application[0] != self._settings.version:
            self._application = (self._settings.version, self._settings.get("application_name") or "")
        return self._application[1]

    def _correlation(self, text: bytes) -> str:
        """Of one text for all its statements: it may be long, and they may be many."""
        if self._correlated[0] is not text:
            self._correlated = (text, correlation_of(text) if text else "")
        return self._correlated[1]


def correlation_of(text: bytes) -> str:
    """The traceparent that sqlcommenter wrote into a statement; empty where there is none."""
    if b"traceparent" not in text:
        return ""
    found = _TRACEPARENT.search(text)
    return found.group(1).decode("ascii") if found is not None else ""
