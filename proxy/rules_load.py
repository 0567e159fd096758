"""From rules files to `Ruleset`s: what the keys of a file mean together, and every reason to refuse it.

All problems of all files are collected, each with file and line, before anything is raised. Nothing here looks
at a database; `check` and `service/schema_check.py` do. One reason to change: what a valid rule is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.document import Document, Location, read_document
from proxy.errors import ConfigError, PgsealError
from proxy.rules import (
    ColumnRule,
    Compare,
    Mode,
    OnDenied,
    Read,
    RoleRule,
    Ruleset,
    Scope,
    TableRule,
    TenantFrom,
    TenantRule,
    Write,
)
from proxy.rules_file import (
    ADAPTER,
    LATER,
    ColumnShape,
    PatternShape,
    RoleShape,
    RulesShape,
    TableShape,
    TenantShape,
)
from proxy.shape import check_shape
from proxy.tenants import canonical_tenant
from proxy.values.base import LogicalType, Settings
from proxy.values.masks import Mask, MaskForm, mask_problems
from proxy.values.registry import codec, parse_type

MAX_NAME_SIZE: Final = 63
DEFAULT_PAD: Final = 16

# Families whose values differ little in length: one block holds the longest display form (docs/envelope.md).
FIXED_PADS: Final[Mapping[str, int]] = {
    "int": 24,
    "float": 32,
    "bool": 8,
    "date": 16,
    "timestamp": 32,
    "timestamptz": 40,
    "uuid": 40,
}
_WITHOUT_EQUALITY: Final = frozenset({"float4", "float8", "json", "xml"})
_WITHOUT_DETERMINISTIC: Final = frozenset({"jsonb", "interval"})
_CASELESS: Final = frozenset({"text", "varchar"})
_SETTING: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)+\Z")

Problems = list[str]


def load_rules(path: Path, default_database: str) -> dict[str, Ruleset]:
    """The rules of a file, or of each *.yaml and *.yml of a folder, by database. ConfigError tells all."""
    rulesets: dict[str, Ruleset] = {}
    problems: Problems = []
    for file in _files(path):
        try:
            document = read_document(file)
        except ConfigError as error:
            problems.append(error.message)
            continue
        ruleset = resolve(document, default_database, problems)
        if ruleset is not None and ruleset.database in rulesets:
            problems.append(
                f"{document.at(('database',))}: another file has rules of database '{ruleset.database}'"
            )
        elif ruleset is not None:
            rulesets[ruleset.database] = ruleset
    if problems:
        raise ConfigError("\n".join(problems))
    return rulesets


def resolve(document: Document, default_database: str, problems: Problems) -> Ruleset | None:
    """One file's rules; None when something was added to `problems`."""
    n_before = len(problems)
    shape = check_shape(ADAPTER, document, LATER, problems)
    if shape is None:
        return None
    ruleset = _Resolver(document, shape, problems).ruleset(default_database)
    return ruleset if len(problems) == n_before else None


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())


def _split(name: str) -> tuple[str, str]:
    schema, _, table = name.partition(".")
    return schema, table


