"""`pgseal check --statements`: somebody's statements, planned against the live catalog as if every ruled table
held cells, and what of them would be refused.

Tables that hold no cell yet are supposed protected, whatever `on_unsupported` says, so that rules are tried
before anything is changed. Each statement stands alone: what a session set before it is not known. A statement is
shown as its template, never with a constant. One reason to change: what is told of a file of statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from asyncpg import PostgresError
from rich.console import Console
from rich.markup import escape

from proxy.cli.installation import Installation
from proxy.cli.statement_files import Found, counted, read_statements
from proxy.errors import ConfigError, PgsealError, sentence
from proxy.rules import Ruleset
from proxy.service import live_schema, schema_check
from proxy.service.connection import Connection, connected
from proxy.service.findings import quoted
from proxy.service.observing import read_observing, supposing
from proxy.sql.catalog import Snapshot
from proxy.sql.lexer import LITERALS, Kind, LexError, Tokens, lex
from proxy.sql.parse import parse
from proxy.sql.plan import Env, NotPlanned, Plan
from proxy.sql.planner import Planner, plan_slowly

PG_STAT_STATEMENTS: Final = "pg_stat_statements"
MAX_ROWS: Final = 10_000  # templates that are told one by one
MAX_SHOWN: Final = 4000  # characters of one template
UNREADABLE: Final = "(not to be read: cut off, or no SQL)"

_LIST: Final = re.compile(r"(\?|\(\?(?:, \.\.\.)?\)|\$[0-9]+)(?:\s*,\s*(?:\?|\(\?(?:, \.\.\.)?\)|\$[0-9]+))+")
# pg_stat_statements makes DATE '2020-01-01' a DATE $1, which is no SQL
_TYPED: Final = re.compile(rb"\b(interval|date|time|timetz|timestamp|timestamptz)\s+(\$[0-9]+)", re.IGNORECASE)
_EXTENSION: Final = """
SELECT n.nspname::text FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'
"""
_STATEMENTS: Final = """
SELECT s.query, s.calls, coalesce(r.rolname::text, '') FROM {schema}.pg_stat_statements s
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.userid
WHERE s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """`login` is whose rights count where the file names no user."""

    source: str
    login: str
    search_path: tuple[str, ...]


@dataclass(slots=True)
class Row:
    """One template with one verdict: pass, planned, refused or unreadable."""

    template: str
    verdict: str
    n: int = 0
    sqlstate: str = ""
    column: str = ""
    reason: str = ""
    hint: str = ""


@dataclass(slots=True)
class Told:
    database: str
    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    totals: dict[str, int] = field(
        default_factory=lambda: {"pass": 0, "planned": 0, "refused": 0, "unreadable": 0}
    )
    n_of_others: int = 0  # statements of other databases
    n_not_listed: int = 0  # statements whose templates are too many to list

    def add(self, row: Row, n: int) -> None:
        key = (row.template, row.verdict, row.sqlstate, row.column, row.reason)
        self.totals[row.verdict] += n
        found = self.rows.get(key)
        if found is None and len(self.rows) >= MAX_ROWS:
            self.n_not_listed += n
            return
        found = self.rows.setdefault(key, row)
        found.n += n

    @property
    def is_refused(self) -> bool:
        """A text that was only parsed counts too."""
        return self.totals["refused"] > 0 or any(row.verdict == "refused" for row in self.rows.values())


async def examine_statements(installation: Installation, rules: Ruleset, asked: Asked) -> Told:
    """The verdicts on all statements of the source."""
    async with connected(installation.target(rules.database)) as connection:
        snapshot = await _snapshot(connection, rules)
        if asked.source == PG_STAT_STATEMENTS:
            found: Iterator[Found] = iter(await _tracked(connection, rules.database))
        else:
            found = read_statements(Path(asked.source))
    told = Told(rules.database)
    judge = Judge(snapshot, asked)
    n_seen = 0
    for statement in found:
        n_seen += 1
        if statement.database and statement.database != rules.database:
            told.n_of_others += 1
            continue
        told.add(judge.row(statement), statement.n)
    if not n_seen:
        raise ConfigError(
            f"{asked.source}: no statement was found",
            hint="a log needs log_statement = all (or log_min_duration_statement) and lc_messages = C",
        )
    return told


async def _snapshot(connection: Connection, rules: Ruleset) -> Snapshot:
    schema = await live_schema.read(connection, list(rules.tables))
    report = supposing(rules, schema, schema_check.judge(rules, schema))
    found = await read_observing(connection, schema_check.refusing(rules, report), report, 1)
    return found.supposed or found


