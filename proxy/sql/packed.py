"""What a plan made in another process is sent as: few objects, since each costs the event loop's process time.

A long text has tens of thousands of slots, edits, parameters and constants, which differ in a few numbers only.
They are sent as *shapes* (one of each kind, with its numbers taken out) and arrays of numbers, and each is made
when it is asked for. So taking a plan over costs a few copies of memory, and nothing for the garbage collector
to walk. One reason to change: what of a plan is numerous.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Generic, TypeVar, overload

from proxy.sql.lexer import Tokens
from proxy.sql.plan import ClientParam, Edit, Plan, ServerParam, Slot, StatementPlan, TenantOf
from proxy.values.constants import ArrayOf, Call, Cast, Const, Expr, Lifted, Param

T = TypeVar("T")
FROM: Final = 500  # fewer are sent as they are


class Packed(Sequence[T], Generic[T]):
    """Each item is a shape and some numbers. `make` is a function of a module, so that it can be sent."""

    __slots__ = ("_ends", "_make", "_numbers", "_shapes", "_which")

    def __init__(
        self,
        make: Callable[[T, Iterator[int]], T],
        shapes: tuple[T, ...],
        which: array[int],
        ends: array[int],
        numbers: array[int],
    ) -> None:
        self._make = make
        self._shapes = shapes
        self._which = which
        self._ends = ends
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._which)

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...
    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        if isinstance(place, slice):
            return tuple(self[n] for n in range(*place.indices(len(self))))
        if not 0 <= place < len(self._which):
            raise IndexError(place)
        start = self._ends[place - 1] if place else 0
        return self._make(self._shapes[self._which[place]], iter(self._numbers[start : self._ends[place]]))

    def __iter__(self) -> Iterator[T]:
        numbers, make, shapes = iter(self._numbers), self._make, self._shapes
        return (make(shapes[shape], numbers) for shape in self._which)

    def shapes(self) -> Sequence[T]:
        """One of each kind."""
        return self._shapes

    def each_shape(self) -> Iterator[T]:
        """Of each item what is no number of its own: far cheaper than the item."""
        return map(self._shapes.__getitem__, self._which)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packed) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((len(self._which), self._shapes))

    def __reduce__(self) -> tuple[type[Packed[T]], tuple[object, ...]]:
        return Packed, (self._make, *self._fields())

    def _fields(self) -> tuple[object, ...]:
        return self._shapes, self._which, self._ends, self._numbers


def _pack(
    items: Sequence[T], take: Callable[[T, list[int]], T], make: Callable[[T, Iterator[int]], T]
) -> Packed[T]:
    shapes: dict[T, int] = {}
    which, ends, numbers = array("I"), array("I"), array("i")
    for item in items:
        taken: list[int] = []
        shape = take(item, taken)
        numbers.extend(taken)
        which.append(shapes.setdefault(shape, len(shapes)))
        ends.append(len(numbers))
    return Packed(make, tuple(shapes), which, ends, numbers)


def shapes(items: Sequence[T]) -> Sequence[T]:
    """One item of each kind; its numbers may be those of none."""
    return items.shapes() if isinstance(items, Packed) else items


def each_shape(items: Sequence[T]) -> Iterator[T]:
    """Every item in order, its numbers perhaps not its own."""
    return items.each_shape() if isinstance(items, Packed) else iter(items)


# --- expressions and slots ---------------------------------------------------------------------------


def _take_expr(expr: Expr, taken: list[int]) -> Expr:
    match expr:
        case Lifted(number):
            taken.append(number)
            return _LIFTED
        case Param(index):
            taken.append(index)
            return _PARAM
        case Cast(arg, type_, is_array):
            return Cast(_take_expr(arg, taken), type_, is_array)
        case Call(name, args):
            return Call(name, tuple(_take_expr(arg, taken) for arg in args))
        case ArrayOf(items):
            return ArrayOf(tuple(_take_expr(item, taken) for item in items))
        case _:
            return expr


_LIFTED: Final = Lifted(-1)
_PARAM: Final = Param(-1)


def _make_expr(shape: Expr, numbers: Iterator[int]) -> Expr:
    match shape:
        case Lifted():
            return Lifted(next(numbers))
        case Param():
            return Param(next(numbers))
        case Cast(arg, type_, is_array):
            return Cast(_make_expr(arg, numbers), type_, is_array)
        case Call(name, args):
            return Call(name, tuple(_make_expr(arg, numbers) for arg in args))
        case ArrayOf(items):
            return ArrayOf(tuple(_make_expr(item, numbers) for item in items))
        case _:
            return shape


def _take_slot(slot: Slot, taken: list[int]) -> Slot:
    expr = _take_expr(slot.expr, taken)
    tenant = slot.tenant
    if tenant.expr is not None:
        tenant = TenantOf(_take_expr(tenant.expr, taken), tenant.type_oid)
    bound = tuple(_take_expr(value, taken) for value in slot.bound)
    return Slot(expr, slot.column, slot.use, tenant, slot.is_array, bound, slot.is_shown)


def _make_slot(shape: Slot, numbers: Iterator[int]) -> Slot:
    expr = _make_expr(shape.expr, numbers)
    tenant = shape.tenant
    if tenant.expr is not None:
        tenant = TenantOf(_make_expr(tenant.expr, numbers), tenant.type_oid)
    bound = tuple(_make_expr(value, numbers) for value in shape.bound) if shape.bound else ()
    return Slot(expr, shape.column, shape.use, tenant, shape.is_array, bound, shape.is_shown)


# --- edits, parameters, constants --------------------------------------------------------------------


def _take_edit(edit: Edit, taken: list[int]) -> Edit:
    taken += (edit.first, edit.last, *(part for part in edit.parts if isinstance(part, int)))
    return Edit(0, 0, tuple(0 if isinstance(part, int) else part for part in edit.parts))


def _make_edit(shape: Edit, numbers: Iterator[int]) -> Edit:
    first, last = next(numbers), next(numbers)
    return Edit(first, last, tuple(next(numbers) if isinstance(part, int) else part for part in shape.parts))


def _take_server(param: ServerParam, taken: list[int]) -> ServerParam:
    if param.client is not None:
        taken.append(param.client)
        return ServerParam(client=0, oid=param.oid)
    taken.append(param.slot or 0)
    return ServerParam(slot=0, oid=param.oid)


def _make_server(shape: ServerParam, numbers: Iterator[int]) -> ServerParam:
    if shape.client is not None:
        return ServerParam(client=next(numbers), oid=shape.oid)
    return ServerParam(slot=next(numbers), oid=shape.oid)


class ClientParams(Sequence[ClientParam]):
    """The client's parameters as two arrays; -1: no server parameter carries it."""

    __slots__ = ("_oids", "_servers")

    def __init__(self, oids: array[int], servers: array[int]) -> None:
        self._oids = oids
        self._servers = servers

    @classmethod
    def of(cls, params: Sequence[ClientParam]) -> ClientParams:
        servers = (-1 if param.server is None else param.server for param in params)
        return cls(array("I", (param.oid for param in params)), array("i", servers))

    def __len__(self) -> int:
        return len(self._oids)

    @overload
    def __getitem__(self, place: int) -> ClientParam: ...
    @overload
    def __getitem__(self, place: slice) -> ClientParams: ...
    def __getitem__(self, place: int | slice) -> ClientParam | ClientParams:
        if isinstance(place, slice):
            return ClientParams(self._oids[place], self._servers[place])
        server = self._servers[place]
        return ClientParam(self._oids[place], None if server < 0 else server)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClientParams) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(len(self._oids))

    def __reduce__(self) -> tuple[type[ClientParams], tuple[array[int], array[int]]]:
        return ClientParams, self._fields()

    def _fields(self) -> tuple[array[int], array[int]]:
        return self._oids, self._servers

    def oids(self) -> list[int]:
        return self._oids.tolist()

    def told(self, server_oids: Sequence[int]) -> list[int]:
        pairs = zip(self._oids, self._servers, strict=True)
        return [server_oids[server] if not oid and server >= 0 else oid for oid, server in pairs]


