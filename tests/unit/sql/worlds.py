"""A small clinic as rules, snapshot and Env, for tests of planning: real objects, no server."""

from __future__ import annotations

from dataclasses import replace

from proxy.rules import (
    ColumnRule,
    Mode,
    Read,
    RoleRule,
    Ruleset,
    Storage,
    TableRule,
    TenantFrom,
    TenantRule,
    Write,
)
from proxy.sql.catalog import Column, Relation, Snapshot
from proxy.sql.ddl_columns import relation_with
from proxy.sql.plan import Env
from proxy.sql.watch import SEED, identifier
from proxy.values.base import LogicalType

TEXT = LogicalType("text", -1, "text", 25, 1009, -1)
EMAIL = LogicalType("varchar", 258, "text", 1043, 1015, -1)
DATE = LogicalType("date", -1, "date", 1082, 1182, 4)

SSN = ColumnRule("public.patients", "ssn", TEXT, "public.patients.ssn", search=True)
PATIENTS = TableRule(
    "public",
    "patients",
    TenantRule(TenantFrom.COLUMN, "hospital_id"),
    {
        "ssn": SSN,
        "email": ColumnRule(
            "public.patients", "email", EMAIL, "public.patients.email", has_default=True, default=b""
        ),
        "badge": ColumnRule(
            "public.patients",
            "badge",
            TEXT,
            "public.patients.badge",
            mode=Mode.DETERMINISTIC,
            storage=Storage.TEXT,
        ),
    },
)
STAFF = TableRule(
    "public",
    "staff",
    TenantRule(TenantFrom.SETTING, "app.tenant_id"),
    {"born": ColumnRule("public.staff", "born", DATE, "public.staff.born")},
)
RULES = Ruleset(
    "app",
    1,
    {("public", "patients"): PATIENTS, ("public", "staff"): STAFF},
    {"app": RoleRule(Read.PLAIN)},
    not_protected=frozenset({("archive", "patients")}),
)


def table(oid: int, schema: str, name: str, *columns: tuple[str, int], rule: TableRule | None = None) -> Relation:
    found = tuple(Column(column, n, oid_) for n, (column, oid_) in enumerate(columns, 1))
    return relation_with(found, rule, (schema, name), oid)


RELATIONS = (
    table(
        20001,
        "public",
        "patients",
        ("id", 23),
        ("hospital_id", 23),
        ("ssn", 17),
        ("email", 17),
        ("badge", 25),
        ("name", 25),
        rule=PATIENTS,
    ),
    table(20002, "public", "visits", ("id", 23), ("patient_id", 23), ("note", 25)),
    table(20003, "archive", "patients", ("id", 23)),
    table(20004, "other", "patients", ("id", 23)),
    table(20005, "pgseal", "encryption_keys", ("id", 23)),
)


def snapshot(*more: Relation, version: int = 150018) -> Snapshot:
    relations = {(relation.schema, relation.name): relation for relation in (*RELATIONS, *more)}
    return Snapshot(
        "app",
        1,
        version,
        RULES,
        relations,
        {relation.oid: relation for relation in relations.values()},
        frozenset({"patients", "staff"}),
        frozenset(identifier(name) for name in SEED | {"patients", "staff", "encryption_keys"}),
        schemas=frozenset({"public", "archive", "other", "pgseal", "pg_catalog"}),
    )


def env(*path: str, raw: bool = False, standard_strings: bool = True, version: int = 150018) -> Env:
    role = RoleRule(Read.RAW, Write.RAW) if raw else RoleRule(Read.PLAIN)
    made = Env(snapshot(version=version), 1, 1, path or ("public",), role)
    return replace(made, standard_conforming_strings=standard_strings)
