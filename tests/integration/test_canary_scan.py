"""No plaintext of a protected value is anywhere in the server's data directory, its log, or what pgseal writes.

Values that exist nowhere else are written through the proxy in every logical type and way, also by statements
that fail; then the server stops and every file is searched, as it is, in hexadecimal, UTF-16 and base64.
"""

from __future__ import annotations

import base64
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from proxy.embedded import EmbeddedPostgres
from tests.playbook import bind, execute, parse, query, sync
from tests.sealed import Sealed, sealed_database
from tests.wire_client import ConnectionEnded, Endpoint, WireClient

RULES = """
version: 1
tenant: {from: fixed, name: one}
tables:
  public.holder:
    columns:
      c_text:    {type: text, search: equality}
      c_varchar: {type: varchar(40)}
      c_texts:   {type: text, storage: text}
      c_det:     {type: text, mode: deterministic, accept_leakage: "test"}
      c_json:    {type: json}
      c_jsonb:   {type: jsonb}
      c_bytea:   {type: bytea}
      c_numeric: {type: numeric}
      c_int8:    {type: bigint}
      c_float8:  {type: double precision}
      c_uuid:    {type: uuid}
      c_stamp:   {type: timestamptz}
      c_default: {type: text, default: CANARYdefault9f1}
roles:
  app: {read: plain}
"""
SETUP = (
    "CREATE TABLE holder (id serial PRIMARY KEY, c_text text, c_varchar varchar(40), c_texts text, c_det text,"
    " c_json json, c_jsonb jsonb, c_bytea bytea, c_numeric numeric, c_int8 bigint, c_float8 double precision,"
    " c_uuid uuid, c_stamp timestamptz, c_default text, note text, CHECK (note <> 'forbidden'))",
)
WORD = "CANARY{}9f1"
OTHER = {
    "c_bytea": "\\x43414e41525962696e617279",
    "c_numeric": "84712093.5509128377",
    "c_int8": "8471209355091283771",
    "c_float8": "84712.093550912835",
    "c_uuid": "8f47c1d2-5b3e-4a96-b0c7-d19e64fa2875",
    "c_stamp": "1987-03-14 15:09:26.535897+00",
    "c_json": '{"k": "CANARYjson9f1"}',
    "c_jsonb": '{"k": "CANARYjsonb9f1"}',
}
TEXTS = ("c_text", "c_varchar", "c_texts", "c_det")


