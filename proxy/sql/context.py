"""What inference gathers over one statement, and how relations' names are found.

One reason to change: what the rooms of inference (expressions, queries, writes) share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.errors import SchemaMismatch, UndefinedTable, Unsupported
from proxy.rules import TableRule
from proxy.sql.catalog import Relation, SealedColumn
from proxy.sql.draft import Draft
from proxy.sql.duplicates import Distinct, Union
from proxy.sql.literals import Literal, Literals
from proxy.sql.plan import Edit, TenantOf
from proxy.sql.scopes import Column, Item, Origin, Scope
from proxy.sql.spans import Node, NoSpan, Spans
from proxy.sql.types import Because, Leaf, LeafKind, Value, Var
from proxy.values.base import LogicalType

_SYSTEM_SCHEMAS = frozenset({"pg_catalog", "information_schema", "pg_toast"})


@dataclass(slots=True, eq=False)
class Output:
    """`values` tells which column of which VALUES list this is, and nothing else; `has_alias`: AS was written."""

    name: str
    value: Value
    values: tuple[int, int] | None = None
    has_alias: bool = False
    target: Node | None = None  # the item of the SELECT list


@dataclass(slots=True, eq=False)
class Outputs:
    """The columns of a query. `is_open`: there may be more, all of them plain, at places not known."""

    columns: list[Output]
    is_open: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Shed:
    """A cast (the body of its node) around branches, which are in `value`."""

    value: Value
    type: LogicalType
    node: Node


@dataclass(slots=True, eq=False)
class Inference:
    """`infer`, `select` and `write` infer an expression, a query, a DML statement (handed in, since each may hold
    the others).
    `strangers` are relations that the snapshot does not have, `unresolved` are names of columns that stand for
    nothing known, each with where it was named; `sealed_names` are the sealed columns of all relations named."""

    draft: Draft
    spans: Spans
    literals: Literals
    infer: Callable[[Inference, Node, Scope], Value]
    select: Callable[[Inference, Node, Scope | None], Outputs]
    write: Callable[[Inference, Node, Scope | None], Outputs]
    leaves: list[Leaf] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    strangers: list[tuple[str, int]] = field(default_factory=list)
    unresolved: list[tuple[str, int]] = field(default_factory=list)
    sealed_names: set[str] = field(default_factory=set)
    written: list[SealedColumn] = field(default_factory=list)  # columns assigned, also by a DEFAULT
    titles: list[tuple[Var, int, str]] = field(default_factory=list)  # names to keep, behind which token
    shaped: list[Var] = field(default_factory=list)  # what is made of other expressions
    sheds: list[Shed] = field(default_factory=list)  # casts that go if what they are around is sealed
    duplicates: list[Distinct | Union] = field(default_factory=list)
    rows: list[list[list[Node]]] = field(default_factory=list)  # the VALUES lists met, by their number
    shown_tenants: dict[Origin, list[TenantOf]] = field(default_factory=dict)  # of rows written and returned
    is_protected: bool = False  # a relation with sealed columns is named

    # --- relations ---------------------------------------------------------------------------------

    def relation(self, node: Node) -> Relation | None:
        """The relation a RangeVar names, or None. PS006 where a protected table's name means another relation,
        or the relation's rule and schema disagree."""
        schema, name, location = node.get("schemaname"), node.get("relname", ""), node.get("location", 0)
        found = self._find(schema, name)
        if (schema or (found.schema if found else "")) == "pgseal":
            raise Unsupported(
                "schema pgseal belongs to pgseal and is not for statements",
                hint="use the pgseal command",
                position=location,
            )
        if found is not None and found.refused is not None:
            raise SchemaMismatch(found.refused, hint="run pgseal check", position=location)
        if found is None or not (found.sealed or found.rule):
            self._check_pinned(found, node)
        if found is None and schema not in _SYSTEM_SCHEMAS and not name.startswith("pg_"):
            self.strangers.append((f"{schema}.{name}" if schema else name, location))
        if found is not None and (found.sealed or found.rule):
            self.is_protected = True
            self.sealed_names |= found.sealed.keys()
        return found

    def _find(self, schema: str | None, name: str) -> Relation | None:
        env = self.draft.env
        overlay = dict(env.overlay.relations)
        path = (schema,) if schema is not None else env.search_path
        if schema is None:
            temporary = next((k for k in overlay if k[0].startswith("pg_temp") and k[1] == name), None)
            if temporary is not None and overlay[temporary] is not None:
                return overlay[temporary]
            if "pg_catalog" not in path:
                path = ("pg_catalog", *path)
        for candidate in path:
            key = (candidate, name)
            found = overlay[key] if key in overlay else env.snapshot.relations.get(key)
            if found is not None:
                return found
        return None

    def _check_pinned(self, found: Relation | None, node: Node) -> None:
        name = node.get("relname", "")
        snapshot = self.draft.env.snapshot
        if name not in snapshot.pinned:
            return
        schema = found.schema if found is not None else node.get("schemaname")
        if schema is not None and (schema, name) in snapshot.rules.not_protected:
            return
        if found is None:  # perhaps it was made a moment ago: nothing goes there before it was looked at
            written = f"{schema}.{name}" if schema is not None else name
            raise UndefinedTable(
                f'relation "{written}" does not exist',
                hint="it is protected by the rules: CREATE TABLE through pgseal makes it with its guards",
                position=node.get("location", 0),
            )
        raise SchemaMismatch(
            f'"{name}" is the name of a protected table, and means another relation here',
            hint="write the protected table with its schema, or list this one under not_protected in the rules",
            position=node.get("location", 0),
        )

    def table_rule(self, column: SealedColumn) -> TableRule | None:
        """The rule of the table that a sealed column belongs to, through views and partitions."""
        for rule in self.draft.env.snapshot.rules.tables.values():
            if f"{rule.schema}.{rule.name}" == column.rule.table:
                return rule
        relation = self.draft.env.snapshot.by_oid.get(column.relation_oid)
        return relation.rule if relation is not None else None

    # --- values -------------------------------------------------------------------------------------

    def item_of(self, relation: Relation | None, name: str, schema: str | None) -> tuple[Item, Origin | None]:
        """A FROM item of a relation; one that is not known is open."""
        if relation is None:
            return Item(name, [], schema, is_open=True, is_table=True), None
        origin = Origin(relation)
        columns = [
            Column(column.name, relation.sealed.get(column.name), None, ((origin, column),))
            for column in relation.columns
        ]
        return Item(name, columns, schema, is_table=True), origin

    def column_value(self, column: Column, scope: Scope, node: Node | None, location: int) -> Value:
        """A reference to a column, with its text (`node` None: it stands for itself in a `*`)."""
        first, last = self.span(node) if node is not None and column.may_be_sealed() else (1, 0)
        var = self._var(column, location)
        leaf = Leaf(LeafKind.COLUMN, var, location, first, last, column=column, scope=scope, inner=(first, last))
        self.leaves.append(leaf)
        return Value(var, (leaf,), leaf, location, column.is_remade, column.cast)

    def _var(self, column: Column, location: int) -> Var:
        if column.sealed is not None:
            return Var(sealed=column.sealed)
        root = column.var.find() if column.var is not None else None
        if root is None or root.plain is not None:
            return Var(plain=Because("a plain column", location))
        if root.sealed is not None and not root.has_constants:
            return Var(sealed=root.sealed)
        return root

    def constant_value(self, node: Node, literal: Literal) -> Value:
        first, last = self.span(node)
        location = self.draft.tokens.starts[first] if first <= last else 0
        var = Var(has_constants=True)
        leaf = Leaf(LeafKind.CONSTANT, var, location, first, last, expr=literal.expr, word=literal.word)
        leaf.is_array_typed = literal.is_array
        self.leaves.append(leaf)
        return Value(var, (leaf,), location=location)

    def span(self, node: Node) -> tuple[int, int]:
        """The tokens of a node; (1, 0) where they cannot be told, which only matters once an edit is due."""
        try:
            return self.spans.of(node)
        except NoSpan:
            return 1, 0
