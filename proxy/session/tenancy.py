"""Whose tenant a session, a statement and a cell have.

Believed only from what the client sent, was parsed and was confirmed by the server. What cannot be known is
PS002 where one is required. One reason to change: where a tenant comes from in a running session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.errors import NotAllowed, PgsealError, TenantUnknown
from proxy.rules import RoleRule, Ruleset, TenantFrom, TenantRule
from proxy.session.runtime import Client
from proxy.session.settings import Level
from proxy.session.statements import ReadGrant
from proxy.sql.catalog import SealedColumn
from proxy.sql.plan import Effect, EffectKind, StatementPlan, TenantOf
from proxy.tenants import TenantFacts, canonical_tenant, session_tenant
from proxy.values.constants import Inputs, assign_value, evaluate
from proxy.values.registry import type_from_oid

KEEPS_SETTINGS: Final = frozenset(
    {
        EffectKind.BEGIN,
        EffectKind.SAVEPOINT,
        EffectKind.RELEASE,
        EffectKind.PREPARE,
        EffectKind.DEALLOCATE,
        EffectKind.EXECUTE,
        EffectKind.DECLARE,
        EffectKind.FETCH,
        EffectKind.CLOSE,
    }
)


@dataclass(slots=True)
class SessionTenants:
    """The tenants as they are at one moment; `after` gives them behind a statement of the same text."""

    client: Client
    role: RoleRule
    setting: Callable[[str], str | None]
    rules: Ruleset
    changed: dict[str, str | None] = field(default_factory=dict)
    current: str | None = None  # the tenant last used, for the audit event

    # --- the tenant of the session -------------------------------------------------------------------

    def _rule(self, column: SealedColumn) -> TenantRule | None:
        """The rule that gives the session a tenant for this column's table."""
        schema, _, name = column.rule.table.partition(".")
        table = self.rules.tables.get((schema, name))
        if table is not None and table.tenant.source is not TenantFrom.COLUMN:
            return table.tenant
        return self.rules.tenant if self.rules.tenant is not None else None

    def _has_own_source(self, column: SealedColumn) -> bool:
        """The table's tenant is the session's, not a column's."""
        schema, _, name = column.rule.table.partition(".")
        table = self.rules.tables.get((schema, name))
        return table is None or table.tenant.source is not TenantFrom.COLUMN

    def _of_session(self, column: SealedColumn) -> str | None:
        rule = self._rule(column)
        if rule is None or rule.source is TenantFrom.COLUMN:
            return None
        name = rule.name.lower()
        value = self.changed[name] if name in self.changed else self.setting(name)
        return session_tenant(rule, TenantFacts(self.client.user, self.client.database, {name: value}))

    # --- the tenant of a slot ------------------------------------------------------------------------

    def of(self, tenant: TenantOf, column: SealedColumn, inputs: Inputs) -> str:
        """The tenant a slot is sealed for. Raises TenantUnknown, NotAllowed."""
        if tenant.expr is None:
            found = self._of_session(column)
        else:
            found = tenant_of(tenant, inputs)
        if found is None:
            raise TenantUnknown(
                "the tenant of the row is not known",
                column=column.rule.label,
                hint="Give the tenant in the statement, or set it for the session.",
            )
        self._check_allowed(found, column)
        self.current = found
        return found

    def _check_allowed(self, tenant: str, column: SealedColumn) -> None:
        allowed = self.role.tenants
        if allowed and tenant not in allowed:
            raise NotAllowed("the log-in may not use this tenant", column=column.rule.label)

    # --- what a statement may open -------------------------------------------------------------------

    def grant(self, plan: StatementPlan, inputs: Inputs) -> ReadGrant:
        """The tenants whose cells the statement may open, and how they are shown."""
        return replace(self._granted(plan, inputs), read=self.role.read)

    def _granted(self, plan: StatementPlan, inputs: Inputs) -> ReadGrant:
        role = self.role
        allowed = frozenset(role.tenants) if role.tenants else None
        if allowed is not None:
            self._check_compared(plan, inputs)
        if role.cross_tenant:
            return ReadGrant(allowed)
        columns = [a.column for a in plan.accesses if a.reads] or [a.column for a in plan.accesses]
        try:
            found = self._proven(plan, columns, inputs)
        except PgsealError as error:
            return ReadGrant(frozenset(), error)
        if not found:
            if allowed is not None and len(allowed) == 1:
                return ReadGrant(allowed)
            label = columns[0].rule.label if columns else None
            return ReadGrant(frozenset(), _unknown(label))
        self.current = next(iter(found)) if len(found) == 1 else None
        return ReadGrant(found if allowed is None else found & allowed)

    def _check_compared(self, plan: StatementPlan, inputs: Inputs) -> None:
        """Which cells are equal is something to read, too. Raises NotAllowed."""
        for access in plan.accesses:
            tenant = self._of_session(access.column) if access.compares else None
            if tenant is not None and not plan.compared_tenants:
                self._check_allowed(tenant, access.column)
        for proof in plan.compared_tenants:
            tenant = tenant_of(proof, inputs)
            if tenant is not None:
                self._check_allowed(tenant, next(a.column for a in plan.accesses if a.compares))

    def _proven(self, plan: StatementPlan, columns: list[SealedColumn], inputs: Inputs) -> frozenset[str]:
        """The session's tenant where it has one; else those that the statement itself proves."""
        found: set[str] = set()
        for column in columns:
            try:
                tenant = self._of_session(column)
            except TenantUnknown:
                if self._has_own_source(column):
                    raise
                continue  # the rows' own tenants, where the statement proves them
            if tenant is not None:
                found.add(tenant)
        if found:
            return frozenset(found)
        for proof in plan.read_tenants:
            tenant = tenant_of(proof, inputs)
            if tenant is not None:
                found.add(tenant)
        return frozenset(found)

    # --- settings of the same text -------------------------------------------------------------------

    def after(self, effects: tuple[Effect, ...], values: tuple[bytes | None, ...]) -> SessionTenants:
        """These tenants behind a statement with these effects."""
        if not effects:
            return self
        changed = dict(self.changed)
        for effect, value in zip(effects, values, strict=False):
            if effect.kind is EffectKind.SET:
                changed[effect.name.lower()] = None if value is None else value.decode("utf-8", "replace")
            elif effect.kind is EffectKind.RESET and effect.name:
                changed[effect.name.lower()] = None
            elif effect.kind not in KEEPS_SETTINGS:
                changed = dict.fromkeys(_setting_names(self.rules))
        return replace(self, changed=changed)


def tenant_of(tenant: TenantOf, inputs: Inputs) -> str | None:
    """The tenant that a statement's own value stands for: the canonical text of the tenant column's type."""
    value = evaluate(tenant.expr, inputs) if tenant.expr is not None else None
    if value is None:
        return None
    kind = type_from_oid(tenant.type_oid)
    if kind is None:
        raise TenantUnknown("the tenant column has a type that identifies no tenant")
    return canonical_tenant(assign_value(value, kind, inputs.settings))


def has_other_tenant(rules: Ruleset, before: Level, after: Level) -> bool:
    """A setting that gives a tenant has another value."""
    return any(before.get(name) != after.get(name) for name in _setting_names(rules))


def _setting_names(rules: Ruleset) -> set[str]:
    found = [rule.tenant for rule in rules.tables.values()]
    if rules.tenant is not None:
        found.append(rules.tenant)
    return {rule.name.lower() for rule in found if rule.source is TenantFrom.SETTING}


def _unknown(label: str | None) -> TenantUnknown:
    return TenantUnknown(
        "the statement does not say which tenant's cells it reads",
        column=label,
        hint="Restrict it to one tenant, set the session's tenant, or let the role read across tenants.",
    )
