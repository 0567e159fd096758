"""A database whose log-ins see one table plainly, masked and as NULL: what the tests of masks run against."""

from __future__ import annotations

from tests.sealed import Sealed

ROLES = ("analyst", "nobody_reads", "stranger")
RULES = """\
version: 1
tenant: {from: setting, name: app.tenant_id, required: true}
tables:
  public.people:
    isolation: tenant-only
    columns:
      name:   {type: text, mask: first1}
      ssn:    {type: text, search: equality, mask: last4}
      card:   {type: varchar(19), mask: {pattern: "****-####"}, on_denied: mask}
      email:  {type: text, storage: text, mask: email, search: {by: equality, compare: nocase}}
      secret: {type: text, on_denied: mask}
      short:  {type: varchar(2), mask: full}
      born:   {type: date, mask: year}
      seen:   {type: timestamp, mask: year}
      badge:  {type: text, mode: deterministic, accept_leakage: "a test", mask: {pattern: "[badge]"}}
      age:    {type: int4}
      score:  {type: "numeric(5,2)"}
      code:   {type: uuid}
      raw:    {type: bytea}
      active: {type: bool}
roles:
  default: {read: deny}
  app: {read: plain, cross_tenant: true}
  analyst: {read: mask}
  nobody_reads: {read: "null"}
  stranger: {read: plain, tenants: [b]}
"""
COLUMNS = (
    ("name", "text"), ("ssn", "text"), ("card", "varchar(19)"), ("email", "text"), ("secret", "text"),
    ("short", "varchar(2)"), ("born", "date"), ("seen", "timestamp"), ("badge", "text"), ("age", "int4"),
    ("score", "numeric(5,2)"), ("code", "uuid"), ("raw", "bytea"), ("active", "bool"),
)  # fmt: skip
NAMES = tuple(name for name, _ in COLUMNS)
VALUES = (
    "Özgür", "123-45-6789", "1234-5678", "ann@example.org", "canary-plain", "xy", "1987-06-05",
    "1987-06-05 04:03:02", "B-17", "42", "12.50", "7b0e5a34-5c0e-4f0a-8e57-2b3f0a3c9d11", "\\x0102", "t",
)  # fmt: skip
MASKED = (
    "Ö***", "***6789", "****-5678", "a***@example.org", "***", "**", "1987-01-01", "1987-01-01 00:00:00",
    "[badge]", None, None, None, None, None,
)  # fmt: skip
DDL = ", ".join(f"{name} {kind}" for name, kind in COLUMNS)
SETUP = (
    f"CREATE TABLE people (id int PRIMARY KEY, note text, {DDL})",
    f"GRANT ALL ON people TO {', '.join(ROLES)}",
)
VIEW = (
    "CREATE VIEW shown AS SELECT id, ssn AS number, name FROM people",
    f"GRANT ALL ON shown TO {', '.join(ROLES)}",
)
CANARIES = ("zgür", "123-45", "1234-5", "nn@example", "canary", "06-05", "B-17", "7b0e5a34")


def fill(sealed: Sealed, tenant: str = "a", n: int = 1) -> None:
    """The table with `n` rows of this tenant, numbered from 1, and one of NULLs, number 0."""
    with sealed.connect() as connection:
        connection.execute("TRUNCATE people")
        connection.execute("SELECT set_config('app.tenant_id', %s, false)", [tenant])
        places = ", ".join(["%s"] * len(NAMES))
        statement = f"INSERT INTO people (id, note, {', '.join(NAMES)}) VALUES (%s, 'n', {places})"
        connection.cursor().executemany(statement.encode(), [(i + 1, *VALUES) for i in range(n)])
        connection.execute("INSERT INTO people (id) VALUES (0)")


def opened(sealed: Sealed) -> int:
    """Cells that the worker has opened so far."""
    return sum(sealed.worker.shared.counters.opened.values())
