"""Writers that go round the proxy: the guard in the table stops every one of them that brings plaintext."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from proxy.embedded import EmbeddedPostgres
from tests.playbook import describe, query
from tests.sealed import Sealed, sealed_database
from tests.wire_client import Endpoint, WireClient

RULES = """
version: 1
tenant: {from: fixed, name: one}
tables:
  public.people:
    columns:
      ssn:   {type: text, search: equality}
      badge: {type: text, mode: deterministic, accept_leakage: "test", storage: text}
      born:  {type: date}
roles:
  app: {read: plain}
"""
SETUP = (
    "CREATE TABLE people (id int PRIMARY KEY, ssn text, badge text, born date, note text)",
    "CREATE TABLE inbox (id int, ssn text)",
    "INSERT INTO people VALUES (1, '111-22-3333', 'b1', '1990-02-01', 'n')",
)
GUARDED = ("23514", "22P02", "42804", "2BP01", "0A000", "42846")  # what PostgreSQL says where the guard stands


@pytest.fixture(scope="module")
def sealed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    """A table with a bytea, a text and a deterministic column."""
    with sealed_database(postgres, RULES, SETUP) as made:
        yield made


@pytest.fixture
def beside(sealed: Sealed) -> Iterator[psycopg.Connection]:
    """The database's administrator, not through the proxy; what it does is rolled back."""
    with sealed.direct(autocommit=False) as connection:
        yield connection
        connection.rollback()


def refused(connection: psycopg.Connection, *statements: str) -> str:
    """SQLSTATE of the last statement, which must fail."""
    for statement in statements[:-1]:
        connection.execute(statement.encode())
    with pytest.raises(psycopg.Error) as caught:
        connection.execute(statements[-1].encode())
    assert caught.value.sqlstate is not None
    return caught.value.sqlstate


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO people (id, ssn) VALUES (2, 'plain text')",
        "INSERT INTO people (id, badge) VALUES (2, 'plain text')",
        "INSERT INTO people (id, born) VALUES (2, '1990-02-01')",
        "INSERT INTO people (id, ssn) VALUES (2, '')",
        "UPDATE people SET ssn = 'plain text'",
        "UPDATE people SET badge = 'plain text'",
        r"UPDATE people SET ssn = '\xa60b35'",
        "UPDATE people SET ssn = substring(ssn from 1 for 20)",
        "UPDATE people SET badge = 'pgs1plain'",
        "INSERT INTO people (id, ssn) SELECT 3, convert_to('plain text', 'UTF8')",
        "INSERT INTO people (id, ssn) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET ssn = EXCLUDED.ssn",
    ],
)
def test_direct_writes_of_plaintext_are_stopped(beside: psycopg.Connection, statement: str) -> None:
    """INSERT and UPDATE beside the proxy: the CHECK of the table."""
    assert refused(beside, statement) == "23514"


def test_null_beside_the_proxy_is_no_plaintext(beside: psycopg.Connection) -> None:
    """NULL was never guarded against."""
    assert beside.execute("UPDATE people SET ssn = NULL").rowcount == 1


def test_psql_itself_is_stopped(sealed: Sealed) -> None:
    """The administrator's own tool, INSERT and COPY from a file of the client."""
    psql = str(sealed.server.tool("psql"))
    for text, given in (
        ("INSERT INTO people (id, ssn) VALUES (2, 'plain')", ""),
        ("COPY people (id, ssn) FROM STDIN", "2\tplain\n\\.\n"),
    ):
        done = subprocess.run(
            [psql, "-X", "-v", "VERBOSITY=verbose", "-c", text, sealed.direct_dsn()],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0 and "23514" in done.stderr, done.stderr


@pytest.mark.parametrize("data", ["2\tplain\n", "2\t\\\\xa60b3501\n"])
def test_copy_beside_the_proxy_is_stopped(beside: psycopg.Connection, data: str) -> None:
    """COPY fires checks too."""
    cursor = beside.cursor()
    with pytest.raises(psycopg.errors.CheckViolation), cursor.copy("COPY people (id, ssn) FROM STDIN") as copy:
        copy.write(data)


def test_binary_copy_beside_the_proxy_is_stopped(beside: psycopg.Connection) -> None:
    """In binary as well."""
    text, cursor = "COPY people (id, ssn) FROM STDIN (FORMAT binary)", beside.cursor()
    with pytest.raises(psycopg.errors.CheckViolation), cursor.copy(text) as copy:
        copy.set_types(["int4", "bytea"])
        copy.write_row((2, b"plain"))


def test_function_that_writes_plaintext_is_stopped(sealed: Sealed) -> None:
    """Called through the proxy: its SQL runs in the server, where only the guard can see it."""
    sealed.stored(
        "CREATE FUNCTION put(v text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
        "EXECUTE 'INSERT INTO people (id, ssn) VALUES (9, $1)' USING convert_to(v, 'UTF8'); END $$"
    )
    with sealed.connect() as through, pytest.raises(psycopg.Error) as caught:
        through.execute("SELECT put('plain text')")
    assert caught.value.sqlstate in ("23514", "PS001")
    assert sealed.stored("SELECT count(*) FROM people WHERE id = 9") == [(0,)]


def test_trigger_that_writes_plaintext_is_stopped(sealed: Sealed) -> None:
    """A BEFORE trigger that changes the cell to plaintext: the CHECK comes after it."""
    sealed.stored(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.ssn := convert_to('plain text', 'UTF8'); RETURN NEW; END $$"
    )
    with sealed.direct(autocommit=False) as beside:
        beside.execute("CREATE TRIGGER spoil BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION spoil()")
        assert refused(beside, "INSERT INTO people (id) VALUES (8)") == "23514"
        beside.rollback()


def test_trigger_of_another_table_is_stopped(beside: psycopg.Connection) -> None:
    """Plaintext that lands in a plain table cannot be carried over."""
    statements = (
        "CREATE FUNCTION carry() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO people (id, ssn) VALUES (NEW.id, convert_to(NEW.ssn, 'UTF8')); RETURN NEW; END $$",
        "CREATE TRIGGER carry AFTER INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION carry()",
        "INSERT INTO inbox VALUES (5, 'plain text')",
    )
    assert refused(beside, *statements) == "23514"


def test_rule_that_writes_plaintext_is_stopped(beside: psycopg.Connection) -> None:
    """ON INSERT DO ALSO into the protected table."""
    statements = (
        "CREATE RULE carry AS ON INSERT TO inbox DO ALSO "
        "INSERT INTO people (id, ssn) VALUES (NEW.id, convert_to(NEW.ssn, 'UTF8'))",
        "INSERT INTO inbox VALUES (5, 'plain text')",
    )
    assert refused(beside, *statements) == "23514"


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("ssn", "ALTER TABLE people ALTER ssn TYPE text USING 'plain'"),
        ("ssn", "ALTER TABLE people ALTER ssn TYPE text USING encode(ssn, 'escape')"),
        ("ssn", "ALTER TABLE people ALTER ssn TYPE bytea USING 'plain'::bytea"),
        ("badge", "ALTER TABLE people ALTER badge TYPE varchar(20) USING 'plain'"),
        ("born", "ALTER TABLE people ALTER born TYPE date USING '1990-02-01'::date"),
    ],
)
def test_alter_type_beside_the_proxy_is_stopped(beside: psycopg.Connection, column: str, change: str) -> None:
    """The rewrite of the table checks every row, or the guard does not fit the new type."""
    assert refused(beside, change) in (*GUARDED, "42883", "42725"), column


