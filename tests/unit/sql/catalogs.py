"""A clinic to plan against: tables with deterministic, searchable and merely random columns, for each source of
a tenant, beside plain tables, a view and a table whose name is pinned. Built from the contract's dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from proxy.rules import (
    ColumnRule,
    Compare,
    Isolation,
    Mode,
    Read,
    RoleRule,
    Ruleset,
    Scope,
    Storage,
    TableRule,
    TenantFrom,
    TenantRule,
)
from proxy.sql.catalog import Column, Relation, SealedColumn, Snapshot
from proxy.sql.plan import Env, Overlay
from proxy.values.registry import parse_type

BYTEA, TEXT, INT4, DATE = 17, 25, 23, 1082
BY_COLUMN = TenantRule(TenantFrom.COLUMN, "hospital_id")
BY_SETTING = TenantRule(TenantFrom.SETTING, "app.tenant_id")
FIXED = TenantRule(TenantFrom.FIXED, "one")


def rule(table: str, column: str, type_name: str = "text", **options: object) -> ColumnRule:
    context = options.pop("context", f"{table}.{column}")
    return ColumnRule(table, column, parse_type(type_name), str(context), **options)  # type: ignore[arg-type]


def table_rule(
    name: str, columns: list[ColumnRule], tenant: TenantRule, isolation: Isolation = Isolation.NONE
) -> TableRule:
    return TableRule("public", name, tenant, {column.column: column for column in columns}, isolation)


def relation(
    oid: int, name: str, columns: list[tuple[str, int]], ruled: TableRule | None = None, **options: object
) -> Relation:
    """`columns` are (name, type OID); the first is the primary key."""
    made = tuple(
        Column(column, number, type_oid, not_null=number == 1)
        for number, (column, type_oid) in enumerate(columns, 1)
    )
    sealed: Mapping[str, SealedColumn] = {}
    tenant_column = None
    if ruled is not None:
        sealed = {
            c.name: SealedColumn(oid, c.attnum, ruled.columns[c.name]) for c in made if c.name in ruled.columns
        }
        tenant_column = ruled.tenant.name if ruled.tenant.source is TenantFrom.COLUMN else None
    unique = options.pop("unique", ((columns[0][0],),))
    schema = str(options.pop("schema", "public"))
    kind = str(options.pop("kind", "r"))
    return Relation(
        oid,
        schema,
        name,
        kind,
        made,
        sealed,
        ruled,
        tenant_column,
        unique_columns=unique,  # type: ignore[arg-type]
        **options,  # type: ignore[arg-type]
    )


SEARCH = {"search": True}
DET = {"mode": Mode.DETERMINISTIC, "pad": 0}

PATIENTS = table_rule(
    "patients",
    [
        rule("public.patients", "ssn", **SEARCH),
        rule("public.patients", "badge", "varchar(20)", **DET),
        rule("public.patients", "notes"),
        rule("public.patients", "dob", "date", **SEARCH),
        rule("public.patients", "email", "varchar(254)", search=True, scope=Scope.TABLE, compare=Compare.NOCASE),
        rule("public.patients", "phone", search=True, storage=Storage.TEXT),
    ],
    BY_COLUMN,
)
STAFF = table_rule(
    "staff",
    [
        rule("public.staff", "ssn", **SEARCH),
        rule("public.staff", "pin", "int4", **SEARCH),
        rule("public.staff", "level", has_default=True, default=b"junior"),
        rule("public.staff", "secret"),
    ],
    FIXED,
)
NOTES = table_rule("memos", [rule("public.memos", "body", **SEARCH)], BY_SETTING)
ROWS = table_rule("rls_memos", [rule("public.rls_memos", "body", **SEARCH)], BY_SETTING, Isolation.RLS)
BOUND = table_rule("bound", [rule("public.bound", "body", bind=("id",))], FIXED)
WARDS = table_rule(
    "wards",
    [rule("public.wards", "code", has_default=True, default=b"W1", **SEARCH), rule("public.wards", "head")],
    BY_COLUMN,
)

_PATIENT_COLUMNS = [
    ("id", INT4),
    ("hospital_id", TEXT),
    ("name", TEXT),
    ("ssn", BYTEA),
    ("badge", BYTEA),
    ("notes", BYTEA),
    ("dob", BYTEA),
    ("email", BYTEA),
    ("phone", TEXT),
]


def _relations() -> list[Relation]:
    patients = relation(20001, "patients", _PATIENT_COLUMNS, PATIENTS)
    by_name = patients.sealed
    view_columns = (Column("id", 1, INT4), Column("hospital_id", 2, TEXT), Column("number", 3, BYTEA))
    simple = Relation(
        20002,
        "public",
        "patient_list",
        "v",
        view_columns,
        {"number": by_name["ssn"]},
        None,
        "hospital_id",
        is_simple_view=True,
    )
    tricky = Relation(
        20003, "public", "patient_doors", "v", view_columns, {"number": by_name["ssn"]}, None, "hospital_id"
    )
    return [
        patients,
        simple,
        tricky,
        relation(
            20004,
            "staff",
            [("id", INT4), ("name", TEXT), ("ssn", BYTEA), ("pin", BYTEA), ("level", BYTEA), ("secret", BYTEA)],
            STAFF,
        ),
        relation(20005, "memos", [("id", INT4), ("body", BYTEA)], NOTES),
        relation(20006, "rls_memos", [("id", INT4), ("body", BYTEA)], ROWS),
        relation(20007, "visits", [("id", INT4), ("patient_id", INT4), ("hospital_id", TEXT), ("reason", TEXT)]),
        relation(20008, "patients", [("id", INT4), ("ssn", TEXT)], schema="archive"),
        relation(20009, "patients", [("id", INT4), ("ssn", TEXT)], schema="attic"),
        relation(20010, "bound", [("id", INT4), ("body", BYTEA)], BOUND),
        relation(20011, "wards", [("id", INT4), ("hospital_id", TEXT), ("code", BYTEA), ("head", BYTEA)], WARDS),
        relation(20012, "broken", [("id", INT4), ("x", BYTEA)], refused="public.broken.x is text, not bytea"),
        relation(20013, "encryption_keys", [("id", INT4)], schema="pgseal"),
    ]


RULES = Ruleset(
    "clinic",
    1,
    {("public", r.name): r for r in (PATIENTS, STAFF, NOTES, ROWS, BOUND, WARDS)},
    {"app": RoleRule(Read.PLAIN), "nobody": RoleRule(Read.DENY)},
    frozenset({("archive", "patients")}),
)


@lru_cache
def snapshot(server_version: int = 150018) -> Snapshot:
    relations = _relations()
    names = {
        "patients",
        "staff",
        "memos",
        "rls_memos",
        "bound",
        "wards",
        "patient_list",
        "patient_doors",
        "broken",
    }
    return Snapshot(
        "clinic",
        1,
        server_version,
        RULES,
        {(r.schema, r.name): r for r in relations},
        {r.oid: r for r in relations},
        pinned=frozenset(RULES.tables[key].name for key in RULES.tables),
        watched=frozenset(name.encode() for name in names),
        watched_functions=frozenset({"patient_of"}),
        schemas=frozenset({"public", "archive", "attic", "pgseal", "pg_catalog"}),
    )


def with_database_tenant() -> Env:
    """The same clinic, where app.tenant_id names each session's tenant too."""
    plain = env()
    rules = replace(RULES, tenant=BY_SETTING)
    return replace(plain, snapshot=replace(plain.snapshot, rules=rules))


def env(
    read: Read = Read.PLAIN,
    search_path: tuple[str, ...] = ("public",),
    overlay: Overlay | None = None,
    server_version: int = 150018,
) -> Env:
    return Env(snapshot(server_version), 1, 1, search_path, RoleRule(read), overlay or Overlay())
