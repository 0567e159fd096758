"""What `check` looks at in a live database, read from pg_catalog and nothing else: no row of a table is read.

Everything is keyed by relation and column name; whatever depends on a column is found by pg_depend, never by
searching a definition for a name. One reason to change: what a check has to know of a schema.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from proxy.service.connection import Connection

if TYPE_CHECKING:
    import asyncpg

    Row: TypeAlias = asyncpg.Record

Name = tuple[str, str]  # (schema, relation)
GUARD_NAME: Final = "^pgseal_[0-9a-f]{16}$"


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """`default` is the deparsed DEFAULT or generation expression; `collation_is_exact` is false only for a
    nondeterministic collation."""

    name: str
    attnum: int
    type_oid: int
    type_name: str
    not_null: bool
    default: str | None
    is_generated: bool
    is_identity: bool
    collation_is_exact: bool


@dataclass(frozen=True, slots=True)
class LiveConstraint:
    """`kind` is pg_constraint.contype; `from_other_table`: a foreign key elsewhere that points here."""

    name: str
    kind: str
    columns: tuple[str, ...]
    is_validated: bool
    is_inherited_by_children: bool
    definition: str
    from_other_table: str = ""


@dataclass(frozen=True, slots=True)
class LiveIndex:
    """`columns` are the plain key columns; `definition` is CREATE INDEX as PostgreSQL writes it."""

    name: str
    columns: tuple[str, ...]
    depends_on: frozenset[str]
    is_unique: bool
    is_valid: bool
    is_constraint: bool
    definition: str


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something else that hangs on a column: `kind` is view, materialized view, policy, trigger,
    generated column, function or rule."""

    kind: str
    name: str
    column: str


@dataclass(frozen=True, slots=True)
class LiveTable:
    oid: int
    schema: str
    name: str
    kind: str  # pg_class.relkind
    has_rls: bool
    forces_rls: bool
    partition_columns: tuple[str, ...]
    columns: Mapping[str, LiveColumn]
    constraints: tuple[LiveConstraint, ...] = ()
    indexes: tuple[LiveIndex, ...] = ()
    dependents: tuple[Dependent, ...] = ()
    triggers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveSchema:
    """`guards` lists every table of the database that carries a guard; `namesakes` every relation that
    shares its bare name with a ruled table."""

    tables: Mapping[Name, LiveTable]
    guards: Mapping[Name, tuple[str, ...]] = field(default_factory=dict)
    namesakes: frozenset[Name] = frozenset()
    server_version: int = 0


