"""Values made of other values: arrays, whole rows and JSON documents, and where the cells in them stand.

An expression listed here has a *shape*, its parts, each inferred by itself, so that it is known of every place
of the value whether a cell stands there. A shape passes where a value passes unseen (a subquery, COALESCE, UNION
ALL, another shape) and is refused with its cells wherever a value is looked into: what makes an expression plain
makes its parts plain. A document is opened by places, so the names of an object with cells must be constants and
differ.
One reason to change: the functions whose result has cells at places that are known.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import Unsupported
from proxy.sql.catalog import SealedColumn
from proxy.sql.context import Inference
from proxy.sql.literals import is_null, system_name
from proxy.sql.nested import ArrayOf, CellAt, Document, ListOf, MapOf, Nested, ObjectOf, TupleOf
from proxy.sql.nested import Node as Place
from proxy.sql.scopes import Row, Scope
from proxy.sql.spans import Node
from proxy.sql.types import (
    Because,
    Demand,
    Form,
    LeafKind,
    Shape,
    Value,
    Var,
    make_plain,
    plain,
    refused,
    sealed_in,
    together,
    unify,
)
from proxy.values.base import LogicalType
from proxy.values.json_form import has_json_form

_LISTS: Final = frozenset({"json_agg", "jsonb_agg"})
_MAPS: Final = frozenset({"json_object_agg", "jsonb_object_agg"})
_OBJECTS: Final = frozenset({"json_build_object", "jsonb_build_object"})
_TUPLES: Final = frozenset({"json_build_array", "jsonb_build_array"})
_WHOLE: Final = frozenset({"to_json", "to_jsonb", "row_to_json", "array_to_json"})
_PRETTY: Final = frozenset({"row_to_json", "array_to_json"})  # take another argument, how it is laid out
FUNCTIONS: Final = frozenset({"array_agg", *_LISTS, *_MAPS, *_OBJECTS, *_TUPLES, *_WHOLE})
_DOCUMENTS: Final = frozenset({Form.LIST, Form.TUPLE, Form.OBJECT, Form.MAP, Form.CELL})
_JSON: Final = frozenset({"json", "jsonb"})
_EMPTY: Final = frozenset({"[]", "{}", "null"})
_ONE_BY_ONE: Final = "select the columns themselves, and put them together in the application"


def _made(ctx: Inference, shape: Shape) -> Value:
    """A value of this shape; a plain one where no part of it can be sealed."""
    for value in shape.values():
        value.ask(Demand.CELL)
    location = shape.location or 0
    if not any(_may_hold_cells(value) for value in shape.values()):
        for value in shape.values():
            make_plain(value, Because("this expression", location))
        return plain(location=location)
    var = Var(shape=shape)
    ctx.shaped.append(var)
    return Value(var, location=location)


def _may_hold_cells(value: Value) -> bool:
    root = value.var.find()
    if root.plain is not None:
        return False
    is_column = any(leaf.kind is LeafKind.COLUMN for leaf in value.leaves)
    return root.sealed is not None or root.shape is not None or is_column


# --- rows, arrays ------------------------------------------------------------------------------------


def row(ctx: Inference, found: Row, location: int) -> Value:
    """A whole row of a FROM item, by its columns."""
    columns = found.item.columns
    if not any(column.may_be_sealed() for column in columns):
        return plain("a whole row", location)
    if found.item.is_open:
        raise Unsupported(
            f'"{found.item.name}" stands for a whole row, and not all of its columns are known',
            hint="name the columns that are needed",
            position=location,
        )
    parts = []
    for column in columns:
        name = column.bases[0][1].name if found.item.is_table and column.bases else column.name
        parts.append((name, ctx.column_value(column, found.scope, None, 0)))
    return _made(ctx, Shape(Form.ROW, tuple(parts), location=location))


def array(ctx: Inference, value: Value, location: int) -> Value:
    """An array whose elements are this value."""
    if value.var.find().shape is not None:
        make_plain(value, Because("an array of rows, arrays or documents", location, _ONE_BY_ONE))
    return _made(ctx, Shape(Form.ARRAY, (("", value),), location=location))


def listed_array(ctx: Inference, body: Node, scope: Scope) -> Value:
    """ARRAY[..] of anything but constants alone."""
    location = body.get("location", 0)
    values = [ctx.infer(ctx, node, scope) for node in body.get("elements", [])]
    if not any(_may_hold_cells(value) for value in values):
        for value in values:
            make_plain(value, Because("ARRAY[..]", location))
        return plain(location=location)
    var = Var()
    for value in values:
        var = unify(var, value.var, Because("ARRAY[..] with", location, "give constants as the other elements"))
    return array(ctx, together(var, values, location), location)


# --- functions ---------------------------------------------------------------------------------------


def function(ctx: Inference, name: str, body: Node, scope: Scope) -> Value:
    """A call of one of `FUNCTIONS`."""
    location, is_jsonb = body.get("location", 0), "jsonb" in name
    because = Because(f"the function {name}() so called", location, _ONE_BY_ONE)
    args = body.get("args", [])
    if "func_variadic" in body or any("NamedArgExpr" in arg for arg in args):
        return _looked_into(ctx, args, scope, because)
    n_args = len(args)
    if name in _OBJECTS:
        return _object(ctx, args, scope, because, is_jsonb)
    if name in _TUPLES:
        parts = tuple(("", _document(ctx, arg, scope, is_jsonb)) for arg in args)
        return _made(ctx, Shape(Form.TUPLE, parts, is_jsonb, location))
    if name in _MAPS and n_args == 2:
        _plain(ctx, args[0], scope, Because("the key of an object", location, _ONE_BY_ONE))
        part = _document(ctx, args[1], scope, is_jsonb)
        return _made(ctx, Shape(Form.MAP, (("", _undistinct(body, part)),), is_jsonb, location))
    if name in _LISTS and n_args == 1:
        part = _document(ctx, args[0], scope, is_jsonb)
        return _made(ctx, Shape(Form.LIST, (("", _undistinct(body, part)),), is_jsonb, location))
    if name == "array_agg" and n_args == 1:
        value = _undistinct(body, ctx.infer(ctx, args[0], scope))
        value.is_remade = True
        return array(ctx, value, location)
    if name in _WHOLE and (n_args == 1 or (name in _PRETTY and n_args == 2)):
        for arg in args[1:]:
            _plain(ctx, arg, scope, because)
        return _document(ctx, args[0], scope, is_jsonb)
    return _looked_into(ctx, args, scope, because)


def _looked_into(ctx: Inference, args: list[Node], scope: Scope, because: Because) -> Value:
    for arg in args:
        node = arg["NamedArgExpr"]["arg"] if "NamedArgExpr" in arg else arg
        _plain(ctx, node, scope, because)
    return plain(because.what, because.location or 0)


def _plain(ctx: Inference, node: Node, scope: Scope, because: Because) -> None:
    make_plain(ctx.infer(ctx, node, scope), because)


def _undistinct(body: Node, value: Value) -> Value:
    """DISTINCT in an aggregate sorts as well, so that even equal cells would come in another order."""
    if body.get("agg_distinct"):
        make_plain(value, Because("DISTINCT in an aggregate", body.get("location"), "leave DISTINCT out"))
    return value


def _object(ctx: Inference, args: list[Node], scope: Scope, because: Because, is_jsonb: bool) -> Value:
    if len(args) % 2:
        return _looked_into(ctx, args, scope, because)
    parts = []
    for key, node in zip(args[::2], args[1::2], strict=True):
        name = _name(ctx, key)
        part = _document(ctx, node, scope, is_jsonb)
        if name is None:
            _plain(ctx, key, scope, Because("the key of an object", because.location, _ONE_BY_ONE))
            make_plain(part, Because("a key that is not a constant", because.location, "write the key itself"))
        parts.append((name or "", part))
    return _made(ctx, Shape(Form.OBJECT, tuple(parts), is_jsonb, because.location))


def _name(ctx: Inference, node: Node) -> str | None:
    """A constant key, on which the plan depends then."""
    if "TypeCast" in node:
        found = ctx.literals.type_of(node["TypeCast"]["typeName"])
        is_text = found is not None and not found[1] and found[0].name == "text"
        return _name(ctx, node["TypeCast"]["arg"]) if is_text else None
    body = node.get("A_Const", {})
    if "sval" not in body:
        return None
    ctx.infer(ctx, node, Scope())
    ctx.draft.pin(body.get("location", 0))
    return str(body["sval"].get("sval", ""))


# --- documents ---------------------------------------------------------------------------------------


def _document(ctx: Inference, node: Node, scope: Scope, is_jsonb: bool) -> Value:
    """The JSON of an expression: a row as an object, an array as a list, a document as it is."""
    body = node.get("RowExpr")
    if body is not None:
        return _written_row(ctx, body, scope, is_jsonb)
    value = ctx.infer(ctx, node, scope)
    shape = value.var.find().shape
    if shape is None:
        return _made(ctx, Shape(Form.CELL, (("", value),), is_jsonb, value.location))
    match shape.form:
        case Form.ROW:
            parts = tuple((name, _part(ctx, part, is_jsonb)) for name, part in shape.parts)
            return _made(ctx, Shape(Form.OBJECT, parts, is_jsonb, shape.location))
        case Form.ARRAY:
            part = _part(ctx, shape.values()[0], is_jsonb)
            return _made(ctx, Shape(Form.LIST, (("", part),), is_jsonb, shape.location))
        case _:
            return _as(ctx, value, is_jsonb)


def _part(ctx: Inference, value: Value, is_jsonb: bool) -> Value:
    """The JSON of a column of a row, or of an element of an array."""
    shape = value.var.find().shape
    if shape is None:
        return _made(ctx, Shape(Form.CELL, (("", value),), is_jsonb, value.location))
    if shape.form in (Form.ROW, Form.ARRAY):
        form = Form.OBJECT if shape.form is Form.ROW else Form.LIST
        parts = tuple((name, _part(ctx, part, is_jsonb)) for name, part in shape.parts)
        return _made(ctx, Shape(form, parts, is_jsonb, shape.location))
    return _as(ctx, value, is_jsonb)


def _as(ctx: Inference, value: Value, is_jsonb: bool) -> Value:
    """A document within, or cast to, a jsonb is shown as jsonb shows it."""
    shape = value.var.find().shape
    if shape is None or shape.is_jsonb or not is_jsonb:
        return value
    return _made(ctx, Shape(shape.form, shape.parts, True, shape.location))


def _written_row(ctx: Inference, body: Node, scope: Scope, is_jsonb: bool) -> Value:
    """ROW(..): its fields are f1, f2 .."""
    args, location = body.get("args", []), body.get("location", 0)
    if any("A_Star" in field for arg in args for field in arg.get("ColumnRef", {}).get("fields", [])):
        because = Because("ROW() of a *", location, "name the columns")
        return _looked_into(ctx, args, scope, because)
    parts = tuple((f"f{n}", _document(ctx, arg, scope, is_jsonb)) for n, arg in enumerate(args, 1))
    return _made(ctx, Shape(Form.OBJECT, parts, is_jsonb, location))


def cast(ctx: Inference, value: Value, body: Node) -> Value | None:
    """A cast of a value with a shape: between json and jsonb; None where it is not one of those."""
    found = ctx.literals.type_of(body["typeName"])
    shape = value.var.find().shape
    if found is None or found[1] or shape is None or shape.form not in _DOCUMENTS or found[0].name not in _JSON:
        return None
    return _as(ctx, value, found[0].name == "jsonb")


def beside(ctx: Inference, nodes: list[Node], values: list[Value]) -> list[Value]:
    """The branches of which something with a shape is one, without those that hold nothing: NULL, '[]', '{}'."""
    if all(value.var.find().shape is None for value in values):
        return values
    return [value for node, value in zip(nodes, values, strict=True) if not _is_empty(ctx, node)]


def _is_empty(ctx: Inference, node: Node) -> bool:
    if "TypeCast" in node:
        found = ctx.literals.type_of(node["TypeCast"]["typeName"])
        is_json = found is not None and not found[1] and found[0].name in _JSON
        return is_json and _is_empty(ctx, node["TypeCast"]["arg"])
    if "FuncCall" in node:
        name = system_name(node["FuncCall"]["funcname"], ctx.draft)
        return name in _OBJECTS | _TUPLES and not node["FuncCall"].get("args")
    body = node.get("A_Const", {})
    if "sval" in body and body["sval"].get("sval", "").strip(" \t\n\r") in _EMPTY:
        ctx.draft.pin(body.get("location", 0))
        return True
    literal = ctx.literals.read(node)
    return literal is not None and literal.word == "unknown" and is_null(literal.expr)


# --- once it is known what is sealed -----------------------------------------------------------------


def check(ctx: Inference) -> None:
    """Nothing with cells in it is compared, or assigned to a column."""
    for var in ctx.shaped:
        root = var.find()
        if root.shape is not None and (root.is_compared or root.is_folded or root.one_form or root.targets):
            make_plain(Value(root), Because("comparing what it is in", root.shape.location, _ONE_BY_ONE))


def nested(value: Value, shown: LogicalType | None) -> Nested | None:
    """What the result column says of its cells; None where it holds none. An array's elements are of the type
    `shown`."""
    shape, column = value.var.find().shape, sealed_in(value)
    if shape is None or column is None:
        return None
    _check_unbound(value, shape)
    match shape.form:
        case Form.ARRAY:
            return ArrayOf(column, shown or column.rule.type)
        case Form.ROW:
            raise refused(column, "a whole row as a value", "name the columns that are needed", shape.location)
        case _:
            root = _place(value, False)
            assert root is not None
            return Document(root)


def _check_unbound(value: Value, shape: Shape) -> None:
    for part in shape.values():
        inner, column = part.var.find().shape, sealed_in(part)
        if inner is not None:
            _check_unbound(part, inner)
        elif column is not None and column.rule.bind:
            hint = f"select it with {', '.join(column.rule.bind)} beside it"
            raise refused(
                column, "an array or document of cells that are bound to their rows", hint, shape.location
            )


def _place(value: Value, is_jsonb: bool) -> Place | None:
    shape, column = value.var.find().shape, sealed_in(value)
    if column is None:
        return None
    if shape is None:
        _check_form(column, value.location)
        return CellAt(column, is_jsonb)
    is_jsonb = is_jsonb or shape.is_jsonb
    places = [_place(part, is_jsonb) for part in shape.values()]
    one = places[0]
    match shape.form:
        case Form.CELL:
            return one
        case Form.LIST if one is not None:
            return ListOf(one)
        case Form.MAP if one is not None:
            return MapOf(one)
        case Form.TUPLE:
            return TupleOf(tuple(places))
        case _:
            names = [name for name, _ in shape.parts]
            if len(set(names)) < len(names):
                raise refused(
                    column, "an object with two members of one name", "give names that differ", shape.location
                )
            return ObjectOf(tuple(zip(names, places, strict=True)))


def _check_form(column: SealedColumn, location: int) -> None:
    if not has_json_form(column.rule.type):
        raise refused(column, f"JSON of type {column.rule.type.name}", "select the column itself", location)
