"""Names: which columns a statement's names stand for, by the catalog snapshot and the statement itself.

A *scope* is the FROM clause of one query level; each of its *items* has the columns that PostgreSQL gives it.
An *origin* is one occurrence of a table in a statement: columns of the same origin are of the same row, which is
what proofs of a tenant and of uniqueness need. A name that is unknown or ambiguous is left to the server's own
error where nothing sealed can be meant, and is refused otherwise. Manual: "SELECT", "FROM Clause".
One reason to change: the rules of name resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.errors import Unsupported
from proxy.sql import catalog
from proxy.sql.catalog import Relation, SealedColumn
from proxy.sql.plan import TenantOf
from proxy.sql.types import Value, Var
from proxy.values.base import LogicalType
from proxy.values.constants import Expr

_ONE_TEXT = frozenset({16, 20, 21, 23, 25, 1043, 1082, 2950})  # bool, integers, text, varchar, date, uuid
SYSTEM_COLUMNS = frozenset({"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"})


@dataclass(slots=True, eq=False)
class Origin:
    """One occurrence of a relation in a FROM clause, or as the target of a write."""

    relation: Relation


@dataclass(slots=True, eq=False)
class Column:
    """A column that a name can stand for. `sealed` or `var` or neither (plain). `bases` are the table columns it
    shows unchanged (two after JOIN USING). `proof` is the tenant that a subquery has proven of its cells."""

    name: str
    sealed: SealedColumn | None = None
    var: Var | None = None
    bases: tuple[tuple[Origin, catalog.Column], ...] = ()
    proof: TenantOf | None = None
    values: tuple[int, int] | None = None  # the VALUES list whose rows it shows, and its place in it
    is_remade: bool = False  # as in Value
    cast: LogicalType | None = None

    def seal(self) -> SealedColumn | None:
        if self.sealed is not None:
            return self.sealed
        return self.var.find().sealed if self.var is not None else None

    def may_be_sealed(self) -> bool:
        return self.seal() is not None or (self.var is not None and self.var.find().plain is None)


@dataclass(slots=True, eq=False)
class Item:
    """One name of a FROM clause. `is_open`: it may have columns that are not known here (all of them plain)."""

    name: str
    columns: list[Column]
    schema: str | None = None
    is_open: bool = False
    is_table: bool = False  # has system columns

    def named(self, name: str) -> list[Column]:
        return [column for column in self.columns if column.name == name]

    def has_sealed(self) -> bool:
        return any(column.may_be_sealed() for column in self.columns)


@dataclass(slots=True, eq=False)
class Cte:
    """A query of a WITH clause, as the queries that name it see it."""

    columns: list[Column]
    is_open: bool = False


@dataclass(slots=True, eq=False)
class Scope:
    """One query level. `merged` are the columns of JOIN USING, which a bare name means before any item's.
    `proofs` are the tenants that its WHERE clause proves, `same_tenant` pairs of origins whose second has the
    tenant of the first; a JOIN's own scope shares those of its `owner`."""

    parent: Scope | None = None
    items: list[Item] = field(default_factory=list)
    merged: list[Column] = field(default_factory=list)
    proofs: dict[Origin, list[TenantOf]] = field(default_factory=dict)
    same_tenant: list[tuple[Origin, Origin]] = field(default_factory=list)
    owner: Scope | None = None
    ctes: dict[str, Cte] = field(default_factory=dict)
    pending: set[str] = field(
        default_factory=set
    )  # WITH RECURSIVE: names that stand for queries not yet inferred
    constants: dict[tuple[Origin, str], Expr] = field(default_factory=dict)  # conjuncts `column = constant`
    n_before: int = 0  # leaves there were before the SELECT list
    grouped: list[tuple[Value, Column]] = field(default_factory=list)  # keys of GROUP BY that are tokens

    @property
    def home(self) -> Scope:
        return self.owner if self.owner is not None else self


@dataclass(frozen=True, slots=True)
class Found:
    column: Column
    scope: Scope