@dataclass(slots=True)
class _Resolver:
    document: Document
    shape: RulesShape
    problems: Problems
    by_context: dict[str, ColumnRule] = field(default_factory=dict)

    def refuse(self, where: Location, text: str) -> None:
        self.problems.append(f"{self.document.at(where)}: {text}")

    def ruleset(self, default_database: str) -> Ruleset:
        tenant = self.tenant(self.shape.tenant, ("tenant",))
        tables = dict(self.table(name, shape, tenant) for name, shape in self.shape.tables.items())
        self.contexts(tables)
        return Ruleset(
            database=self.shape.database or default_database,
            epoch=0,
            tables=tables,
            roles={login: self.role(login, shape) for login, shape in self.shape.roles.items()},
            not_protected=self.not_protected(tables),
            tenant=tenant,
            on_unsupported=self.shape.on_unsupported,
        )

    # --- tenants, roles, names ------------------------------------------------------------------------

    def tenant(self, shape: TenantShape | None, where: Location) -> TenantRule | None:
        if shape is None:
            return None
        name = shape.name or ""
        for text in _tenant_problems(shape.source, name):
            self.refuse(where, text)
        if shape.source is TenantFrom.SETTING:
            name = name.lower()  # PostgreSQL knows settings without regard to case
        return TenantRule(shape.source, name, shape.required)

    def role(self, login: str, shape: RoleShape) -> RoleRule:
        where: Location = ("roles", login)
        self.name(login, where)
        write = shape.write or Write.PLAIN
        if (shape.read is Read.RAW) != (write is Write.RAW):
            self.refuse(where, f"{login}: 'read: raw' and 'write: raw' go together")
        for tenant in shape.tenants or ():
            self.tenant_name(tenant, (*where, "tenants"))
        return RoleRule(shape.read, write, tuple(dict.fromkeys(shape.tenants or ())), shape.cross_tenant)

    def tenant_name(self, tenant: str, where: Location) -> None:
        try:
            canonical_tenant(tenant)
        except PgsealError as error:
            self.refuse(where, error.message)

    def name(self, name: str, where: Location) -> None:
        """PostgreSQL cuts names at 63 bytes; a rule's name must be one that a catalog can hold."""
        if len(name.encode("utf-8", "replace")) > MAX_NAME_SIZE or "\0" in name:
            self.refuse(where, f"a name has at most {MAX_NAME_SIZE} bytes and no NUL")

    def not_protected(self, tables: Mapping[tuple[str, str], TableRule]) -> frozenset[tuple[str, str]]:
        names = [_split(name) for name in self.shape.not_protected]
        bare = {table for _, table in tables}
        for i, (schema, table) in enumerate(names):
            if (schema, table) in tables:
                self.refuse(("not_protected", i), f"{schema}.{table} is protected by a rule of this file")
            elif table not in bare:
                self.refuse(("not_protected", i), f"no protected table is called '{table}': nothing to except")
        return frozenset(names)

    # --- tables ---------------------------------------------------------------------------------------

    def table(
        self, name: str, shape: TableShape, default_tenant: TenantRule | None
    ) -> tuple[tuple[str, str], TableRule]:
        where: Location = ("tables", name)
        schema, table = _split(name)
        self.name(schema, where)
        self.name(table, where)
        if schema == "pgseal" or schema.startswith("pg_") or schema == "information_schema":
            self.refuse(where, f"tables of schema '{schema}' cannot be protected")
        tenant = self.tenant(shape.tenant, (*where, "tenant")) or default_tenant
        if tenant is None:
            self.refuse(
                where, f"{name} has no tenant; with one tenant only write tenant: {{from: fixed, name: main}}"
            )
            tenant = TenantRule(TenantFrom.FIXED, "main")
        if tenant.source is TenantFrom.COLUMN and tenant.name in shape.columns:
            self.refuse(where, f"{name}: the tenant column '{tenant.name}' cannot be protected itself")
        columns = {
            column: rule
            for column, column_shape in shape.columns.items()
            if (rule := self.column(name, column, column_shape)) is not None
        }
        return (schema, table), TableRule(schema, table, tenant, columns, shape.isolation, shape.through)

    def column(self, table: str, column: str, shape: ColumnShape) -> ColumnRule | None:
        where: Location = ("tables", table, "columns", column)
        self.name(column, where)
        try:
            type_ = parse_type(shape.type)
        except ConfigError as error:
            hint = f"; {error.hint}" if error.hint else ""
            self.refuse((*where, "type"), f"{table}.{column}: {error.message}{hint}")
            return None
        mask = _mask(shape)
        for text in (
            *_mode_problems(type_, shape),
            *_pad_problems(type_, shape),
            *mask_problems(type_, mask),
        ):
            self.refuse(where, f"{table}.{column}: {text}")
        self.bind(table, column, shape)
        has_default = "default" in self.written(where)
        return ColumnRule(
            table=table,
            column=column,
            type=type_,
            context=shape.context or f"{table}.{column}",
            key_type=shape.key_type,
            mode=shape.mode,
            search=shape.search is not None and shape.mode is Mode.RANDOMISED,
            compare=shape.search.compare if shape.search else Compare.EXACT,
            scope=shape.search.scope if shape.search else Scope.TENANT,
            storage=shape.storage,
            pad=FIXED_PADS.get(type_.family, DEFAULT_PAD if shape.pad is None else shape.pad),
            bind=shape.bind,
            on_denied=OnDenied(shape.on_denied),
            mask=mask,
            has_default=has_default,
            default=self.default(type_, shape, (*where, "default")) if has_default else None,
            accept_leakage=shape.accept_leakage or "",
        )

    def written(self, where: Location) -> Mapping[str, object]:
        value = self.document.get(where)
        return value if isinstance(value, dict) else {}

    def default(self, type_: LogicalType, shape: ColumnShape, where: Location) -> bytes | None:
        if shape.default is None:
            return None
        try:
            return codec(type_).read_text(shape.default.encode("utf-8"), Settings())
        except (PgsealError, UnicodeError):
            self.refuse(where, f"the default is not a value of type {shape.type} (ISO form, UTC)")
            return None

    def bind(self, table: str, column: str, shape: ColumnShape) -> None:
        where: Location = ("tables", table, "columns", column, "bind")
        sealed = self.shape.tables[table].columns
        if len(set(shape.bind)) != len(shape.bind):
            self.refuse(where, f"{table}.{column}: 'bind' names a column twice")
        for name in shape.bind:
            self.name(name, where)
            if name in sealed:
                self.refuse(where, f"{table}.{column}: 'bind' takes plain columns; '{name}' is protected")

    # --- contexts -------------------------------------------------------------------------------------

    def contexts(self, tables: Mapping[tuple[str, str], TableRule]) -> None:
        """Columns of one context share keys, which a JOIN or a foreign key over them needs: that is asked for
        by writing `context:` and holds only between columns of different tables that are sealed alike."""
        for rule in (rule for table in tables.values() for rule in table.columns.values()):
            where: Location = ("tables", rule.table, "columns", rule.column, "context")
            if any(ord(letter) < 32 for letter in rule.context):
                self.refuse(where, f"{rule.label}: a context has no control characters")
            first = self.by_context.setdefault(rule.context, rule)
            if first is rule:
                continue
            if first.table == rule.table:
                self.refuse(where, f"{rule.label}: {first.label} has the same context in the same table")
            elif differing := list(_differences(first, rule)):
                what = ", ".join(differing)
                self.refuse(
                    where, f"{rule.label}: shares its context with {first.label}, which differs in: {what}"
                )


