"""The listed functions and operators over constants: immutable ones, whose answers equal PostgreSQL's exactly.

PostgreSQL manual, "String Functions and Operators", "Mathematical Functions and Operators", "Conditional
Expressions". What depends on a locale (case of letters outside ASCII) or on types not resolved here is
`Unsupported`. One reason to change: the list.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from proxy.errors import (
    DivisionByZero,
    InvalidParameterValue,
    SubstringError,
    UndefinedFunction,
    Unsupported,
)
from proxy.values.base import LogicalType, Settings, in_utf8
from proxy.values.bytea import parse_hex
from proxy.values.casts import INTEGERS
from proxy.values.integer import in_range, out_of_range
from proxy.values.numeric import EXACT, MAX_SCALE, limit, read_display, show_numeric
from proxy.values.registry import BASE, base_of, codec
from proxy.values.wire import sql_name

MAX_ARGUMENTS: Final = 100
BASE64: Final = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


@dataclass(frozen=True, slots=True, repr=False)
class Typed:
    """A value or NULL (`content` None); without a type, its place decides one. `binary` only without a type."""

    type: LogicalType | None
    content: bytes | None
    binary: bool = False


Args = tuple[Typed, ...]


def call(name: str, args: Args, settings: Settings) -> Typed:
    """A listed function or operator over its arguments."""
    if (name, len(args)) not in SIGNATURES:
        raise Unsupported(f"the function or operator {name} in a constant expression")
    if name in _LENIENT:
        return _LENIENT[name](args, settings)
    if name in _OPERATORS:
        return _arithmetic(name, args, settings)
    return _STRICT[name](args)


# --- arguments -------------------------------------------------------------------------------------------


def _text(arg: Typed, function: str) -> str:
    """An argument as text. Numbers and others have no implicit cast to it."""
    if arg.type is not None and arg.type.family != "text":
        raise UndefinedFunction(f"function {function}({sql_name(arg.type)}) does not exist")
    assert arg.content is not None
    if arg.binary:
        codec(BASE["text"]).read_binary(arg.content, _UTF8)
    return arg.content.decode("utf-8")


def _int(arg: Typed, function: str) -> int:
    """An argument as int4."""
    assert arg.content is not None
    if arg.type is None:
        reader = codec(BASE["int4"])
        read = reader.read_binary if arg.binary else reader.read_text
        return int(read(arg.content, _UTF8))
    if arg.type.name not in ("int2", "int4"):
        raise UndefinedFunction(f"function {function}(..., {sql_name(arg.type)}) does not exist")
    return int(arg.content)


_UTF8: Final = Settings()


def _made(text: str) -> Typed:
    return Typed(BASE["text"], text.encode("utf-8"))


def _has_null(args: Args) -> bool:
    return any(arg.content is None for arg in args)


# --- strings ---------------------------------------------------------------------------------------------


def _fold(name: str, change: Callable[[str], str]) -> Callable[[Args], Typed]:
    def fold(args: Args) -> Typed:
        if _has_null(args):
            return Typed(BASE["text"], None)
        text = _text(args[0], name)
        if not text.isascii():
            raise Unsupported(f"{name}() of letters outside ASCII")
        return _made(change(text))

    return fold


def _trim(name: str, change: Callable[[str, str], str]) -> Callable[[Args], Typed]:
    def trim(args: Args) -> Typed:
        if _has_null(args):
            return Typed(BASE["text"], None)
        characters = _text(args[1], name) if len(args) == 2 else " "
        text = _text(args[0], name)
        return _made(change(text, characters) if characters else text)

    return trim


def _left(args: Args) -> Typed:
    if _has_null(args):
        return Typed(BASE["text"], None)
    text, count = _text(args[0], "left"), _int(args[1], "left")
    return _made(text[:count])


def _right(args: Args) -> Typed:
    if _has_null(args):
        return Typed(BASE["text"], None)
    text, count = _text(args[0], "right"), _int(args[1], "right")
    start = len(text) - count if count >= 0 else -count
    return _made(text[max(start, 0) :])


def _substring(args: Args) -> Typed:
    if args[0].type is None and args[1].type is None:
        raise Unsupported("substring() by a pattern")
    if args[1].type is not None and args[1].type.family == "text":
        raise Unsupported("substring() by a pattern")
    if _has_null(args):
        return Typed(BASE["text"], None)
    text, start = _text(args[0], "substring"), _int(args[1], "substring")
    end = len(text) + 1
    if len(args) == 3:
        count = _int(args[2], "substring")
        if count < 0:
            raise SubstringError("negative substring length not allowed")
        end = min(end, start + count)
    return _made(text[max(start, 1) - 1 : max(end, 1) - 1])


def _replace(args: Args) -> Typed:
    if _has_null(args):
        return Typed(BASE["text"], None)
    text, old, new = (_text(arg, "replace") for arg in args)
    return _made(text.replace(old, new) if old else text)


def _length(args: Args) -> Typed:
    if args[0].type is not None and args[0].type.name == "bytea":
        content = args[0].content
        return Typed(BASE["int4"], None if content is None else b"%d" % len(content))
    if _has_null(args):
        return Typed(BASE["int4"], None)
    return Typed(BASE["int4"], b"%d" % len(_text(args[0], "length")))


def _encode(args: Args) -> Typed:
    if _has_null(args):
        return Typed(BASE["text"], None)
    value, form = args[0], _text(args[1], "encode").lower()
    assert value.content is not None
    content = value.content
    if value.type is None and not value.binary:
        content = codec(BASE["bytea"]).read_text(content, _UTF8)
    elif value.type is not None and value.type.name != "bytea":
        raise UndefinedFunction(f"function encode({sql_name(value.type)}, text) does not exist")
    if form == "hex":
        return _made(content.hex())
    if form == "base64":
        return _made("".join(_base64_line(content[i : i + 57]) for i in range(0, len(content), 57)))
    raise _unlisted_form()


def _base64_line(content: bytes) -> str:
    """57 bytes make a full line, which PostgreSQL ends with a newline even where it is the last."""
    return binascii.b2a_base64(content, newline=len(content) == 57).decode("ascii")


def _decode(args: Args) -> Typed:
    if _has_null(args):
        return Typed(BASE["bytea"], None)
    text, form = _text(args[0], "decode").encode("utf-8"), _text(args[1], "decode").lower()
    if form == "hex":
        return Typed(BASE["bytea"], parse_hex(text))
    if form == "base64":
        packed = re.sub(rb"[ \t\n\r]", b"", text)
        if BASE64.fullmatch(packed) is None:
            raise InvalidParameterValue("invalid base64 sequence")
        return Typed(BASE["bytea"], binascii.a2b_base64(packed))
    raise _unlisted_form()


def _unlisted_form() -> Unsupported:
    return Unsupported("encodings other than hex and base64 in encode() and decode()")


# --- operators -------------------------------------------------------------------------------------------


def _arithmetic(name: str, args: Args, settings: Settings) -> Typed:
    type_ = _number_type(args)
    if len(args) == 1 and args[0].type is None:
        raise Unsupported("an operator over a value without a type")
    if _has_null(args):
        return Typed(type_, None)
    operands = [_operand(arg, type_, settings) for arg in args]
    if type_.name == "numeric":
        return Typed(type_, _numeric_result(name, operands))
    return Typed(type_, _integer_result(name, [int(operand) for operand in operands], type_))


def _number_type(args: Args) -> LogicalType:
    """numeric if one is, else the widest integer; a value without a type takes the other's."""
    names = [arg.type.name for arg in args if arg.type is not None]
    order = ("int2", "int4", "int8", "numeric")
    if not names or any(name not in order for name in names):
        raise Unsupported("arithmetic over other types than integers and numeric")
    return BASE[max(names, key=order.index)]