@dataclass(frozen=True, slots=True)
class Row:
    """A name that means a whole row."""

    item: Item
    scope: Scope


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing sealed can be meant; the server decides."""


Resolved = Found | Row | Unknown


def resolve(scope: Scope, path: tuple[str, ...], location: int) -> Resolved:
    """What the dotted name `path` means in `scope`: a column, a whole row, or nothing that is sealed."""
    match path:
        case (name,):
            return _bare(scope, name, location)
        case (table, name):
            return _qualified(scope, None, table, name, location)
        case (schema, table, name):
            return _qualified(scope, schema, table, name, location)
        case (_, schema, table, name):
            return _qualified(scope, schema, table, name, location)
        case _:
            return Unknown()


def _bare(scope: Scope, name: str, location: int) -> Resolved:
    level: Scope | None = scope
    passed_open = False
    while level is not None:
        found = [c for c in level.merged if c.name == name]
        if not found:
            found = [c for item in level.items for c in item.named(name)]
        if found:
            return _one(found, level, name, location, passed_open)
        passed_open = passed_open or any(item.is_open for item in level.items)
        level = level.parent
    item = find_item(scope, None, name)
    if item is not None:
        return Row(*item)
    return Unknown()


def _one(found: list[Column], level: Scope, name: str, location: int, passed_open: bool) -> Resolved:
    if len(found) == 1 and not passed_open:
        return Found(found[0], level.home)
    sealed = next((c.seal() for c in found if c.seal() is not None), None)
    if sealed is None and not any(c.may_be_sealed() for c in found):
        return Unknown()
    raise Unsupported(
        f'the name "{name}" can mean more than one column, and one of them is encrypted',
        column=sealed.rule.label if sealed else None,
        hint="write the table's name or alias before it",
        position=location,
    )


def find_cte(scope: Scope | None, name: str) -> Cte | None:
    level = scope
    while level is not None:
        if name in level.ctes:
            return level.ctes[name]
        if name in level.pending:
            raise Unsupported(
                f'"{name}" is used before its own query in WITH RECURSIVE, beside a protected table',
                hint="write the queries in the order in which they use each other, a recursive one as a UNION",
            )
        level = level.parent
    return None


def find_item(scope: Scope, schema: str | None, name: str) -> tuple[Item, Scope] | None:
    level: Scope | None = scope
    while level is not None:
        for item in level.items:
            if item.name == name and (schema is None or item.schema == schema):
                return item, level.home
        level = level.parent
    return None


def _qualified(scope: Scope, schema: str | None, table: str, name: str, location: int) -> Resolved:
    holder = find_item(scope, schema, table)
    if holder is None:
        return _through_row(scope, table, name, location) if schema is None else Unknown()
    item, level = holder
    found = item.named(name)
    if found:
        return _one(found, level, f"{table}.{name}", location, False)
    if item.is_table and name in SYSTEM_COLUMNS:
        return Unknown()
    if item.has_sealed():
        raise Unsupported(
            f'"{table}.{name}" is not a column that is known, and {table} has encrypted columns',
            hint="name a column; a function over the whole row is not supported",
            position=location,
        )
    return Unknown()


def _through_row(scope: Scope, table: str, name: str, location: int) -> Resolved:
    """`a.b` where `a` is no table: a field of a composite column, which is plain unless the column is sealed."""
    found = _bare(scope, table, location)
    if isinstance(found, Found) and found.column.may_be_sealed():
        sealed = found.column.seal()
        raise Unsupported(
            f'"{table}.{name}" reads a field of an encrypted column',
            column=sealed.rule.label if sealed else None,
            hint="select the column itself",
            position=location,
        )
    return Unknown()


def tenant_bases(bases: tuple[tuple[Origin, catalog.Column], ...]) -> list[tuple[Origin, catalog.Column]]:
    """Of the table columns that are shown, those that tell a row's tenant."""
    return [(origin, column) for origin, column in bases if origin.relation.tenant_column == column.name]


def compared_tenants(bases: tuple[tuple[Origin, catalog.Column], ...]) -> list[tuple[Origin, catalog.Column]]:
    """Those of a type of which equal values have one text, as one tenant has."""
    return [(origin, column) for origin, column in tenant_bases(bases) if column.type_oid in _ONE_TEXT]
