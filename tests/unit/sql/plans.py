"""Planning one statement for a test, and showing the outcome as text: slot n stands as `<n>` in the SQL."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pglast.parser import parse_sql_json

from proxy.sql.draft import Draft
from proxy.sql.infer import finish_params, plan_statement
from proxy.sql.lexer import LITERALS, lex
from proxy.sql.plan import ClientParam, Env, Plan, Planned, ServerParam, Slot, StatementPlan
from proxy.sql.rewrite import render
from tests.unit.sql import catalogs


@dataclass(frozen=True, slots=True)
class Outcome:
    sql: str
    plan: StatementPlan
    slots: tuple[Slot, ...]
    planned: Planned
    server_params: tuple[ServerParam, ...] = ()
    client_params: tuple[ClientParam, ...] = ()
    pinned: frozenset[int] = frozenset()

    @property
    def uses(self) -> list[tuple[str, str]]:
        return [(slot.column.rule.column, slot.use.value) for slot in self.slots]


def plan(sql: str, env: Env | None = None, *, extended: bool = False, oids: tuple[int, ...] = ()) -> Outcome:
    """Plan `sql` alone; raises what planning raises."""
    text = sql.encode()
    tokens = lex(text)
    lifted: dict[int, int] = {}
    for ordinal, kind in enumerate(tokens.kinds):
        if kind in LITERALS:
            lifted[ordinal] = len(lifted)
    draft = Draft(text, tokens, env or catalogs.env(), extended, oids, lifted)
    tree = json.loads(parse_sql_json(sql))["stmts"][0]["stmt"]
    statement = plan_statement(tree, draft)
    server, client = finish_params(draft) if extended else ((), ())
    whole = Plan((statement,), tuple(draft.slots), server, client)
    spans = tuple(zip(tokens.starts, tokens.ends, strict=True))
    planned = Planned(whole, text, spans)
    slots = [f"<{n}>".encode() for n in range(len(draft.slots))]
    return Outcome(
        render(planned, slots).text.decode(),
        statement,
        tuple(draft.slots),
        planned,
        server,
        client,
        frozenset(draft.pinned),
    )
