"""DDL through the proxy: ruled columns become physical, plain ones pass, all else is PS006."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
import pytest

from proxy.embedded import EmbeddedPostgres
from tests.sealed import Sealed, sealed_database

N_TABLES = 40
RULES = "version: 1\ntenant: {from: fixed, name: main}\nroles: {app: {read: plain}}\ntables:\n" + "".join(
    f"""  public.d{n}:
    columns:
      ssn: {{type: varchar(20), search: equality}}
      born: {{type: date}}
      code: {{type: text, storage: text, mode: deterministic}}
      big: {{type: int8}}
      level: {{type: text, default: junior}}
"""
    for n in range(N_TABLES)
)
CREATE = "CREATE TABLE {t} (id int PRIMARY KEY, ssn varchar(20), n int)"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def sealed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    """Rules of tables that are not there yet."""
    with sealed_database(postgres, RULES) as running:
        yield running


@pytest.fixture
def table() -> str:
    """A name of the rules that no test has made yet."""
    return f"d{next(_numbers)}"


def _types(sealed: Sealed, table: str) -> dict[str, str]:
    columns = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass"
    return dict(sealed.stored(columns + " AND attnum > 0 AND NOT attisdropped", table))


def _n_guards(sealed: Sealed, table: str) -> int:
    found = sealed.stored(
        "SELECT count(*) FROM pg_constraint WHERE conname ~ '^pgseal_[0-9a-f]{16}$' AND convalidated"
        " AND conrelid = %s::regclass",
        table,
    )
    return int(found[0][0])


def test_create_table_makes_ruled_columns_physical_with_their_guards(sealed: Sealed, table: str) -> None:
    """Types of others, NOT NULL, keys and plain defaults stay as they were written."""
    sealed.query(
        f"CREATE TABLE {table} (id serial PRIMARY KEY, ssn varchar(20) NOT NULL, born date, code text,"
        " big bigint, level text NOT NULL DEFAULT 'junior', n int DEFAULT 5, UNIQUE (n))"
    )
    types = _types(sealed, table)
    assert [types[name] for name in ("ssn", "born", "big", "level")] == ["bytea"] * 4
    assert types["code"] == "text" and types["n"] == "integer"
    assert _n_guards(sealed, table) == 5
    sealed.query(f"INSERT INTO {table} (ssn, code) VALUES ('123', 'c')")
    row = sealed.query(f"SELECT ssn, code, level, n FROM {table} WHERE code = 'c'")
    assert row == [("123", "c", "junior", 5)]
    with pytest.raises(psycopg.errors.NotNullViolation):
        sealed.query(f"INSERT INTO {table} (code) VALUES ('c')")


@pytest.mark.parametrize("is_simple", [True, False])
def test_table_made_in_the_open_transaction_is_usable_in_it(sealed: Sealed, table: str, is_simple: bool) -> None:
    """In simple and extended protocol; rolled back, nothing of it is left."""
    for ending in ("ROLLBACK", "COMMIT"):
        with sealed.connect() as connection:
            make = psycopg.ClientCursor if is_simple else psycopg.Cursor
            cursor = make(connection)
            cursor.execute("BEGIN")
            cursor.execute(CREATE.format(t=table).encode())
            cursor.execute(f"INSERT INTO {table} VALUES (%s, %s, 3)".encode(), (1, "in it"))
            cursor.execute(f"SELECT ssn, n FROM {table} WHERE ssn = %s".encode(), ("in it",))
            assert cursor.fetchall() == [("in it", 3)]
            cursor.execute(ending.encode())
    ((cell,),) = sealed.stored(f"SELECT ssn FROM {table}")
    assert cell.startswith(b"\xa6\x0b\x35")
    assert sealed.query(f"SELECT ssn FROM {table}") == [("in it",)]


def test_savepoint_takes_a_new_table_back(sealed: Sealed, table: str) -> None:
    """After ROLLBACK TO the same name can be made anew, with other columns."""
    with sealed.connect() as connection:
        connection.execute("BEGIN")
        connection.execute("SAVEPOINT s")
        connection.execute(CREATE.format(t=table).encode())
        connection.execute("ROLLBACK TO s")
        connection.execute(f"CREATE TABLE {table} (id int, born date, ssn varchar(20))".encode())
        connection.execute(f"INSERT INTO {table} VALUES (1, '2000-01-01', 'x')".encode())
        connection.execute("COMMIT")
    assert [str(born) for (born,) in sealed.query(f"SELECT born FROM {table}")] == ["2000-01-01"]
    assert _types(sealed, table) == {"id": "integer", "born": "bytea", "ssn": "bytea"}


def test_add_column_of_a_rule_is_physical_and_usable_in_the_transaction(sealed: Sealed, table: str) -> None:
    """Beside a plain column in the same ALTER TABLE."""
    sealed.query(CREATE.format(t=table))
    sealed.query(f"INSERT INTO {table} VALUES (1, 'before', 1)")
    with sealed.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(f"ALTER TABLE {table} ADD COLUMN born date, ADD note text DEFAULT 'n'".encode())
        connection.execute(f"UPDATE {table} SET born = '2001-02-03' WHERE ssn = 'before'".encode())
        row = connection.execute(f"SELECT * FROM {table}".encode()).fetchone()
        assert row is not None and [str(value) for value in row] == ["1", "before", "1", "2001-02-03", "n"]
        connection.execute("COMMIT")
    assert _types(sealed, table)["born"] == "bytea"
    assert _n_guards(sealed, table) == 2


def test_alter_type_within_the_rule_changes_nothing_in_the_table(sealed: Sealed, table: str) -> None:
    """varchar(10) to varchar(20), as Django widens e-mail; the tag stays ALTER TABLE, rows stay readable."""
    sealed.query(f"CREATE TABLE {table} (id int, ssn varchar(10), big int)")
    sealed.query(f"INSERT INTO {table} VALUES (1, 'kept', 7)")
    before = sealed.stored(f"SELECT ctid, ssn, big FROM {table}")
    with sealed.connect() as connection:
        widened = connection.execute(f"ALTER TABLE {table} ALTER COLUMN ssn TYPE varchar(20)".encode())
        assert widened.statusmessage == "ALTER TABLE"
        using = f'ALTER TABLE {table} ALTER COLUMN "big" TYPE bigint USING "big"::bigint'
        assert connection.execute(using.encode()).statusmessage == "ALTER TABLE"
    assert sealed.stored(f"SELECT ctid, ssn, big FROM {table}") == before
    assert sealed.query(f"SELECT ssn, big FROM {table}") == [("kept", 7)]


PLAIN_DDL = (
    "CREATE INDEX ON {t} (n)",
    "CREATE INDEX {t}_like ON {t} (note varchar_pattern_ops)",
    "ALTER TABLE {t} ADD COLUMN extra int DEFAULT 4",
    "ALTER TABLE {t} ALTER COLUMN n TYPE bigint",
    "ALTER TABLE {t} ALTER COLUMN n SET DEFAULT 9",
    "ALTER TABLE {t} ALTER COLUMN n SET NOT NULL",
    "ALTER TABLE {t} ALTER COLUMN n DROP NOT NULL",
    "ALTER TABLE {t} ADD CONSTRAINT {t}_pos CHECK (n > 0)",
    "ALTER TABLE {t} ADD CONSTRAINT {t}_fk FOREIGN KEY (n) REFERENCES {t} (id) DEFERRABLE INITIALLY DEFERRED",
    "CREATE TABLE {t}_child (id int, parent int REFERENCES {t} (id) ON DELETE CASCADE)",
    "ALTER TABLE {t} DROP CONSTRAINT {t}_pos",
    "ALTER TABLE {t} DROP COLUMN extra",
    "COMMENT ON COLUMN {t}.ssn IS 'number'",
    "GRANT SELECT ON {t} TO PUBLIC",
    "ANALYZE {t}",
    "ALTER TABLE {t} ALTER COLUMN ssn SET NOT NULL",
    "TRUNCATE {t} CASCADE",
    "DROP TABLE {t}_child",
    "ALTER TABLE {t} DROP COLUMN born",
    "DROP TABLE {t}",
)


def test_ddl_over_plain_columns_of_a_protected_table_passes(sealed: Sealed, table: str) -> None:
    """Cells stay readable throughout, in the transaction that changes the table and after it."""
    sealed.query(f"CREATE TABLE {table} (id int PRIMARY KEY, ssn varchar(20), born date, n int, note varchar(9))")
    sealed.query(f"INSERT INTO {table} VALUES (1, 'one', '2000-01-01', 1, 'x')")
    for statement in PLAIN_DDL:
        text = statement.format(t=table)
        if "ANALYZE" in text:
            sealed.query(text)
            continue
        with sealed.connect() as connection:
            connection.execute("BEGIN")
            connection.execute(text.encode())
            if not text.startswith(("DROP TABLE d", "TRUNCATE")) or "_child" in text:
                connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
            connection.execute("COMMIT")
    assert sealed.stored("SELECT to_regclass(%s)", table) == [(None,)]


REFUSED_CREATES = (
    "ssn int",
    "ssn varchar(50)",
    "ssn varchar(20) UNIQUE",
    "ssn varchar(20) PRIMARY KEY",
    "ssn varchar(20) DEFAULT 'x'",
    "born date DEFAULT now()",
    "level text DEFAULT 'senior'",
    "ssn varchar(20) CHECK (ssn <> '')",
    "id int, ssn varchar(20), CHECK (length(ssn) > 2)",
    "id int, ssn varchar(20), UNIQUE (id, ssn)",
    "id int, ssn varchar(20), PRIMARY KEY (ssn)",
    "id int, ssn varchar(20) GENERATED ALWAYS AS ('x') STORED",
    "id int, ssn varchar(20), n int GENERATED ALWAYS AS (length(ssn)) STORED",
    'ssn varchar(20) COLLATE "C"',
    "ssn varchar(20)[]",
)


@pytest.mark.parametrize("columns", REFUSED_CREATES)
def test_definition_that_cells_cannot_bear_is_refused(sealed: Sealed, columns: str) -> None:
    """PS006 names the column and says what to write; nothing is made, and the transaction has failed."""
    with sealed.connect() as connection:
        connection.execute("BEGIN")
        with pytest.raises(psycopg.Error) as refusal:
            connection.execute(f"CREATE TABLE d{N_TABLES - 1} ({columns})".encode())
        assert refusal.value.sqlstate == "PS006"
        assert f"public.d{N_TABLES - 1}." in str(refusal.value.diag.message_primary)
        assert refusal.value.diag.message_hint
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.execute("ROLLBACK")
    assert sealed.stored(f"SELECT to_regclass('d{N_TABLES - 1}')") == [(None,)]


@pytest.mark.parametrize("kind", ["TEMP TABLE {t} (id int, ssn text)", "VIEW pg_temp.{t} AS SELECT 1 AS ssn"])
def test_relation_that_would_hide_a_protected_one_is_refused(sealed: Sealed, table: str, kind: str) -> None:
    """The bare name of a protected table never means anything else."""
    sealed.query(CREATE.format(t=table))
    with sealed.connect() as connection, pytest.raises(psycopg.Error) as refusal:
        connection.execute(f"CREATE {kind}".format(t=table).encode())
    assert refusal.value.sqlstate == "PS006"


def test_namesake_in_another_schema_is_refused_wherever_it_resolves(sealed: Sealed, table: str) -> None:
    """By search_path or by its full name; the protected one goes on."""
    sealed.query(CREATE.format(t=table))
    with sealed.direct() as admin:
        admin.execute("CREATE SCHEMA IF NOT EXISTS attic")
        admin.execute(f"CREATE TABLE attic.{table} (id int, ssn text)".encode())
        admin.execute("GRANT ALL ON SCHEMA attic TO app")
    with sealed.connect() as connection:
        with pytest.raises(psycopg.Error) as refusal:
            connection.execute(f"INSERT INTO attic.{table} VALUES (1, 'plain')".encode())
        assert refusal.value.sqlstate == "PS006"
        connection.execute("SET search_path = attic, public")
        with pytest.raises(psycopg.Error) as refusal:
            connection.execute(f"SELECT * FROM {table}".encode())
        assert refusal.value.sqlstate == "PS006"
        connection.execute("SET search_path = public")
        assert connection.execute(f"SELECT * FROM {table}".encode()).fetchall() == []