@dataclass(slots=True)
class Planted:
    """Every value that must not be found."""

    words: set[str]

    def word(self, name: str) -> str:
        """A new one."""
        made = WORD.format(name)
        self.words.add(made)
        return made

    def forms(self) -> dict[bytes, str]:
        """What to search for -> what it stands for."""
        found: dict[bytes, str] = {}
        for word in (*self.words, "CANARYdefault9f1", "CANARYbinary", "CANARYjson9f1", "CANARYjsonb9f1"):
            raw = word.encode()
            for at in range(3):
                text = base64.b64encode(b"x" * at + raw)
                found[text[4 if at else 0 : len(text) - 4]] = f"{word} in base64"
            found |= {
                raw: word,
                raw.hex().encode(): f"{word} in hex",
                raw.hex().upper().encode(): f"{word} in HEX",
            }
            found |= {
                word.encode("utf-16-le"): f"{word} in UTF-16",
                word.encode("utf-16-be"): f"{word} in UTF-16",
            }
        for name, text in OTHER.items():
            if name not in ("c_json", "c_jsonb", "c_bytea"):
                found[text.split("+")[0].encode()] = text
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A durable server that logs every statement, with parameters on error."""
    settings = {
        "log_statement": "all",
        "log_min_duration_statement": "0",
        "log_min_error_statement": "debug5",
        "log_parameter_max_length": "-1",
        "log_parameter_max_length_on_error": "-1",
        "work_mem": "64kB",
        "debug_print_plan": "off",
        "wal_level": "logical",
    }
    with EmbeddedPostgres(settings=settings) as made:
        yield made


def fails(connection: psycopg.Connection, statement: str, *values: object, binary: bool = False) -> None:
    """A statement that must fail, one way or another."""
    with pytest.raises(psycopg.Error):
        connection.execute(statement.encode(), values or None, binary=binary)


def plant(sealed: Sealed, planted: Planted) -> None:
    """Every type by literal, text and binary parameter."""
    with sealed.connect() as connection:
        for column in TEXTS:
            plain = f"INSERT INTO holder ({column}) VALUES"
            connection.execute(f"{plain} ('{planted.word(column + 'lit')}')".encode())
            connection.execute(f"{plain} (%s)".encode(), [planted.word(column + "par")])
            connection.execute(f"{plain} (%b)".encode(), [planted.word(column + "bin")])
            connection.execute(f"{plain} (E'\\x43{planted.word(column + 'esc')[1:]}')".encode())
            connection.execute(f"{plain} ($q${planted.word(column + 'dol')}$q$)".encode())
            connection.execute(f"UPDATE holder SET {column} = '{planted.word(column + 'upd')}'".encode())
        for column, value in OTHER.items():
            connection.execute(f"INSERT INTO holder ({column}) VALUES ('{value}')".encode())
            connection.execute(f"INSERT INTO holder ({column}) VALUES (%s)".encode(), [value])
        many = [(planted.word(f"many{n}"),) for n in range(200)]
        connection.cursor().executemany("INSERT INTO holder (c_text) VALUES (%s)", many)
        connection.execute("SELECT c_text FROM holder WHERE c_text = %s", [planted.word("where")])
        connection.execute(f"SELECT c_text FROM holder WHERE c_text IN ('{planted.word('in')}')".encode())
        connection.execute("CREATE INDEX ON holder (note)")
        connection.execute("SELECT c_text FROM holder ORDER BY id, note")


def plant_failures(sealed: Sealed, planted: Planted) -> None:
    """Constraint violations, wrong types, syntax errors, timeouts, refusals, malformed messages."""
    with sealed.connect() as connection:
        insert = "INSERT INTO holder (id, c_text, note) VALUES"
        connection.execute(f"{insert} (100000, 'x', 'y')".encode())
        fails(connection, f"{insert} (100000, '{planted.word('duplicate')}', 'y')")
        fails(connection, f"{insert} (100000, %s, 'y')", planted.word("duplicatepar"))
        fails(connection, f"{insert} (100001, '{planted.word('check')}', 'forbidden')")
        fails(connection, f"{insert} ('nonsense', '{planted.word('type')}', 'y')")
        fails(connection, f"{insert} (100002, '{planted.word('syntax')}', ")
        fails(connection, f"{insert} (100003, '{planted.word('nocolumn')}', nope)")
        fails(connection, f"INSERT INTO holder (c_text) VALUES ('{planted.word('open')}")
        fails(connection, f"INSRT INTO holder (c_text) VALUES ('{planted.word('verb')}')")
        fails(connection, f"INSERT INTO holder (c_varchar) VALUES ('{planted.word('long' * 20)}')")
        fails(connection, f"INSERT INTO holder (c_int8) VALUES ('{planted.word('int')}')")
        fails(connection, "INSERT INTO holder (c_int8) VALUES (%s)", planted.word("intpar"))
        fails(connection, f"SELECT upper(c_text) FROM holder WHERE c_text = '{planted.word('refused')}'")
        fails(connection, f"SELECT c_text FROM holder WHERE c_text LIKE '{planted.word('like')}%'")
        fails(connection, f"UPDATE holder SET c_text = c_text || '{planted.word('concat')}'")
        copied = f"COPY (SELECT c_text FROM holder WHERE c_text = '{planted.word('copy')}') TO STDOUT"
        with connection.cursor().copy(copied.encode()) as rows:
            assert list(rows) == []
        fails(connection, f"DO $$ BEGIN INSERT INTO holder (c_text) VALUES ('{planted.word('do')}'); END $$")
        connection.execute(
            f"EXPLAIN SELECT c_text FROM holder WHERE c_text = '{planted.word('explain')}'".encode()
        )
        connection.execute(
            f"PREPARE p AS INSERT INTO holder (c_text) VALUES ('{planted.word('prepare')}')".encode()
        )
        fails(connection, f"EXECUTE p('{planted.word('execute')}')")
        connection.execute("SET statement_timeout = 30")
        fails(
            connection,
            f"SELECT pg_sleep(5) FROM holder WHERE c_text = '{planted.word('timeout')}' OR id > 0",
        )
        connection.execute("SET statement_timeout = 0")
    for raw in malformed(planted):
        with WireClient.connect(Endpoint(sealed.port, sealed.name, "app")) as client:
            client.send(raw + sync())
            try:
                client.read_until_ready()
            except ConnectionEnded:
                continue


def malformed(planted: Planted) -> list[bytes]:
    """Messages no driver sends."""
    insert = "INSERT INTO holder (c_text) VALUES ($1)"
    return [
        query(f"INSERT INTO holder (c_text) VALUES ('{planted.word('nul')}\0')"),
        query("SELECT 1 \0" + planted.word("behindnul")),
        parse(insert, "s") + bind(planted.word("unknownname"), statement="t") + execute(),
        parse(insert, "s") + bind(planted.word("two"), planted.word("many"), statement="s") + execute(),
        parse(insert, "s", oids=(23,)) + bind(planted.word("wrongoid"), statement="s") + execute(),
        parse(insert, "s") + bind(planted.word("format"), statement="s", formats=(1, 0)) + execute(),
        query("SET standard_conforming_strings = off")
        + query(f"INSERT INTO holder (c_text) VALUES ('\\\\{planted.word('backslash')}')"),
    ]


def searched(folder: Path, forms: dict[bytes, str]) -> list[str]:
    """What was found, and where. Most forms begin alike, so a file is searched for their beginnings first."""
    found, stems = [], defaultdict(list)
    for form in forms:
        stems[form[:6]].append(form)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        likely = [form for stem in stems if stem in content for form in stems[stem]]
        found += [f"{forms[form]} in {path.relative_to(folder)}" for form in likely if form in content]
    return found


def test_planted_plaintext_is_found_nowhere(
    server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Data directory, WAL, temporary files and log of the server; log, audit, metrics and state of pgseal."""
    caplog.set_level(logging.DEBUG)
    planted = Planted(set())
    with sealed_database(server, RULES, SETUP) as sealed:
        plant(sealed, planted)
        plant_failures(sealed, planted)
        readable = sealed.query("SELECT c_text FROM holder WHERE c_text = %s", WORD.format("c_textupd"))
        assert readable, "what was planted can be read back"
        with psycopg.connect(server.dsn(database=sealed.name), autocommit=True) as admin:
            admin.execute("CHECKPOINT")
        metrics = json.dumps(sealed.worker.own_metrics())
        sealed.run(_flushed(sealed))
        forms = planted.forms()
        own = searched(sealed.folder, {k: v for k, v in forms.items() if "default" not in v})
        data = Path(server.folder)
        server.stop()
        try:
            everywhere = searched(data, forms)
        finally:
            server.start()
    written = "".join(capfd.readouterr()) + caplog.text + metrics
    assert not everywhere
    assert not own
    assert [name for form, name in forms.items() if form in written.encode()] == []
    assert len(planted.words) > 250


async def _flushed(sealed: Sealed) -> None:
    sealed.worker.shared.audit.sync()


def test_search_finds_what_is_there(server: EmbeddedPostgres) -> None:
    """The scan itself: the same canaries, written beside the proxy into a plain table, are found."""
    planted = Planted(set())
    word = planted.word("found")
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE TABLE plain_holder (a text)")
        admin.execute("INSERT INTO plain_holder VALUES (%s)", [word])
        admin.execute("CHECKPOINT")
        admin.execute("DROP TABLE plain_holder")
    assert searched(Path(server.folder), {word.encode(): word})
