"""Audit events as canonical JSON (docs/audit-format.md): ASCII, members in alphabetical order, whole numbers.

A statement's subject is encoded once, into the form of all its events, in which only the members that differ from
run to run are open. One reason to change: the members of an event.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quote
from typing import Final

from proxy.audit.events import Event, Outcome, StatementEvent, Subject, SystemEvent

MAX_TEXT: Final = 256
_OK: Final = Outcome.OK  # a lookup in an Enum costs more than it seems


def encode_event(event: Event) -> bytes:
    """One of the `events` of a record. ValueError, TypeError or OverflowError for what has no such form."""
    if not isinstance(event, StatementEvent):
        return _system(event)
    return (event.subject.form or _form(event.subject)) % (
        event.n_cells_opened,
        event.n_cells_sealed,
        int(event.duration_s * 1e6 + 0.5),
        _keys(event.key_ids),
        b"ok" if event.outcome is _OK else event.outcome.value.encode("ascii"),
        event.n_rows,
        quote(event.sqlstate).encode("ascii") if event.sqlstate else b'""',
        int(event.time_s * 1e6 + 0.5),
    )


def _keys(key_ids: tuple[int, ...]) -> bytes:
    return b"%d" % key_ids if len(key_ids) == 1 else ",".join(map(str, key_ids)).encode("ascii")


def _form(subject: Subject) -> bytes:
    """The subject's events, to be filled in by `%`; kept with the subject."""
    tenant = "null" if subject.tenant is None else _constant(subject.tenant)
    form = (
        f'{{"address":{_constant(subject.client_address[:MAX_TEXT])}'
        f',"application":{_constant(subject.application[:MAX_TEXT])}'
        f',"cells_opened":%d'
        f',"cells_sealed":%d'
        f',"columns":[{",".join(map(_constant, subject.columns))}]'
        f',"correlation":{_constant(subject.correlation_id[:MAX_TEXT])}'
        f',"duration_us":%d'
        f',"fingerprint":{_constant(subject.fingerprint)}'
        f',"keys":[%b]'
        f',"kind":"statement"'
        f',"outcome":"%b"'
        f',"rows":%d'
        f',"session":{_constant(subject.session)}'
        f',"sqlstate":%b'
        f',"tag":{_constant(subject.tag[:MAX_TEXT])}'
        f',"tenant":{tenant}'
        f',"time_us":%d'
        f',"user":{_constant(subject.user)}}}'
    ).encode("ascii")
    object.__setattr__(subject, "form", form)
    return form


def _constant(text: str) -> str:
    return quote(text).replace("%", "%%")


def _system(event: SystemEvent) -> bytes:
    fields = {name: _scalar(value) for name, value in event.fields}
    body = {"fields": fields, "kind": event.kind, "time_us": round(event.time_s * 1e6)}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _scalar(value: str | int | float | bool | None) -> str | int | bool | None:
    match value:
        case float():
            return repr(value)
        case str():
            return value[:MAX_TEXT]
        case _:
            return value
