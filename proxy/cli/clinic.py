"""The demo's story: a clinic with two hospitals, told through an ordinary driver, each claim checked at once.

Nothing here knows the proxy's code: it speaks SQL with psycopg, to the proxy and to the server behind it. One
reason to change: what the demo shows.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

DATABASE: Final = "clinic"
OWNER: Final = "clinic_app"
NORTH: Final = "north_app"
SOUTH: Final = "south_app"
CLERK: Final = "billing_clerk"

SETUP: Final = (
    f"CREATE ROLE {OWNER} LOGIN",
    f"CREATE ROLE {NORTH} LOGIN",
    f"CREATE ROLE {SOUTH} LOGIN",
    f"CREATE ROLE {CLERK} LOGIN",
    f"CREATE DATABASE {DATABASE} OWNER {OWNER}",
)

RULES: Final = f"""\
version: 1
database: {DATABASE}
tables:
  public.patients:
    tenant: {{from: column, name: hospital}}
    columns:
      name:  {{type: text}}
      ssn:   {{type: varchar(11), search: equality, key_type: PHI_DATA}}
      born:  {{type: date}}
      notes: {{type: text, pad: 64, key_type: PHI_DATA}}
roles:
  default: {{read: deny}}
  {OWNER}: {{read: plain, cross_tenant: true}}
  {NORTH}: {{read: plain, tenants: [north]}}
  {SOUTH}: {{read: plain, tenants: [south]}}
"""

CREATE: Final = """\
CREATE TABLE patients (
    id       int PRIMARY KEY,
    hospital text NOT NULL,
    name     text NOT NULL,
    ssn      varchar(11),
    born     date,
    notes    text
)"""

PATIENTS: Final = (
    (1, "north", "Ada Lindqvist", "123-45-6789", "1957-12-10", "allergic to penicillin"),
    (2, "north", "Grace Okafor", "987-65-4321", "1986-07-09", "asthma since childhood"),
    (3, "south", "Alan Mbeki", "123-45-6789", "1992-06-23", "fracture of the left wrist"),
    (4, "south", "Edsger Novak", None, None, ""),
)
CANARIES: Final = tuple(
    text.encode() for row in PATIENTS for text in row[2:6] if isinstance(text, str) and len(text) > 8
)


@dataclass(frozen=True, slots=True)
class Places:
    """Ports of the proxy and of the server behind it, both on loopback, and where /metrics is."""

    proxy_port: int
    server_port: int
    metrics_url: str
    data_dir: Path
    log_path: Path

    def through(self, user: str) -> str:
        """What the application's connection string becomes."""
        return f"postgresql://{user}@127.0.0.1:{self.proxy_port}/{DATABASE}"

    def direct(self, user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.server_port}/{DATABASE}"


