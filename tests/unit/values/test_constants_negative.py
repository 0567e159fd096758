"""The least integers, which only exist with their sign."""

from __future__ import annotations

import pytest

from proxy.values.base import Settings
from proxy.values.constants import Call, Const, Inputs, Lifted, evaluate


@pytest.mark.parametrize(
    ("digits", "kind", "name"),
    [(b"2147483648", "int", "int4"), (b"9223372036854775808", "numeric", "int8")],
)
def test_negated_literal_of_the_least_integer_keeps_its_type(digits: bytes, kind: str, name: str) -> None:
    """PostgreSQL's grammar folds the sign into the constant before it chooses a type."""
    value = evaluate(Call("-", (Lifted(0),)), Inputs(Settings(), (Const(digits, kind),)))
    assert value is not None
    assert value.type is not None
    assert (value.type.name, value.content) == (name, b"-" + digits)