def test_partition_attached_beside_the_proxy_needs_the_guard(beside: psycopg.Connection) -> None:
    """A child that inherits brings rows only if they pass the check."""
    statements = (
        "CREATE TABLE child (id int, ssn bytea, badge text, born bytea, note text)",
        "INSERT INTO child VALUES (7, 'plain')",
        "ALTER TABLE child INHERIT people",
    )
    assert refused(beside, *statements) in ("42804", "23514")


def test_function_called_in_a_query_returns_no_plaintext(sealed: Sealed) -> None:
    """Code in the server sees ciphertext and may return it; never plaintext."""
    sealed.stored(
        "CREATE FUNCTION peek() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
        "RETURN QUERY EXECUTE 'SELECT encode(ssn, ''escape'') FROM peo' || 'ple'; END $$"
    )
    rows = sealed.query("SELECT * FROM peek()")
    assert rows and all("111-22-3333" not in str(row) for row in rows)


# --- replication --------------------------------------------------------------------------------------


def test_replication_connection_is_refused_unless_allowed(sealed: Sealed) -> None:
    """A walsender runs plain SQL; without `replication: allow` nobody gets one."""
    with pytest.raises(psycopg.OperationalError) as caught:
        sealed.connect(replication="database")
    assert caught.value.sqlstate == "28000" or "replication" in str(caught.value)


@pytest.fixture(scope="module")
def replicating(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    """An installation that allows it."""
    with sealed_database(postgres, RULES, SETUP, config="replication: allow\n") as made:
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("ALTER ROLE app REPLICATION"))
        yield made


def test_sql_on_a_replication_connection_is_planned_or_refused(replicating: Sealed) -> None:
    """Simple statements of a walsender are sealed and opened like any other; commands pass."""
    endpoint = Endpoint(replicating.port, replicating.name, "app")
    with WireClient.connect(endpoint, parameters={"replication": "database"}) as client:
        said = {}
        for text in (
            "IDENTIFY_SYSTEM",
            "INSERT INTO people (id, ssn) VALUES (20, 'canary-walsender')",
            "SELECT ssn FROM people WHERE id = 20",
            "SELECT upper(ssn) FROM people",
        ):
            client.send(query(text))
            said[text] = client.read_until_ready()
    told = {text.split()[0] + text[-3:]: " ".join(map(describe, heard)) for text, heard in said.items()}
    assert told["IDENTIFY_SYSTEMTEM"].startswith("T D C")
    rows = [m.values for heard in said.values() for m in heard if m.name == "DataRow"]
    assert [b"canary-walsender"] in rows
    assert "E[PS001]" in told["SELECTple"]
    (stored,) = replicating.stored("SELECT ssn FROM people WHERE id = 20")
    assert b"canary-walsender" not in bytes(stored[0])


def test_writes_of_a_subscription_are_stopped(replicating: Sealed) -> None:
    """Plaintext applied by logical replication meets the same check (session_replication_role = replica)."""
    with replicating.direct(autocommit=False) as beside:
        statements = (
            "SET session_replication_role = replica",
            "INSERT INTO people (id, ssn) VALUES (30, 'plain')",
        )
        assert refused(beside, *statements) == "23514"
        beside.rollback()
