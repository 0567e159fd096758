"""SQL cursors over something protected: what the rows of a FETCH are.

A cursor is known from the CommandComplete of its DECLARE, and is looked up when the server answers the FETCH:
then everything before it has happened, also within one text. It lives with the settings of the open transaction,
so that ROLLBACK and savepoints end it, and COMMIT ends all but WITH HOLD. SQL cursors are portals: Describe and
Execute of the protocol find them by name. What is not known here is checked by its RowDescription as any other
result.
Source: PostgreSQL manual, "DECLARE", "FETCH". One reason to change: what makes a row a cursor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.errors import NotAllowed, PgsealError
from proxy.session.statements import Cursor, Execution, Portal
from proxy.sql.plan import Effect, EffectKind, Kind, Plan, Planned, StatementPlan
from proxy.sql.watch import cut
from proxy.values.encodings import to_utf8

if TYPE_CHECKING:
    from proxy.rules import RoleRule
    from proxy.session.settings import SessionSettings
    from proxy.session.state import Entry

_NOTHING: Final = Planned(Plan(()), b"", ())


def portal_name(settings: SessionSettings, name: bytes) -> str:
    """The SQL cursor that a portal's name in a message means, or "" where none can be meant."""
    if not name or not settings.level.cursors:
        return ""
    try:
        utf8 = name if name.isascii() else to_utf8(name, settings.values())
    except PgsealError:
        return ""
    return cut(utf8).decode("utf-8", "replace")


def fetching(name: str) -> Execution:
    """An Execute of the portal that is this cursor."""
    plan = StatementPlan(Kind.PASS, "FETCH", effects=(Effect(EffectKind.FETCH, name),))
    return Execution(plan, _NOTHING, plan.effects)


def is_fetch(execution: Execution, portal: Portal, settings: SessionSettings) -> bool:
    """A FETCH whose rows may be those of a cursor over something protected."""
    if not settings.level.cursors and portal.fetched is None:
        return False
    return any(effect.kind is EffectKind.FETCH for effect in execution.effects)


def fetched_name(head: Entry) -> str:
    """The cursor whose rows (or whose description) the head asked for; "" where it is none."""
    execution = head.execution if head.text is None else head.text.current
    if execution is not None:
        effects = execution.effects
    else:
        effects = head.statement.effects if head.statement is not None else ()
    return next((effect.name for effect in effects if effect.kind is EffectKind.FETCH), head.fetches)


def cursor_of(head: Entry, settings: SessionSettings) -> Cursor | None:
    """Of the rows that the head asked for. A portal that has begun goes on with the cursor it began with."""
    if not settings.level.cursors and (head.portal is None or head.portal.fetched is None):
        return None
    name = fetched_name(head)
    if not name:
        return None
    portal: Portal | None = head.portal
    if portal is not None and portal.has_fetched:
        return portal.fetched
    return settings.level.cursors.get(name)


def check_rights(cursor: Cursor, role: RoleRule) -> None:
    if cursor.role != role:
        raise NotAllowed(
            "the rights of the log-in have changed since the cursor was declared", hint="Declare it again."
        )