async def _tracked(connection: Connection, database: str) -> list[Found]:
    refusal = ConfigError(
        f"pg_stat_statements of {database} cannot be read",
        hint="CREATE EXTENSION pg_stat_statements, and GRANT pg_read_all_stats to the service log-in",
    )
    try:
        schema = await connection.fetchval(_EXTENSION)
        if schema is None:
            raise refusal
        rows = await connection.fetch(_STATEMENTS.format(schema=quoted(str(schema))))
    except PostgresError:
        raise refusal from None
    if any(row[0] == "<insufficient privilege>" for row in rows):
        raise refusal
    return [counted(str(row[0]), row[1], str(row[2])) for row in rows if row[0] is not None]


class Judge:
    """Plans statements; the plans of one template are made once."""

    def __init__(self, snapshot: Snapshot, asked: Asked) -> None:
        self._snapshot = snapshot
        self._asked = asked
        self._planner = Planner()
        self._envs: dict[str, Env] = {}

    def row(self, found: Found) -> Row:
        """The verdict on one statement, its template without constants."""
        text = found.text.replace("\0", "\ufffd").encode("utf-8", "replace")
        try:
            tokens = lex(text)
        except LexError:
            return Row(UNREADABLE, "unreadable")
        template = shown(text, tokens)
        is_extended = Kind.PARAM in tokens.kinds if found.is_extended is None else found.is_extended
        plan = self._plan(text, self._env(found.user or self._asked.login), () if is_extended else None)
        if plan.refusal is None:
            return Row(template, "pass" if plan.is_pass else "planned")
        if plan.refusal.sqlstate == "PS001" and not _is_readable(text):
            mended = _TYPED.sub(rb"\2::\1", text)
            if is_extended and mended != text and _is_readable(mended):
                return self.row(replace(found, text=mended.decode()))
            return Row(template, "unreadable")
        return _refused(template, plan.refusal)

    def _plan(self, text: bytes, env: Env, oids: tuple[int, ...] | None) -> Plan:
        planned = self._planner.plan(text, env, oids)
        if isinstance(planned, NotPlanned):
            planned = plan_slowly(self._planner.slow_job(planned))
        return planned.plan

    def _env(self, login: str) -> Env:
        if login not in self._envs:
            snapshot = self._snapshot
            role = snapshot.rules.role(login)
            path = self._asked.search_path
            self._envs[login] = Env(snapshot, snapshot.epoch, snapshot.rules.epoch, path, role)
        return self._envs[login]


def _is_readable(text: bytes) -> bool:
    try:
        parse(text)
    except PgsealError as error:
        return "nested" in error.message
    return True


def _refused(template: str, error: PgsealError) -> Row:
    return Row(template, "refused", 0, error.sqlstate, error.column or "", error.message, error.hint or "")


def shown(text: bytes, tokens: Tokens) -> str:
    """The template for people: constants are ?, lists of them are cut short, comments are gone."""
    parts: list[str] = []
    before = 0
    for kind, start, end in zip(tokens.kinds, tokens.starts, tokens.ends, strict=True):
        if parts and start > before:
            parts.append(" ")
        parts.append("?" if kind in LITERALS else text[start:end].decode("utf-8", "replace"))
        before = end
    joined = "".join(parts)
    for _ in range(2):  # values, then rows of values
        joined = _LIST.sub(r"\1, ...", joined)
    return joined if len(joined) <= MAX_SHOWN else joined[:MAX_SHOWN] + " ..."


# --- for scripts and for people -----------------------------------------------------------------------------


def document(told: Told) -> dict[str, Any]:
    return {
        "database": told.database,
        "totals": told.totals,
        "of_other_databases": told.n_of_others,
        "not_listed": told.n_not_listed,
        "statements": _ordered(told),
    }


def show_statements(told: Told, console: Console) -> None:
    """What would be refused, the most frequent first, and the totals."""
    for row in _ordered(told):
        if row.verdict == "refused":
            column = f"{row.column}: " if row.column and row.column not in row.reason else ""
            console.print(f"[red]refused[/red]  {row.n} times  {row.sqlstate}: {escape(column + row.reason)}")
            console.print(f"  {escape(row.template)}")
            if row.hint:
                console.print(f"  hint: {escape(sentence(row.hint))}")
        elif row.verdict == "unreadable":
            console.print(f"[yellow]not read[/yellow]  {row.n} times  {escape(row.template)}")
    totals = told.totals
    console.print(
        f"database {escape(told.database)}: {totals['pass']} pass untouched, {totals['planned']} are planned, "
        f"[bold]{totals['refused']} would be refused[/bold], {totals['unreadable']} could not be read"
    )
    if told.n_of_others:
        console.print(f"{told.n_of_others} of other databases were left out")
    if told.n_not_listed:
        console.print(f"{told.n_not_listed} of more than {MAX_ROWS} templates are counted and not listed")


_ORDER: Final = ("refused", "unreadable", "planned", "pass")


def _ordered(told: Told) -> list[Row]:
    return sorted(told.rows.values(), key=lambda row: (_ORDER.index(row.verdict), -row.n, row.template))
