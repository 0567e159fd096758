"""The server's parameters of a planned Parse, and what ParameterDescription tells the client of its own.

A parameter that stays plaintext keeps its number, so that no `$n` left in the text has to change; slots take
the numbers that become free, and then those after the last. One reason to change: how parameters are numbered.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import ProgramLimitExceeded, UndefinedParameter, Unsupported
from proxy.rules import Storage
from proxy.sql.draft import Draft
from proxy.sql.literals import param_type, params_of
from proxy.sql.plan import ClientParam, ServerParam, Slot, Use
from proxy.values import registry

MAX_PARAMS: Final = 65535
_OIDS: Final = {Storage.BYTEA: (17, 1001), Storage.TEXT: (25, 1009)}
_TEXT: Final = 25
_STRINGS: Final = frozenset({25, 1043})  # the first use decides, as in PostgreSQL; either does for the other


def finish_params(draft: Draft) -> tuple[tuple[ServerParam, ...], tuple[ClientParam, ...]]:
    """Server and client parameters of the one statement of a Parse, from the draft's slots."""
    n_client = max([len(draft.param_oids), *(number + 1 for _, number in draft.parameters())])
    types = _sealed_types(draft)
    server: list[ServerParam | None] = [_kept(draft, n, types) for n in range(n_client)]
    waiting = list(range(len(draft.slots)))
    for n, param in enumerate(server):
        if param is None and waiting:
            server[n] = _slot_param(draft, waiting.pop(0))
    for n, param in enumerate(server):
        if param is None:  # nothing is left to fill it, and the value may not go in plaintext
            server[n] = _slot_param(draft, 0)
    server += [_slot_param(draft, number) for number in waiting]
    if len(server) > MAX_PARAMS:
        raise ProgramLimitExceeded(
            f"the statement needs {len(server)} parameters with its encrypted values; {MAX_PARAMS} is the limit",
            hint="write fewer rows in one statement",
        )
    client = tuple(ClientParam(types[n]) if n in types else ClientParam(server=n) for n in range(n_client))
    return tuple(param for param in server if param is not None), client


def check_no_parameters(draft: Draft, start: int, end: int) -> None:
    """A statement of a simple Query (its bytes from `start` to `end`) has no values for parameters."""
    for ordinal, number in draft.parameters():
        if start <= draft.tokens.starts[ordinal] < end:
            position = draft.tokens.starts[ordinal]
            raise UndefinedParameter(f"there is no parameter ${number + 1}", position=position)


def _kept(draft: Draft, index: int, types: dict[int, int]) -> ServerParam | None:
    """A parameter that the server sees as it is: written in the text outside all edits, or not at all."""
    declared = draft.param_oids[index] if index < len(draft.param_oids) else 0
    if index in types and index not in draft.plain_params:
        return None
    return ServerParam(client=index, oid=declared or types.get(index, 0))


def _slot_param(draft: Draft, number: int) -> ServerParam:
    slot = draft.slots[number]
    if slot.use is Use.TENANT:
        return ServerParam(slot=number, oid=_TEXT)
    return ServerParam(slot=number, oid=_OIDS[slot.column.rule.storage][slot.is_array])


def _sealed_types(draft: Draft) -> dict[int, int]:
    """The type of each sealed parameter as the client is to see it: what it declared, else what PostgreSQL
    would infer from where the parameter stands."""
    types: dict[int, int] = {}
    for slot in draft.slots:
        for index in params_of(slot.expr):
            declared = draft.param_oids[index] if index < len(draft.param_oids) else 0
            oid = declared if declared not in (0, 705) else _inferred(slot, index)
            known = types.setdefault(index, oid)
            if known != oid and not {known, oid} <= _STRINGS:
                raise _two_types(slot, index)
    return types


def _inferred(slot: Slot, index: int) -> int:
    logical = slot.column.rule.type
    if slot.use is Use.TOKEN and logical.name == "varchar":
        logical = registry.BASE["text"]  # varchar has no operators of its own
    oid = param_type(slot.expr, index, logical, slot.is_array)
    assert oid is not None
    return oid


def _two_types(slot: Slot, index: int) -> Unsupported:
    return Unsupported(
        f"parameter ${index + 1} would be of two types, one of them that of {slot.column.rule.label}",
        column=slot.column.rule.label,
        hint="pass the value twice, as two parameters, or cast it to one type everywhere",
    )
