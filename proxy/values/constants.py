"""Constant expressions: what pgseal evaluates itself, over literals and parameters only.

A plan refers to a value by an `Expr`; `evaluate` turns it into a `Value` once literals and parameters are
known. Only casts and a listed set of immutable functions and operators exist here; everything else never
becomes an `Expr` (planning refuses it). One reason to change: the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from proxy.errors import CannotCoerce, InvalidBinaryRepresentation, ProgramLimitExceeded, Unsupported
from proxy.values.arrays import each_in_binary, each_in_text
from proxy.values.base import LogicalType, Settings, in_utf8
from proxy.values.casts import Context, cast, context_of, with_length
from proxy.values.coerce import (
    check_assignable,
    comparable_display,
    is_unknown,
    read_source,
    source_type,
)
from proxy.values.encodings import to_utf8
from proxy.values.functions import SIGNATURES, Typed, call
from proxy.values.integer import in_range
from proxy.values.numeric import limit, parse_numeric, show_numeric
from proxy.values.registry import BASE, base_of, codec, element_of_array
from proxy.values.wire import sql_name


@dataclass(frozen=True, slots=True)
class Const:
    """A literal. `text` is its value in UTF-8 (quotes and escapes undone), None for NULL. `kind` is how it was
    written: 'unknown' (quoted string), 'int', 'numeric', 'bool', 'bit'."""

    text: bytes | None = field(repr=False)
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


MAX_ELEMENTS_SIZE: Final = 1 << 28
LISTED: Final[frozenset[tuple[str, int]]] = SIGNATURES
"""(name, number of arguments) of the functions and operators that may become a `Call`."""


@dataclass(frozen=True, slots=True, repr=False)
class Inputs:
    """What one execution brings: lifted constants (UTF-8), parameters as the client sent them (None: NULL), their
    format codes (none, one for all, or one each) and declared type OIDs (missing ones are 0)."""

    settings: Settings
    constants: Sequence[Expr] = ()
    params: Sequence[bytes | None] = ()
    formats: Sequence[int] = ()
    oids: Sequence[int] = ()

    def is_binary(self, index: int) -> bool:
        if len(self.formats) <= 1:
            return bool(self.formats) and self.formats[0] == 1
        return self.formats[index] == 1

    def oid(self, index: int) -> int:
        return self.oids[index] if index < len(self.oids) else 0


@dataclass(frozen=True, slots=True, repr=False)
class Value:
    """A value that is not NULL. With a type, `content` is its display form. Without one it is a literal or
    parameter whose type its place decides: UTF-8 text, or binary where `binary`."""

    type: LogicalType | None
    content: bytes
    binary: bool = False


def evaluate(expr: Expr, inputs: Inputs) -> Value | None:
    """The value of a constant expression, None for NULL; PostgreSQL's errors, or Unsupported."""
    typed = _typed(expr, inputs)
    return None if typed.content is None else Value(typed.type, typed.content, typed.binary)


def _typed(expr: Expr, inputs: Inputs) -> Typed:
    match expr:
        case Const():
            return _constant(expr)
        case Lifted(number):
            return _typed(inputs.constants[number], inputs)
        case Param(index):
            return _parameter(index, inputs)
        case Cast(arg, type_, is_array):
            if is_array:
                raise Unsupported("an array where one value is needed")
            return _cast(_typed(arg, inputs), type_, inputs.settings)
        case Call("-", (arg,)) if (digits := _digits(arg, inputs)) is not None:
            return _number("-" + digits)  # the parser folds the sign into the number before it has a type
        case Call(name, args):
            return call(name, tuple(_typed(arg, inputs) for arg in args), inputs.settings)
        case ArrayOf():
            raise Unsupported("an array where one value is needed")
        case _:
            assert_never(expr)


def _digits(expr: Expr, inputs: Inputs) -> str | None:
    """The text of a number literal without a sign; None for anything else."""
    if isinstance(expr, Lifted):
        expr = inputs.constants[expr.number]
    if isinstance(expr, Const) and expr.kind in ("int", "numeric") and expr.text is not None:
        text = expr.text.decode("ascii")
        return None if text.startswith("-") else text
    return None


def _constant(const: Const) -> Typed:
    text = const.text
    match const.kind:
        case "unknown":
            return Typed(None, text)
        case "bool":
            return Typed(BASE["bool"], None if text is None else text[:1].lower())
        case "int" | "numeric" if text is not None:
            return _number(text.decode("ascii"))
        case _:
            raise Unsupported("bit strings")


def _number(text: str) -> Typed:
    """A number as SQL writes it: int4, else int8, else numeric."""
    if text.lstrip("-").isdigit() and len(text) <= 20:
        value = int(text)
        for name in ("int4", "int8"):
            if in_range(value, BASE[name].size):
                return Typed(BASE[name], b"%d" % value)
    return Typed(BASE["numeric"], show_numeric(limit(parse_numeric(text), -1)))


