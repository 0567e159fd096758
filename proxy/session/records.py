"""What a session leaves behind: counters, and one audit event for each statement that touched protected columns.

Never a text, a value, a literal or a key. One reason to change: what is counted or recorded of a statement.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from proxy.audit.events import Outcome, StatementEvent
from proxy.errors import NotAllowed, PgsealError
from proxy.metrics import Verdict
from proxy.session.settings import SessionSettings
from proxy.session.statements import Execution
from proxy.sql.plan import Kind

if TYPE_CHECKING:
    from proxy.session.output import Output
    from proxy.session.runtime import Client, Runtime
    from proxy.session.sealing import Sealer

_TRACEPARENT: Final = re.compile(rb"traceparent='([0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})'")


class Records:
    """Owned by one session."""

    def __init__(self, client: Client, runtime: Runtime, settings: SessionSettings, out: Output) -> None:
        self._client = client
        self._runtime = runtime
        self._settings = settings
        self._out = out
        self._n_refusals = 0

    def refusal(self, error: PgsealError) -> int:
        """Counts and audits a refusal; its number names it in the server's log."""
        self._n_refusals += 1
        counters = self._runtime.counters
        counters.count_refusal(error.sqlstate)
        counters.statements[Verdict.REFUSED] += 1
        columns = (error.column,) if error.column else ()
        denied = isinstance(error, NotAllowed)
        outcome = Outcome.DENIED if denied else Outcome.REFUSED
        if error.sqlstate.startswith("PS"):
            self._event("", columns, outcome, error.sqlstate)
        return self._n_refusals

    def sealed(self, sealer: Sealer) -> None:
        for label, count in sealer.n_sealed.items():
            self._runtime.counters.count_sealed(label, count)

    def finish(self, execution: Execution, outcome: Outcome, sqlstate: str = "") -> None:
        """One Execute or sub-statement ended, in the first way that is told of it."""
        if execution.is_recorded:
            return
        execution.is_recorded = True
        n_opened = self._count_opened(execution)
        if execution.plan.kind is not Kind.PLANNED:
            self._runtime.counters.n_irrelevant += 1
            return
        self._runtime.counters.statements[Verdict.PLANNED] += 1
        columns = self._runtime.fingerprints.columns(execution.plan)
        self._event(execution.plan.tag, columns, outcome, sqlstate, execution, n_opened)

    def _count_opened(self, execution: Execution) -> int:
        opener = execution.opener
        if opener is None:
            return 0
        n_opened = 0
        for column in opener.columns:
            self._runtime.counters.count_opened(column.column.rule.label, column.n_opened)
            n_opened += column.n_opened
            column.n_opened = 0
            execution.key_ids.update(column.used)
            column.used.clear()
        return n_opened

    def _event(
        self,
        tag: str,
        columns: tuple[str, ...],
        outcome: Outcome,
        sqlstate: str,
        execution: Execution | None = None,
        n_opened: int = 0,
    ) -> None:
        now = time.time()
        self._out.events.append(
            StatementEvent(
                time_s=now,
                session=self._client.session_id,
                tenant=execution.tenant if execution is not None else None,
                user=self._client.user,
                application=self._settings.get("application_name") or "",
                client_address=self._client.address,
                correlation_id=correlation_of(execution.planned.text) if execution is not None else "",
                fingerprint=self._fingerprint(execution),
                tag=tag,
                columns=columns,
                n_cells_sealed=execution.n_sealed if execution is not None else 0,
                n_cells_opened=n_opened,
                n_rows=execution.n_rows if execution is not None else 0,
                key_ids=tuple(sorted(execution.key_ids)) if execution is not None else (),
                outcome=outcome,
                sqlstate=sqlstate,
                duration_s=now - execution.start_s if execution is not None and execution.start_s else 0.0,
            )
        )

    def _fingerprint(self, execution: Execution | None) -> str:
        if execution is None:
            return ""
        return self._runtime.fingerprints.of(execution.planned, self._runtime.fingerprint_key)


def correlation_of(text: bytes) -> str:
    """The traceparent that sqlcommenter wrote into a statement; empty where there is none."""
    found = _TRACEPARENT.search(text)
    return found.group(1).decode("ascii") if found is not None else ""
