"""Encryption types: what inference knows of an expression, and how two expressions come to share one type.

Every expression is Plain, Sealed by one column's rule, or not yet known (constants and parameters alone). The
three are one union-find variable here: whatever flows into, or is compared with, something is *unified* with
it, and a class that ends without a seal is plain. A *leaf* is a column reference or a constant expression
inside an expression; only leaves are ever edited, so each leaf carries what is asked of it: any form (a count,
IS NULL), the cell, or the token. One reason to change: the kinds of encryption type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final

from proxy.errors import PgsealError, Unsupported
from proxy.rules import Mode
from proxy.sql.catalog import SealedColumn
from proxy.sql.plan import TenantOf
from proxy.values.base import LogicalType
from proxy.values.constants import Expr

if TYPE_CHECKING:
    from proxy.sql.scopes import Column, Origin, Scope


class Demand(IntEnum):
    """What the surroundings need of a leaf. ANY: only whether it is NULL."""

    ANY = 0
    CELL = 1
    TOKEN = 2


APPLICATION: Final = "select the column and do this in the application"


@dataclass(frozen=True, slots=True)
class Because:
    """Why an expression has to be plain: words for the message, and where."""

    what: str
    location: int | None = None
    hint: str = APPLICATION


@dataclass(slots=True, eq=False)
class Target:
    """The sealed column an expression is written to, and the tenant of the row it lands in. `rows` has the
    tenant by (VALUES list, row) where each row brings its own. `same_row` is the row being updated, whose own
    cells may be copied within it. `why` says why no tenant is known."""

    column: SealedColumn
    tenant: TenantOf | None = None
    bound: tuple[Expr, ...] | None = None  # the values of the row's `bind:` columns
    rows: dict[tuple[int, int], TenantOf] = field(default_factory=dict)
    same_row: Origin | None = None
    same_as: Origin | None = None  # a row of the source whose tenant column is copied along
    why: str = "the statement does not say of which tenant the row is"
    guard: bytes | None = None  # the tenant column in SQL, to be compared with the session's tenant at run time


@dataclass(slots=True, eq=False)
class Var:
    """One class of expressions of the same encryption type (the representative, after `find`)."""

    parent: Var | None = None
    sealed: SealedColumn | None = None
    plain: Because | None = None
    is_compared: bool = False  # needs the equality capability and one tenant
    is_folded: bool = False  # compared without regard to case
    one_form: Because | None = None  # the cell itself is compared by the server: deterministic mode only
    shape: Shape | None = None  # it is made of other expressions
    has_constants: bool = False
    targets: list[Target] = field(default_factory=list)

    @property
    def is_unknown(self) -> bool:
        """Nothing has been said of it."""
        return not (self.sealed or self.plain or self.shape or self.has_constants or self.targets)

    def find(self) -> Var:
        root = self
        while root.parent is not None:
            root = root.parent
        node = self
        while node.parent is not None:
            node.parent, node = root, node.parent
        return root


class LeafKind(IntEnum):
    COLUMN = 0
    CONSTANT = 1


@dataclass(slots=True, eq=False)
class Leaf:
    """A place that may be edited: tokens first..last (first > last: `*`, which has no text of its own).

    Of a column `inner` is the name alone; what first..last has around it are casts that change nothing.

    `scope` is where a column's name was found, whose WHERE clause can prove its tenant. `row` tells which row
    of which VALUES list a constant stands in."""

    kind: LeafKind
    var: Var
    location: int
    first: int
    last: int
    demand: Demand = Demand.ANY
    column: Column | None = None
    scope: Scope | None = None
    expr: Expr | None = None
    word: str = "unknown"  # the type word of a constant
    is_array_typed: bool = False
    is_array: bool = False
    is_alone: bool = False  # the whole of what is assigned or compared: no other branch has a say in its type
    is_assigned_plain: bool = False
    is_null_test: bool = False
    has_two_demands: bool = False
    row: tuple[int, int] | None = None
    place: int = 0  # of the VALUES list's columns
    inner: tuple[int, int] = (1, 0)
    cast: LogicalType | None = None  # around a column of constants: taken away if they are sealed
    grouped: bytes | None = None  # beside GROUP BY of its token: any cell of the group, and this behind it
    inserted: tuple[bytes, bytes] | None = None  # no text of its own: written at `first`, within these
    name: bytes = b""  # of a column that is `inserted`
    is_passed: bool = False  # a column of a subquery that the query around it names
    is_within: bool = False  # named from a query within the level that has it
    is_elsewhere: bool = False  # of another row than the level's other columns
    is_apart: bool = False  # compared only with cells of its own tenant, which is compared beside it

    def ask(self, demand: Demand) -> None:
        if Demand.ANY < self.demand != demand > Demand.ANY:
            self.has_two_demands = True
        self.demand = max(self.demand, demand)


@dataclass(slots=True)
class Value:
    """What inference knows of one expression. `direct` is set where it is a column reference and nothing else."""

    var: Var
    leaves: tuple[Leaf, ...] = ()
    direct: Leaf | None = None
    location: int = 0
    is_remade: bool = False  # PostgreSQL says no length of it, whatever its columns have
    cast: LogicalType | None = None  # the type it is shown with, where a cast that changes nothing gave it one

    def ask(self, demand: Demand) -> None:
        for leaf in self.leaves:
            leaf.ask(demand)

    def stand_alone(self) -> None:
        """It is assigned or compared as it is."""
        if len(self.leaves) == 1:
            self.leaves[0].is_alone = True


class Form(Enum):
    """How a value is made of others. ROW is a whole row, ARRAY an SQL array; the others are JSON."""

    ROW = "row"
    ARRAY = "array"
    LIST = "list"  # of elements that are alike: one part
    TUPLE = "tuple"
    OBJECT = "object"
    MAP = "map"  # of values that are alike: one part
    CELL = "cell"  # the JSON of one value


@dataclass(slots=True, eq=False)
class Shape:
    """The parts of a value, each with its name where it has one."""

    form: Form
    parts: tuple[tuple[str, Value], ...]
    is_jsonb: bool = False
    location: int | None = None

    def values(self) -> list[Value]:
        return [value for _, value in self.parts]

    def is_like(self, other: Shape) -> bool:
        names = [[name for name, _ in shape.parts] for shape in (self, other)]
        return (self.form, self.is_jsonb) == (other.form, other.is_jsonb) and names[0] == names[1]


def sealed_in(value: Value) -> SealedColumn | None:
    """A sealed column that the value is, or is made of."""
    root = value.var.find()
    if root.shape is None:
        return root.sealed
    return next((found for part in root.shape.values() if (found := sealed_in(part)) is not None), None)


def together(var: Var, values: Sequence[Value], location: int) -> Value:
    """What flows into one result. It keeps a length where all have the same, which is seen in the end."""
    casts = {value.cast for value in values}
    is_text = any(cast is not None and cast.name == "text" for cast in casts)
    one = next(iter(casts)) if len(casts) == 1 else None
    cast = next(cast for cast in casts if cast is not None and cast.name == "text") if is_text else one
    leaves = tuple(leaf for value in values for leaf in value.leaves)
    has_constants = any(leaf.kind is LeafKind.CONSTANT for leaf in leaves)
    return Value(var, leaves, None, location, has_constants or any(value.is_remade for value in values), cast)


def plain(what: str = "a plain expression", location: int = 0) -> Value:
    return Value(Var(plain=Because(what, location)), location=location)


_STRINGS: Final = frozenset({"text", "varchar"})


def is_same_type(left: LogicalType, right: LogicalType) -> bool:
    """True where a cast from one to the other changes no value (typmods apart)."""
    return left.name == right.name or {left.name, right.name} <= _STRINGS


def is_same_seal(left: SealedColumn, right: SealedColumn) -> bool:
    """True where cells of both columns have one context, one form and one index domain, so that either may
    stand for the other."""
    a, b = left.rule, right.rule
    return (a.context, a.mode, a.search, a.compare, a.scope, a.storage, a.type.family, a.key_type) == (
        b.context,
        b.mode,
        b.search,
        b.compare,
        b.scope,
        b.storage,
        b.type.family,
        b.key_type,
    )


def unify(left: Var, right: Var, because: Because) -> Var:
    """Make two expressions one class. Refused where a sealed one would meet a plain or another sealed one."""
    a, b = left.find(), right.find()
    if a is b:
        return a
    if a.sealed and b.sealed and not is_same_seal(a.sealed, b.sealed):
        raise refused(
            a.sealed,
            f"{because.what} {b.sealed.rule.label}, which is protected differently",
            "only columns of one context can meet",
            because.location,
        )
    if a.shape is not None or b.shape is not None:
        a.shape = _met(a, b, because)
    b.parent = a
    a.sealed = a.sealed or b.sealed
    a.plain = a.plain or b.plain
    a.is_compared = a.is_compared or b.is_compared
    a.is_folded = a.is_folded or b.is_folded
    a.one_form = a.one_form or b.one_form
    a.has_constants = a.has_constants or b.has_constants
    a.targets += b.targets
    _check(a, because)
    return a


def _met(a: Var, b: Var, because: Because) -> Shape | None:
    """What two classes, one of which has parts, are made of together. What differs meets where both are plain."""
    if a.is_unknown or b.is_unknown:
        return a.shape or b.shape
    if a.shape is not None and b.shape is not None and a.shape.is_like(b.shape):
        for one, other in zip(a.shape.values(), b.shape.values(), strict=True):
            unify(one.var, other.var, because)
        return a.shape
    for root in (a, b):
        make_plain(Value(root), because)
    return None


def make_plain(value: Value, because: Because) -> None:
    """Refuse a sealed expression here, now or whenever it turns out to be one."""
    root = value.var.find()
    if root.shape is not None:
        if root.shape.form is Form.ROW:
            because = Because(
                f"a whole row in {because.what}", because.location, "name the columns that are needed"
            )
        for part in root.shape.values():
            make_plain(part, because)
    if root.plain is None:
        root.plain = because
    if root.sealed:
        raise refused(root.sealed, because.what, because.hint, because.location)


def _check(root: Var, because: Because) -> None:
    if root.sealed and root.plain:
        first = root.plain
        location = because.location if because.location is not None else first.location
        hint = because.hint if because.hint != APPLICATION else first.hint
        raise refused(root.sealed, f"{because.what} {first.what}", hint, location)


def seal(var: Var, column: SealedColumn, because: Because) -> None:
    unify(Var(sealed=column), var, because)


def is_deterministic(column: SealedColumn) -> bool:
    return column.rule.mode is Mode.DETERMINISTIC


def refused(
    column: SealedColumn, what: str, hint: str, location: int | None, kind: type[PgsealError] = Unsupported
) -> PgsealError:
    """The refusal of a construct over a protected column, as an error to raise."""
    return kind(
        f"{column.rule.label} is encrypted: {what} is not supported",
        column=column.rule.label,
        hint=hint,
        position=location,
    )
