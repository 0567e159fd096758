"""Statements out of scripts, logs and dumps, as nasty as these files are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cli.check_statements import shown
from proxy.cli.statement_files import Found, read_statements, statements
from proxy.errors import ConfigError
from proxy.sql.lexer import lex

PREFIX = "2026-11-22 10:00:00.123 UTC [42] app@clinic "


def texts(content: str) -> list[str]:
    return [found.text.strip() for found in statements(content.splitlines(keepends=True))]


# --- scripts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT 'it''s;\n;'", ["SELECT ';'", "SELECT 'it''s;\n;'"]),
        ("SELECT E'\\';', 1; SELECT e'\\\\';X", ["SELECT E'\\';', 1", "SELECT e'\\\\'", "X"]),
        ("SELECT E'a\\\n';b", ["SELECT E'a\\\n'", "b"]),
        ('SELECT "a;""b"; B', ['SELECT "a;""b"', "B"]),
        ("SELECT $$;$$; SELECT $a$;$$;$a$; C", ["SELECT $$;$$", "SELECT $a$;$$;$a$", "C"]),
        ("SELECT a$1$ FROM t; D", ["SELECT a$1$ FROM t", "D"]),
        ("SELECT $1; E", ["SELECT $1", "E"]),
        ("SELECT 1 -- ; '\n, 2; F", ["SELECT 1 -- ; '\n, 2", "F"]),
        ("SELECT /* ; /* ' */ ; */ 1; G", ["SELECT /* ; /* ' */ ; */ 1", "G"]),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); H", None),
        ("\\set x 1\n-- c\n\\connect y\nSELECT 1\n\\g\n", ["-- c\nSELECT 1\n\\g"]),
        ("-- head\nCOPY t FROM stdin;\n1\t'\\;\n\\.\nSELECT 1;", ["-- head\nCOPY t FROM stdin", "SELECT 1"]),
        ("; ;\n-- nothing\n/* at all */;", []),
        ("SELECT 'never closed; SELECT 1;", ["SELECT 'never closed; SELECT 1;"]),
    ],
)
def test_script_is_split_where_psql_would(script: str, expected: list[str] | None) -> None:
    """Quotes, dollars, comments, brackets, psql's own lines, data of COPY."""
    if expected is None:
        expected = ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "H"]
    assert texts(script) == expected


@given(st.lists(st.text(alphabet="ab'\"$/*-;()\\\n eE1", max_size=20), max_size=8))
def test_script_of_any_signs_loses_nothing_but_semicolons(lines: list[str]) -> None:
    """No text fails, and each letter stays in some statement or comment."""
    script = "x" + "\n".join(lines)
    found = "".join(texts(script))
    assert all(found.count(letter) <= script.count(letter) for letter in "ab1")


# --- logs ---------------------------------------------------------------------------------------------------


def test_stderr_log_gives_statements_of_many_lines_without_parameters() -> None:
    """Durations, names, tabs inside, details, errors and other messages."""
    log = (
        f"{PREFIX}LOG:  statement: SELECT 1,\n\t\t2 -- ERROR:  no\n\t\n\tFROM t\n"
        f"{PREFIX}LOG:  duration: 0.123 ms  statement: SELECT 'LOG:  statement: x'\n"
        f"{PREFIX}LOG:  execute <unnamed>: SELECT $1\n"
        f"{PREFIX}DETAIL:  parameters: $1 = 'canary', $2 = 'a\n\tb'\n"
        f"{PREFIX}LOG:  duration: 1 ms  execute S_1/C_2: UPDATE t SET a = $1\r\n"
        f"{PREFIX}LOG:  duration: 1.5 ms  parse s: DELETE FROM t\n"
        f"{PREFIX}LOG:  duration: 1.5 ms  bind s: DELETE FROM t\n"
        f"{PREFIX}LOG:  execute fetch from S_3/C_4: SELECT 3\n"
        f'{PREFIX}ERROR:  syntax error at or near "x"\n'
        f"{PREFIX}STATEMENT:  SELECT bad\n"
        f"{PREFIX}LOG:  checkpoint starting: time\n"
        "a line of something else\n"
        f"{PREFIX}LOG:  statement: SELECT 'cut o"
    )
    found = list(statements(log.splitlines(keepends=True)))
    assert [(each.text, each.n, each.is_extended) for each in found] == [
        ("SELECT 1,\n\t2 -- ERROR:  no\n\nFROM t", 1, False),
        ("SELECT 'LOG:  statement: x'", 1, False),
        ("SELECT $1", 1, True),
        ("UPDATE t SET a = $1", 1, True),
        ("DELETE FROM t", 0, True),
        ("SELECT 3", 1, True),
        ("SELECT 'cut o", 1, False),
    ]