def _operand(arg: Typed, type_: LogicalType, settings: Settings) -> bytes:
    assert arg.content is not None
    if arg.type is not None:
        return arg.content
    reader = codec(type_)
    return reader.read_binary(arg.content, settings) if arg.binary else reader.read_text(arg.content, _UTF8)


def _integer_result(name: str, operands: list[int], type_: LogicalType) -> bytes:
    first, second = operands[0], operands[-1]
    match name:
        case "+":
            value = first + second
        case "-":
            value = first - second if len(operands) == 2 else -first
        case "*":
            value = first * second
        case _:
            if second == 0:
                raise DivisionByZero("division by zero")
            value = abs(first) // abs(second) * (1 if (first < 0) == (second < 0) else -1)
    if not in_range(value, type_.size):
        raise out_of_range(type_)
    return b"%d" % value


def _numeric_result(name: str, operands: list[bytes]) -> bytes:
    numbers = [read_display(operand) for operand in operands]
    finite = [number for number in numbers if isinstance(number, Decimal)]
    if name == "/" or len(finite) < len(numbers):
        raise Unsupported("division of numeric, and arithmetic over NaN and infinity")
    first, second = finite[0], finite[-1]
    match name:
        case "+":
            value = EXACT.add(first, second)
        case "-":
            value = EXACT.subtract(first, second) if len(finite) == 2 else first.copy_negate()
        case _:
            value = EXACT.multiply(first, second)
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > MAX_SCALE or exponent > 0:
        raise Unsupported("a product of that many digits")
    return show_numeric(limit(value, -1))


