"""Values put into a plan: constants of its text or arguments of EXECUTE in the place of what stands for them.

A prepared statement outlives the text of its PREPARE, and one EXECUTE has its values in its own text. Both are
plans whose `Lifted` and `Param` expressions are exchanged. One reason to change: where a plan holds expressions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from proxy.sql.plan import Slot, StatementPlan, TenantOf
from proxy.values.constants import ArrayOf, Call, Cast, Const, Expr, Lifted, Param


@dataclass(frozen=True, slots=True)
class Given:
    """What stands in the place of the n-th lifted constant, and of the n-th parameter (0-based)."""

    lifted: Callable[[int], Expr] = Lifted
    param: Callable[[int], Expr] = Param

    def expr(self, expr: Expr) -> Expr:
        match expr:
            case Lifted(number):
                return self.lifted(number)
            case Param(index):
                return self.param(index)
            case Cast(arg, type_, is_array):
                return Cast(self.expr(arg), type_, is_array)
            case Call(name, args):
                return Call(name, tuple(map(self.expr, args)))
            case ArrayOf(items):
                return ArrayOf(tuple(map(self.expr, items)))
            case Const():
                return expr
            case _:
                assert_never(expr)

    def tenant(self, tenant: TenantOf) -> TenantOf:
        return tenant if tenant.expr is None else replace(tenant, expr=self.expr(tenant.expr))

    def slot(self, slot: Slot) -> Slot:
        bound = tuple(map(self.expr, slot.bound))
        return replace(slot, expr=self.expr(slot.expr), tenant=self.tenant(slot.tenant), bound=bound)

    def proofs(self, plan: StatementPlan) -> StatementPlan:
        """The statement with the tenants it proves."""
        return replace(
            plan,
            read_tenants=tuple(map(self.tenant, plan.read_tenants)),
            compared_tenants=tuple(map(self.tenant, plan.compared_tenants)),
        )
