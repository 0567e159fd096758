"""Constant expressions over literals and parameters, and their way into a column or a comparison."""

from __future__ import annotations

import struct

import pytest

from proxy.errors import PgsealError
from proxy.values.arrays import build_binary
from proxy.values.base import Settings
from proxy.values.constants import (
    LISTED,
    ArrayOf,
    Call,
    Cast,
    Const,
    Expr,
    Inputs,
    Lifted,
    Param,
    Value,
    assign_value,
    comparable_value,
    elements,
    evaluate,
)
from proxy.values.registry import BASE, parse_type

SETTINGS = Settings()


def assigned(expr: Expr, type_name: str, inputs: Inputs | None = None) -> bytes | None:
    """The display form an expression gives a column of the type."""
    value = evaluate(expr, inputs or Inputs(SETTINGS))
    return None if value is None else assign_value(value, parse_type(type_name), SETTINGS)


def compared(expr: Expr, type_name: str, inputs: Inputs | None = None, *, nocase: bool = False) -> bytes | None:
    """The equality form an expression has against a column of the type."""
    value = evaluate(expr, inputs or Inputs(SETTINGS))
    assert value is not None
    return comparable_value(value, parse_type(type_name), SETTINGS, nocase)


def code_of(call: object, *args: object) -> str:
    with pytest.raises(PgsealError) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.sqlstate


def test_assign_value_untyped_literal_takes_the_columns_type() -> None:
    """A quoted literal is read by the column's own input, with its length."""
    assert assigned(Const(b" 42 "), "int4") == b"42"
    assert assigned(Const(b"abc   "), "varchar(3)") == b"abc"
    assert assigned(Const(None), "int4") is None
    assert code_of(assigned, Const(b"abcd"), "varchar(3)") == "22001"
    assert code_of(assigned, Const(b"x"), "int4") == "22P02"


def test_assign_value_typed_literal_follows_assignment_casts() -> None:
    """A number goes into text and numeric, a text not into a number."""
    assert assigned(Const(b"42", "int"), "text") == b"42"
    assert assigned(Const(b"1.5", "numeric"), "int4") == b"2"
    assert assigned(Const(b"t", "bool"), "text") == b"true"
    assert code_of(assigned, Cast(Const(b"1"), BASE["text"]), "int4") == "42804"
    assert code_of(assigned, Const(b"99999999999", "int"), "int4") == "22003"


def test_evaluate_cast_to_varchar_truncates_silently() -> None:
    """An explicit cast cuts where an assignment would fail."""
    assert assigned(Cast(Const(b"abcdef"), parse_type("varchar(3)")), "varchar(3)") == b"abc"


def test_evaluate_parameters_by_oid_and_format() -> None:
    """Declared types and formats decide how a parameter is read; without a type its place does."""
    inputs = Inputs(
        SETTINGS,
        params=(b"7", struct.pack(">q", 7), b"\0\0\0\7", None, b"x"),
        formats=(0, 1, 1, 0, 0),
        oids=(0, 20, 0, 23),
    )
    assert assigned(Param(0), "int4", inputs) == b"7"
    assert assigned(Param(1), "int4", inputs) == b"7"
    assert assigned(Param(2), "int4", inputs) == b"7"
    assert assigned(Param(3), "int4", inputs) is None
    assert assigned(Call("||", (Param(4), Const(b"y"))), "text", inputs) == b"xy"


def test_evaluate_lifted_constants_come_from_the_text() -> None:
    """The same plan serves texts that differ in their constants."""
    expr = Call("lower", (Lifted(1),))
    assert assigned(expr, "text", Inputs(SETTINGS, constants=(Const(b"A"), Const(b"B")))) == b"b"