def oids_of(params: Sequence[ClientParam]) -> list[int]:
    """The type that the plan gives each of the client's parameters, 0 where it gives none."""
    return params.oids() if isinstance(params, ClientParams) else [param.oid for param in params]


def oids_told(params: Sequence[ClientParam], server_oids: Sequence[int]) -> list[int]:
    """What the client is told of its parameters where the server said this of its own."""
    if isinstance(params, ClientParams):
        return params.told(server_oids)
    return [server_oids[p.server] if p.oid == 0 and p.server is not None else p.oid for p in params]


class Constants(Sequence[Const]):
    """Literals as their texts (bytes are nothing to the garbage collector) and kinds."""

    __slots__ = ("_kinds", "_texts", "_words")

    def __init__(self, texts: tuple[bytes | None, ...], kinds: bytes, words: tuple[str, ...]) -> None:
        self._texts = texts
        self._kinds = kinds
        self._words = words

    @classmethod
    def of(cls, constants: Sequence[Const]) -> Constants:
        words = {constant.kind: 0 for constant in constants}
        numbers = {word: n for n, word in enumerate(words)}
        kinds = bytes(numbers[constant.kind] for constant in constants)
        return cls(tuple(constant.text for constant in constants), kinds, tuple(words))

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, place: int) -> Const: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Const, ...]: ...
    def __getitem__(self, place: int | slice) -> Const | tuple[Const, ...]:
        if isinstance(place, slice):
            return tuple(self[n] for n in range(*place.indices(len(self))))
        return Const(self._texts[place], self._words[self._kinds[place]])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constants) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash((len(self._texts), self._words))

    def __reduce__(self) -> tuple[type[Constants], tuple[object, ...]]:
        return Constants, (self._texts, self._kinds, self._words)


