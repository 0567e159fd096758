"""Audit trails for tests: events and whole writers, made by the code itself."""

from __future__ import annotations

from pathlib import Path

from proxy.audit.events import Outcome, StatementEvent, Subject
from proxy.audit.sinks import open_auditor
from proxy.audit.writers import next_writer

ROOT_KEY = bytes(range(32))
N = 12


def statement(**changes: object) -> StatementEvent:
    of_subject: dict[str, object] = {
        "session": "s1", "tenant": "hôpital \U0001f3e5", "user": "app", "application": 'psql "x"',
        "client_address": "127.0.0.1:51000", "correlation_id": "4bf92f35", "fingerprint": "ab12",
        "tag": "SELECT 1", "columns": ("public.patients.ssn",),
    }  # fmt: skip
    of_event: dict[str, object] = {
        "time_s": 1700000001.25, "n_cells_sealed": 0, "n_cells_opened": 1, "n_rows": 1, "key_ids": (7,),
        "outcome": Outcome.OK, "duration_s": 0.0015,
    }  # fmt: skip
    of_subject.update((name, changes.pop(name)) for name in of_subject.keys() & changes.keys())
    subject = Subject(**of_subject)  # type: ignore[arg-type]
    return StatementEvent(subject, **{**of_event, **changes})  # type: ignore[arg-type]


def write_trail(
    folder: Path, n: int = N, *, start_s: float = 1700000000.5, stop: bool = True, group: int = 1
) -> str:
    """A writer with its start, n statements, `group` to a record, and (with stop) its end; its name."""
    start = next_writer(ROOT_KEY, folder / "audit", folder / "state", "demo", 0, start_s)
    auditor = open_auditor(folder / "audit", folder / "state", start, is_blocking=True)
    for begin in range(0, n, group):  # without a loop each write is a record
        auditor.write([statement(n_rows=i) for i in range(begin, min(begin + group, n))])
    auditor.sync()
    if stop:
        auditor.close()
    return start.writer
