"""`pgseal check --statements`: what of a file's statements would be refused, before anything is protected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.cli.main import main
from proxy.embedded import EmbeddedPostgres
from tests.conftest import chosen_version
from tests.integration.test_observe import BEFORE, RULES
from tests.sealed import Sealed, sealed_database

SCRIPT = """\
-- a psql script
\\set x 1
INSERT INTO staff VALUES (1, 'canary-1', 'x');
INSERT INTO staff VALUES (2, 'canary-2', 'y');
SELECT upper(ssn) FROM staff WHERE note = 'canary-3';
SELECT upper(ssn) FROM staff WHERE note = 'canary-4';
SELECT length(note), 'canary-5' FROM staff_view JOIN staff USING (id);
SELECT version();
SELECT ssn FROM patients WHERE id = 7;
COPY staff FROM stdin;
1\tcanary-6;\tz
\\.
SELECT upper(ssn) FROM staff WHERE note IN ('canary-7'
"""


@pytest.fixture(scope="module")
def sealed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    rules = RULES.replace("on_unsupported: observe\n", "")
    with sealed_database(postgres, rules, before=BEFORE) as made:
        yield made


Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(sealed: Sealed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    def run(*arguments: object) -> tuple[int, str, str]:
        config = sealed.folder / "pgseal.yaml"
        monkeypatch.setattr("sys.argv", ["pgseal", "check", "--config", str(config), *map(str, arguments)])
        monkeypatch.setenv("NO_COLOR", "1")
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 2
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_script_tells_what_would_be_refused_without_values(check: Check, tmp_path: Path) -> None:
    """Tables that are still plain count as protected; each template once, and no constant is shown."""
    path = tmp_path / "app.sql"
    path.write_text(SCRIPT)
    code, out, _ = check("--statements", path, "--login", "app", "--json")
    assert code == 1
    assert "canary" not in out
    told = json.loads(out)
    assert told["totals"] == {"pass": 1, "planned": 4, "refused": 3, "unreadable": 1}
    refused = [row for row in told["statements"] if row["verdict"] == "refused"]
    assert refused[0]["n"] == 2
    assert refused[0]["template"] == "SELECT upper(ssn) FROM staff WHERE note = ?"
    assert (refused[0]["sqlstate"], refused[0]["column"]) == ("PS001", "public.staff.ssn")
    code, out, _ = check("--statements", path, "--login", "app")
    assert code == 1
    assert "3 would be refused" in out
    assert "canary" not in out


def test_log_with_users_counts_by_their_rights(check: Check, sealed: Sealed, tmp_path: Path) -> None:
    """A csv log names user and database; other databases are left out; what nobody refuses exits 0."""

    def row(user: str, database: str) -> str:
        who = f'2026-11-22 10:00:00.1 UTC,"{user}","{database}",1,,,1,,,,0,'
        return f'{who}LOG,00000,"statement: SELECT ssn FROM staff"\n'

    path = tmp_path / "log.csv"
    path.write_text(row("app", sealed.name) + row("app", "another"))
    code, out, _ = check("--statements", path, "--json")
    assert code == 0
    assert json.loads(out)["of_other_databases"] == 1
    path.write_text(row("app", sealed.name) + row("stranger", sealed.name))
    code, out, _ = check("--statements", path, "--json")
    assert code == 1
    assert {row["sqlstate"] for row in json.loads(out)["statements"]} == {"", "PS005"}


def test_dump_with_placeholders_is_planned_as_parameters(check: Check, tmp_path: Path) -> None:
    """Constants as $n, also where that is no SQL any more (DATE $1)."""
    path = tmp_path / "pgss.csv"
    rows = (
        "calls,query",
        '5,"SELECT ssn FROM staff WHERE id = $1 AND now() > DATE $2"',
        '3,"INSERT INTO staff VALUES ($1, $2, $3)"',
        "2,SELECT ssn || $1 FROM staff LIMIT $2",
    )
    path.write_text("\n".join(rows))
    code, out, _ = check("--statements", path, "-U", "app", "--json")
    assert code == 1
    assert json.loads(out)["totals"] == {"pass": 0, "planned": 8, "refused": 2, "unreadable": 0}


def test_server_itself_is_asked_and_its_log_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pg_stat_statements and the stderr log of a real server, over traffic that passed it."""
    settings = {"shared_preload_libraries": "pg_stat_statements", "log_statement": "all", "lc_messages": "C"}
    rules = RULES.replace("on_unsupported: observe\n", "")
    with (
        EmbeddedPostgres(version=chosen_version(), settings=settings) as server,
        sealed_database(server, rules, before=BEFORE) as made,
    ):
        with made.direct() as admin:
            admin.execute("CREATE EXTENSION pg_stat_statements")
            admin.execute("GRANT pg_read_all_stats TO pgseal")
            admin.execute("GRANT SELECT ON staff TO app")
        with made.direct("app") as app:
            for value in ("canary-1", "canary-2"):
                app.execute(f"SELECT upper(ssn)\n\t, 1 FROM staff WHERE ssn = '{value}'".encode())
                app.execute("SELECT ssn || %s FROM staff", [value])
        log = made.folder / "server.log"
        log.write_bytes(server.log_path.read_bytes())
        for source in ("pg_stat_statements", log):
            arguments = ["--statements", str(source), "-U", "app", "--json"]
            monkeypatch.setattr(
                "sys.argv", ["pgseal", "check", "-c", str(made.folder / "pgseal.yaml"), *arguments]
            )
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 1
            out = capsys.readouterr().out
            assert "canary" not in out
            rows = [row for row in json.loads(out)["statements"] if row["column"] == "public.staff.ssn"]
            found = {row["template"]: row["n"] for row in rows if row["template"].startswith("SELECT")}
            assert sorted(found.values()) == [2, 2]


def test_source_without_statements_is_a_failure(check: Check, tmp_path: Path) -> None:
    """Exit 2 with what helps: an empty file, none, and a server without the extension."""
    path = tmp_path / "empty"
    path.write_text("\n")
    for source, words in (
        (path, "no statement"),
        (tmp_path / "x", "cannot be read"),
        ("pg_stat_statements", "EXTENSION"),
    ):
        code, _, err = check("--statements", source)
        assert code == 2
        assert words in err
