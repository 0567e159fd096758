"""Constant expressions: what pgseal evaluates itself, over literals and parameters only.

A plan refers to a value by an `Expr`; `evaluate` turns it into a `Value` once literals and parameters are
known. Only casts and a listed set of immutable functions and operators exist here; everything else never
becomes an `Expr` (planning refuses it). One reason to change: the list.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.values.base import LogicalType


@dataclass(frozen=True, slots=True)
class Const:
    """A literal. `text` is its value in UTF-8 (quotes and escapes undone), None for NULL. `kind` is how it was
    written: 'unknown' (quoted string), 'int', 'numeric', 'bool', 'bit'."""

    text: bytes | None
    kind: str = "unknown"


@dataclass(frozen=True, slots=True)
class Lifted:
    """The n-th lifted constant of the text (a Const in `Planned.constants`)."""

    number: int


@dataclass(frozen=True, slots=True)
class Param:
    """The client's parameter, 0-based."""

    index: int


@dataclass(frozen=True, slots=True)
class Cast:
    arg: Expr
    type: LogicalType
    is_array: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A listed function or operator; `name` is 'lower', '||', 'coalesce' ..."""

    name: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """ARRAY[...] of constants."""

    items: tuple[Expr, ...]


Expr = Const | Lifted | Param | Cast | Call | ArrayOf
