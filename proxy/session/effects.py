"""What completed commands do to a session: settings, transactions, prepared statements, the catalog.

Takes hold at CommandComplete, by the tag the server gave, never by what was asked alone.
One reason to change: a command with an effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.session.settings import SessionSettings
from proxy.session.state import State
from proxy.session.statements import Cursor, Execution, Statement
from proxy.sql.plan import NEW_CODE, Effect, EffectKind, Env, Plan, Planned
from proxy.sql.rewrite import Rendered
from proxy.sql.settings import bound
from proxy.values.constants import Expr, Inputs, evaluate
from proxy.values.encodings import from_utf8
from proxy.wire.frontend import Parse

IDLE: Final = ord("I")
CATALOG_EFFECTS: Final = frozenset({EffectKind.DDL, EffectKind.OVERLAY})


class Effects:
    """Owned by one session. `env` gives what planning depends on at this moment."""

    def __init__(self, state: State, settings: SessionSettings, env: Callable[[], Env]) -> None:
        self._state = state
        self._settings = settings
        self._env = env

    def apply(self, execution: Execution, tag: bytes) -> None:
        """The statement completed with this tag."""
        for effect, value in zip(execution.effects, execution.effect_values or (None,) * 99, strict=False):
            kind = effect.kind
            if kind is EffectKind.COMMIT and tag == b"ROLLBACK":
                self._settings.rollback()
            elif kind in CATALOG_EFFECTS:
                self._state.has_run_ddl = True
                self._state.is_code_new = self._state.is_code_new or effect.name == NEW_CODE
                self._settings.apply(effect, None)
            elif kind is EffectKind.PREPARE:
                self._prepare_by_sql(effect.name, execution)
            elif kind is EffectKind.DEALLOCATE:
                self._deallocate(effect.name)
            elif kind is EffectKind.CLOSE:
                self._close(effect.name)
            elif kind is EffectKind.DECLARE:
                self._declare(effect, execution)
            else:
                if kind is EffectKind.DISCARD_ALL:
                    self._deallocate("")
                self._settings.apply(effect, None if value is None else value.decode("utf-8", "replace"))

    def _prepare_by_sql(self, name: str, execution: Execution) -> None:
        """The same as after a Parse of what it prepares; the text (UTF-8) is that of PREPARE, and is looked at
        again when the catalog or a setting is another."""
        whole, plan = execution.planned, execution.plan.prepares
        planned = Planned(Plan(()) if plan is None else plan, whole.text, whole.tokens)
        key = self._key(name)
        made = Statement(Parse(key, whole.text, ()), planned, self._env(), is_prepared_by_sql=True)
        if plan is not None:
            made.rendered = Rendered(whole.text, planned, ())
        self._state.statements[key] = made

    def _key(self, name: str) -> bytes:
        """A name as messages of the client have it."""
        utf8 = name.encode()
        return utf8 if utf8.isascii() else from_utf8(utf8, self._settings.values())

    def _deallocate(self, name: str) -> None:
        statements = self._state.statements
        if name:
            statements.pop(self._key(name), None)
        else:
            for known in [n for n in statements if n]:
                del statements[known]

    def _declare(self, effect: Effect, execution: Execution) -> None:
        plan = execution.plan.opens
        assert plan is not None
        role = self._env().role
        cursor = Cursor(plan, execution.planned, execution.grant, execution.tenant, role, effect.is_held)
        self._settings.declare(effect.name, cursor)

    def _close(self, name: str) -> None:
        self._settings.close(name)
        if name:
            self._state.portals.pop(name.encode(), None)
        else:
            self._state.portals.clear()

    def ready(self, status: int) -> None:
        """ReadyForQuery: an implicit transaction has ended, one way or the other."""
        if status == IDLE:
            if self._settings.is_dirty:
                if self._state.has_failed:
                    self._settings.rollback()
                else:
                    self._settings.commit()
            if self._state.has_run_ddl:
                self._state.has_run_ddl = False
                self._state.is_catalog_stale = True
        self._state.has_failed = False
        self._settings.ready()


def effect_values(effects: tuple[Effect, ...], inputs: Inputs) -> tuple[bytes | None, ...]:
    """The value of each SET among the effects, as text; None: DEFAULT, or not a SET."""
    return tuple(_content(effect.value, inputs) if effect.value is not None else None for effect in effects)


def bound_effects(effects: tuple[Effect, ...], inputs: Inputs) -> tuple[Effect, ...]:
    """The effects with what a set_config() took from parameters."""
    return tuple(bound(effect, lambda expr: _content(expr, inputs)) for effect in effects)


def _content(expr: Expr, inputs: Inputs) -> bytes | None:
    value = evaluate(expr, inputs)
    return None if value is None else value.content