# --- functions that see NULL, or any type ----------------------------------------------------------------


def _concatenate(args: Args, settings: Settings) -> Typed:
    """`||` of text with text, a number or a value without a type."""
    if not any(arg.type is None or arg.type.family == "text" for arg in args):
        raise Unsupported("|| over other types than text")
    for arg in args:
        _check_printable(arg)
    if _has_null(args):
        return Typed(BASE["text"], None)
    return Typed(BASE["text"], b"".join(arg.content for arg in args if arg.content is not None))


def _concat(args: Args, settings: Settings) -> Typed:
    for arg in args:
        _check_printable(arg)
    return Typed(BASE["text"], b"".join(arg.content for arg in args if arg.content is not None))


def _check_printable(arg: Typed) -> None:
    """Types whose display form is what they print under every setting."""
    if arg.type is None and arg.binary:
        codec(BASE["text"]).read_binary(arg.content or b"", _UTF8)
    if arg.type is not None and arg.type.name not in INTEGERS | {"text", "varchar", "numeric", "uuid"}:
        raise Unsupported("concatenation of other types than text, numbers and uuid")


def _common(args: Args) -> LogicalType:
    """The one type of all arguments; text where none has one. Other mixtures are not resolved here."""
    types = {base_of(arg.type) for arg in args if arg.type is not None}
    if len(types) > 1:
        raise Unsupported("values of different types in one COALESCE or NULLIF")
    return types.pop() if types else BASE["text"]


def _resolved(arg: Typed, type_: LogicalType, settings: Settings) -> Typed:
    if arg.content is None or arg.type is not None:
        return Typed(type_, arg.content)
    reader = codec(type_)
    if arg.binary:
        return Typed(type_, reader.read_binary(arg.content, settings))
    return Typed(type_, reader.read_text(arg.content, in_utf8(settings)))


def _coalesce(args: Args, settings: Settings) -> Typed:
    type_ = _common(args)
    for arg in [_resolved(arg, type_, settings) for arg in args]:
        if arg.content is not None:
            return arg
    return Typed(type_, None)


def _nullif(args: Args, settings: Settings) -> Typed:
    type_ = _common(args)
    first, second = (_resolved(arg, type_, settings) for arg in args)
    if first.content is None or second.content is None:
        return first
    compare = codec(type_)
    return Typed(type_, None) if compare.equality(first.content) == compare.equality(second.content) else first


_STRICT: Final[dict[str, Callable[[Args], Typed]]] = {
    "lower": _fold("lower", str.lower),
    "upper": _fold("upper", str.upper),
    "btrim": _trim("btrim", str.strip),
    "ltrim": _trim("ltrim", str.lstrip),
    "rtrim": _trim("rtrim", str.rstrip),
    "left": _left,
    "right": _right,
    "substr": _substring,
    "substring": _substring,
    "replace": _replace,
    "length": _length,
    "encode": _encode,
    "decode": _decode,
}
_OPERATORS: Final = frozenset("+-*/")
_LENIENT: Final[dict[str, Callable[[Args, Settings], Typed]]] = {
    "||": _concatenate,
    "concat": _concat,
    "coalesce": _coalesce,
    "nullif": _nullif,
}

SIGNATURES: Final[frozenset[tuple[str, int]]] = frozenset(
    {
        *((name, 1) for name in ("lower", "upper", "btrim", "ltrim", "rtrim", "length", "-")),
        *((name, 2) for name in ("btrim", "ltrim", "rtrim", "left", "right", "substr", "substring")),
        *((name, 2) for name in ("encode", "decode", "||", "nullif", "+", "-", "*", "/")),
        *((name, 3) for name in ("substr", "substring", "replace")),
        *((name, n) for name in ("concat", "coalesce") for n in range(1, MAX_ARGUMENTS + 1)),
    }
)
