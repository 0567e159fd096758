"""Constant expressions of a statement: which subtrees pgseal evaluates itself, as `Expr`, and of what type.

Only literals, parameters, casts to known types and the functions that `proxy.values.constants` lists become an
`Expr`; a subtree that does not is no constant, and the constants within it are judged one by one. A type word
says of what type the result is: 'unknown' (a quoted string or a parameter, which takes the type of what it
meets), 'int', 'numeric', 'bool', 'bit', the internal name of a type, or 'any'.
One reason to change: which constructs may be constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from proxy.errors import ConfigError
from proxy.sql.draft import Draft
from proxy.sql.spans import Node, Spans
from proxy.values import registry
from proxy.values.base import LogicalType
from proxy.values.constants import LISTED, ArrayOf, Call, Cast, Const, Expr, Lifted, Param
from proxy.values.integer import in_range

_INTEGERS: Final = frozenset({"int2", "int4", "int8"})
_NUMBERS: Final = frozenset({"numeric", "float4", "float8"})
_STRINGS: Final = frozenset({"text", "varchar"})
_COLLATIONS: Final = frozenset({"C", "POSIX", "default", "ucs_basic", "C.utf8", "en_US", "en_US.utf8"})
_TEXT_OPERATORS: Final = frozenset({"||"})
_SAME_FORM: Final = frozenset({"COERCE_EXPLICIT_CALL", "COERCE_SQL_SYNTAX"})
CONSTANTS: Final = frozenset(
    {"A_Const", "ParamRef", "TypeCast", "FuncCall", "A_Expr", "CoalesceExpr", "A_ArrayExpr", "CollateClause"}
)
"""The kinds of nodes that can be constant expressions."""
_CALL_FIELDS: Final = frozenset({"funcname", "args", "funcformat", "location"})


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant expression with its type word; `is_array` where the type is an array's."""

    expr: Expr
    word: str = "unknown"
    is_array: bool = False


def names_of(parts: list[Any]) -> tuple[str, ...]:
    """The strings of a list of String nodes (a qualified name)."""
    return tuple(part["String"].get("sval", "") for part in parts if "String" in part)


def system_name(parts: list[Any], draft: Draft) -> str | None:
    """The bare name of a function, operator or type of pg_catalog; None where another schema may be meant."""
    match names_of(parts):
        case ("pg_catalog", name):
            return name
        case (name,) if is_catalog_first(draft):
            return name
        case _:
            return None


def is_catalog_first(draft: Draft) -> bool:
    path = draft.env.search_path
    return "pg_catalog" not in path or path[0] == "pg_catalog"