class Spans(Sequence[tuple[int, int]]):
    """(start, end) of each token, in two arrays."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, starts: array[int], ends: array[int]) -> None:
        self._starts = starts
        self._ends = ends

    @classmethod
    def of(cls, tokens: Tokens) -> Spans:
        return cls(array("I", tokens.starts), array("I", tokens.ends))

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, place: slice) -> Spans: ...
    def __getitem__(self, place: int | slice) -> tuple[int, int] | Spans:
        if isinstance(place, slice):
            return Spans(self._starts[place], self._ends[place])
        return self._starts[place], self._ends[place]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and (self._starts, self._ends) == (other._starts, other._ends)

    def __hash__(self) -> int:
        return hash((len(self._starts), self._ends[-1] if self._ends else 0))

    def __reduce__(self) -> tuple[type[Spans], tuple[array[int], array[int]]]:
        return Spans, (self._starts, self._ends)


# --- a plan ------------------------------------------------------------------------------------------


def pack(plan: Plan) -> Plan:
    """The same plan, its numerous parts packed."""
    return replace(
        plan,
        statements=tuple(_statement(statement) for statement in plan.statements),
        slots=_pack(plan.slots, _take_slot, _make_slot) if len(plan.slots) >= FROM else plan.slots,
        server_params=_pack(plan.server_params, _take_server, _make_server)
        if len(plan.server_params) >= FROM
        else plan.server_params,
        client_params=ClientParams.of(plan.client_params)
        if len(plan.client_params) >= FROM
        else plan.client_params,
    )


def _statement(statement: StatementPlan) -> StatementPlan:
    if len(statement.edits) < FROM:
        return statement
    return replace(statement, edits=_pack(statement.edits, _take_edit, _make_edit))
