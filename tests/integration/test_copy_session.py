"""COPY over protected tables as a session sees it: several in one text, pipelined and in the extended protocol,
rights and tenants, defaults of the rules, failures half-way; and what the server's log and the network saw.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from struct import pack
from typing import Any, Final

import psycopg
import pytest

from proxy.wire import frontend as f
from proxy.wire.framing import frame
from tests.attack_world import talkative_server
from tests.sealed import Sealed, sealed_database
from tests.wire_client import Endpoint, WireClient

RULES: Final = """\
version: 1
tables:
  public.people:
    tenant: {from: column, name: org}
    columns: {ssn: {type: text, search: equality}, born: {type: date}}
  public.own:
    tenant: {from: setting, name: app.tenant_id}
    columns: {ssn: {type: text, default: 'canary default'}, note: {type: text}}
  public.tied:
    tenant: {from: fixed, name: main}
    columns: {note: {type: text, bind: [id]}}
roles:
  app: {read: plain, cross_tenant: true}
  reader: {read: deny}
  backup: {read: raw, write: raw}
  one: {read: plain, tenants: ['1']}
"""
SETUP: Final = [
    "CREATE TABLE people (id int NOT NULL, org int, ssn text, born date)",
    "CREATE TABLE own (id int, ssn text DEFAULT 'canary default', note text)",
    "CREATE TABLE tied (id int NOT NULL, note text)",
    "CREATE TABLE visits (id int, ssn text)",
    "GRANT ALL ON ALL TABLES IN SCHEMA public TO reader, backup, one",
]
LINE: Final = b"1\t1\tcanary one\t2001-02-03\n"


@pytest.fixture(scope="module")
def sealed() -> Iterator[Sealed]:
    """On a server that logs every statement and every error in full."""
    with (
        talkative_server() as server,
        sealed_database(server, RULES, SETUP, roles=["reader", "backup", "one"]) as made,
    ):
        yield made


@pytest.fixture(autouse=True)
def clean(sealed: Sealed) -> Iterator[None]:
    """Empty tables before, and no plaintext in the server's log after each test."""
    since = sealed.server.log_path.stat().st_size
    with sealed.direct() as admin:
        for table in ("people", "own", "tied", "visits"):
            admin.execute(f"TRUNCATE {table}".encode())
    yield
    with sealed.server.log_path.open("rb") as log:
        log.seek(since)
        assert b"canary" not in log.read()