@dataclass(frozen=True, slots=True)
class Literals:
    draft: Draft
    spans: Spans

    def read(self, node: Node) -> Literal | None:
        """The constant expression that `node` is, or None."""
        kind, body = next(iter(node.items()))
        match kind:
            case "A_Const":
                return self._constant(body)
            case "ParamRef":
                return self._param(body)
            case "TypeCast":
                return self._cast(body)
            case "FuncCall":
                return self._function(body)
            case "A_Expr":
                return self._operation(body)
            case "CollateClause":
                return self._collated(body)
            case "CoalesceExpr":
                return self._call("coalesce", body.get("args", []))
            case "A_ArrayExpr":
                items = [self.read(item) for item in body.get("elements", [])]
                known = [item for item in items if item is not None]
                if len(known) < len(items) or any(item.is_array for item in known):
                    return None
                return Literal(ArrayOf(tuple(item.expr for item in known)), _common(known), is_array=True)
            case _:
                return None

    def _constant(self, body: Node) -> Literal | None:
        if body.get("isnull"):
            return Literal(Const(None))
        if "boolval" in body:
            text = b"true" if body["boolval"].get("boolval") else b"false"
            return Literal(Const(text, "bool"), "bool")
        word, text = _written(body)
        location = body.get("location", 0)
        if location < 0:
            return Literal(Const(text, word), word)
        lifted = self.draft.constant(location)
        if lifted is not None:
            return Literal(lifted, word)
        self.draft.is_single = True  # the literal is not lifted, or not where it was looked for
        return Literal(Const(text, word), word)

    def _param(self, body: Node) -> Literal | None:
        number = body.get("number", 0)
        if number < 1:
            return None
        oid = self.declared(number - 1)
        if oid == 0:
            return Literal(Param(number - 1))
        known, element = registry.type_from_oid(oid), registry.element_of_array(oid)
        if element is not None:
            return Literal(Param(number - 1), element.name, is_array=True)
        return Literal(Param(number - 1), known.name if known is not None else f"type {oid}")

    def declared(self, index: int) -> int:
        """The type OID that the client declared for its parameter; 0 for none (or 'unknown')."""
        oids = self.draft.param_oids
        oid = oids[index] if index < len(oids) else 0
        return 0 if oid == 705 else oid

    def _cast(self, body: Node) -> Literal | None:
        arg = self.read(body["arg"])
        if arg is None:
            return None
        found = self.type_of(body["typeName"])
        if found is None:
            return None
        logical, is_array = found
        return Literal(Cast(arg.expr, logical, is_array), logical.name, is_array)

    def type_of(self, name: Node) -> tuple[LogicalType, bool] | None:
        """The type a TypeName node means and whether it is an array of it; None for one that pgseal does not
        evaluate. A type's length becomes part of the plan, so its literals are pinned."""
        if name.get("setof") or name.get("pct_type"):
            return None
        bare = system_name(name.get("names", []), self.draft)
        typmods = name.get("typmods", [])
        numbers = [m.get("A_Const", {}).get("ival", {}).get("ival", 0) for m in typmods]
        if bare is None or any("ival" not in m.get("A_Const", {}) for m in typmods):
            return None
        for typmod in typmods:
            self.draft.pin(typmod["A_Const"].get("location", 0))
        bounds = name.get("arrayBounds", [])
        logical = _named_type(bare, numbers)
        return None if logical is None or len(bounds) > 1 else (logical, bool(bounds))

    def _function(self, body: Node) -> Literal | None:
        if body.keys() - _CALL_FIELDS or body.get("funcformat") not in _SAME_FORM:
            return None
        name = system_name(body.get("funcname", []), self.draft)
        if name is None or self.spans.text(self.spans.at(body)) in (b"at", b"is"):
            return None
        return self._call(name, body.get("args", []))

    def _operation(self, body: Node) -> Literal | None:
        name = system_name(body.get("name", []), self.draft)
        if body.get("kind") == "AEXPR_NULLIF" and name == "=":
            return self._nullif([body["lexpr"], body["rexpr"]])
        if body.get("kind") != "AEXPR_OP" or name is None:
            return None
        if name == "+" and "lexpr" not in body:
            number = self.read(body["rexpr"])
            is_number = number is not None and number.word in _INTEGERS | _NUMBERS | {"int"}
            return number if number is not None and is_number and not number.is_array else None
        return self._call(name, [body[side] for side in ("lexpr", "rexpr") if side in body])

    def _collated(self, body: Node) -> Literal | None:
        """Of a string, under a collation that holds equal what is the same."""
        arg = self.read(body["arg"])
        if arg is None or arg.is_array or not is_plain_collation(body):
            return None
        if arg.word == "unknown":
            return Literal(Cast(arg.expr, registry.BASE["text"]), "text")
        return arg if arg.word in _STRINGS else None

    def _nullif(self, args: list[Node]) -> Literal | None:
        """Of strings, or of two values of one known type."""
        read = [self.read(arg) for arg in args]
        words = {arg.word for arg in read if arg is not None and not arg.is_array}
        if None in read or any(arg is not None and arg.is_array for arg in read):
            return None
        if words <= _STRINGS | {"unknown"}:
            word = "text"
        elif len(words) == 1 and not words & {"any", "unknown"}:
            word = words.pop()
        else:
            return None
        return Literal(Call("nullif", tuple(arg.expr for arg in read if arg is not None)), word)

    def _call(self, name: str, args: list[Node]) -> Literal | None:
        if (name, len(args)) not in LISTED:
            return None
        read = [self.read(arg) for arg in args]
        known = [arg for arg in read if arg is not None]
        if len(known) < len(read) or any(arg.is_array for arg in known):
            return None
        word = _common(known) if name == "coalesce" else "text" if name in _TEXT_OPERATORS else "any"
        return Literal(Call(name, tuple(arg.expr for arg in known)), word)


