"""Unification: what meets shares one type, and what must not meet is refused in either order."""

from __future__ import annotations

import pytest

from proxy.errors import Unsupported
from proxy.sql.types import Because, Demand, Leaf, LeafKind, Value, Var, make_plain, plain, seal, unify
from tests.unit.sql.catalogs import snapshot

STAFF = snapshot().relations[("public", "staff")]
SSN, PIN = STAFF.sealed["ssn"], STAFF.sealed["pin"]
HERE = Because("meeting", 7)


def test_unify_of_unknown_with_sealed_seals_both() -> None:
    """A constant takes the type of what it meets."""
    constant, column = Var(), Var(sealed=SSN)
    unify(constant, column, HERE)
    assert constant.find().sealed is SSN


@pytest.mark.parametrize("swap", [False, True])
def test_unify_of_plain_with_sealed_is_refused(swap: bool) -> None:
    """In either order, also over a third."""
    left, middle, right = plain().var, Var(), Var(sealed=SSN)
    pairs = [(left, middle), (middle, right)]
    with pytest.raises(Unsupported) as refusal:
        for a, b in reversed(pairs) if swap else pairs:
            unify(a, b, HERE)
    assert refusal.value.column == "public.staff.ssn"
    assert refusal.value.position == 7


def test_unify_of_two_contexts_is_refused() -> None:
    """Cells of two columns never stand for each other."""
    with pytest.raises(Unsupported):
        unify(Var(sealed=SSN), Var(sealed=PIN), HERE)


def test_expression_made_plain_cannot_be_sealed_later() -> None:
    """A constant under a function stays plain, whatever it meets afterwards."""
    value = Value(Var())
    make_plain(value, Because("upper()"))
    with pytest.raises(Unsupported):
        seal(value.var, SSN, HERE)


def test_leaf_asked_for_cell_and_token_remembers_both() -> None:
    """One text cannot be both."""
    leaf = Leaf(LeafKind.COLUMN, Var(), 0, 1, 1)
    leaf.ask(Demand.CELL)
    leaf.ask(Demand.CELL)
    assert not leaf.has_two_demands
    leaf.ask(Demand.TOKEN)
    assert leaf.has_two_demands
    assert leaf.demand is Demand.TOKEN
