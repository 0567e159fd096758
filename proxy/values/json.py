r"""json and jsonb: PostgreSQL's own grammar of JSON, and jsonb's canonical text.

PostgreSQL manual, "JSON Types"; RFC 8259. json is kept verbatim; jsonb prints keys by length, then bytes, the
last of duplicate keys, numbers as numeric does. Nesting beyond `MAX_DEPTH` is refused, not parsed.
One reason to change: the JSON the server accepts or prints.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from json.encoder import encode_basestring
from typing import Final, NoReturn, assert_never

from proxy.errors import (
    InternalError,
    InvalidTextRepresentation,
    PgsealError,
    ProgramLimitExceeded,
    ProtocolViolation,
    UndefinedFunction,
    Unsupported,
    UntranslatableCharacter,
)
from proxy.values.base import LogicalType, Settings
from proxy.values.encodings import from_utf8, to_utf8
from proxy.values.numeric import limit, numeric_equality, parse_numeric, show_numeric
from proxy.values.patterns import re

MAX_DEPTH: Final = 1000
MAX_PLAIN: Final = 16_000  # characters; longer numbers go the way that knows numeric's limits
MAX_EXPANDED: Final = 400  # digits of a number with an exponent in the usual case: a double's
MAX_DIGITS: Final = 1 << 26
SPACES: Final = re.compile(r"[ \t\n\r]*")
TOKEN: Final = re.compile(
    r'(?P<punct>[\[\]{},:])|(?P<string>"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![0-9A-Za-z_.+\-\x80-\U0010ffff])"
    r"|(?P<word>true|false|null)(?![0-9A-Za-z_\x80-\U0010ffff])"
)
STRING_START: Final = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
NOT_TEXT: Final = re.compile("\0|[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]")
UNESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Number(str):
    """A number's text, apart from a string's."""

    __slots__ = ()


Json = str | bool | None | dict[str, "Json"] | list["Json"]
WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}


def _bad() -> NoReturn:
    raise InvalidTextRepresentation("invalid input syntax for type json")


class _Expect(Enum):
    VALUE = "value"
    VALUE_OR_END = "value or ]"
    KEY = "key"
    KEY_OR_END = "key or }"
    COLON = "colon"
    COMMA_OR_END = "comma or end"
    NOTHING = "nothing"


@dataclass(slots=True)
class _Parser:
    """A stack of open containers and what may come next. `decode` makes strings and numbers real, as jsonb
    needs; otherwise the text is only checked."""

    decode: bool
    expect: _Expect = _Expect.VALUE
    root: Json = ""
    stack: list[dict[str, Json] | list[Json]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    n_digits: int = 0

    def parse(self, text: str) -> Json:
        at = _skip(text, 0)
        while at < len(text):
            match = TOKEN.match(text, at)
            if match is None:
                self._check_start(text, at)
                _bad()
            kind = match.lastgroup
            if kind == "punct":
                self._punct(match[0])
            elif kind == "string" and self.expect in (_Expect.KEY, _Expect.KEY_OR_END):
                self.keys.append(unescape(match[0]) if self.decode else "")
                self.expect = _Expect.COLON
            else:
                self._put(self._scalar(kind, match[0]))
            at = _skip(text, match.end())
        if self.expect is not _Expect.NOTHING:
            _bad()
        return self.root

    def _check_start(self, text: str, at: int) -> None:
        """What a broken string holds before it breaks is found first."""
        start = STRING_START.match(text, at)
        if self.decode and start is not None:
            unescape(start[0] + '"')

    def _scalar(self, kind: str | None, text: str) -> Json:
        if not self.decode:
            return ""
        if kind == "string":
            return unescape(text)
        if kind == "number":
            return self._number(text)
        return WORDS[text]

    def _number(self, text: str) -> Number:
        """Numbers lose their exponents: eight characters may become 131,072, so their sum is bounded."""
        number = Number(show_numeric(limit(parse_numeric(text), -1)).decode("ascii"))
        self.n_digits += len(number)
        if self.n_digits > MAX_DIGITS:
            raise ProgramLimitExceeded("total size of jsonb numbers exceeds the maximum")
        return number

    def _put(self, value: Json) -> None:
        if self.expect not in (_Expect.VALUE, _Expect.VALUE_OR_END):
            _bad()
        if not self.stack:
            self.root = value
        elif isinstance(top := self.stack[-1], dict):
            top[self.keys.pop()] = value
        else:
            top.append(value)
        self.expect = _Expect.COMMA_OR_END if self.stack else _Expect.NOTHING

    def _punct(self, char: str) -> None:
        match char:
            case "{" | "[":
                self._open({} if char == "{" else [])
            case "}" | "]":
                self._close(dict if char == "}" else list)
            case ":" if self.expect is _Expect.COLON:
                self.expect = _Expect.VALUE
            case "," if self.expect is _Expect.COMMA_OR_END:
                self.expect = _Expect.KEY if isinstance(self.stack[-1], dict) else _Expect.VALUE
            case _:
                _bad()

    def _open(self, container: dict[str, Json] | list[Json]) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise Unsupported(f"JSON nested deeper than {MAX_DEPTH} levels")
        self._put(container)
        self.stack.append(container)
        self.expect = _Expect.KEY_OR_END if isinstance(container, dict) else _Expect.VALUE_OR_END

    def _close(self, kind: type) -> None:
        empty = _Expect.KEY_OR_END if kind is dict else _Expect.VALUE_OR_END
        if not self.stack or self.expect not in (_Expect.COMMA_OR_END, empty):
            _bad()
        if not isinstance(self.stack.pop(), kind):
            _bad()
        self.expect = _Expect.COMMA_OR_END if self.stack else _Expect.NOTHING


def _skip(text: str, at: int) -> int:
    match = SPACES.match(text, at)
    assert match is not None
    return match.end()


def unescape(quoted: str) -> str:
    """A JSON string with its quotes -> its characters; 22P05 for a NUL, 22P02 for a lone surrogate."""
    body = quoted[1:-1]
    if "\\" not in body:
        return body
    text = ESCAPE.sub(_unescaped, body)
    for match in NOT_TEXT.finditer(text):
        if match[0] == "\0":
            raise UntranslatableCharacter("unsupported Unicode escape sequence")
        if len(match[0]) == 1:
            _bad()
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return UNESCAPED.get(match[2], match[2])


def write_jsonb(root: Json, *, numbers_equal: bool = False) -> bytes:
    """jsonb's text of a value; `numbers_equal` writes numbers so that equal ones are the same bytes."""
    out: list[str] = []
    todo: list[Json | _Raw] = [root]
    while todo:
        value = todo.pop()
        match value:
            case _Raw():
                out.append(value)
            case None:
                out.append("null")
            case bool():
                out.append("true" if value else "false")
            case Number():
                out.append(
                    numeric_equality(value.encode("ascii")).decode("ascii") if numbers_equal else str(value)
                )
            case str():
                out.append(encode_basestring(value))
            case dict():
                todo.extend(reversed(_object_parts(value)))
            case list():
                todo.extend(reversed(_array_parts(value)))
            case _:
                assert_never(value)
    return "".join(out).encode("utf-8")


