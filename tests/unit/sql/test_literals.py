"""Constants in all spellings: signs, brackets and casts around them, and numbers beyond their column's type."""

from __future__ import annotations

import pytest

from proxy.sql.plan import Planned
from proxy.sql.planner import Planner
from proxy.sql.rewrite import render
from proxy.values.base import Settings
from proxy.values.constants import Inputs, assign_value, comparable_value, evaluate
from tests.unit.sql.catalogs import env
from tests.unit.sql.plans import plan

SIGNED = {  # as written, what is sent, the value, the value with 7 in place of 5
    "(5)": ("(<0>)", 5, 7),
    "((5))::int": ("<0>", 5, 7),
    "(((5)))": ("(((<0>)))", 5, 7),
    "-5": ("<0>", -5, -7),
    "-(5)": ("<0>", -5, -7),
    "- ( 5 )": ("<0>", -5, -7),
    "-((5))": ("<0>", -5, -7),
    "(-(5))": ("(<0>)", -5, -7),
    "- -5": ("<0>", 5, 7),
    "-(-5)": ("<0>", 5, 7),
    "-(-(-(5)))": ("<0>", -5, -7),
    "-(2+3)": ("<0>", -5, -5),
    "-(2)+3": ("<0>", 1, 1),
    "(1+2)*(3+4)": ("<0>", 21, 21),
    "5 + (-(5))": ("<0>", 0, 0),
    "(-5)::int": ("<0>", -5, -7),
    "-(5)::int": ("<0>", -5, -7),
    "-(int '5')": ("<0>", -5, -7),
    "CAST((5) AS int)": ("<0>", 5, 7),
    "CAST(-(5) AS int)": ("<0>", -5, -7),
    "coalesce((5), -(6))": ("<0>", 5, 7),
}


def value_of(planned: Planned) -> bytes:
    """What lands in the column of slot 0."""
    slot = planned.plan.slots[0]
    value = evaluate(slot.expr, Inputs(Settings(), planned.constants))
    assert value is not None
    return assign_value(value, slot.column.rule.type, Settings())


def planned(planner: Planner, sql: str) -> Planned:
    found = planner.plan(sql.encode(), env(), None)
    assert isinstance(found, Planned)
    assert found.plan.refusal is None
    return found


@pytest.mark.parametrize("written", SIGNED)
def test_constant_in_brackets_and_under_signs_is_replaced_whole(written: str) -> None:
    """No bracket and no sign of the constant is left over."""
    becomes = SIGNED[written][0]
    assert plan(f"UPDATE staff SET pin = {written} WHERE id = 1").sql == (
        f"UPDATE staff SET pin = {becomes} WHERE id = 1"
    )
    found = plan(f"SELECT id FROM staff WHERE pin = {written} AND id = 1").sql
    assert found == f"SELECT id FROM staff WHERE substring(pin from 10 for 15) = {becomes} AND id = 1"


@pytest.mark.parametrize("written", SIGNED)
def test_constant_under_signs_has_the_value_of_its_own_text(written: str) -> None:
    """Texts of one template differ in their constants alone, and each has the value that its own text says."""
    planner = Planner()
    _, five, seven = SIGNED[written]
    for text, value in ((written, five), (written.replace("5", "7"), seven)):
        found = planned(planner, f"UPDATE staff SET pin = {text} WHERE id = 1")
        assert value_of(found) == str(value).encode()


def test_constant_with_a_sign_gives_broken_brackets_nowhere() -> None:
    """What is sent has as many brackets as what came."""
    for written in SIGNED:
        made = planned(Planner(), f"UPDATE staff SET pin = {written}")
        text = render(made, [b"x"] * len(made.plan.slots)).text
        assert text.count(b"(") == text.count(b")")


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("2147483647", b"2147483647"),
        ("-2147483648", b"-2147483648"),
        ("2147483648", None),
        ("99999999999", None),
        ("-99999999999", None),
        ("99999999999999999999", None),
        ("1.0", b"1"),
        ("1.5", None),
        ("5::bigint", b"5"),
    ],
)
def test_integer_column_compared_with_a_number_beyond_it_finds_nothing(written: str, form: bytes | None) -> None:
    """PostgreSQL compares across number types; a value that the column cannot hold equals none."""
    found = planned(Planner(), f"SELECT id FROM staff WHERE pin = {written}")
    slot = found.plan.slots[0]
    value = evaluate(slot.expr, Inputs(Settings(), found.constants))
    assert value is not None
    assert comparable_value(value, slot.column.rule.type, Settings()) == form


def test_integers_of_other_sizes_do_not_share_a_plan() -> None:
    """An integer literal is int4, int8 or numeric by its size, also under a sign."""
    planner = Planner()
    numbers = ("5", "2147483648", "2147483649", "9223372036854775808", "9223372036854775809")
    plans = [planned(planner, f"SELECT id FROM staff WHERE pin = {n}").plan for n in numbers]
    assert len({id(found) for found in plans}) == len(numbers)
    again = planned(planner, "SELECT id FROM staff WHERE pin = 9000000000").plan
    assert again is plans[2]


def test_least_integer_is_assigned() -> None:
    """The sign belongs to the constant, which is an int4 then."""
    assert value_of(planned(Planner(), "UPDATE staff SET pin = -2147483648")) == b"-2147483648"


def test_value_of_another_type_is_assigned_by_postgres_own_casts() -> None:
    """A number goes into text, and a fraction is rounded into an integer."""
    assert value_of(planned(Planner(), "UPDATE staff SET ssn = 42")) == b"42"
    assert value_of(planned(Planner(), "UPDATE staff SET pin = 2.5")) == b"3"


def test_literal_that_cannot_be_lifted_makes_a_plan_for_its_text_alone() -> None:
    """No other text takes over its value."""
    planner = Planner()
    sql = "UPDATE staff SET ssn = U&'!0061' UESCAPE '!' WHERE id = 1"
    first = planned(planner, sql)
    assert value_of(first) == b"a"
    assert value_of(planned(planner, sql.replace("0061", "0062"))) == b"b"
