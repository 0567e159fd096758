"""Random small databases: one to three tables, random columns protected in random ways, random tenants.

A world's tables are called w<number>t<number>; all worlds of a run share one database and one rules file. One
reason to change: what a random schema may contain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

TENANTS: Final = ("a", "b")
N_ROWS: Final = 5

# The first values of each type are the ones rows begin with; the last one may be no value of the type.
VALUES: Final[dict[str, tuple[str, ...]]] = {
    "text": ("a", "b", "", "O'Brien", "ünï", "a ", "NULL"),
    "varchar(5)": ("a", "b", "", "five5", "a ", "too long"),
    "int4": ("0", "1", "-5", "2147483647", " 7", "2147483648"),
    "int8": ("0", "1", "-5", "9223372036854775807", "x"),
    "numeric(8,2)": ("0.00", "1.50", "-3.25", "NaN", "1e9"),
    "bool": ("t", "f", "yes", "maybe"),
    "date": ("2000-01-01", "1957-12-10", "infinity", "0044-03-15 BC", "2001-02-29"),
    "timestamp": ("2000-01-01 00:00:00", "1999-12-31 23:59:59.5", "2000-01-01", "x"),
    "timestamptz": ("2000-01-01 00:00:00+00", "2000-01-01 01:00:00+01", "x"),
    "uuid": ("00000000-0000-0000-0000-000000000001", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "x"),
    "bytea": ("\\x00ff", "\\x", "abc", "\\xzz"),
    "jsonb": ('{"a": 1}', "[]", '{"a":1.0}', "{"),
    "float8": ("0", "1.5", "NaN", "x"),
    "json": ('{"a":  1}', "[]", "{"),
}
WITHOUT_EQUALITY: Final = frozenset({"float8", "json"})
WITHOUT_DETERMINISTIC: Final = WITHOUT_EQUALITY | {"jsonb"}


@dataclass(frozen=True, slots=True)
class RandomColumn:
    """`options` empty: plain. `context` names whose keys it shares."""

    name: str
    type: str
    options: str = ""
    context: str = ""
    default: str = ""

    @property
    def is_sealed(self) -> bool:
        return bool(self.options)

    @property
    def values(self) -> tuple[str, ...]:
        return VALUES[self.type]


@dataclass(frozen=True, slots=True)
class RandomTable:
    """`id` is the key, `p` and `q` are plain, `org` is there where it is the tenant column."""

    name: str
    columns: tuple[RandomColumn, ...]
    tenant: str  # fixed, setting or column

    @property
    def has_org(self) -> bool:
        return self.tenant == "column"

    @property
    def all_columns(self) -> tuple[RandomColumn, ...]:
        org = (RandomColumn("org", "text"),) if self.has_org else ()
        plain = (RandomColumn("id", "int4"), RandomColumn("p", "text"), RandomColumn("q", "int4"))
        return (*plain, *org, *self.columns)

    @property
    def sealed(self) -> tuple[RandomColumn, ...]:
        return tuple(column for column in self.columns if column.is_sealed)

    def ddl(self) -> str:
        org = ", org text NOT NULL" if self.has_org else ""
        columns = "".join(f", {c.name} {c.type}{_default(c)}" for c in self.columns)
        return f"CREATE TABLE {self.name} (id int PRIMARY KEY, p text, q int DEFAULT 3{org}{columns})"

    def rules(self) -> str:
        tenant = {
            "fixed": "tenant: {from: fixed, name: one}",
            "setting": "tenant: {from: setting, name: app.tenant}\n    isolation: tenant-only",
            "column": "tenant: {from: column, name: org}",
        }[self.tenant]
        lines = [f"  public.{self.name}:", f"    {tenant}", "    columns:"]
        lines += [f"      {c.name}: {{{self._rule(c)}}}" for c in self.sealed]
        return "\n".join(lines) + "\n"

    def _rule(self, column: RandomColumn) -> str:
        parts = [f'type: "{column.type}"', column.options]
        if column.context:
            parts.append(f"context: {column.context}")
        if column.default:
            parts.append(f'default: "{column.default}"')
        return ", ".join(parts)


def _default(column: RandomColumn) -> str:
    return f" DEFAULT '{column.default}'" if column.default else ""


@dataclass(frozen=True, slots=True)
class World:
    number: int
    tables: tuple[RandomTable, ...]

    def names(self) -> tuple[str, ...]:
        return tuple(table.name for table in self.tables)


def make_worlds(seed: int, n_worlds: int) -> tuple[World, ...]:
    """The same for the same seed."""
    random = Random(seed)
    return tuple(_world(random, number) for number in range(n_worlds))


def _world(random: Random, number: int) -> World:
    tenant = random.choice(("fixed", "column", "setting"))
    tables: list[RandomTable] = []
    for place in range(random.randint(1, 3)):
        columns = [_column(random, f"c{i}") for i in range(random.randint(1, 4))]
        if not any(column.is_sealed for column in columns):
            columns.append(replace(columns[0], name="s", options="search: equality", type="text"))
        shared = [column for table in tables for column in table.sealed if column.context]
        if shared and random.random() < 0.7:
            columns.append(replace(random.choice(shared), name="shared"))
        named = [
            replace(c, context=c.context or f"{number}.{place}.{c.name}") if c.is_sealed else c for c in columns
        ]
        tables.append(RandomTable(f"w{number}t{place}", tuple(named), tenant))
    return World(number, tuple(tables))


def _column(random: Random, name: str) -> RandomColumn:
    type_ = random.choice(list(VALUES))
    storage = random.choice(("bytea", "text"))
    modes = ["", "mode: randomised"]
    if type_ not in WITHOUT_EQUALITY:
        modes += ["search: equality"] * 2
    if type_ not in WITHOUT_DETERMINISTIC:
        modes += ["mode: deterministic"] * 2
    mode = random.choice(modes)
    default = VALUES[type_][0] if type_ in ("text", "int4") and random.random() < 0.3 else ""
    if not mode:
        return RandomColumn(name, type_, default=default)
    leak = ", accept_leakage: tests" if type_ == "bool" else ""
    return RandomColumn(name, type_, f"{mode}, storage: {storage}{leak}", default=default)


def rules(worlds: Sequence[World]) -> str:
    """One rules file for all."""
    head = "version: 1\nroles: {app: {read: plain, cross_tenant: true}}\ntables:\n"
    return head + "".join(table.rules() for world in worlds for table in world.tables)


def ddl(worlds: Sequence[World]) -> Iterator[str]:
    for world in worlds:
        for table in world.tables:
            yield table.ddl()


def rows(worlds: Sequence[World]) -> Iterator[str]:
    """A few rows in each table, with values that come again and NULLs."""
    yield "SET app.tenant = 'a'"
    for world in worlds:
        for table in world.tables:
            for number in range(N_ROWS):
                yield _row(table, number)


def _row(table: RandomTable, number: int) -> str:
    names, values = ["id", "p"], [str(number), f"'p{number}'"]
    if table.has_org:
        names.append("org")
        values.append(f"'{TENANTS[number % 2]}'")
    for place, column in enumerate(table.columns):
        known = column.values[:2]
        names.append(column.name)
        is_null = number == 4 - place
        values.append("NULL" if is_null else quoted(known[(number * (place + 1)) % len(known)]))
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(values)})"


def quoted(value: str) -> str:
    """As a literal."""
    return "'" + value.replace("'", "''") + "'"
