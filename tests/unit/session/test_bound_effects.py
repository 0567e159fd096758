"""set_config() whose name or third argument is a parameter."""

from __future__ import annotations

import pytest

from proxy.session.effects import bound_effects
from proxy.sql.plan import Effect, EffectKind
from proxy.values.base import Settings
from proxy.values.constants import Const, Inputs, Param

CALL = Effect(EffectKind.SET, "", Param(1), name_value=Param(0), local_value=Param(2))


def inputs(*params: bytes | None, formats: tuple[int, ...] = (0, 0, 0)) -> Inputs:
    return Inputs(Settings(), (), params, formats, (0, 0, 16))


@pytest.mark.parametrize(("text", "expected"), [(b"t", True), (b"off", False), (None, False), (b"true", True)])
def test_effect_takes_name_and_scope_from_parameters(text: bytes | None, expected: bool) -> None:
    """The name is folded, NULL is not local."""
    (found,) = bound_effects((CALL,), inputs(b"App.Tenant_Id", b"north", text))
    assert found == Effect(EffectKind.SET, "app.tenant_id", Param(1), expected)


def test_effect_reads_a_binary_boolean() -> None:
    """Typed or not."""
    for oids in ((0, 0, 16), (0, 0, 0)):
        values = Inputs(Settings(), (), (b"a.b", b"x", b"\x01"), (0, 0, 1), oids)
        assert bound_effects((CALL,), values)[0].is_local


def test_effect_of_a_role_is_known_as_one() -> None:
    """The name decides the kind, also when it comes as a parameter."""
    (found,) = bound_effects((CALL,), inputs(b"ROLE", b"bob", b"f"))
    assert found == Effect(EffectKind.SET_ROLE, "", Param(1), False)


def test_effects_without_parameters_stay_as_they_are() -> None:
    """The common case."""
    plain = Effect(EffectKind.SET, "app.tenant_id", Const(b"north"), True)
    assert bound_effects((plain,), inputs()) == (plain,)