def is_plain_collation(body: Node) -> bool:
    """True for COLLATE with a collation that PostgreSQL brings along, all of which are deterministic."""
    names = names_of(body.get("collname", []))
    return names[-1] in _COLLATIONS and names[:-1] in ((), ("pg_catalog",))


def _named_type(name: str, arguments: list[int]) -> LogicalType | None:
    if name not in registry.BASE:
        return None
    try:
        return registry.parse_type(f"{name}({','.join(map(str, arguments))})" if arguments else name)
    except ConfigError:
        return None


def _written(body: Node) -> tuple[str, bytes]:
    if "ival" in body:
        return "int", str(body["ival"].get("ival", 0)).encode()
    if "fval" in body:
        digits = str(body["fval"].get("fval", "0"))
        return _number_type(digits), digits.encode()
    if "bsval" in body:
        return "bit", str(body["bsval"].get("bsval", "")).encode()
    return "unknown", str(body.get("sval", {}).get("sval", "")).encode()


def _number_type(digits: str) -> str:
    """An integer beyond int4 is int8 or numeric, by its size; the least int4 is written beyond it."""
    try:
        value = int(digits, 0)
    except ValueError:
        return "numeric"
    return "int" if in_range(value, 4) else "int8" if in_range(value, 8) else "numeric"


def _common(args: list[Literal]) -> str:
    words = {arg.word for arg in args} - {"unknown"}
    return words.pop() if len(words) == 1 else "any" if words else "unknown"


def fits(word: str, logical: LogicalType) -> bool:
    """True where PostgreSQL compares or assigns a constant of type `word` with the logical type as it is, without
    a conversion that could fail later or change the value."""
    if word in ("unknown", "any", logical.name):
        return True
    if word == "int" or word in _INTEGERS:
        return logical.name in _INTEGERS or logical.name in _NUMBERS
    if word == "numeric":
        return logical.name in _NUMBERS
    return word in _STRINGS and logical.name in _STRINGS | {"bpchar"}


def type_of_word(word: str) -> LogicalType | None:
    """The type that a type word says; None where it says none, or one that values/ does not have."""
    return registry.BASE.get("int4" if word == "int" else word)


def param_type(expr: Expr, index: int, logical: LogicalType, is_array: bool) -> int | None:
    """The type OID PostgreSQL would give the parameter `index` within `expr`, whose whole has the type `logical`;
    None where the parameter is not in it."""
    match expr:
        case Param():
            return (logical.array_oid if is_array else logical.oid) if expr.index == index else None
        case Cast():
            return param_type(expr.arg, index, expr.type, expr.is_array)
        case Call():
            inner = logical if expr.name == "coalesce" else registry.BASE["text"]
            return next((o for a in expr.args if (o := param_type(a, index, inner, False)) is not None), None)
        case ArrayOf():
            found = (param_type(item, index, logical, False) for item in expr.items)
            return next((oid for oid in found if oid is not None), None)
        case Const() | Lifted():
            return None


def params_of(expr: Expr) -> frozenset[int]:
    """The indexes of the client's parameters in an expression."""
    match expr:
        case Param():
            return frozenset({expr.index})
        case Cast():
            return params_of(expr.arg)
        case Call():
            return frozenset().union(*(params_of(arg) for arg in expr.args))
        case ArrayOf():
            return frozenset().union(*(params_of(item) for item in expr.items))
        case Const() | Lifted():
            return frozenset()


def is_null(expr: Expr) -> bool:
    """True for NULL under any casts."""
    match expr:
        case Const():
            return expr.text is None
        case Cast():
            return is_null(expr.arg)
        case _:
            return False


def is_bare(expr: Expr | None) -> bool:
    """True for a parameter under nothing but casts: NULL exactly where the parameter is."""
    while isinstance(expr, Cast):
        expr = expr.arg
    return isinstance(expr, Param)
