"""The stage of the golden traces: one database with plain tables, set back before every run of a conversation.

A conversation is played against PostgreSQL itself and through the proxy, and what was heard must be the same
bytes. Both runs use the same database, so that OIDs agree. One reason to change: what conversations stand on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from proxy.embedded import EmbeddedPostgres
from tests.playbook import Playbook
from tests.wire_client import Chunking, Endpoint, random_chunks, single_bytes, whole

CHUNKINGS: dict[str, Chunking] = {"whole": whole, "bytes": single_bytes} | {
    f"random{seed}": random_chunks(seed) for seed in (1, 2)
}

SCHEMA = """
CREATE TABLE t (id int, s text);
CREATE TABLE w (id int PRIMARY KEY, s text);
CREATE TABLE three (a int, b text, c bytea);
CREATE TABLE big (id int, pad text);
CREATE TABLE empty_row ();
CREATE VIEW v AS SELECT id AS vid, s AS vs FROM t;
CREATE DOMAIN word AS text;
CREATE DOMAIN secret AS bytea;
CREATE TABLE dt (e secret, f word);
CREATE TYPE pair AS (x int, y text);
CREATE TABLE guarded (id int, s text);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON guarded FOR EACH STATEMENT EXECUTE FUNCTION refuse();
CREATE FUNCTION chatty(n int) RETURNS SETOF int LANGUAGE plpgsql AS
    $$ BEGIN FOR i IN 1..n LOOP RAISE NOTICE 'row %', i; RETURN NEXT i; END LOOP; END $$;
CREATE FUNCTION fine(n int) RETURNS int LANGUAGE sql AS 'SELECT n + 1';
CREATE FUNCTION quiet_path() RETURNS int LANGUAGE sql SET search_path = pg_catalog AS 'SELECT 1';
"""
RESET = """
TRUNCATE t, w, three, big, dt, guarded, empty_row;
INSERT INTO t SELECT g, 's' || g FROM generate_series(1, 10) g;
INSERT INTO w VALUES (1, 'one'), (2, 'two');
INSERT INTO three VALUES (1, 'b', '\\xc0ffee'), (NULL, '', NULL);
INSERT INTO big SELECT g, repeat('x', 3000) FROM generate_series(1, 10) g;
DROP TABLE IF EXISTS altered, made CASCADE;
CREATE TABLE altered (a int);
INSERT INTO altered VALUES (1);
"""


@dataclass(slots=True)
class Stage:
    """The database of the golden traces on one worker's server, with what direct runs gave."""

    server: EmbeddedPostgres
    name: str
    heard_directly: dict[str, list[bytes]] = field(default_factory=dict)

    @property
    def direct(self) -> Endpoint:
        return Endpoint(self.server.port, self.name)

    def build(self) -> None:
        """Creates the database."""
        with psycopg.connect(self.server.dsn(), autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))
        self.admin(SCHEMA)

    def admin(self, statements: str) -> None:
        """Runs statements as superuser, directly."""
        with psycopg.connect(self.server.dsn("postgres", self.name), autocommit=True) as connection:
            connection.execute(statements.encode())

    def play(self, playbook: Playbook, endpoint: Endpoint, chunking: Chunking = whole) -> list[bytes]:
        """One run from a clean state."""
        self.admin(RESET)
        return playbook.run(endpoint, chunking)

    def expected(self, key: str, playbook: Playbook) -> list[bytes]:
        """What PostgreSQL itself answers, played once a worker."""
        if key not in self.heard_directly:
            self.heard_directly[key] = self.play(playbook, self.direct)
        return self.heard_directly[key]

    def compare(self, key: str, playbook: Playbook, through: Endpoint, chunking: Chunking) -> None:
        """Plays directly and through the proxy; every message must be the same bytes."""
        expected = self.expected(key, playbook)
        assert self.play(playbook, through, chunking) == expected