class Talk:
    """Messages of the protocol, as bytes."""

    def __init__(self, sealed: Sealed, user: str = "app") -> None:
        self.client = WireClient.connect(Endpoint(sealed.port, sealed.name, user))
        self.socket: socket.socket = self.client.socket
        self.socket.settimeout(30)

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def until(self, kind: bytes, n: int = 1) -> list[tuple[bytes, bytes]]:
        """Messages up to the n-th of this kind."""
        found: list[tuple[bytes, bytes]] = []
        while n:
            head = self._read(5)
            body = self._read(int.from_bytes(head[1:], "big") - 4)
            found.append((head[:1], body))
            n -= head[:1] == kind
        return found

    def _read(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self.socket.recv(size - len(parts))
            assert part, f"closed after {parts!r}"
            parts += part
        return parts


def kinds(found: list[tuple[bytes, bytes]]) -> str:
    return b"".join(kind for kind, _ in found if kind not in (b"S", b"N")).decode()


def data(*lines: bytes) -> bytes:
    return b"".join(frame(b"d", line) for line in lines)


DONE: Final = frame(b"c", b"")
PEOPLE: Final = b"COPY people FROM STDIN"


def stored(sealed: Sealed, table: str = "people") -> list[Any]:
    return sealed.query(f"SELECT * FROM {table} ORDER BY id")


def test_copy_several_in_one_text_pipelined_without_waiting(sealed: Sealed) -> None:
    """The data of all of them behind the Query: each finds its COPY, none passes as it came."""
    talk = Talk(sealed)
    text = b"SELECT 1; COPY people FROM STDIN; COPY visits FROM STDIN; COPY people FROM STDIN; SELECT 2"
    talk.send(f.build_query(text), data(LINE), DONE, data(b"7\tplain\n"), DONE, data(b"2" + LINE[1:]), DONE)
    assert kinds(talk.until(b"Z")) == "TDCGCGCGCTDCZ"
    assert [row[2] for row in stored(sealed)] == ["canary one", "canary one"]
    assert stored(sealed, "visits") == [(7, "plain")]


def test_copy_in_and_out_in_one_text(sealed: Sealed) -> None:
    """What went in comes out of the same text."""
    talk = Talk(sealed)
    text = b"COPY people FROM STDIN; COPY (SELECT ssn FROM people) TO STDOUT; SELECT ssn FROM people"
    talk.send(f.build_query(text), data(LINE[:9], LINE[9:]), DONE)
    found = talk.until(b"Z")
    assert kinds(found) == "GCHdcCTDCZ"
    assert found[3][1] == b"canary one\n"


@pytest.mark.parametrize("cut", [1, 5, 6, 12, 30])
def test_copy_in_extended_protocol(sealed: Sealed, cut: int) -> None:
    """Parse, Bind, Describe, Execute, Sync and data in one go, cut into pieces of any size."""
    talk = Talk(sealed)
    sent = b"".join(
        (
            f.build_parse(f.Parse(b"", PEOPLE, ())),
            f.build_bind(f.Bind(b"", b"", (), (), ())),
            f.build_describe_portal(b""),
            f.build_execute(b""),
            f.SYNC_MESSAGE,
            data(LINE[:3], LINE[3:]),
            DONE,
            f.SYNC_MESSAGE,
        )
    )
    for start in range(0, len(sent), cut):
        talk.send(sent[start : start + cut])
    assert kinds(talk.until(b"Z")) == "12nGCZ"
    talk.send(f.build_query(b"COPY people TO STDOUT"))
    assert kinds(talk.until(b"Z")) == "HdcCZ"
    assert len(stored(sealed)) == 1


def test_copy_out_in_extended_protocol_of_a_named_statement(sealed: Sealed) -> None:
    """Run several times, also by the short way of batches of the usual kind."""
    talk = Talk(sealed)
    talk.send(f.build_query(PEOPLE), data(LINE), DONE)
    talk.until(b"Z")
    talk.send(f.build_parse(f.Parse(b"q", b"COPY people (ssn) TO STDOUT", ())), f.SYNC_MESSAGE)
    assert kinds(talk.until(b"Z")) == "1Z"
    for _ in range(4):
        talk.send(f.build_bind(f.Bind(b"", b"q", (), (), ())), f.build_execute(b""), f.SYNC_MESSAGE)
        found = talk.until(b"Z")
        assert kinds(found) == "2HdcCZ"
        assert found[2][1] == b"canary one\n"


@pytest.mark.parametrize("is_extended", [False, True])
def test_copy_bad_row_fails_and_what_follows_is_swallowed(sealed: Sealed, is_extended: bool) -> None:
    """Our error in PostgreSQL's words with its place; the rest of the data reaches nobody; the next one works."""
    talk = Talk(sealed)
    bad = b"2\t1\tcanary two\t2001-99-03\n"
    if is_extended:
        begun = (
            f.build_parse(f.Parse(b"", PEOPLE, ())),
            f.build_bind(f.Bind(b"", b"", (), (), ())),
            f.build_execute(b""),
        )
        talk.send(*begun, f.FLUSH_MESSAGE)
    else:
        talk.send(f.build_query(PEOPLE))
    talk.until(b"G")
    talk.send(data(LINE, bad, *([LINE] * 100)), DONE)
    if is_extended:
        talk.send(f.SYNC_MESSAGE)
    found = talk.until(b"Z")
    assert kinds(found) == "EZ"
    assert b"C22008\0" in found[0][1]
    assert b"WCOPY people, line 2, column born\0" in found[0][1]
    assert b"canary" not in found[0][1]
    talk.send(f.build_query(PEOPLE), data(LINE), DONE)
    assert kinds(talk.until(b"Z")) == "GCZ"
    assert len(stored(sealed)) == 1


def test_copy_error_of_the_server_half_way_swallows_the_rest(sealed: Sealed) -> None:
    """A bad value of a plain column: the server's error, and no plaintext sent behind it."""
    talk = Talk(sealed)
    talk.send(f.build_query(PEOPLE))
    talk.until(b"G")
    talk.send(data(b"x\t1\tcanary one\t2001-02-03\n" * 3000))
    found = talk.until(b"Z")
    assert kinds(found) == "EZ"
    assert b"WCOPY people, line 1, column id\0" in found[0][1]
    talk.send(data(LINE), f.build_query(PEOPLE), data(LINE), DONE)
    assert kinds(talk.until(b"Z")) == "GCZ"
    assert len(stored(sealed)) == 1


def test_copy_fail_of_the_client_keeps_nothing(sealed: Sealed) -> None:
    """57014 with its reason; the part of a row that was kept is gone."""
    talk = Talk(sealed)
    talk.send(f.build_query(PEOPLE), data(LINE, LINE[:10]), frame(b"f", b"changed my mind\0"))
    found = talk.until(b"Z")
    assert kinds(found) == "GEZ"
    assert b"C57014\0" in found[1][1]
    talk.send(f.build_query(PEOPLE), data(LINE), DONE)
    assert kinds(talk.until(b"Z")) == "GCZ"
    assert len(stored(sealed)) == 1


def test_copy_data_outside_of_a_copy_is_ignored(sealed: Sealed) -> None:
    """As the server does."""
    talk = Talk(sealed)
    talk.send(data(b"1\t1\tx\t\\N\n"), DONE, f.build_query(b"SELECT 1"))
    assert kinds(talk.until(b"Z")) == "TDCZ"


def test_copy_large_message_arrives_before_the_answer(sealed: Sealed) -> None:
    """Its first bytes do not run ahead of what the server says."""
    talk = Talk(sealed)
    message = data(LINE * 4000)
    talk.send(f.build_query(PEOPLE), message[:50_000])
    assert kinds(talk.until(b"G")) == "G"
    talk.send(message[50_000:], DONE)
    assert kinds(talk.until(b"Z")) == "CZ"
    assert len(stored(sealed)) == 4000


# --- rights, tenants, defaults ------------------------------------------------------------------------------


def run(sealed: Sealed, statement: str, payload: bytes | None = None, user: str = "app", *before: str) -> Any:
    """Output of a COPY, or its SQLSTATE."""
    with sealed.connect(user) as connection:
        for text in before:
            connection.execute(text.encode())
        try:
            with connection.cursor().copy(statement.encode()) as copy:
                if payload is None:
                    return b"".join(bytes(part) for part in copy)
                copy.write(payload)
        except psycopg.Error as error:
            assert "canary" not in str(error)
            return error.sqlstate
    return ""


def test_copy_rights_are_those_of_select_and_insert(sealed: Sealed) -> None:
    """PS005 without the right to read, nothing of other tenants, cells as they are for a raw role."""
    run(sealed, "COPY people FROM STDIN", LINE + b"2\t2\tcanary two\t\\N\n")
    assert run(sealed, "COPY people TO STDOUT", user="reader") == "PS005"
    assert run(sealed, "COPY (SELECT ssn FROM people) TO STDOUT", user="reader") == "PS005"
    assert run(sealed, "COPY people (id) TO STDOUT", user="reader") == b"1\n2\n"
    assert run(sealed, "COPY people FROM STDIN", LINE, user="reader") == "PS005"
    assert run(sealed, "COPY people TO STDOUT", user="one") == "PS005"
    assert run(sealed, "COPY people FROM STDIN", LINE, user="one") == ""
    assert run(sealed, "COPY people FROM STDIN", b"3\t2\tcanary\t\\N\n", user="one") == "PS005"
    raw = run(sealed, "COPY people (ssn) TO STDOUT", user="backup")
    assert raw.startswith(b"\\\\xa60b3501")
    assert (
        run(sealed, "COPY people (id, ssn) FROM STDIN", b"9\t" + raw.split(b"\n")[0] + b"\n", user="backup") == ""
    )
    assert run(sealed, "COPY people (id, ssn) FROM STDIN", b"9\tplain\n", user="backup") != ""
    assert run(sealed, "COPY people (ssn) TO STDOUT", user="app").count(b"canary one") == 3


def test_copy_tenant_of_the_row_or_of_the_session(sealed: Sealed) -> None:
    """Unknown: PS002, before the server sees a value."""
    assert run(sealed, "COPY people (id, ssn) FROM STDIN", b"1\tcanary\n") == "PS002"
    assert run(sealed, "COPY people FROM STDIN", b"1\t\\N\tcanary\t\\N\n") == "PS002"
    assert run(sealed, "COPY people FROM STDIN", b"1\t\\N\t\\N\t\\N\n") == ""
    assert run(sealed, "COPY own FROM STDIN", b"1\tcanary\t\\N\n") == "PS002"
    setting = "SET app.tenant_id = 'a'"
    assert run(sealed, "COPY own FROM STDIN", b"1\tcanary\t\\N\n", "app", setting) == ""
    found = run(sealed, "COPY own TO STDOUT", None, "one", setting)
    assert found == "PS005" or b"canary" not in found
    assert run(sealed, "COPY own TO STDOUT", None, "app", setting) == b"1\tcanary\t\\N\n"


def test_copy_adds_the_default_of_the_rules(sealed: Sealed) -> None:
    """A column that the list leaves out gets what INSERT gives it; the client sees its own columns."""
    setting = "SET app.tenant_id = 'a'"
    assert run(sealed, "COPY own (id) FROM STDIN", b"1\n2\n", "app", setting) == ""
    assert run(sealed, "COPY own (note, id) FROM STDIN CSV HEADER", b"x,y\ncanary,3\n", "app", setting) == ""
    binary = b"PGCOPY\n\xff\r\n\0" + bytes(8) + pack(">hii", 1, 4, 4) + b"\xff\xff"
    assert run(sealed, "COPY own (id) FROM STDIN (FORMAT binary)", binary, "app", setting) == ""
    with sealed.connect() as connection:
        connection.execute(setting.encode())
        found = connection.execute("SELECT id, ssn FROM own ORDER BY id").fetchall()
    assert found == [(n, "canary default") for n in (1, 2, 3, 4)]
    talk = Talk(sealed)
    talk.send(f.build_query(setting.encode()), f.build_query(b"COPY own (id) FROM STDIN"), data(b"5\n"), DONE)
    answer = talk.until(b"Z", 2)
    assert dict(answer)[b"G"] == b"\0\0\1\0\0"


def test_copy_cell_is_bound_to_its_row(sealed: Sealed) -> None:
    """`bind:` takes the value of the same row, in text and binary; without it the COPY is refused."""
    assert run(sealed, "COPY tied FROM STDIN", b"1\tcanary\n2\tcanary too\n") == ""
    assert sealed.query("SELECT id, note FROM tied ORDER BY id") == [(1, "canary"), (2, "canary too")]
    assert run(sealed, "COPY tied TO STDOUT (FORMAT csv)") == b"1,canary\n2,canary too\n"
    binary = run(sealed, "COPY tied (note, id) TO STDOUT (FORMAT binary)")
    assert b"canary too" in binary
    assert run(sealed, "COPY tied (note, id) FROM STDIN (FORMAT binary)", binary) == ""
    assert run(sealed, "COPY tied (note, id) TO STDOUT") == b"canary\t1\ncanary too\t2\n" * 2
    assert run(sealed, "COPY tied (note) TO STDOUT") == "PS001"
    assert run(sealed, "COPY tied (note) FROM STDIN", b"canary\n") == "PS001"


@pytest.mark.parametrize(
    ("statement", "payload", "sqlstate"),
    [
        ("COPY visits FROM STDIN WHERE ssn IN (SELECT ssn FROM people)", b"1\tx\n", "PS001"),
        ("COPY people FROM STDIN WHERE ssn LIKE 'c%'", LINE, "PS001"),
        ("COPY people FROM STDIN WHERE length(ssn) > 1", LINE, "PS001"),
        ("COPY people FROM STDIN (ENCODING 'sjis')", LINE, "PS001"),
        ("COPY people FROM STDIN (FORMAT csv, HEADER match)", b"canary,1,1,1\n", "22P04"),
        ("COPY people FROM STDIN (DELIMITER ',')", LINE, "22P04"),
        ("COPY people TO '/tmp/canaryless'", None, "PS001"),
        ("COPY people TO PROGRAM 'cat'", None, "PS001"),
        ("COPY (SELECT upper(ssn) FROM people) TO STDOUT", None, "PS001"),
        ("COPY (SELECT ssn FROM people ORDER BY ssn) TO STDOUT", None, "PS001"),
        ("COPY (SELECT ssn FROM people UNION SELECT ssn FROM visits) TO STDOUT", None, "PS001"),
        ("COPY (SELECT people FROM people) TO STDOUT", None, "PS001"),
        ("COPY (SELECT query_to_xml('select 1', true, true, '')) TO STDOUT", None, "PS001"),
        ("COPY pgseal.encryption_keys TO STDOUT", None, "PS001"),
        ("COPY (SELECT * FROM pgseal.encryption_keys) TO STDOUT", None, "PS001"),
    ],
)
def test_copy_as_a_way_around_is_refused(
    sealed: Sealed, statement: str, payload: bytes | None, sqlstate: str
) -> None:
    """Nothing is stored or shown, and the server's log has nothing of it."""
    run(sealed, "COPY people FROM STDIN", LINE)
    assert run(sealed, statement, payload) == sqlstate
    assert len(stored(sealed)) == 1


def test_copy_stand_in_of_another_schema_is_refused(sealed: Sealed) -> None:
    """A temporary table or another schema's of the same name takes nothing."""
    with sealed.connect() as connection:
        for text in ("CREATE TEMP TABLE people (id int, ssn text)",):
            with pytest.raises(psycopg.Error) as raised:
                connection.execute(text.encode())
            assert raised.value.sqlstate == "PS006"
    with sealed.direct() as admin:
        admin.execute("CREATE SCHEMA IF NOT EXISTS other")
        admin.execute("CREATE TABLE IF NOT EXISTS other.people (id int, org int, ssn text, born date)")
    assert run(sealed, "COPY other.people FROM STDIN", LINE) in ("PS006", "42P01")


def test_copy_latin1_values_are_converted(sealed: Sealed) -> None:
    """By the session's encoding, and by the option."""
    line = "1\t1\tM\xfcller\t\\N\n".encode("latin-1")
    assert run(sealed, "COPY people FROM STDIN (ENCODING 'ISO-8859-1')", line) == ""
    assert run(sealed, "COPY people FROM STDIN", line, "app", "SET client_encoding = LATIN1") == ""
    assert [row[2] for row in stored(sealed)] == ["M\xfcller"] * 2
    assert run(sealed, "COPY people (ssn) TO STDOUT (ENCODING 'latin1')") == "M\xfcller\n".encode("latin-1") * 2
    assert run(sealed, "COPY people (ssn) TO STDOUT") == "M\xfcller\n".encode() * 2


def test_copy_is_audited_with_its_cells(sealed: Sealed) -> None:
    """One event for each COPY: columns, number of cells, rows, tag."""
    before = audited(sealed)
    run(sealed, "COPY people FROM STDIN", LINE * 3)
    run(sealed, "COPY people TO STDOUT")
    run(sealed, "COPY people FROM STDIN", LINE + b"1\t1\tcanary\tbad\n")
    found = audited(sealed)[len(before) :]
    told = [
        (e["tag"], e["rows"], e["cells_sealed"], e["cells_opened"], e["outcome"], e["sqlstate"]) for e in found
    ]
    assert told == [
        ("COPY", 3, 6, 0, "ok", ""),
        ("COPY", 3, 0, 6, "ok", ""),
        ("COPY", 1, 3, 0, "failed", "22007"),
    ]
    assert all(e["columns"] == ["public.people.born", "public.people.ssn"] and e["keys"] for e in found)


def audited(sealed: Sealed) -> list[dict[str, Any]]:
    """All statements recorded so far."""
    sealed.run(_synced(sealed))
    records = [
        json.loads(line)
        for path in sorted((sealed.folder / "audit").rglob("*"))
        if path.is_file()
        for line in path.read_text().splitlines()
    ]
    events = [event for record in records for event in record.get("events", [])]
    return [event for event in events if event.get("kind") == "statement" and event["user"] == "app"]


async def _synced(sealed: Sealed) -> None:
    sealed.worker.shared.audit.sync()
