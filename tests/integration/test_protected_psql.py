"""psql over protected tables prints what it prints over plain ones."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.protected.all_types import LIST, RULES, SETUP, holds_envelopes
from tests.sealed import Sealed, sealed_database

ROW = (
    "'zwölf 🐘', 'O''Brien', E'tab\\t', -32768, 2147483647, 9223372036854775807, 12.5, 1e300, true, '1999-12-31',"
    " '2024-02-29 12:30', '2024-02-29 12:30+02', '6BA7B810-9DAD-11D1-80B4-00C04FD430C8', '{\"b\": 1, \"a\": 2}',"
    " '{\"b\": 1, \"a\": 2}', '\\x00ff'"
)
SCRIPTS = {
    "insert": f"INSERT INTO t (id, {LIST}) VALUES (1, {ROW}), (2{', NULL' * 16});",
    "select": "SELECT * FROM t ORDER BY id;",
    "expanded": "\\x\nSELECT * FROM t ORDER BY id;",
    "unaligned": "\\pset format csv\n\\pset null (null)\nSELECT * FROM t ORDER BY id;",
    "find": "SELECT id, a_text FROM t WHERE a_int = 2147483647 AND a_number = 12.50 AND a_date = '1999-12-31';",
    "several": r"SELECT a_text FROM t \; UPDATE t SET a_text = 'b' WHERE id = 1 \; TABLE t \; SELECT 1;",
    "block": "BEGIN; UPDATE t SET a_int = 5; SAVEPOINT a; SELECT 1/0; ROLLBACK TO a; SELECT a_int FROM t;"
    " ROLLBACK; SELECT a_int FROM t ORDER BY id;",
    "gset": "SELECT a_text, a_int FROM t WHERE id = 1 \\gset\n\\echo :a_text :a_int",
    "gexec": r"SELECT format('SELECT a_text FROM t WHERE id = %s', id) FROM t ORDER BY id \gexec",
    "settings": "SET DateStyle = 'German, DMY'; SET TimeZone = 'America/St_Johns'; SET bytea_output = 'escape';"
    "SET extra_float_digits = 0; SELECT * FROM t ORDER BY id;",
    "latin1": "\\encoding LATIN1\nUPDATE t SET a_text = 'h\u00fctte' WHERE id = 2;\n"
    "\\encoding UTF8\nSELECT a_text FROM t;",
    "returning": "DELETE FROM t WHERE a_date = '1999-12-31' RETURNING a_text, a_bytea;",
    "errors": "INSERT INTO t (id, a_varchar) VALUES (3, '123456789012345678901');\nSELECT nope FROM t;"
    "\nSELECT a_text FROM t WHERE nope = 1;",
    "verbose": "\\set VERBOSITY sqlstate\nINSERT INTO t (id, a_bool) VALUES (3, 'maybe');"
    "INSERT INTO t (id, a_int) VALUES (3, 99999999999); INSERT INTO t (id) VALUES (1);",
    "counts": "SELECT count(*), count(a_text), count(a_int) FILTER (WHERE a_date IS NOT NULL) FROM t;",
}  # fmt: skip


@pytest.fixture(scope="module")
def sealed(postgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, setup=SETUP) as made:
        yield made


def psql(sealed: Sealed, script: str, *arguments: str) -> str:
    """What psql prints, on both channels."""
    command = [sealed.server.tool("psql"), "-X", sealed.dsn(), *arguments]
    answer = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
    return answer.stdout + answer.stderr


@pytest.mark.parametrize("name", SCRIPTS)
def test_psql_over_protected_columns_prints_what_it_prints_over_plain_ones(sealed, name):
    """The same script over the protected table and over its twins."""
    sealed.stored("TRUNCATE cells, twins")
    script = SCRIPTS[name] if name == "insert" else SCRIPTS["insert"] + "\n" + SCRIPTS[name]
    over = [psql(sealed, re.sub(r"(?<!\\)\bt\b", table, script)) for table in ("cells", "twins")]
    assert over[0].replace("cells", "twins") == over[1]
    assert holds_envelopes(sealed)


def test_psql_commands_of_one_argument_run_in_one_transaction(sealed):
    """-c with several statements, and -1."""
    sealed.stored("TRUNCATE cells")
    both = "INSERT INTO cells (id, a_text) VALUES (1, 'one'); SELECT a_text FROM cells WHERE a_text = 'one'"
    assert "one" in psql(sealed, "", "-Atc", both)
    assert "23505" in psql(
        sealed, "", "-v", "VERBOSITY=verbose", "-1c", "DELETE FROM cells", "-c", both, "-c", both
    )
    assert psql(sealed, "", "-Atc", "SELECT a_text FROM cells") == "one\n"


def test_psql_binds_parameters_where_it_knows_how(sealed):
    r"""\bind (psql 16 and later) asks by the extended protocol; an older psql says that it does not know it."""
    sealed.stored("TRUNCATE cells")
    write = "INSERT INTO cells (id, a_text) VALUES (1, $1) \\bind one \\g\n"
    script = write + "SELECT a_text FROM cells WHERE a_text = $1 \\bind one \\g"
    printed = psql(sealed, script, "-At")
    version = int(re.findall(r"\d+", psql(sealed, "", "--version"))[0])
    assert ("one" in printed.split()) if version >= 16 else ("invalid command \\bind" in printed)
