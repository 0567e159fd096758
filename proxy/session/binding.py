"""Binds and Queries over something protected: the client's values in, what leaves for the server out.

Both may bring tens of thousands of values, so everything here that goes through all of them pauses after each
share, and other connections have their turn. One reason to change: how values are taken in and put back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.errors import ProtocolViolation, Unsupported
from proxy.session.effects import bound_effects, effect_values
from proxy.session.openers import has_sealed_result
from proxy.session.sealing import CELLS_A_STEP, Sealer, Waits, literal, server_bind, slot_numbers
from proxy.session.statements import Execution, Portal, ReadGrant, Statement, Text
from proxy.sql.packed import oids_of
from proxy.sql.plan import Kind, Planned, StatementPlan
from proxy.sql.rewrite import rendering
from proxy.values.constants import Inputs
from proxy.wire.frontend import Bind, expand_formats, parsing_bind

STATEMENTS_A_STEP: Final = 50
MAX_NAME: Final = 62  # the server cuts names to 63 bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.keys.material import KeyView
    from proxy.session.records import Records
    from proxy.session.tenancy import SessionTenants
    from proxy.values.base import Settings
    from proxy.values.constants import Expr


@dataclass(frozen=True, slots=True)
class Received:
    """A Bind as it came, the values it brings, and the portal it makes."""

    message: Bind
    inputs: Inputs
    portal: Portal


def received(
    statement: Statement, body: bytes, settings: Settings, answers: Sequence[Expr] = ()
) -> Waits[Received]:
    """The Bind with this body; `answers` are to the plan's questions. Raises ProtocolViolation, and what the
    values of a SET raise."""
    message = yield from parsing_bind(body)
    plan = statement.plan
    assert plan is not None
    check_name(message.portal)
    _check_count(statement, message)
    if statement.param_oids is None:
        statement.param_oids = _param_oids(statement)
    inputs = Inputs(
        settings=settings,
        constants=(*statement.planned.constants, *answers) if answers else statement.planned.constants,
        params=message.values,
        formats=expand_formats(message.formats, len(message.values)),
        oids=statement.param_oids,
    )
    portal = Portal(message.portal, statement, message.result_formats)
    portal.effects = bound_effects(plan.effects, inputs)
    portal.effect_values = effect_values(portal.effects, inputs)
    return Received(message, inputs, portal)


def check_name(name: bytes) -> None:
    """A watched statement or portal is found by this name only: the server cuts names to 63 bytes, and converts
    them from the client's encoding, so that another long or foreign one could mean the same."""
    if len(name) > MAX_NAME or not name.isascii():
        raise Unsupported(
            f"the name of the prepared statement or portal is longer than {MAX_NAME} bytes, or not ASCII",
            hint="Give it a short name.",
        )


def _param_oids(statement: Statement) -> Sequence[int]:
    """The types of the client's parameters: those it declared, else the plan's."""
    declared, planned = statement.message.oids, oids_of(statement.planned.plan.client_params)
    if not any(declared):
        return planned
    both = [one or other for one, other in zip(declared, planned, strict=False)]
    return [*both, *declared[len(both) :], *planned[len(both) :]]


def _check_count(statement: Statement, message: Bind) -> None:
    if statement.rendered is None:
        return
    n_params = len(statement.planned.plan.client_params)
    if len(message.values) != n_params:
        raise ProtocolViolation(
            f"bind message supplies {len(message.values)} parameters, "
            f"but the prepared statement requires {n_params}"
        )


def sealed_bind(came: Received, sealer: Sealer) -> Waits[bytes]:
    """The server's Bind; the portal keeps what was sealed and what its rows may show."""
    portal, statement = came.portal, came.portal.statement
    plan = statement.plan
    assert plan is not None
    filled = yield from sealer.fill(statement.planned.plan, range(len(statement.planned.plan.slots)))
    portal.grant = sealer.tenants.grant(plan, came.inputs)
    check_returning(plan, portal.grant)
    portal.tenant = sealer.tenants.current
    portal.n_sealed = sum(sealer.n_sealed.values())
    portal.key_ids = frozenset(sealer.key_ids)
    return (yield from server_bind(statement, came.message, came.inputs.formats, filled))


def check_returning(plan: StatementPlan, grant: ReadGrant) -> None:
    """A write that shows cells no tenant is known for is refused before it runs."""
    shows = has_sealed_result(plan) or (plan.copy is not None and not plan.copy.is_in)
    if plan.is_dml and grant.error is not None and shows:
        raise grant.error


# --- Query -------------------------------------------------------------------------------------------


def sealed_text(
    planned: Planned, inputs: Inputs, tenants: SessionTenants, keys: KeyView, records: Records
) -> Waits[Text]:
    """A simple Query with something to watch, its values sealed into the server's text."""
    plan = planned.plan
    now = time.time()
    text = Text(planned, [])
    texts: dict[int, bytes] = {}
    for n_before, statement in enumerate(plan.statements):
        if n_before and n_before % STATEMENTS_A_STEP == 0:
            yield ()
        execution = Execution(statement, planned, statement.effects, start_s=now)
        text.executions.append(execution)
        execution.effect_values = effect_values(statement.effects, inputs)
        if statement.kind is Kind.PLANNED:
            sealer = Sealer(keys, tenants, inputs)
            filled = yield from sealer.fill(plan, (yield from slot_numbers(statement)))
            for n in filled.binary:
                texts[n] = literal(plan.slots[n], n, filled)
                if len(texts) % CELLS_A_STEP == 0:
                    yield ()
            execution.grant = tenants.grant(statement, inputs)
            check_returning(statement, execution.grant)
            execution.tenant = tenants.current
            execution.tenants = tenants if statement.copy is not None else None
            execution.key_ids.update(sealer.key_ids)
            execution.n_sealed = sum(sealer.n_sealed.values())
            records.sealed(sealer)
        tenants = tenants.after(statement.effects, execution.effect_values)
    if plan.is_pass:
        return text
    if len(texts) > CELLS_A_STEP:
        yield ()
    text.rendered = yield from rendering(planned, [texts.get(n, b"NULL") for n in range(len(plan.slots))])
    return text