@pytest.mark.parametrize(
    ("expr", "type_name", "form"),
    [
        (Const(b"5", "int"), "int8", b"5"),
        (Const(b"70000", "int"), "int2", None),
        (Const(b"1.0", "numeric"), "int4", b"1"),
        (Const(b"1.5", "numeric"), "int4", None),
        (Const(b"5", "int"), "numeric(10,2)", b"5"),
        (Const(b"abcdef"), "varchar(3)", b"abcdef"),
        (Cast(Const(b"2020-01-01 00:00"), BASE["timestamp"]), "date", b"2020-01-01"),
        (Cast(Const(b"2020-01-01 00:01"), BASE["timestamp"]), "date", None),
        (Cast(Const(b"2020-01-01"), BASE["date"]), "timestamptz", b"2020-01-01 00:00:00+00"),
    ],
)
def test_comparable_value_across_types_is_a_form_or_nothing(
    expr: Expr, type_name: str, form: bytes | None
) -> None:
    """What the column's type cannot hold equals nothing, without an error."""
    assert compared(expr, type_name) == form


def test_comparable_value_types_without_operator_are_42883() -> None:
    """PostgreSQL has no text = integer."""
    assert code_of(compared, Const(b"5", "int"), "text") == "42883"
    assert code_of(compared, Cast(Const(b"5"), BASE["text"]), "int4") == "42883"
    assert code_of(compared, Const(b"x"), "int4") == "22P02"
    assert code_of(compared, Const(b"1"), "json") == "42883"


def test_comparable_value_nocase_refuses_letters_outside_ascii() -> None:
    """How they fold depends on the server's locale."""
    value = Value(None, "ÀB".encode())
    assert comparable_value(Value(None, b"AB"), BASE["text"], SETTINGS, True) == b"ab"
    assert comparable_value(Value(None, "漢B".encode()), BASE["text"], SETTINGS, True) == "漢b".encode()
    assert code_of(comparable_value, value, BASE["text"], SETTINGS, True) == "PS001"


def test_elements_of_every_array_spelling_are_values() -> None:
    """A literal, a text and a binary parameter, ARRAY[...] and a cast give the same elements."""
    wire = build_binary((struct.pack(">i", 1), None), 23)
    inputs = Inputs(SETTINGS, params=(b"{1,NULL}", wire, wire, None), formats=(0, 1, 1, 0), oids=(0, 0, 1007))
    for expr in (
        Const(b"{1,NULL}"),
        Param(0),
        Param(1),
        Param(2),
        ArrayOf((Const(b"1", "int"), Const(None))),
        Cast(Param(0), BASE["int4"], is_array=True),
    ):
        found = elements(expr, inputs)
        assert found is not None
        first, second = found
        assert first is not None and second is None
        assert comparable_value(first, BASE["int8"], SETTINGS) == b"1"
    assert elements(Param(3), inputs) is None
    assert code_of(elements, Const(b"1", "int"), inputs) == "PS001"


def test_elements_wrong_element_type_is_refused() -> None:
    """A binary array must hold what its declared type says."""
    inputs = Inputs(SETTINGS, params=(build_binary((b"a",), 25),), formats=(1,), oids=(1007,))
    assert code_of(elements, Param(0), inputs) == "22P03"


def test_evaluate_unlisted_or_ambiguous_is_unsupported() -> None:
    """What is not on the list, or depends on a locale or on type resolution, is refused."""
    inputs = Inputs(SETTINGS)
    one = Const(b"1", "int")
    for expr in (
        Call("md5", (Const(b"a"),)),
        Call("lower", ()),
        Call("upper", (Const("é".encode()),)),
        Call("+", (Const(b"1"), Const(b"2"))),
        Call("coalesce", (one, Cast(Const(b"2"), BASE["numeric"]))),
        Call("/", (Const(b"1.0", "numeric"), one)),
        Call("||", (Cast(Const(b"t"), BASE["bool"]), Const(b"x"))),
        Const(b"101", "bit"),
        ArrayOf((one,)),
    ):
        assert code_of(evaluate, expr, inputs) == "PS001"


def test_listed_names_every_callable_signature() -> None:
    """The list is what planning asks before it makes a Call."""
    assert ("lower", 1) in LISTED
    assert ("coalesce", 3) in LISTED
    assert ("-", 1) in LISTED
    assert ("now", 0) not in LISTED


def test_value_repr_hides_its_content() -> None:
    """A value in a traceback or a log shows nothing of itself."""
    assert "canary" not in repr(Value(None, b"canary"))
    assert "canary" not in repr(Inputs(SETTINGS, params=(b"canary",)))