def _parameter(index: int, inputs: Inputs) -> Typed:
    raw, oid, binary = inputs.params[index], inputs.oid(index), inputs.is_binary(index)
    if is_unknown(oid):
        if raw is None:
            return Typed(None, None)
        return Typed(None, raw, binary=True) if binary else Typed(None, to_utf8(raw, inputs.settings))
    type_ = source_type(oid)
    if raw is None:
        return Typed(type_, None)
    return Typed(type_, read_source(raw, binary=binary, oid=oid, settings=inputs.settings))


def _cast(value: Typed, target: LogicalType, settings: Settings) -> Typed:
    if value.type is not None and context_of(value.type, target) is Context.NONE:
        raise CannotCoerce(f"cannot cast type {sql_name(value.type)} to {sql_name(target)}")
    if value.content is None:
        return Typed(target, None)
    if value.type is None:
        display = _read_unknown(value.content, value.binary, base_of(target), settings)
        return Typed(target, with_length(display, target, explicit=True))
    return Typed(target, cast(value.content, value.type, target, settings, explicit=True))


def _read_unknown(content: bytes, binary: bool, type_: LogicalType, settings: Settings) -> bytes:
    reader = codec(type_)
    if binary:
        return reader.read_binary(content, settings)
    return reader.read_text(content, in_utf8(settings))


def assign_value(value: Value, target: LogicalType, settings: Settings) -> bytes:
    """A value on its way into a column: the column's display form, with assignment's casts and errors."""
    if value.type is None:
        return _read_unknown(value.content, value.binary, target, settings)
    check_assignable(value.type, target)
    return cast(value.content, value.type, target, settings, explicit=False)


def comparable_value(value: Value, target: LogicalType, settings: Settings, nocase: bool = False) -> bytes | None:
    """A value compared with a column: the equality form, or None where nothing can be equal."""
    if value.type is None:
        base = base_of(target)
        display = _read_unknown(value.content, value.binary, base, settings)
        return comparable_display(display, base, target, settings, nocase=nocase)
    return comparable_display(value.content, value.type, target, settings, nocase=nocase)


def elements(expr: Expr, inputs: Inputs) -> tuple[Value | None, ...] | None:
    """The elements of an array expression (a parameter, a literal, ARRAY[...], casts around them), None where the
    array itself is NULL."""
    found = each_element(expr, inputs)
    return None if found is None else tuple(found)


def each_element(expr: Expr, inputs: Inputs) -> Iterator[Value | None] | None:
    """The same one by one: what is wrong with an element is raised when it is come to."""
    match expr:
        case ArrayOf(items):
            return (evaluate(item, inputs) for item in items)
        case Lifted(number):
            return each_element(inputs.constants[number], inputs)
        case Const(text, "unknown"):
            return None if text is None else _split(text, None, in_utf8(inputs.settings))
        case Param(index):
            return _array_parameter(index, inputs)
        case Cast(arg, type_, True):
            return _cast_elements(each_element(arg, inputs), type_, inputs.settings)
        case _:
            raise Unsupported("one value where an array is needed")


def _cast_elements(
    items: Iterator[Value | None] | None, target: LogicalType, settings: Settings
) -> Iterator[Value | None] | None:
    if items is None:
        return None
    return _bounded(None if item is None else _cast_value(item, target, settings) for item in items)


def _cast_value(item: Value, target: LogicalType, settings: Settings) -> Value:
    typed = _cast(Typed(item.type, item.content, item.binary), target, settings)
    assert typed.content is not None
    return Value(typed.type, typed.content)


def _array_parameter(index: int, inputs: Inputs) -> Iterator[Value | None] | None:
    raw, oid = inputs.params[index], inputs.oid(index)
    if raw is None:
        return None
    type_ = None if is_unknown(oid) else _element_type(oid)
    if not inputs.is_binary(index):
        return _split(raw, type_, inputs.settings)
    element_oid, n_items, items = each_in_binary(raw)
    if n_items and type_ is not None and source_type(element_oid).name != type_.name:
        raise InvalidBinaryRepresentation("wrong element type")
    return _bounded(_binary_element(item, element_oid, inputs.settings) for item in items)


def _element_type(oid: int) -> LogicalType:
    type_ = element_of_array(oid)
    if type_ is None:
        raise Unsupported(f"an array parameter of the type with OID {oid}")
    return type_


def _split(raw: bytes, type_: LogicalType | None, settings: Settings) -> Iterator[Value | None]:
    """Elements of an array in text: of the array's element type, else of the type their place decides."""
    items = each_in_text(raw, settings)
    if type_ is None:
        return (None if item is None else Value(None, item) for item in items)
    read, utf8 = codec(type_).read_text, in_utf8(settings)
    return _bounded(None if item is None else Value(type_, read(item, utf8)) for item in items)


def _bounded(values: Iterable[Value | None]) -> Iterator[Value | None]:
    """A few bytes may be a number of 131,072 digits, so the sum of an array's elements is bounded."""
    size = 0
    for value in values:
        size += 0 if value is None else len(value.content)
        if size > MAX_ELEMENTS_SIZE:
            raise ProgramLimitExceeded("array size exceeds the maximum allowed")
        yield value


def _binary_element(item: bytes | None, oid: int, settings: Settings) -> Value | None:
    if item is None:
        return None
    return Value(source_type(oid), read_source(item, binary=True, oid=oid, settings=settings))