def test_csv_log_gives_user_database_and_quoted_text() -> None:
    """Doubled quotes, commas and line ends inside a field; other severities are left out."""

    def row(severity: str, message: str) -> str:
        quoted = message.replace('"', '""')
        return (
            f'2026-11-22 10:00:00.1 UTC,"ap,p","clinic",42,"[local]",65.2a,1,"SELECT",,3/1,'
            f"0,"
            f'{severity},00000,"{quoted}","parameters: $1 = \'canary\'",,,,,,,,"psql","client backend",,0\n'
        )

    log = (
        row("LOG", "statement: SELECT \"a\"\n, 'x,y'\n\tFROM t") + row("ERROR", "statement: no") + row("LOG", "x")
    )
    log += row("LOG", "execute a: SELECT $1") + '2026-11-22 10:00:00.1 UTC,"cut'
    found = list(statements(log.splitlines(keepends=True)))
    assert found == [
        Found("SELECT \"a\"\n, 'x,y'\n\tFROM t", 1, False, "ap,p", "clinic"),
        Found("SELECT $1", 1, True, "ap,p", "clinic"),
    ]


def test_json_log_skips_what_is_cut_off() -> None:
    """One object a line."""
    record = {"user": "u", "dbname": "d", "error_severity": "LOG", "message": "statement: SELECT 'é'\n;"}
    lines = [json.dumps(record) + "\n", "[1]\n", json.dumps({**record, "error_severity": "ERROR"}) + "\n"]
    found = list(statements([*lines, json.dumps(record)[:30]]))
    assert found == [Found("SELECT 'é'\n;", 1, False, "u", "d")]


def test_dump_of_pg_stat_statements_is_counted() -> None:
    """Columns in any order; calls that are no number count once."""
    dump = 'userid,calls,query\n1,7,"SELECT $1,\n$2 FROM ""t"""\n1,x,SELECT 2\n1\n'
    found = list(statements(dump.splitlines(keepends=True)))
    assert found == [Found('SELECT $1,\n$2 FROM "t"', 7), Found("SELECT 2", 1)]


def test_file_that_is_not_there_or_too_long_is_said(tmp_path: Path) -> None:
    """Errors of the command, not tracebacks; bytes that are no UTF-8 are taken."""
    with pytest.raises(ConfigError, match="cannot be read"):
        list(read_statements(tmp_path / "none"))
    path = tmp_path / "one"
    path.write_bytes(b"SELECT '\xff\x00';\n")
    assert [found.text for found in read_statements(path)] == ["SELECT '\ufffd\0'"]
    path.write_bytes(b"x" * (17 << 20))
    with pytest.raises(ConfigError, match="16 MiB"):
        list(read_statements(path))


# --- templates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("SELECT 'canary' /* canary */ ,\n 1.5 -- canary", "SELECT ?, ..."),
        ("INSERT INTO t VALUES (1, 'a'), (2, E'b'), (3, $$canary$$)", "INSERT INTO t VALUES (?, ...), ..."),
        (
            "SELECT a FROM t WHERE a IN (1,2,3) AND b = ANY($1)",
            "SELECT a FROM t WHERE a IN (?, ...) AND b = ANY($1)",
        ),
        ("ALTER ROLE x PASSWORD 'canary'", "ALTER ROLE x PASSWORD ?"),
        ("SELECT U&'\\0061' UESCAPE '!', x'1F', B'01', N'canary', NULL", None),
        ("DO $x$ canary $x$", "DO ?"),
    ],
)
def test_template_shows_no_constant(text: str, template: str | None) -> None:
    """Whatever form a literal has."""
    found = shown(text.encode(), lex(text.encode()))
    assert "canary" not in found
    assert template is None or found == template.replace(" ,", ",")
