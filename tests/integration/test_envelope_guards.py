"""The guard expressions of docs/envelope.md on a real server, each with its vectors, both ways."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from proxy.rules import ColumnRule, Mode, Storage
from proxy.sql.guard import guard_expression, guard_name
from proxy.values.registry import parse_type
from tests.conftest import Database
from tests.vectors import DOCS, vectors

PAGE = vectors("envelope.md")
ROW = re.compile(r"^\| ([a-z ]+?) \| (bytea|text) \| `(CASE .*? END)` \|$", re.M)
GUARDS = {(kind, storage): text for kind, storage, text in ROW.findall((DOCS / "envelope.md").read_text())}


def test_guard_table_has_every_mode_and_storage() -> None:
    """Three modes in two storages, and vectors for each of the six."""
    assert set(GUARDS) == {(v["guard"], v["storage"]) for v in PAGE["guards"]}
    assert len(GUARDS) == 6


@pytest.mark.parametrize(("kind", "storage"), sorted(GUARDS))
def test_guard_on_the_server_accepts_and_refuses_its_vectors(database: Database, kind: str, storage: str) -> None:
    """Each vector is taken or refused (23514) as the document says."""
    guard = GUARDS[kind, storage].encode()
    with database.connect() as connection:
        connection.execute(b"CREATE TABLE t (c " + storage.encode() + b", CHECK (" + guard + b"))")
        for vector in PAGE["guards"]:
            if (vector["guard"], vector["storage"]) != (kind, storage):
                continue
            value = vector["value"]
            if storage == "bytea" and value is not None:
                value = bytes.fromhex(value)
            try:
                connection.execute("INSERT INTO t VALUES (%s)", [value])
                accepted = True
            except psycopg.errors.CheckViolation:
                accepted = False
            assert accepted == vector["accept"], vector["why"]


def test_guard_name_of_context_is_pgseal_and_16_hex_digits() -> None:
    """Names are short enough that PostgreSQL cuts none."""
    for vector in PAGE["guard_names"]:
        assert vector["name"] == "pgseal_" + hashlib.sha256(vector["context"].encode()).hexdigest()[:16]
        assert len(vector["name"]) <= 63


def test_token_expressions_on_the_server_give_the_token(database: Database) -> None:
    """The one spelling of each storage cuts out exactly the token of every searchable vector."""
    with database.connect() as connection:
        connection.execute("CREATE TABLE t (b bytea, c text)")
        for cell in PAGE["cells"]:
            if not cell["token"]:
                continue
            connection.execute("TRUNCATE t")
            connection.execute("INSERT INTO t VALUES (%s, %s)", [bytes.fromhex(cell["envelope"]), cell["text"]])
            query = sql.SQL('SELECT substring(b from 10 for 15), substr(c,13,20) COLLATE "C" FROM t')
            row = connection.execute(query).fetchone()
            assert row is not None
            token, text = row
            assert bytes(token).hex() == cell["token"]
            assert text == cell["text"][12:32]


def test_guard_of_the_code_is_the_documents() -> None:
    """What pgseal writes is the document's text, with the column quoted."""
    for (kind, storage), text in GUARDS.items():
        rule = ColumnRule(
            "public.t",
            "c",
            parse_type("text"),
            "public.t.c",
            mode=Mode.DETERMINISTIC if kind == "deterministic" else Mode.RANDOMISED,
            search=kind.endswith("search"),
            storage=Storage(storage),
        )
        assert guard_expression(rule) == re.sub(r"\bc\b", '"c"', text)
    for vector in PAGE["guard_names"]:
        assert guard_name(replace(rule, context=vector["context"])) == vector["name"]
