"""SQL EXECUTE in a session: what a name means, and values sealed into the text.

SQL and the protocol share one map of prepared statements, as in PostgreSQL: EXECUTE runs what a Parse made, and a
Bind runs what PREPARE made. The server takes no parameters in EXECUTE, so a Parse of it carries its sealed values
as literals: it is bound once, and only while its name and the session's tenant mean what they did.
One reason to change: what an EXECUTE depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.errors import FeatureNotSupported, Unsupported
from proxy.rules import Mode
from proxy.session.sealing import Sealer, Waits, literal
from proxy.session.statements import ByExecute, Statement
from proxy.session.tenancy import has_other_tenant
from proxy.sql.executed import expanded, is_executing
from proxy.sql.plan import ClientParam, EffectKind, Plan, Planned, ServerParam, Use
from proxy.sql.rewrite import rendering
from proxy.values.constants import Inputs

if TYPE_CHECKING:
    from proxy.session.planning import Planning
    from proxy.session.state import State
    from proxy.wire.frontend import Parse


def with_executed(planning: Planning, state: State, planned: Planned) -> Waits[Planned]:
    """The text with the plan of each EXECUTE of something planned; the same object where there is none."""
    yield from renew_prepared(planning, state, planned.plan)
    run = _with_executed(planning, state, planned)
    if run is not planned:
        planning.check_reports()
        planning.check_audit()
    check_collision(planning, state, run.plan)
    return run


def renew_prepared(planning: Planning, state: State, plan: Plan) -> Waits[None]:
    """SQL EXECUTE of what was prepared under another catalog: its text may not mean the same any more."""
    for name in _executed_names(planning, plan):
        found = state.statements.get(name)
        if found is not None and found.env is not planning.env():
            yield from planning.replan(found)


def _executed_names(planning: Planning, plan: Plan) -> list[bytes]:
    """As messages have them."""
    effects = [e for s in plan.statements for e in s.effects if e.kind is EffectKind.EXECUTE]
    return [planning.encode(effect.name.encode()) for effect in effects]


def check_collision(planning: Planning, state: State, plan: Plan) -> None:
    """SQL EXECUTE or FETCH of something that was not planned when its text was would show cells as they are."""
    for name in _executed_names(planning, plan):
        found = state.statements.get(name)
        if found is not None and not found.is_pass:
            raise Unsupported("EXECUTE of a statement over protected columns that was prepared after it")
    for effect in (e for s in plan.statements for e in s.effects if e.kind is EffectKind.FETCH):
        portal = state.portals.get(planning.encode(effect.name.encode()))
        if portal is not None and not portal.statement.is_pass:
            raise Unsupported(
                "FETCH from a portal over protected columns", hint="Use Execute with a row limit, or DECLARE."
            )


def _with_executed(planning: Planning, state: State, planned: Planned) -> Planned:
    if not is_executing(planned) or not planning.is_watching:
        return planned

    def find(name: str) -> Planned | None:
        key = planning.encode(name.encode())
        if state.is_taken(key):
            raise Unsupported(
                "EXECUTE follows the Parse or Close of its statement in one pipeline",
                hint="Send a Sync in between.",
            )
        found = state.statements.get(key)
        if found is None or found.is_pass:
            return None
        if found.refusal is not None:
            raise found.refusal
        return found.planned

    done = expanded(planned, planning.env(), find)
    return planned if done.plan.statements == planned.plan.statements else done


def sealed_execute(
    planning: Planning, state: State, message: Parse, was: Planned, planned: Planned
) -> Waits[Statement]:
    """A Parse of EXECUTE (perhaps within EXPLAIN), its values sealed into the server's text. `planned` is what
    `with_executed` made of what `was`."""
    plan = planned.plan
    sealer = Sealer(planning.keys, planning.tenants(), Inputs(planning.settings.values(), planned.constants))
    filled = yield from sealer.fill(plan, range(len(plan.slots)))
    texts = [literal(slot, number, filled) for number, slot in enumerate(plan.slots)]
    rendered = yield from rendering(planned, texts)
    server = tuple(ServerParam(client=n, oid=oid) for n, oid in enumerate(message.oids))
    client = tuple(ClientParam(server=n) for n in range(len(message.oids)))
    bare = Plan((replace(plan.statements[0], edits=()),), (), server, client)
    statement = Statement(message, replace(planned, plan=bare), planning.env(), rendered)
    statement.is_direct = False
    targets = {name: state.statements.get(name) for name in _executed_names(planning, was.plan)}
    has_cells = any(s.use is Use.CELL and s.column.rule.mode is Mode.RANDOMISED for s in plan.slots)
    statement.runs = ByExecute(targets, planning.settings.level, has_cells)
    planning.records.sealed(sealer)
    return statement


def check_runs(planning: Planning, state: State, statement: Statement) -> None:
    """Before a Bind of a Parse of EXECUTE, and before its Execute."""
    runs = statement.runs
    if runs is None:
        return
    if any(state.statements.get(name) is not target for name, target in runs.targets.items()):
        raise FeatureNotSupported("cached plan must not change result type")
    if has_other_tenant(planning.snapshot.rules, runs.level, planning.settings.level):
        raise Unsupported("the session's tenant has changed since EXECUTE was parsed", hint="Parse it again.")


def check_once(statement: Statement) -> None:
    """A Bind: a cell goes into one row only."""
    runs = statement.runs
    if runs is not None and runs.has_cells and runs.is_bound:
        raise Unsupported(
            "a prepared EXECUTE that writes encrypted columns is run again",
            hint="Prepare the statement itself, or send EXECUTE anew each time.",
        )


def prepared_by(planned: Planned, name: bytes, encode: Callable[[bytes], bytes]) -> Plan | None:
    """What the PREPARE of this name (as messages have it) makes; None where that passes."""
    for statement in planned.plan.statements:
        if any(e.kind is EffectKind.PREPARE and encode(e.name.encode()) == name for e in statement.effects):
            return statement.prepares
    return None
