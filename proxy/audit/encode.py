"""Audit events as canonical JSON (docs/audit-format.md): ASCII, members in alphabetical order, whole numbers.

Written by hand for statements, since one is made for each of them. One reason to change: the members of an event.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quote
from typing import Final, assert_never

from proxy.audit.events import Event, StatementEvent, SystemEvent

MAX_TEXT: Final = 256


def encode_event(event: Event) -> bytes:
    """The `event` member of a record."""
    match event:
        case StatementEvent():
            return _statement(event).encode("ascii")
        case SystemEvent():
            return _system(event).encode("ascii")
        case _:
            assert_never(event)


def _statement(event: StatementEvent) -> str:
    tenant = "null" if event.tenant is None else quote(event.tenant)
    return (
        f'{{"address":{quote(event.client_address[:MAX_TEXT])}'
        f',"application":{quote(event.application[:MAX_TEXT])}'
        f',"cells_opened":{event.n_cells_opened:d}'
        f',"cells_sealed":{event.n_cells_sealed:d}'
        f',"columns":[{",".join(map(quote, event.columns))}]'
        f',"correlation":{quote(event.correlation_id[:MAX_TEXT])}'
        f',"duration_us":{round(event.duration_s * 1e6):d}'
        f',"fingerprint":{quote(event.fingerprint)}'
        f',"keys":[{",".join(map(str, event.key_ids))}]'
        f',"kind":"statement"'
        f',"outcome":"{event.outcome.value}"'
        f',"rows":{event.n_rows:d}'
        f',"session":{quote(event.session)}'
        f',"sqlstate":{quote(event.sqlstate)}'
        f',"tag":{quote(event.tag[:MAX_TEXT])}'
        f',"tenant":{tenant}'
        f',"time_us":{round(event.time_s * 1e6):d}'
        f',"user":{quote(event.user)}}}'
    )


def _system(event: SystemEvent) -> str:
    fields = {name: _scalar(value) for name, value in event.fields}
    body = {"fields": fields, "kind": event.kind, "time_us": round(event.time_s * 1e6)}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _scalar(value: str | int | float | bool | None) -> str | int | bool | None:
    match value:
        case float():
            return repr(value)
        case str():
            return value[:MAX_TEXT]
        case _:
            return value