def _differences(one: ColumnRule, other: ColumnRule) -> Iterator[str]:
    if one.type.family != other.type.family:
        yield "type"
    for name in ("mode", "search", "compare", "scope", "key_type", "storage", "pad"):
        if getattr(one, name) != getattr(other, name):
            yield name
    if one.bind or other.bind:
        yield "bind (a cell bound to its row is not shared)"


def _mask(shape: ColumnShape) -> Mask:
    if isinstance(shape.mask, PatternShape):
        return Mask(MaskForm.PATTERN, shape.mask.pattern)
    return Mask(MaskForm(shape.mask))


def _tenant_problems(source: TenantFrom, name: str) -> Iterator[str]:
    is_named = source in (TenantFrom.SETTING, TenantFrom.COLUMN, TenantFrom.FIXED)
    if is_named and not name:
        yield f"tenant: from: {source.value} needs the key 'name'"
    elif not is_named and name:
        yield f"tenant: from: {source.value} takes no 'name'"
    elif source is TenantFrom.SETTING and not _SETTING.match(name):
        yield "tenant: a setting of the application has a prefix and a dot, such as app.tenant_id"
    elif source is TenantFrom.FIXED and "\0" in name:
        yield "tenant: a tenant has no NUL"


def _mode_problems(type_: LogicalType, shape: ColumnShape) -> Iterator[str]:
    is_deterministic = shape.mode is Mode.DETERMINISTIC
    is_comparable = is_deterministic or shape.search is not None
    is_nocase = shape.search is not None and shape.search.compare is Compare.NOCASE
    if is_comparable and type_.name in _WITHOUT_EQUALITY:
        yield f"type {type_.name} offers no equality; leave 'search' and 'mode: deterministic' out"
    if is_deterministic and type_.name in _WITHOUT_DETERMINISTIC:
        yield f"type {type_.name} has no deterministic mode; write search: equality instead"
    if is_deterministic and type_.name == "numeric" and type_.typmod == -1:
        yield "deterministic numeric needs precision and scale, as in numeric(12,2)"
    if is_deterministic and shape.bind:
        yield "'bind' does not go with mode: deterministic"
    if is_nocase and is_deterministic:
        yield "compare: nocase does not go with mode: deterministic"
    if is_nocase and type_.name not in _CASELESS:
        yield "compare: nocase is for text and varchar"
    if is_comparable and type_.name == "bool" and not shape.accept_leakage:
        yield "equality over bool shows each value to who counts; write accept_leakage: reason, or drop it"


def _pad_problems(type_: LogicalType, shape: ColumnShape) -> Iterator[str]:
    if shape.pad is not None and type_.family in FIXED_PADS:
        yield f"type {type_.name} has a fixed padding of {FIXED_PADS[type_.family]} bytes; leave 'pad' out"