class _Raw(str):
    """Punctuation on its way out."""

    __slots__ = ()


def _object_parts(value: dict[str, Json]) -> list[Json | _Raw]:
    parts: list[Json | _Raw] = [_Raw("{")]
    ordered = sorted(value, key=lambda key: (len(key.encode("utf-8")), key.encode("utf-8")))
    for number, key in enumerate(ordered):
        parts += [_Raw((", " if number else "") + encode_basestring(key) + ": "), value[key]]
    return [*parts, _Raw("}")]


def _array_parts(value: list[Json]) -> list[Json | _Raw]:
    parts: list[Json | _Raw] = [_Raw("[")]
    for number, item in enumerate(value):
        parts += [_Raw(", "), item] if number else [item]
    return [*parts, _Raw("]")]


def parse_json(text: str, *, decode: bool) -> Json:
    """Check a JSON text (22P02) and, with `decode`, give its value."""
    if text.count("[") + text.count("{") < MAX_DEPTH and not (decode and "\\u" in text):
        try:
            value: Json = _PYTHON.decode(text) if decode else _CHECKER.decode(text)
            return value
        except (ValueError, RecursionError, ArithmeticError, PgsealError):
            pass  # the parser below finds the error, with the server's code
    return _Parser(decode).parse(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError  # NaN and Infinity, which are no JSON


def _plain(text: str) -> Number:
    """A number without exponent is its own numeric text."""
    if len(text) > MAX_PLAIN:
        raise ValueError
    return Number("0" if text == "-0" else text)


def _with_point(text: str) -> Number:
    if "e" in text or "E" in text or text[:2] == "-0":
        number = show_numeric(limit(parse_numeric(text), -1)).decode("ascii")
        if len(number) > MAX_EXPANDED:
            raise ValueError
        return Number(number)
    return _plain(text)


# Python's decoder speaks the same grammar but for NaN and Infinity. Its numbers are texts here.
_PYTHON: Final = json.JSONDecoder(parse_int=_plain, parse_float=_with_point, parse_constant=_refuse)
_CHECKER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)


@dataclass(frozen=True, slots=True)
class JsonCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        display = to_utf8(raw, settings)
        parse_json(display.decode("utf-8"), decode=False)
        return display

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        return self.read_text(raw, settings)

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        return from_utf8(display, settings)

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return from_utf8(display, settings)

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        raise UndefinedFunction("operator does not exist: json = json")


@dataclass(frozen=True, slots=True)
class JsonbCodec:
    type: LogicalType

    def read_text(self, raw: bytes, settings: Settings) -> bytes:
        return write_jsonb(parse_json(to_utf8(raw, settings).decode("utf-8"), decode=True))

    def read_binary(self, raw: bytes, settings: Settings) -> bytes:
        if not raw:
            raise ProtocolViolation("no data left in message")
        if raw[0] != 1:
            raise InternalError("unsupported jsonb version number")
        return self.read_text(raw[1:], settings)

    def show_text(self, display: bytes, settings: Settings) -> bytes:
        return from_utf8(display, settings)

    def show_binary(self, display: bytes, settings: Settings) -> bytes:
        return b"\x01" + from_utf8(display, settings)

    def equality(self, display: bytes, *, nocase: bool = False) -> bytes:
        return write_jsonb(parse_json(display.decode("utf-8"), decode=True), numbers_equal=True)
