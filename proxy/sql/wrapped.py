"""Commands around another statement: EXPLAIN, DECLARE CURSOR, PREPARE, and what EXECUTE and CREATE TABLE AS name.

The statement inside is planned as if it stood alone. EXPLAIN keeps its edits and shows plain text of the server;
DECLARE keeps its edits, and what its rows are belongs to each FETCH; PREPARE is planned as a Parse, so that its
sealed values are parameters of the server and each EXECUTE (`executed.py`) fills them afresh.
Source: PostgreSQL manual, "EXPLAIN", "DECLARE", "PREPARE". One reason to change: what a command does with the
statement inside it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from proxy.errors import Unsupported
from proxy.sql.commands import DML, plan_command, refuse
from proxy.sql.draft import Draft
from proxy.sql.lexer import Kind as Token
from proxy.sql.literals import Literals
from proxy.sql.params import finish_params
from proxy.sql.parse import Node, Statement, strings
from proxy.sql.plan import ClientParam, Edit, Effect, EffectKind, Kind, Plan, ServerParam, StatementPlan
from proxy.sql.spans import Spans
from proxy.sql.substitute import Given
from proxy.sql.template import undo
from proxy.values import registry
from proxy.values.constants import Const

Inner = Callable[[Statement, Draft], StatementPlan]

WRAPPERS: Final = frozenset({"ExplainStmt", "DeclareCursorStmt", "PrepareStmt"})
_HOLD: Final = 0x20  # CURSOR_OPT_HOLD
_UNKNOWN_OID: Final = 705
_ODD_OID: Final = 2281  # stands for a type that pgseal does not know: no value of it is sealed
_UNKNOWN: Final = b"pg_catalog.unknown"
_SLOT_TYPES: Final = {17: b"bytea", 1001: b"bytea[]", 25: b"text", 1009: b"text[]"}


def plan_wrapped(statement: Statement, draft: Draft, named: str, inner: Inner) -> StatementPlan:
    """`inner` plans what is inside; `named` is a watched name of the statement, for what is refused by name."""
    plan = _PLANS[statement.name](statement, draft, inner)
    if plan is None:
        raise refuse(statement, named)
    return plan


def _planned(statement: Statement, tree: Node, draft: Draft, inner: Inner) -> StatementPlan | None:
    """The plan of the statement inside; None where it is none that may be, or changes what pgseal tracks."""
    ((name, body),) = tree["query"].items()
    if name not in DML:
        return None
    plan = inner(Statement(name, body, statement.start, statement.end), draft)
    return None if plan.effects else plan


def _explain(statement: Statement, draft: Draft, inner: Inner) -> StatementPlan | None:
    """Its rows are text of the server: the statement as it is run, with tokens and cells. ANALYZE runs it;
    GENERIC_PLAN takes parameters that have no values."""
    tree = statement.tree
    if "DeclareCursorStmt" in tree["query"]:
        tree = tree["query"]["DeclareCursorStmt"]
    if not draft.is_extended and _has_option(statement.tree, "generic_plan"):
        plan = _without_values(statement, tree, draft, inner)
    else:
        plan = _planned(statement, tree, draft, inner)
    if plan is None or plan.kind is Kind.PASS:
        return plan_command(statement, draft) if plan is not None else None
    return replace(plan, tag="EXPLAIN", results=None)


def _has_option(tree: Node, name: str) -> bool:
    return any(option["DefElem"]["defname"].lower() == name for option in tree.get("options", []))


def _without_values(statement: Statement, tree: Node, draft: Draft, inner: Inner) -> StatementPlan | None:
    own = _parse_of(statement, draft, ())
    plan = _planned(statement, tree, own, inner)
    if plan is None or plan.kind is Kind.PASS:
        return plan
    server, _ = finish_params(own)
    edits = tuple(_with_parameters(edit, server) for edit in plan.edits)
    return replace(plan, edits=edits, read_tenants=(), compared_tenants=())


def _parse_of(statement: Statement, draft: Draft, oids: tuple[int, ...]) -> Draft:
    """For planning a statement inside as its Parse would be."""
    starts = draft.tokens.starts
    span = bisect_left(starts, statement.start), bisect_left(starts, statement.end)
    return Draft(
        draft.text, draft.tokens, draft.env, True, oids, draft.lifted, partners=draft.partners, span=span
    )


def _declare(statement: Statement, draft: Draft, inner: Inner) -> StatementPlan | None:
    plan = _planned(statement, statement.tree, draft, inner)
    if plan is None or plan.kind is Kind.PASS:
        return plan_command(statement, draft) if plan is not None else None
    name = str(statement.tree["portalname"])
    is_held = bool(statement.tree.get("options", 0) & _HOLD)
    fetch = replace(plan, tag="FETCH", edits=(), is_dml=False)
    effect = Effect(EffectKind.DECLARE, name, is_held=is_held)
    return replace(plan, tag="DECLARE CURSOR", results=None, effects=(effect,), opens=fetch)


# --- PREPARE -------------------------------------------------------------------------------------------


def _prepare(statement: Statement, draft: Draft, inner: Inner) -> StatementPlan | None:
    spans = Spans(draft)
    types = [item["TypeName"] for item in statement.tree.get("argtypes", [])]
    literals = Literals(draft, spans)
    own = _parse_of(statement, draft, tuple(_oid(type_, literals) for type_ in types))
    plan = _planned(statement, statement.tree, own, inner)
    if plan is None or plan.kind is Kind.PASS:
        return plan_command(statement, draft) if plan is not None else None
    if draft.is_extended:
        draft.span = (0, 0)  # PREPARE itself has no parameters
    server, client = finish_params(own)
    given = Given(lifted=lambda number: constant_of(own, number))
    edits = [_with_parameters(edit, server) for edit in plan.edits]
    if any(param.slot is not None for param in server):
        edits.insert(0, _types(bisect_left(draft.tokens.starts, statement.start), types, server, spans))
    slots = tuple(map(given.slot, own.slots))
    return StatementPlan(
        Kind.PLANNED,
        "PREPARE",
        edits=tuple(edits),
        accesses=plan.accesses,
        effects=(Effect(EffectKind.PREPARE, str(statement.tree["name"])),),
        hides_detail=True,
        prepares=Plan((given.proofs(replace(plan, edits=())),), slots, server, _declared(client, own.param_oids)),
    )


def _declared(client: Sequence[ClientParam], oids: Sequence[int]) -> tuple[ClientParam, ...]:
    """The parameters with the types that PREPARE gives them."""
    known = [oid if oid not in (_UNKNOWN_OID, _ODD_OID) else 0 for oid in oids] + [0] * len(client)
    return tuple(replace(param, oid=param.oid or oid) for param, oid in zip(client, known, strict=False))


def constant_of(draft: Draft, number: int) -> Const:
    """The lifted constant of this number."""
    if number >= len(draft.lifted):
        raise Unsupported(
            "PREPARE holds a value that the server is asked for (now(), nextval())",
            hint="Make it a parameter, or prepare with the extended protocol.",
        )
    ordinal = draft.literal(number)
    constant = undo(Token(draft.tokens.kinds[ordinal]), draft.token_text(ordinal))
    assert constant is not None, "it was lifted"
    return constant


def _oid(type_: Node, literals: Literals) -> int:
    """The OID of a declared type; its length means nothing here."""
    if strings(type_.get("names", []))[-1:] == ("unknown",):
        return _UNKNOWN_OID
    found = literals.type_of({**type_, "typmods": []})
    if found is None:
        return _ODD_OID
    logical, is_array = found
    return logical.array_oid if is_array else logical.oid


def _with_parameters(edit: Edit, server: Sequence[ServerParam]) -> Edit:
    """The edit with a parameter of the server wherever it writes a slot."""
    numbers = {param.slot: n for n, param in enumerate(server, 1) if param.slot is not None}
    parts = tuple(b"$%d" % numbers[part] if isinstance(part, int) else part for part in edit.parts)
    return replace(edit, parts=parts)


def _types(first: int, types: Sequence[Node], server: Sequence[ServerParam], spans: Spans) -> Edit:
    """The list of types behind `PREPARE name`: of slots their own, of others what the client wrote."""
    name = first + 1
    if spans.text(name + 1) != (b"(" if types else b"as"):
        raise Unsupported("the name of the prepared statement is written with UESCAPE", hint="Write it plainly.")
    written = [_source(type_, spans) for type_ in types]
    words = []
    for n, param in enumerate(server):
        if param.slot is not None:
            words.append(_SLOT_TYPES[param.oid])
        elif n < len(written):
            words.append(written[n])
        else:
            words.append(_type_word(param.oid))
    made = b"(" + b", ".join(words) + b")"
    last = spans.partner(name + 1) if types else name
    return Edit(name + 1, last, (b" " + made,))


def _source(type_: Node, spans: Spans) -> bytes:
    """A type as the client wrote it."""
    first = spans.at(type_)
    tokens = spans.draft.tokens
    return spans.draft.text[tokens.starts[first] : tokens.ends[spans.type_end(first)]]


def _type_word(oid: int) -> bytes:
    known, element = registry.type_from_oid(oid), registry.element_of_array(oid)
    if known is not None:
        return b"pg_catalog." + known.name.encode()
    return _UNKNOWN if element is None else b"pg_catalog." + element.name.encode() + b"[]"


_PLANS: Final[dict[str, Callable[[Statement, Draft, Inner], StatementPlan | None]]] = {
    "ExplainStmt": _explain,
    "DeclareCursorStmt": _declare,
    "PrepareStmt": _prepare,
}
