"""The immutable picture of one database's catalog that planning looks at; one per database and epoch.

One reason to change: what planning needs to know of a catalog. `service/catalog_reader.py` fills it,
`session` holds a reference for the length of a step. Names are as stored in pg_catalog (case kept).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.rules import ColumnRule, Ruleset, TableRule

Name = tuple[str, str]  # (schema, relation)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    attnum: int
    type_oid: int
    typmod: int = -1
    not_null: bool = False
    has_default: bool = False
    is_generated: bool = False


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A protected column as it stands in this database."""

    relation_oid: int
    attnum: int
    rule: ColumnRule
    not_null: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """`kind` is pg_class.relkind. `sealed` maps a column name to its protection (through views, partitions
    and inheritance too: a view's simple column that shows a sealed column is sealed here).
    `rule` is set for the protected table itself, its partitions and children."""

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...]
    sealed: Mapping[str, SealedColumn] = field(default_factory=dict)
    rule: TableRule | None = None
    tenant_column: str | None = None  # the column of this relation that is the rule's tenant column
    refused: str | None = None  # why every use is PS006 (rule and schema disagree), with the DDL to run
    is_simple_view: bool = False  # automatically updatable, no INSTEAD OF trigger, no rule
    has_rules_or_triggers: bool = False
    unique_columns: tuple[tuple[str, ...], ...] = ()  # plain unique keys, by column names

    def sealed_at(self, attnum: int) -> SealedColumn | None:
        """The protected column of this attribute number."""
        for column in self.columns:
            if column.attnum == attnum:
                return self.sealed.get(column.name)
        return None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`epoch` rises with each reload within a process; plans are keyed by it."""

    database: str
    epoch: int
    server_version: int  # 150018 style
    rules: Ruleset
    relations: Mapping[Name, Relation]
    by_oid: Mapping[int, Relation]
    pinned: frozenset[str]  # bare names of protected tables
    watched: frozenset[bytes]  # identifier tokens (folded, cut at 63 bytes) that force planning
    watched_functions: frozenset[str] = frozenset()
    setting_functions: frozenset[str] = frozenset()  # their code sets the search path or a tenant
    schemas: frozenset[str] = frozenset()
    supposed: Snapshot | None = None  # the same with tables under observation as if they held cells

    def relation(self, path: tuple[str, ...], schema: str | None, name: str) -> Relation | None:
        """The relation a name resolves to under an effective search path, or None."""
        if schema is not None:
            return self.relations.get((schema, name))
        for candidate in path:
            found = self.relations.get((candidate, name))
            if found is not None:
                return found
        return None

    def sealed_at(self, oid: int, attnum: int) -> SealedColumn | None:
        """The protected column that RowDescription's table OID and attribute number stand for."""
        relation = self.by_oid.get(oid)
        return relation.sealed_at(attnum) if relation is not None else None

    def is_changed(self, oid: int, attnum: int, type_oid: int) -> bool:
        """True where a column under observation is of another type by now: it may hold cells."""
        relation = self.supposed.by_oid.get(oid) if self.supposed is not None else None
        if relation is None or relation.sealed_at(attnum) is None or oid not in self.by_oid:
            return False
        return any(c.attnum == attnum and c.type_oid != type_oid for c in self.by_oid[oid].columns)

    def knows(self, oid: int) -> bool:
        return oid < 16384 or oid in self.by_oid