TABLES: Final = """
SELECT c.oid::int8 AS oid, n.nspname, c.relname, c.relkind::text AS relkind, c.relrowsecurity,
       c.relforcerowsecurity,
       coalesce((SELECT array_agg(a.attname::text) FROM pg_catalog.pg_partitioned_table p,
                 unnest(p.partattrs::int2[]) k JOIN pg_catalog.pg_attribute a ON a.attnum = k
                 WHERE p.partrelid = c.oid AND a.attrelid = c.oid), '{}') AS partition_columns
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN unnest($1::text[], $2::text[]) AS wanted(schema, name)
  ON wanted.schema = n.nspname AND wanted.name = c.relname
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

COLUMNS: Final = """
SELECT a.attrelid::int8 AS relation, a.attname, a.attnum, a.atttypid::int8 AS type_oid,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name, a.attnotnull,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default_text,
       a.attgenerated <> '' AS is_generated, a.attidentity <> '' AS is_identity,
       coalesce(l.collisdeterministic, true) AS collation_is_exact
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = ANY($1::int8[]::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

CONSTRAINTS: Final = """
SELECT t.oid::int8 AS relation, c.conname, c.contype::text AS contype, c.convalidated, c.connoinherit,
       pg_catalog.pg_get_constraintdef(c.oid) AS definition,
       CASE WHEN c.conrelid = t.oid THEN '' ELSE c.conrelid::regclass::text END AS other,
       coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = t.oid
                 AND a.attnum = ANY(CASE WHEN c.conrelid = t.oid THEN c.conkey ELSE c.confkey END)),
                '{}') AS columns
FROM pg_catalog.pg_class t
JOIN pg_catalog.pg_constraint c ON c.conrelid = t.oid OR (c.contype = 'f' AND c.confrelid = t.oid)
WHERE t.oid = ANY($1::int8[]::oid[]) AND c.contype <> 'n'
ORDER BY c.conname
"""

INDEXES: Final = """
SELECT i.indrelid::int8 AS relation, x.relname, i.indisunique, i.indisvalid,
       pg_catalog.pg_get_indexdef(i.indexrelid) AS definition,
       EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c WHERE c.conindid = i.indexrelid
               AND c.conrelid = i.indrelid) AS is_constraint,
       coalesce((SELECT array_agg(a.attname::text) FROM unnest(i.indkey::int2[]) k
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k), '{}') AS columns,
       coalesce((SELECT array_agg(DISTINCT a.attname::text) FROM pg_catalog.pg_depend d
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
                 WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                 AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid), '{}') AS depends_on
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = ANY($1::int8[]::oid[])
ORDER BY x.relname
"""

DEPENDENTS: Final = """
SELECT DISTINCT d.refobjid::int8 AS relation, a.attname,
       CASE d.classid
         WHEN 'pg_rewrite'::regclass THEN CASE v.relkind WHEN 'm' THEN 'materialized view'
              WHEN 'v' THEN 'view' ELSE 'rule' END
         WHEN 'pg_policy'::regclass THEN 'policy'
         WHEN 'pg_trigger'::regclass THEN 'trigger'
         WHEN 'pg_attrdef'::regclass THEN 'generated column'
         ELSE 'function' END AS kind,
       coalesce(CASE WHEN v.relkind IN ('v', 'm') THEN v.oid::regclass::text ELSE r.rulename::text END,
                p.polname::text, g.tgname::text,
                x.attname::text, f.oid::regprocedure::text) AS name
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
LEFT JOIN pg_catalog.pg_policy p ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
LEFT JOIN pg_catalog.pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
LEFT JOIN pg_catalog.pg_attrdef e ON d.classid = 'pg_attrdef'::regclass AND e.oid = d.objid
LEFT JOIN pg_catalog.pg_attribute x ON x.attrelid = e.adrelid AND x.attnum = e.adnum
LEFT JOIN pg_catalog.pg_proc f ON d.classid = 'pg_proc'::regclass AND f.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY($1::int8[]::oid[]) AND d.refobjsubid > 0
  AND d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass,
                    'pg_attrdef'::regclass, 'pg_proc'::regclass)
  AND NOT (d.classid = 'pg_attrdef'::regclass AND e.adnum = d.refobjsubid)
ORDER BY 3, 4, 2
"""

TRIGGERS: Final = """
SELECT tgrelid::int8 AS relation, tgname::text AS name FROM pg_catalog.pg_trigger
WHERE tgrelid = ANY($1::int8[]::oid[]) AND NOT tgisinternal ORDER BY tgname
"""

RULES: Final = """
SELECT ev_class::int8 AS relation, rulename::text AS name FROM pg_catalog.pg_rewrite
WHERE ev_class = ANY($1::int8[]::oid[]) AND rulename <> '_RETURN' ORDER BY rulename
"""

GUARDS: Final = """
SELECT n.nspname, t.relname, array_agg(c.conname::text ORDER BY c.conname) AS names
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class t ON t.oid = c.conrelid
JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
WHERE c.contype = 'c' AND c.conname ~ $1 AND c.conislocal GROUP BY 1, 2
"""

NAMESAKES: Final = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = ANY($1::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname !~ '^pg_(temp|toast)'
"""


async def read(connection: Connection, names: Collection[Name]) -> LiveSchema:
    """The named relations of one database, in one consistent picture."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(TABLES, [schema for schema, _ in names], [name for _, name in names])
        oids = [row["oid"] for row in rows]
        parts = {
            "columns": await connection.fetch(COLUMNS, oids),
            "constraints": await connection.fetch(CONSTRAINTS, oids),
            "indexes": await connection.fetch(INDEXES, oids),
            "dependents": await connection.fetch(DEPENDENTS, oids),
            "triggers": await connection.fetch(TRIGGERS, oids),
            "rules": await connection.fetch(RULES, oids),
        }
        guards = await connection.fetch(GUARDS, GUARD_NAME)
        namesakes = await connection.fetch(NAMESAKES, [name for _, name in names])
        version = await connection.fetchval("SELECT pg_catalog.current_setting('server_version_num')::int")
    by_relation = {part: _grouped(found) for part, found in parts.items()}
    tables = {(row["nspname"], row["relname"]): _table(row, by_relation) for row in rows}
    return LiveSchema(
        tables=tables,
        guards={(row["nspname"], row["relname"]): tuple(row["names"]) for row in guards},
        namesakes=frozenset((row["nspname"], row["relname"]) for row in namesakes) - set(names),
        server_version=int(version),
    )


def _grouped(rows: Collection[Row]) -> dict[object, list[Row]]:
    groups: dict[object, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["relation"], []).append(row)
    return groups


def _table(row: Row, parts: Mapping[str, Mapping[object, list[Row]]]) -> LiveTable:
    oid = row["oid"]
    columns = [_column(found) for found in parts["columns"].get(oid, [])]
    return LiveTable(
        oid=int(oid),
        schema=str(row["nspname"]),
        name=str(row["relname"]),
        kind=str(row["relkind"]),
        has_rls=bool(row["relrowsecurity"]),
        forces_rls=bool(row["relforcerowsecurity"]),
        partition_columns=_names(row["partition_columns"]),
        columns={column.name: column for column in columns},
        constraints=tuple(_constraint(found) for found in parts["constraints"].get(oid, [])),
        indexes=tuple(_index(found) for found in parts["indexes"].get(oid, [])),
        dependents=tuple(
            Dependent(str(found["kind"]), str(found["name"]), str(found["attname"]))
            for found in parts["dependents"].get(oid, [])
        ),
        triggers=tuple(str(found["name"]) for found in parts["triggers"].get(oid, [])),
        rules=tuple(str(found["name"]) for found in parts["rules"].get(oid, [])),
    )


def _column(row: Row) -> LiveColumn:
    return LiveColumn(
        name=str(row["attname"]),
        attnum=int(row["attnum"]),
        type_oid=int(row["type_oid"]),
        type_name=str(row["type_name"]),
        not_null=bool(row["attnotnull"]),
        default=None if row["default_text"] is None else str(row["default_text"]),
        is_generated=bool(row["is_generated"]),
        is_identity=bool(row["is_identity"]),
        collation_is_exact=bool(row["collation_is_exact"]),
    )


def _constraint(row: Row) -> LiveConstraint:
    return LiveConstraint(
        name=str(row["conname"]),
        kind=str(row["contype"]),
        columns=_names(row["columns"]),
        is_validated=bool(row["convalidated"]),
        is_inherited_by_children=not row["connoinherit"],
        definition=str(row["definition"]),
        from_other_table=str(row["other"]),
    )


def _index(row: Row) -> LiveIndex:
    return LiveIndex(
        name=str(row["relname"]),
        columns=_names(row["columns"]),
        depends_on=frozenset(_names(row["depends_on"])),
        is_unique=bool(row["indisunique"]),
        is_valid=bool(row["indisvalid"]),
        is_constraint=bool(row["is_constraint"]),
        definition=str(row["definition"]),
    )


def _names(value: object) -> tuple[str, ...]:
    return tuple(str(name) for name in value) if isinstance(value, list) else ()
