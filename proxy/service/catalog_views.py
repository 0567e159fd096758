"""Which columns of a view show sealed columns: inference itself says, over the view's own query.

A view whose query pgseal would have to rewrite (it compares, or puts a literal into a cell) cannot serve,
since the server runs it as it stands. One reason to change: how a view's columns are traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.errors import PgsealError
from proxy.rules import Read, RoleRule, TableRule
from proxy.sql.catalog import Relation, SealedColumn, Snapshot
from proxy.sql.draft import Draft
from proxy.sql.infer import plan_statement
from proxy.sql.lexer import LexError, lex
from proxy.sql.parse import marks, parse, relations, strings
from proxy.sql.plan import Env, StatementPlan
from proxy.sql.template import template


@dataclass(frozen=True, slots=True)
class Traced:
    """`rules` are those of the sealed columns' tables. `refused`: why the view cannot serve."""

    sealed: Mapping[str, SealedColumn] = field(default_factory=dict)
    tenant_column: str | None = None
    rules: tuple[TableRule, ...] = ()
    refused: str | None = None


def trace(snapshot: Snapshot, view: Relation, query: str) -> Traced:
    """Trace one view whose relations are in `snapshot` already."""
    text = query.rstrip(" \n;").encode()
    env = Env(snapshot, snapshot.epoch, snapshot.rules.epoch, (), RoleRule(read=Read.PLAIN))
    try:
        tokens = lex(text)
        draft = Draft(text, tokens, env, False, (), template(text, tokens).lifted)
        statement = parse(text)[0]
        plan = plan_statement({statement.name: statement.tree}, draft)
    except (PgsealError, LexError) as error:
        reason = error.message if isinstance(error, PgsealError) else "its definition cannot be read"
        return Traced(refused=f"cannot be traced: {reason}")
    if plan.refusal is not None:
        return Traced(refused=f"cannot be traced: {plan.refusal.message}")
    if plan.edits or draft.slots:
        return Traced(
            refused="compares or fills encrypted columns in its own query, where pgseal cannot rewrite it"
        )
    return _traced(snapshot, view, plan, statement.tree)


def _traced(snapshot: Snapshot, view: Relation, plan: StatementPlan, tree: dict[str, Any]) -> Traced:
    sealed = {}
    for column, result in zip(view.columns, plan.results or (), strict=False):
        if result.column is not None:
            sealed[column.name] = SealedColumn(view.oid, column.attnum, result.column.rule, False)
    below = [snapshot.relation((), node.get("schemaname"), node["relname"]) for node in relations(marks(tree))]
    tables = {column.rule.table for column in sealed.values()}
    rules = tuple(rule for (schema, name), rule in snapshot.rules.tables.items() if f"{schema}.{name}" in tables)
    return Traced(sealed, _tenant_column(view, tree, below), rules)


def _tenant_column(view: Relation, tree: dict[str, Any], below: list[Relation | None]) -> str | None:
    """The view's column that shows the tenant column unchanged, where just one relation below has one."""
    tenants = [found.tenant_column for found in below if found is not None and found.tenant_column is not None]
    if len(tenants) != 1 or len(below) != 1:
        return None
    for column, target in zip(view.columns, tree.get("targetList", []), strict=False):
        fields = target.get("ResTarget", {}).get("val", {}).get("ColumnRef", {}).get("fields", [])
        if strings(fields)[-1:] == (tenants[0],):
            return column.name
    return None
