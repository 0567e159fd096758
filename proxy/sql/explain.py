"""A plan in words, as plain values that print as JSON: what `pgseal explain` shows.

It tells the verdict, each edit, what happens to each parameter and each column of the result, and why a statement
is refused. Constants of the text are never shown. One reason to change: what is told of a plan.
"""

from __future__ import annotations

from typing import Any, Final

from proxy.errors import PgsealError
from proxy.rules import ColumnRule, Read
from proxy.sql.copy_plan import CopyPlan
from proxy.sql.literals import params_of
from proxy.sql.nested import ArrayOf, cells_of
from proxy.sql.plan import Access, Edit, Kind, Planned, ResultColumn, Slot, StatementPlan, TenantOf, Use
from proxy.sql.rewrite import edit_bytes, render
from proxy.sql.types import is_deterministic
from proxy.values.constants import Const, Param
from proxy.values.masks import full_mask

Told = dict[str, Any]

_SESSION: Final = "the session's (or the fixed) tenant"


def explain(planned: Planned, read: Read = Read.PLAIN) -> Told:
    """`verdict` (pass, planned or refused), `sql` as the server gets it with `<n: ..>` for slots, `statements`,
    `slots` and `parameters`, for a log-in that reads so."""
    plan = planned.plan
    refusal = plan.refusal or next((s.refusal for s in plan.statements if s.refusal is not None), None)
    if refusal is not None:
        return {
            "verdict": "refused",
            "reason": _refusal(refusal),
            "statements": [],
            "slots": [],
            "parameters": [],
        }
    if plan.is_pass:
        return {"verdict": "pass", "reason": None, "statements": [], "slots": [], "parameters": []}
    names = [f"<{n}: {slot.use.value} of {slot.column.rule.label}>" for n, slot in enumerate(plan.slots)]
    asked = {"asked": [f"{q.type.name} from the server, first" for q in plan.questions]} if plan.questions else {}
    return {
        "verdict": "planned",
        "reason": None,
        **asked,
        "sql": _without_constants(planned, names),
        "statements": [_statement(statement, planned, names, read) for statement in plan.statements],
        "slots": [_slot(slot) for slot in plan.slots],
        "parameters": _parameters(planned),
    }


def _refusal(error: PgsealError) -> Told:
    return {
        "sqlstate": error.sqlstate,
        "message": error.message,
        "column": error.column,
        "hint": error.hint,
        "position": error.position,
    }


def _without_constants(planned: Planned, names: list[str]) -> str:
    """The server's text; it has the client's plain constants, which whoever asks has written."""
    return render(planned, [name.encode() for name in names]).text.decode("utf-8", "replace")


def _statement(statement: StatementPlan, planned: Planned, names: list[str], read: Read) -> Told:
    results = statement.results
    told = None if results is None else [_result(n, column, read) for n, column in enumerate(results, 1)]
    return {
        "tag": statement.tag,
        "verdict": "pass" if statement.kind is Kind.PASS else "planned",
        "edits": [_edit(edit, planned, names) for edit in statement.edits],
        "columns": [_access(access) for access in statement.accesses],
        "results": told if statement.copy is None else _copied(statement.copy, read),
        "tenants": [_tenant(tenant) for tenant in statement.read_tenants],
    }


def _copied(copy: CopyPlan, read: Read) -> list[Told]:
    """The columns of the rows of a COPY, and behind them those that get a default of the rules."""
    told = [_result(n, ResultColumn(column.sealed), read) for n, column in enumerate(copy.columns, 1)]
    if copy.is_in:
        told = [one if one["column"] is None else {**one, "treatment": "sealed, row by row"} for one in told]
    for slot in copy.added:
        added = _result(len(told) + 1, ResultColumn(slot.column), read)
        told.append({**added, "treatment": "added: the rule's default, sealed"})
    return told


def _edit(edit: Edit, planned: Planned, names: list[str]) -> Told:
    start, end = edit_bytes(edit, planned)
    before = planned.text[start:end].decode("utf-8", "replace")
    has_slot = any(isinstance(part, int) for part in edit.parts)
    after = "".join(names[part] if isinstance(part, int) else part.decode() for part in edit.parts)
    if has_slot and before and not _is_parameter(before):
        before = "<constant>"
    return {"at": start, "before": before, "after": after}


def _is_parameter(text: str) -> bool:
    return text.startswith("$") and text[1:].isdigit()


def _access(access: Access) -> Told:
    uses = [word for word, is_so in (("read", access.reads), ("written", access.writes)) if is_so]
    if access.compares:
        uses.append("compared by its envelope" if is_deterministic(access.column) else "compared by its token")
    return {"column": access.column.rule.label, "uses": uses or ["tested for NULL"]}


def _result(number: int, result: ResultColumn, read: Read) -> Told:
    if result.nested is not None:
        labels = sorted({column.rule.label for column in cells_of(result.nested)})
        kind = f"{result.nested.type.name}[]" if isinstance(result.nested, ArrayOf) else "json"
        treatment = "opened within" if read is Read.PLAIN else "masked within"
        return {"number": number, "treatment": treatment, "column": ", ".join(labels), "type": kind}
    if result.column is None:
        return {"number": number, "treatment": "as it is", "column": None, "type": None}
    rule = result.column.rule
    return {"number": number, "treatment": _seen(rule, read), "column": rule.label, "type": rule.type.name}


def _seen(rule: ColumnRule, read: Read) -> str:
    if read is Read.PLAIN:
        return "opened"
    if read is not Read.MASK or (full_mask(rule.type, rule.mask) is None and rule.mask.is_full):
        return "shown as NULL, never opened,"
    if rule.mask.is_full:
        return "masked, never opened,"
    return f"opened and masked ({rule.mask.form.value})"


def _tenant(tenant: TenantOf) -> str:
    match tenant.expr:
        case None:
            return _SESSION
        case Param(index):
            return f"parameter ${index + 1}"
        case Const():
            return "a constant"
        case _:
            return "a constant of the statement"


def _slot(slot: Slot) -> Told:
    words = {
        Use.CELL: "sealed as a cell",
        Use.TOKEN: "the deterministic envelope" if is_deterministic(slot.column) else "the index token",
        Use.TENANT: "the tenant, in plaintext",
    }
    return {
        "column": slot.column.rule.label,
        "treatment": words[slot.use],
        "tenant": _tenant(slot.tenant),
        "is_array": slot.is_array,
        "parameters": sorted(index + 1 for index in params_of(slot.expr)),
    }


def _parameters(planned: Planned) -> list[Told]:
    """Each of the client's parameters: where it goes, and the type the client is told."""
    plan = planned.plan
    told = []
    for index, param in enumerate(plan.client_params):
        slots = [n for n, slot in enumerate(plan.slots) if index in params_of(slot.expr)]
        plain = [n for n, server in enumerate(plan.server_params, 1) if server.client == index]
        told.append(
            {
                "number": index + 1,
                "type_oid": param.oid or None,
                "slots": slots,
                "server": [n for n, server in enumerate(plan.server_params, 1) if server.slot in slots],
                "plain": plain,
            }
        )
    return told
