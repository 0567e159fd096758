"""pg_dump and pg_restore through the proxy: as a raw role everything with its cells as they are, as a plain role
the data, in plaintext on the way and sealed again where it is restored.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from proxy.embedded import EmbeddedPostgres
from tests.sealed import Sealed, sealed_database

RULES: Final = """\
version: 1
tables:
  public.people:
    tenant: {from: column, name: org}
    columns: {ssn: {type: text, search: equality}, born: {type: date}, blob: {type: bytea, storage: text}}
roles:
  app: {read: plain, cross_tenant: true}
  backup: {read: raw, write: raw}
"""
SETUP: Final = [
    "CREATE TABLE people (id int PRIMARY KEY, org int, ssn text, name text, born date, blob bytea)",
    "CREATE TABLE visits (id int PRIMARY KEY, person int REFERENCES people, note text)",
    "INSERT INTO people SELECT 1, 7, E'canary\\tone\\n', 'a', '2001-02-03'::date, '\\x00ff'::bytea",
    "INSERT INTO people VALUES (2, 8, NULL, 'b', NULL, ''), (3, 7, '', 'c', '1844-03-15', NULL)",
    "INSERT INTO visits VALUES (1, 1, 'x')",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO backup",
]
ROWS: Final = "SELECT * FROM people ORDER BY id"


@pytest.fixture
def sealed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    """A small database under rules."""
    with sealed_database(postgres, RULES, SETUP, roles=["backup"]) as made:
        yield made


def tool(sealed: Sealed, name: str, *arguments: str) -> bytes:
    """What a tool of the server's own version prints; it must succeed."""
    path = sealed.server.tool(name)
    done = subprocess.run([path, *arguments], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("form", ["plain", "custom"])
def test_dump_as_raw_role_has_cells_and_restores_them(sealed: Sealed, tmp_path: Path, form: str) -> None:
    """Tables, data and constraints; the same cells open again, and nothing of it is plaintext."""
    wanted, cells = sealed.query(ROWS), sealed.stored(ROWS)
    dump = str(tmp_path / "dump")
    tool(sealed, "pg_dump", f"--format={form}", "-N", "pgseal", "-f", dump, sealed.dsn("backup"))
    assert b"canary" not in Path(dump).read_bytes()
    with sealed.direct() as admin:
        admin.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC")
    if form == "plain":
        tool(sealed, "psql", "-v", "ON_ERROR_STOP=0", "-q", "-f", dump, sealed.dsn("backup"))
    else:
        subprocess.run(
            [sealed.server.tool("pg_restore"), "--no-owner", "-d", sealed.dsn("backup"), dump],
            capture_output=True,
            timeout=60,
        )
    assert sealed.stored(ROWS) == cells
    with sealed.direct() as admin:
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO app")
    with sealed.connect() as connection:
        connection.execute("CREATE TABLE seen (id int)")  # own DDL: the catalog is read anew
        assert connection.execute(ROWS.encode()).fetchall() == wanted


@pytest.mark.parametrize("form", ["plain", "custom", "directory"])
@pytest.mark.parametrize("inserts", ["", "--rows-per-insert=2", "--column-inserts"])
def test_dump_of_data_as_plain_role_restores_equal(
    sealed: Sealed, tmp_path: Path, form: str, inserts: str
) -> None:
    """`--data-only` has the values, for whom may read them; restored they are sealed anew."""
    wanted, cells = sealed.query(ROWS), sealed.stored(ROWS)
    dump = tmp_path / "dump"
    options = [inserts] if inserts else []
    tool(
        sealed,
        "pg_dump",
        "--data-only",
        *options,
        f"--format={form}",
        "-n",
        "public",
        "-f",
        str(dump),
        sealed.dsn(),
    )
    if form == "plain":
        assert b"canary" in dump.read_bytes()
    sealed.query("TRUNCATE people, visits")
    if form == "plain":
        tool(sealed, "psql", "-v", "ON_ERROR_STOP=1", "-q", "-f", str(dump), sealed.dsn())
    else:
        tool(sealed, "pg_restore", "--data-only", "--exit-on-error", "-d", sealed.dsn(), str(dump))
    assert sealed.query(ROWS) == wanted
    again = sealed.stored(ROWS)
    assert [row[0] for row in again] == [row[0] for row in cells]
    assert again[0][2] != cells[0][2]
    assert sealed.query("SELECT id FROM people WHERE org = 7 AND ssn = E'canary\\tone\\n'") == [(1,)]
