"""psql through the proxy over plain tables, and pgbench: what they print must be what they print directly."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.wire

SETUP = """
CREATE TABLE people (id int PRIMARY KEY, name text, born date, photo bytea);
INSERT INTO people SELECT g, 'name ' || g, date '2000-01-01' + g, decode(md5(g::text), 'hex')
FROM generate_series(1, 500) g;
ANALYZE people;
"""

SCRIPTS = {
    "select": "SELECT * FROM people ORDER BY id LIMIT 5;",
    "several": r"SELECT 1 \; SELECT 2; SELECT 3;",
    "fetch_count": "\\set FETCH_COUNT 7\nSELECT id, name FROM people ORDER BY id LIMIT 30;",
    "gdesc": r"SELECT id, name AS n, born FROM people \gdesc",
    "gexec": r"SELECT format('SELECT %s AS x', id) FROM people WHERE id < 4 ORDER BY id \gexec",
    "gset": "SELECT 42 AS answer \\gset\n\\echo :answer",
    "crosstab": "SELECT id % 3 AS a, id % 2 AS b, count(*) FROM people GROUP BY 1,2 ORDER BY 1, 2 \\crosstabview",
    "copy_out": r"\copy (SELECT id, name FROM people ORDER BY id LIMIT 3) TO STDOUT WITH (FORMAT csv, HEADER)",
    "copy_in": "\\copy people (id, name) FROM STDIN WITH (FORMAT csv)\n9001,\"a,b\"\n9002,\n\\.\n"
    "SELECT id, name FROM people WHERE id > 9000 ORDER BY id;\nDELETE FROM people WHERE id > 9000;",
    "describe": "\\d people\n\\dt\n\\d+ people\n\\dn\n\\df nothing",
    "errors": "SELECT nope FROM people;\nSELECT 1/0;\n\\errverbose\nSELECT 'ééé', nope;",
    "block": "BEGIN; INSERT INTO people VALUES (9003); SAVEPOINT a; SELECT 1/0; ROLLBACK TO a; "
    "SELECT count(*) FROM people; ROLLBACK; SELECT count(*) FROM people;",
    "settings": "SET TimeZone = 'Asia/Tokyo'; SHOW TimeZone;\n\\encoding\n\\encoding LATIN1\nSELECT 'é';",
    "notify": "LISTEN door; NOTIFY door, 'knock'; SELECT 1;",
    "notices": "DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$;",
    "large_object": "\\lo_list\nBEGIN; SELECT lo_from_bytea(99, '\\xdeadbeef'); "
    "SELECT lo_get(99); SELECT lo_unlink(99); COMMIT;",
    "explain": "EXPLAIN (COSTS OFF) SELECT * FROM people WHERE id = 3;",
    "wide": "SELECT repeat('w', 200000) AS w, * FROM people WHERE id = 1;",
}  # fmt: skip


@pytest.fixture
def psql(database, proxied):
    """Runs one script over a port and gives status and output."""
    database.execute(SETUP)

    def run(script: str, port: int) -> tuple[int, str]:
        program = database.server.tool("psql")
        command = [program, "-X", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", database.name]
        answer = subprocess.run(command, input=script, capture_output=True, text=True, timeout=60)
        return answer.returncode, _without_pid(answer.stdout + answer.stderr)

    return run


def _without_pid(text: str) -> str:
    return "\n".join(line.split(" received from server process")[0] for line in text.splitlines())


@pytest.mark.parametrize("name", SCRIPTS)
def test_psql_through_the_proxy_prints_what_it_prints_directly(name, psql, database, proxied):
    """Output, error text and exit status are the same."""
    direct = psql(SCRIPTS[name], database.port)
    assert direct[1].strip()
    assert psql(SCRIPTS[name], proxied) == direct


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("script", ["tpcb-like", "select-only"])
def test_pgbench_runs_through_the_proxy_without_a_failure(mode, script, database, proxied):
    """Every transaction of every client is answered, in each query mode."""
    program = database.server.tool("pgbench")
    where = ["-h", "127.0.0.1", "-U", "postgres", "-p"]
    subprocess.run(
        [program, "-i", "-q", *where, str(database.port), database.name], check=True, capture_output=True
    )
    command = [
        program,
        "-n",
        "-M",
        mode,
        "-b",
        script,
        "-c",
        "4",
        "-t",
        "25",
        *where,
        str(proxied),
        database.name,
    ]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert "number of transactions actually processed: 100/100" in answer.stdout


def test_pgbench_pipelines_run_through_the_proxy(database, proxied, tmp_path):
    """Ten statements in flight at once, with a Sync behind the last."""
    script = tmp_path / "pipeline.sql"
    script.write_text("\\startpipeline\n" + "SELECT 1;\n" * 10 + "\\endpipeline\n")
    command = [database.server.tool("pgbench"), "-n", "-M", "prepared", "-f", script, "-c", "2", "-t", "50"]
    where = ["-h", "127.0.0.1", "-U", "postgres", "-p", str(proxied), database.name]
    answer = subprocess.run([*command, *where], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert "100/100" in answer.stdout