@dataclass(slots=True)
class Stage:
    """Where claims are made. What did not hold is remembered."""

    console: Console
    failed: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{escape(text)}[/bold]", align="left")

    def claim(self, text: str, holds: bool) -> None:
        mark = "[green]✓[/green]" if holds else "[bold red]✗ DID NOT HOLD[/bold red]"
        self.console.print(f" {mark} {escape(text)}")
        if not holds:
            self.failed.append(text)

    def rows(self, title: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
        table = Table(*names, title=title, title_justify="left", show_lines=False, pad_edge=False)
        for row in rows:
            table.add_row(*(_shown(value) for value in row))
        return table

    def sql(self, text: str) -> None:
        panel = Panel(escape(text), title="SQL of the application", title_align="left", expand=False)
        self.console.print(panel, soft_wrap=False)  # inside the frame, not cut at it


def _shown(value: object) -> str:
    match value:
        case None:
            return "[dim]NULL[/dim]"
        case bytes():
            return f"[yellow]\\x{value[:9].hex()}…[/yellow] [dim]({len(value)} bytes)[/dim]"
        case _:
            return escape(str(value))


def tell(stage: Stage, places: Places) -> None:
    """The whole story. Claims that fail are in `stage.failed`; a driver's error ends it."""
    _make_table(stage, places)
    _write(stage, places)
    _compare(stage, places)
    _search(stage, places)
    _tenants(stage, places)
    _go_round(stage, places)
    _at_rest(stage, places)


def _query(dsn: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(sql.encode(), values or None).fetchall()


def _refusal(dsn: str, sql: str, *values: Any) -> tuple[str, str]:
    """(SQLSTATE, message) of a statement that is expected to fail; empty when it did not."""
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.encode(), values or None)
    except psycopg.Error as error:
        return error.sqlstate or "?", str(error).splitlines()[0]
    return "", ""


def _make_table(stage: Stage, places: Places) -> None:
    stage.heading("1. The application makes its table, through pgseal")
    stage.sql(CREATE)
    with psycopg.connect(places.through(OWNER), autocommit=True) as connection:
        connection.execute(CREATE.encode())
        connection.execute(f"GRANT ALL ON patients TO {NORTH}, {SOUTH}, {CLERK}".encode())
    columns = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'patients'::regclass AND attnum > 0"
    )
    types = dict(_query(places.direct(), columns))
    guards = _query(places.direct(), "SELECT count(*) FROM pg_constraint WHERE conname ~ '^pgseal_[0-9a-f]{16}$'")
    stage.claim(
        "in the table the protected columns are bytea, the others are what was written",
        [types[name] for name in ("name", "ssn", "born", "notes", "hospital")] == ["bytea"] * 4 + ["text"],
    )
    stage.claim("each protected column carries a guard that refuses anything but an envelope", guards == [(4,)])


def _write(stage: Stage, places: Places) -> None:
    stage.heading("2. It stores patients of two hospitals, with an ordinary driver")
    insert = "INSERT INTO patients (id, hospital, name, ssn, born, notes) VALUES (%s, %s, %s, %s, %s, %s)"
    stage.sql(insert)
    with psycopg.connect(places.through(OWNER)) as connection:
        for row in PATIENTS:
            connection.execute(insert, row)
    rows = _query(places.direct(), "SELECT count(*) FROM patients")
    stage.claim("psycopg sent plain values; nothing of pgseal is in the application", rows == [(len(PATIENTS),)])


def _compare(stage: Stage, places: Places) -> None:
    stage.heading("3. Side by side")
    sql = "SELECT id, hospital, name, ssn, born, notes FROM patients ORDER BY id"
    names = ("id", "hospital", "name", "ssn", "born", "notes")
    seen = _query(places.through(OWNER), sql)
    stored = _query(places.direct(), sql)
    stage.console.print(stage.rows("what the application sees", names, seen))
    stage.console.print(stage.rows("what the table holds", names, stored))
    expected = [tuple(None if value is None else str(value) for value in row) for row in PATIENTS]
    shown = [tuple(None if value is None else str(value) for value in row) for row in seen]
    stage.claim(
        "the application reads back exactly what it wrote, NULL and the empty string included", shown == expected
    )
    cells = [cell for row in stored for cell in row[2:]]
    stage.claim(
        "the table holds envelopes, and NULL where the application said NULL",
        all(cell is None or cell[:3] == b"\xa6\x0b\x35" for cell in cells) and cells.count(None) == 2,
    )


def _search(stage: Stage, places: Places) -> None:
    stage.heading("4. Equality works on a randomised column, by an index token")
    sql = "SELECT id, name FROM patients WHERE hospital = %s AND ssn = %s"
    stage.sql(sql)
    found = _query(places.through(OWNER), sql, "north", "123-45-6789")
    stage.claim(f"found {found}", found == [(1, "Ada Lindqvist")])
    tokens = _query(
        places.direct(),
        "SELECT count(*), count(DISTINCT substring(ssn from 10 for 15)) FROM patients WHERE ssn IS NOT NULL",
    )
    stage.claim(
        "two hospitals hold the same number, and their tokens differ: keys are per tenant", tokens == [(3, 3)]
    )
    code, message = _refusal(
        places.through(OWNER), "SELECT id FROM patients WHERE ssn LIKE '123%%' AND hospital = %s", "north"
    )
    stage.console.print(f"   [dim]LIKE: {escape(message)}[/dim]")
    stage.claim("what cannot be proved is refused, never guessed (PS001)", code == "PS001")
    with psycopg.connect(places.through(OWNER), autocommit=True) as connection:
        connection.execute(
            "UPDATE patients SET notes = %s WHERE hospital = %s AND id = %s", ("recovered", "south", 3)
        )
    changed = _query(places.through(OWNER), "SELECT notes FROM patients WHERE id = 3")
    stage.claim("an UPDATE is read back", changed == [("recovered",)])


