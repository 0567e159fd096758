"""What attacks stand on: tables protected in several ways, their rows, a server that logs every statement.

`canary`, and the values of the rows, are plaintexts that may reach no server: neither a statement's text, nor a
parameter, nor a cell. One reason to change: an attack needs another table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from proxy.embedded import FAST, EmbeddedPostgres
from tests.conftest import chosen_version

RULES: Final = """
version: 1
tenant: {from: setting, name: app.tenant_id}
roles:
  default: {read: deny}
  app: {read: plain}
  attack_denied: {read: deny}
  attack_only_a: {read: plain, tenants: [a]}
tables:
  public.people:
    tenant: {from: fixed, name: main}
    columns:
      ssn: {type: text, search: equality, context: c.ssn}
      born: {type: date, search: equality}
      ts: {type: timestamptz, search: equality}
      pin: {type: int4, search: equality}
      amt: {type: "numeric(12,2)", search: equality}
      badge: {type: varchar(10), mode: deterministic}
      note: {type: text}
      raw: {type: bytea, search: equality}
      flag: {type: bool, search: equality, accept_leakage: "a flag of a test"}
  public.others:
    tenant: {from: fixed, name: main}
    columns:
      ssn: {type: text, search: equality, context: c.ssn}
  public.part_1:
    tenant: {from: fixed, name: main}
    columns:
      ssn: {type: text}
  public.patients:
    tenant: {from: column, name: hospital_id}
    columns:
      ssn: {type: text, search: equality}
      note: {type: text}
  public.wards:
    tenant: {from: column, name: ward}
    columns:
      ssn: {type: text, search: equality}
  public.clients:
    tenant: {from: setting, name: app.tenant_id}
    isolation: tenant-only
    columns:
      email: {type: text, search: equality}
"""
ROLES: Final = ("attack_denied", "attack_only_a")
DDL: Final = (
    "CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, born date, ts timestamptz, pin int4,"
    " amt numeric(12,2), badge varchar(10), note text, raw bytea, flag bool, n int DEFAULT 7)",
    "CREATE TABLE others (id int PRIMARY KEY, person int, ssn text)",
    "CREATE TABLE part_1 (id int, ssn text)",
    "CREATE TABLE hospitals (hid text PRIMARY KEY, title text)",
    "CREATE TABLE patients (hospital_id text, id int, ssn text, note text, plainx text,"
    " PRIMARY KEY (hospital_id, id))",
    "CREATE TABLE wards (ward int, id int, ssn text, PRIMARY KEY (ward, id))",
    "CREATE TABLE clients (id int PRIMARY KEY, tenant text DEFAULT current_setting('app.tenant_id', true),"
    " email text)",
    "CREATE TABLE visits (id int PRIMARY KEY, person int, ssn text, note text, born date)",
)
ROWS: Final = (
    "INSERT INTO people VALUES (1,'first','123-45-6789','1957-12-10','2024-01-02 03:04:05+00',70001,10.50,'b1',"
    "'secret one','\\x01ff',true,1),(2,'second','987-65-4321','1986-07-09','2024-06-02 03:04:05+00',70002,20.00,"
    "'b2','secret two','\\x02',false,2),(3,'third','123-45-6789','1957-12-10',NULL,70001,10.5,'b1',NULL,NULL,"
    "NULL,3),(4,'fourth',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,4)",
    "INSERT INTO others VALUES (1,1,'123-45-6789'),(2,2,'555-55-5555'),(3,4,NULL)",
    "INSERT INTO hospitals VALUES ('a','A'),('b','B')",
    "INSERT INTO patients VALUES ('a',1,'123-45-6789','an','p1'),('a',2,'987-65-4321','bn','p2'),"
    "('b',1,'123-45-6789','cn','p3')",
    "INSERT INTO wards VALUES (1,1,'123-45-6789'),('01',2,'987-65-4321'),(2,1,'123-45-6789')",
    "INSERT INTO visits VALUES (1,1,'v-1','v1','1957-12-10'),(2,2,'zzz','v2','2000-01-01'),"
    "(3,NULL,NULL,NULL,NULL)",
)
PLAINTEXTS: Final = (b"canary", b"123-45-6789", b"987-65-4321", b"555-55-5555")
_RECORD: Final = re.compile(rb"\n(?=[^\n|]*\|)")


@contextmanager
def talkative_server() -> Iterator[EmbeddedPostgres]:
    """A server whose log has every statement and parameter, with the database before it."""
    settings = {**FAST, "log_statement": "all", "log_line_prefix": "%d|", "max_connections": "100"}
    with EmbeddedPostgres(version=chosen_version(), settings=settings) as server:
        yield server


def seen_by(server: EmbeddedPostgres, database: str, since: int) -> list[bytes]:
    """The records of a database's log from an offset on that hold a plaintext."""
    records = _RECORD.split(server.log_path.read_bytes()[since:])
    mine = (record for record in records if record.startswith(database.encode() + b"|"))
    return [record[:200] for record in mine if any(text in record.lower() for text in PLAINTEXTS)]
