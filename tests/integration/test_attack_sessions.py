"""Conversations written to get client and server out of step: settings behind the proxy's back, names that change
their meaning, other tenants' cells, denied columns. Each step says what must be heard; no envelope is ever shown
and no plaintext is ever logged by the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.attack_world import DDL, ROLES, ROWS, RULES, seen_by, talkative_server
from tests.oracle import Message
from tests.playbook import (
    bind,
    close_portal,
    describe,
    describe_portal,
    execute,
    function_call,
    parse,
    query,
    run,
    sync,
)
from tests.sealed import OWNER, Sealed, sealed_database
from tests.wire_client import Endpoint, WireClient

ENVELOPES = (b"\\xa60b35", b"\xa6\x0b\x35")
SET_CONFIG_OID = 2078
REFUSED = "E[PS001] ZI"
READ = "SELECT id, ssn FROM people WHERE id = 1"


@dataclass(frozen=True, slots=True)
class Attack:
    """What is sent and what must be heard, step by step, by a log-in that set tenant a; " | " parts answers of
    which either may come (what another session did may be known already, or not yet)."""

    name: str
    steps: tuple[tuple[bytes, str], ...]
    user: str = OWNER
    setup: tuple[str, ...] = ()  # beside the proxy, as superuser, before the conversation


def said(*steps: str) -> tuple[tuple[bytes, str], ...]:
    """Simple Queries, each with what must be heard behind it: text, answer, text, answer."""
    return tuple((query(text), answer) for text, answer in zip(steps[::2], steps[1::2], strict=True))


def refused(name: str, *texts: str, user: str = OWNER, code: str = "PS001") -> Attack:
    """Each text is refused by itself."""
    return Attack(name, tuple((query(text), f"E[{code}] ZI") for text in texts), user)


SETTINGS = (
    Attack(
        "UPDATE pg_settings is a SET",
        said(
            *("UPDATE pg_settings SET setting = 'b' WHERE name = 'app.tenant_id'", REFUSED),
            *("UPDATE pg_catalog.pg_settings s SET setting = 'x' WHERE name = 'search_path'", REFUSED),
            *("WITH u AS (UPDATE pg_settings SET setting = 'x' RETURNING 1) SELECT 1", REFUSED),
            *("UPDATE U&\"pg\\005fsettings\" SET setting = 'b'", REFUSED),
            *("SELECT count(*) FROM pg_settings WHERE name = 'search_path'", "T D C[SELECT 1] ZI"),
        ),
    ),
    Attack(
        "FunctionCall of set_config", ((function_call(SET_CONFIG_OID, b"app.tenant_id", b"b", b"f"), REFUSED),)
    ),
    refused(
        "a tenant set where it cannot be seen",
        "DO $$BEGIN PERFORM set_config('app.tenant_id', 'b', false); END$$",
        "DO $$BEGIN SET app.tenant_id = 'b'; END$$",
        "DO $$BEGIN SET LOCAL search_path = 'evil'; END$$",
        "SELECT set_config(n, 'b', false) FROM (VALUES ('app.tenant_id')) AS v(n)",
        "SELECT set_config('app.' || 'tenant_id', 'b', false)",
        "SELECT 1 WHERE set_config('app.tenant_id', 'b', false) = 'b'",
    ),
    Attack(
        "a function that sets the tenant, called behind its CREATE",
        said(
            "CREATE FUNCTION set_it(x text) RETURNS text LANGUAGE sql AS"
            " 'select set_config(''app.tenant_id'', x, false)'",
            "C[CREATE FUNCTION] ZI",
            "SELECT set_it('b')",
            REFUSED,
            "SELECT * FROM set_it('b')",
            REFUSED,
        ),
    ),
    refused(
        "values under a DateStyle, a zone or an encoding set in the same text",
        "SET DateStyle = 'SQL, DMY'; INSERT INTO people (id, born) VALUES (90, '03/04/2001')",
        "SET TimeZone = 'Asia/Tokyo'; INSERT INTO people (id, ts) VALUES (90, '2020-01-01 12:00')",
        "SET client_encoding = 'LATIN1'; SELECT ssn FROM people",
        "SELECT set_config('DateStyle', 'SQL, DMY', false); SELECT born FROM people",
        "BEGIN; SET LOCAL DateStyle = 'SQL, DMY'; SELECT born FROM people; COMMIT",
        "SET search_path = evil; INSERT INTO people (id, ssn) VALUES (90, 'canary')",
    ),
    Attack(
        "the same in one pipeline",
        (
            (
                run("SET DateStyle = 'SQL, DMY'") + run("SELECT born FROM people") + sync(),
                "1 2 C[SET] E[PS001] ZI",
            ),
            *said("SELECT id FROM people WHERE born = '10/12/1957' ORDER BY id", "T C[SELECT 0] ZI"),
        ),
    ),
    Attack(
        "a setting between Bind and Execute: shown as the server would show it",
        (
            *said("BEGIN", "C[BEGIN] ZT"),
            (
                parse("SELECT born FROM people WHERE id = 1", "d") + bind(portal="p", statement="d") + sync(),
                "1 2 ZT",
            ),
            *said("SET LOCAL DateStyle = 'SQL, DMY'", "C[SET] S[DateStyle] ZT"),
            (execute("p") + sync(), "D=10/12/1957 C[SELECT 1] ZT"),
        ),
    ),
    Attack(
        "the tenant set between Bind and Execute",
        (
            *said("BEGIN", "C[BEGIN] ZT"),
            (run("SET app.tenant_id = 'a'") + sync(), "1 2 C[SET] ZT"),
            (
                parse("SELECT id FROM clients WHERE email = $1", "t")
                + bind("x", portal="p", statement="t")
                + sync(),
                "1 2 ZT",
            ),
            *said("SET app.tenant_id = 'b'", "C[SET] ZT"),
            (execute("p") + sync(), "E[PS001] ZE"),
        ),
    ),
)

NAMES = (
    Attack(
        "several statements in one Parse: no text for the log",
        ((parse("INSERT INTO people (id, ssn) VALUES (90, 'canary'); SELECT 1") + sync(), REFUSED),),
    ),
    Attack(
        "FETCH prepared before there was a portal",
        (
            *said("BEGIN", "C[BEGIN] ZT"),
            (parse("FETCH ALL FROM c1", "f") + parse("SELECT 1", "one") + parse(READ, "s") + sync(), "1 1 1 ZT"),
            (
                bind(portal="c1", statement="one")
                + bind(portal="p", statement="f")
                + describe_portal("p")
                + execute("p")
                + close_portal("c1")
                + close_portal("p")
                + sync(),
                "2 2 T D C[FETCH 1] 3 3 ZT",
            ),
            (
                bind(portal="c1", statement="s") + bind(portal="p", statement="f") + execute("p") + sync(),
                "2 2 E[PS001] ZE",
            ),
        ),
    ),
    Attack(
        "a FETCH half read whose cursor is closed, and the portal that a SQL cursor is",
        (
            *said("BEGIN", "C[BEGIN] ZT"),
            *said(
                "DECLARE c CURSOR FOR SELECT COALESCE(ssn, '-') FROM people ORDER BY id", "C[DECLARE CURSOR] ZT"
            ),
            (
                parse("FETCH ALL FROM c", "f") + bind(portal="p", statement="f") + execute("p", 1) + sync(),
                "1 2 D s ZT",
            ),
            *said("CLOSE c", "C[CLOSE CURSOR] ZT"),
            *said("DECLARE c CURSOR FOR SELECT 'x'", "C[DECLARE CURSOR] ZT"),
            (execute("p", 1) + sync(), "D s ZT"),
            *said("ROLLBACK", "C[ROLLBACK] ZI", "BEGIN", "C[BEGIN] ZT"),
            *said(
                "DECLARE c CURSOR FOR SELECT COALESCE(ssn, '-') FROM people ORDER BY id", "C[DECLARE CURSOR] ZT"
            ),
            (describe_portal("c") + execute("c", 1) + close_portal("c") + sync(), "T D s 3 ZT"),
            (execute("c", 1) + sync(), "E[34000] ZE"),
        ),
    ),
    Attack(
        "EXECUTE prepared before what it executes",
        (
            *said("PREPARE q1 AS SELECT 1", "C[PREPARE] ZI"),
            (parse("EXECUTE q1", "e") + bind(statement="e") + execute() + sync(), "1 2 D C[SELECT 1] ZI"),
            *said("DEALLOCATE q1", "C[DEALLOCATE] ZI"),
            (parse(READ, "q1") + sync(), "1 ZI"),
            (bind(statement="e") + execute() + sync(), "2 E[PS001] ZI"),
            (parse("EXECUTE qi('canary')", "ei") + parse("UPDATE people SET ssn = $1", "qi") + sync(), "1 1 ZI"),
            (bind(statement="ei") + execute() + sync(), "2 E[PS001] ZI"),
        ),
    ),
    Attack(
        "SQL PREPARE over a view made a moment ago beside the proxy",
        (
            (query("PREPARE v AS SELECT * FROM fresh_view"), "C[PREPARE] ZI | E[PS001] ZI"),
            (
                bind(statement="v") + execute() + sync(),
                "2 E[PS001] ZI | E[26000] ZI | E[0A000] ZI | 2 D D D D C[SELECT 4] ZI",
            ),
            (query("EXECUTE v"), "E[PS001] ZI | E[26000] ZI | E[0A000] ZI | T D D D D C[SELECT 4] ZI"),
        ),
        setup=("CREATE VIEW fresh_view AS SELECT id, ssn FROM people", "GRANT ALL ON fresh_view TO app"),
    ),
    Attack(
        "functions called right behind their CREATE",
        said(
            "CREATE FUNCTION f_rows() RETURNS SETOF people LANGUAGE sql AS 'select * from people'",
            "C[CREATE FUNCTION] ZI",
            *("SELECT ssn FROM f_rows() WHERE ssn = 'canary'", "E[PS001] ZI"),
            *("SELECT f_rows()", REFUSED),
            *("SELECT (f_rows()).ssn", REFUSED),
        ),
    ),
    Attack(
        "names of protected tables elsewhere",
        said(
            *("CREATE TEMP TABLE people (id int, ssn text)", "E[PS006] ZI"),
            *("CREATE TABLE evil.people (id int, ssn text)", "E[PS006] ZI"),
            *("SET search_path = evil", "C[SET] ZI"),
            *("INSERT INTO people (id, ssn) VALUES (90, 'canary')", "E[42P01] ZI"),
            *("BEGIN", "C[BEGIN] ZT"),
            *("SET LOCAL search_path = public", "C[SET] ZT"),
            *("SELECT ssn FROM people WHERE id = 1", "T D=123-45-6789 C[SELECT 1] ZT"),
            *("COMMIT", "C[COMMIT] ZI"),
            *("SELECT ssn FROM people WHERE id = 1", "E[42P01] ZI"),
        ),
        setup=("CREATE SCHEMA evil AUTHORIZATION app",),
    ),
    Attack(
        "the parent of a protected partition",
        said(
            *("SELECT * FROM part", "E[PS006] ZI"),
            *("INSERT INTO part VALUES (1, 'canary')", "E[PS006] ZI"),
            *("SELECT count(*) FROM part WHERE ssn = 'canary'", "E[PS006] ZI"),
        ),
        setup=(
            "CREATE TABLE part (id int, ssn bytea) PARTITION BY LIST (id)",
            "ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES IN (1)",
            "GRANT ALL ON part TO app",
        ),
    ),
    Attack(
        "another session swaps two columns",
        said(*("SELECT ssn FROM people WHERE id = 1", "E[PS006] ZI")),
        setup=("ALTER TABLE people RENAME ssn TO x", "ALTER TABLE people RENAME name TO ssn"),
    ),
)

TENANTS = (
    refused(
        "the tenant column is assigned",
        "UPDATE patients SET hospital_id = 'b' WHERE id = 2",
        "UPDATE patients SET (hospital_id, plainx) = ('b', 'x') WHERE id = 2",
        "UPDATE patients SET hospital_id = 'b', ssn = 'x' WHERE id = 2 AND hospital_id = 'a'",
        "INSERT INTO patients (hospital_id, id, ssn) VALUES ('a', 1, 'x')"
        " ON CONFLICT (hospital_id, id) DO UPDATE SET hospital_id = 'b'",
        "INSERT INTO patients (hospital_id, id, ssn) VALUES (DEFAULT, 9, 'canary')",
        "INSERT INTO patients (hospital_id, id, ssn) SELECT hid, 9, 'canary' FROM hospitals",
        "INSERT INTO patients (hospital_id, id, ssn) SELECT 'b', id + 20, ssn FROM patients"
        " WHERE hospital_id = 'a'",
        "UPDATE patients p SET ssn = q.ssn FROM patients q WHERE p.hospital_id = 'a' AND q.hospital_id = 'b'",
        code="PS002",
    ),
    refused(
        "comparisons without one tenant",
        "SELECT id FROM patients WHERE ssn = 'canary'",
        "SELECT id FROM patients WHERE ssn = 'canary' OR hospital_id = 'b'",
        "SELECT id FROM patients WHERE ssn = 'canary' AND NOT (hospital_id = 'b')",
        "SELECT p.id FROM patients p JOIN patients q ON p.ssn = q.ssn",
        "SELECT p.id FROM patients p LEFT JOIN patients q ON p.ssn = q.ssn AND p.hospital_id = 'a'",
        "SELECT x.ssn FROM (SELECT 'b' AS hospital_id, id, ssn FROM patients) x"
        " WHERE hospital_id = 'b' AND ssn = 'canary'",
        "SELECT ssn, count(*) FROM patients GROUP BY ssn",
        code="PS002",
    ),
    Attack(
        "a log-in of one tenant reads another's",
        said(
            *("SELECT ssn FROM patients WHERE hospital_id = 'a' ORDER BY id", "T D D C[SELECT 2] ZI"),
            *("SELECT ssn FROM patients WHERE hospital_id = 'b'", "T E[PS005] ZI"),
            *("SELECT id FROM patients WHERE hospital_id = 'b' AND ssn = 'canary'", "E[PS005] ZI"),
            *("SELECT count(DISTINCT ssn) FROM patients WHERE hospital_id = 'b'", "E[PS005] ZI"),
            *("SELECT count(*) FROM patients WHERE hospital_id = 'b' GROUP BY ssn", "E[PS005] ZI"),
            *("SET app.tenant_id = 'b'", "C[SET] ZI"),
            *("SELECT count(DISTINCT email) FROM clients", "E[PS005] ZI"),
        ),
        user="attack_only_a",
    ),
    Attack(
        "spellings of one tenant",
        said(
            *("SELECT id FROM wards WHERE ward = 01 AND ssn = '987-65-4321'", "T D=2 C[SELECT 1] ZI"),
            *("SELECT id FROM wards WHERE ward = '1' AND ssn = '987-65-4321'", "T D=2 C[SELECT 1] ZI"),
            *("SELECT id FROM wards WHERE ward = 1::int8 AND ssn = '987-65-4321'", "T D=2 C[SELECT 1] ZI"),
            *("SELECT id FROM wards WHERE ward = 2 AND ssn = '987-65-4321'", "T C[SELECT 0] ZI"),
        ),
        setup=(),
    ),
    Attack(
        "a write that shows cells of no known tenant does not run",
        (
            *said("SET app.tenant_id TO DEFAULT", "C[SET] ZI"),
            *said("DELETE FROM patients RETURNING ssn", "E[PS002] ZI"),
            *said("SELECT count(*) FROM patients", "T D=3 C[SELECT 1] ZI"),
        ),
    ),
)

DENIED = refused(
    "what a denied log-in may not do",
    "SELECT * FROM people",
    "SELECT ssn FROM people",
    "SELECT id FROM people WHERE ssn = 'canary'",
    "SELECT EXISTS (SELECT 1 FROM people WHERE ssn = 'canary')",
    "SELECT count(*) FROM people GROUP BY ssn",
    "SELECT count(DISTINCT ssn) FROM people",
    "SELECT coalesce(ssn, 'x') FROM people",
    "SELECT lag(ssn) OVER () FROM people",
    "SELECT count(*) FROM (SELECT ssn FROM people UNION SELECT ssn FROM others) u",
    "UPDATE people SET ssn = 'canary'",
    "UPDATE people SET name = name RETURNING *",
    "INSERT INTO people (id) VALUES (90) RETURNING *",
    "INSERT INTO people (id, ssn) SELECT 90, ssn FROM others",
    "DELETE FROM people WHERE id = 90 RETURNING ssn",
    "VALUES ((SELECT ssn FROM people LIMIT 1))",
    user="attack_denied",
    code="PS005",
)
ATTACKS = (*SETTINGS, *NAMES, *TENANTS, DENIED)


@pytest.fixture(scope="module")
def server() -> Iterator[object]:
    """One for all attacks; each has a database of its own."""
    with talkative_server() as made:
        yield made


@pytest.fixture
def sealed(server: object) -> Iterator[Sealed]:
    """Fresh tables."""
    with sealed_database(server, RULES, [*DDL, *ROWS], ROLES) as made:  # type: ignore[arg-type]
        with made.direct() as admin:
            admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO attack_denied, attack_only_a")
        yield made


def _heard(messages: list[Message]) -> str:
    return " ".join(describe(message) for message in messages if message.name != "NoticeResponse")


def _without_values(answer: str) -> str:
    return " ".join(word.split("=", 1)[0] for word in answer.split(" ")) if "=" in answer else answer


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_in_a_session_is_heard_and_answered_as_written(sealed: Sealed, attack: Attack) -> None:
    """Step by step; then nothing shown was an envelope, and nothing logged a plaintext."""
    with sealed.direct() as admin:
        for statement in attack.setup:
            admin.execute(statement.encode())
    with WireClient.connect(Endpoint(sealed.port, sealed.name, attack.user)) as client:
        client.send(query("SET app.tenant_id = 'a'"))
        client.read_until_ready()
        since = sealed.server.log_path.stat().st_size
        for sent, answer in attack.steps:
            client.send(sent)
            messages = client.read_until_ready()
            assert _heard(messages) in [_without_values(one) for one in answer.split(" | ")], sent
            _assert_values(messages, answer)
            rows = b"".join(message.raw for message in messages if message.name == "DataRow")
            assert not any(envelope in rows for envelope in ENVELOPES), sent
    assert seen_by(sealed.server, sealed.name, since) == []


def _assert_values(messages: list[Message], answer: str) -> None:
    wanted = [word[2:].encode() for word in answer.split(" ") if word.startswith("D=")]
    shown = [message.values[-1] for message in messages if message.name == "DataRow"]
    assert not wanted or shown == wanted


def test_foreign_key_that_moves_rows_to_another_tenant_refuses_the_table(sealed: Sealed) -> None:
    """Its cells would stay with the old tenant, and comparisons would silently find nothing."""
    with sealed.connect() as client:
        client.execute(
            "ALTER TABLE patients ADD CONSTRAINT moving FOREIGN KEY (hospital_id) REFERENCES hospitals"
            " ON UPDATE CASCADE"
        )
    with WireClient.connect(Endpoint(sealed.port, sealed.name, OWNER)) as client:
        client.send(query("SELECT ssn FROM patients WHERE hospital_id = 'a'"))
        assert _heard(client.read_until_ready()) == "E[PS006] ZI"