def _tenants(stage: Stage, places: Places) -> None:
    stage.heading("5. A tenant may not read another's cells")
    own = _query(places.through(SOUTH), "SELECT name FROM patients WHERE hospital = 'south' ORDER BY id")
    stage.claim(
        "the southern hospital's log-in reads its own patients", own == [("Alan Mbeki",), ("Edsger Novak",)]
    )
    code, message = _refusal(places.through(SOUTH), "SELECT name FROM patients WHERE hospital = 'north'")
    stage.console.print(f"   [dim]{escape(message)}[/dim]")
    stage.claim("it is refused the northern ones, although the table grants them", code in ("PS004", "PS005"))
    code, message = _refusal(places.through(CLERK), "SELECT name FROM patients WHERE hospital = 'north'")
    stage.console.print(f"   [dim]{escape(message)}[/dim]")
    stage.claim("a log-in without a role reads none of it (PS005)", code == "PS005")
    count = _query(places.through(CLERK), "SELECT count(*) FROM patients")
    stage.claim("and may still count", count == [(4,)])


def _go_round(stage: Stage, places: Places) -> None:
    stage.heading("6. Going round the proxy")
    sql = "INSERT INTO patients (id, hospital, name) VALUES (9, 'north', 'plain-as-day'::bytea)"
    code, message = _refusal(places.direct(), sql)
    stage.console.print(f"   [dim]{escape(message)}[/dim]")
    stage.claim(
        "even the superuser cannot store plaintext there by mistake: the guard refuses it (23514)",
        code == "23514",
    )
    with psycopg.connect(places.direct(), autocommit=True) as connection:
        connection.execute(
            "UPDATE patients SET name = (SELECT p.name FROM patients p WHERE p.id = 1) WHERE id = 3"
        )
    code, message = _refusal(places.through(SOUTH), "SELECT name FROM patients WHERE hospital = 'south'")
    stage.console.print(f"   [dim]{escape(message)}[/dim]")
    stage.claim(
        "an administrator moves a cell to another hospital's patient: to that hospital it does not open",
        code in ("PS004", "PS005"),
    )
    with psycopg.connect(places.through(OWNER), autocommit=True) as connection:
        connection.execute(
            "UPDATE patients SET name = %s WHERE hospital = %s AND id = %s", ("Alan Mbeki", "south", 3)
        )


def _at_rest(stage: Stage, places: Places) -> None:
    stage.heading("7. On disk")
    with psycopg.connect(places.direct(), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    files = [path for path in places.data_dir.rglob("*") if path.is_file()] + [places.log_path]
    hits = [path.name for path in files if any(canary in path.read_bytes() for canary in CANARIES)]
    stage.claim(
        f"none of the values is in any of the server's {len(files)} files, WAL and log included", not hits
    )


def show_metrics(stage: Stage, places: Places) -> None:
    """What Prometheus would scrape."""
    stage.heading("9. Metrics")
    with urllib.request.urlopen(places.metrics_url, timeout=5) as answer:  # noqa: S310 - our own loopback URL
        lines = answer.read().decode().splitlines()
    wanted = ("pgseal_cells_", "pgseal_statements_total", "pgseal_refusals_total", "pgseal_connections_open")
    for line in lines:
        if line.startswith(wanted) and not line.endswith(" 0.0"):
            stage.console.print(f"   [cyan]{escape(line)}[/cyan]")
    values = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")
    }
    sealed = 'pgseal_cells_sealed_total{column="ssn",table="public.patients"}'
    refused = 'pgseal_refusals_total{sqlstate="PS001"}'
    stage.claim(
        "cells and refusals are counted, by column and code, never by tenant",
        values.get(sealed, 0) >= 3 and values.get(refused, 0) >= 1,
    )
