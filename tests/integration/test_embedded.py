"""The embedded server: versions, TLS, passwords, stop, start and kill."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from proxy.containers import NoEngine, require_engine
from proxy.embedded import FAST, EmbeddedPostgres, ServerMissing, find_binaries
from proxy.server_binaries import SOURCES, Binaries


def test_embedded_default_answers_queries_and_removes_its_folder():
    """A server comes up on a free port, answers, and leaves nothing behind."""
    with EmbeddedPostgres(settings=FAST) as server:
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT 40 + 2").fetchone() == (42,)
            assert connection.execute("SHOW fsync").fetchone() == ("off",)
        assert server.data_dir.stat().st_mode & 0o777 == 0o700
        folder = server.folder
    assert not folder.exists()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_embedded_restarted_keeps_port_and_committed_rows(how):
    """After a shutdown or a crash the server starts again on its port with what was committed."""
    with EmbeddedPostgres() as server:
        port = server.port
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
            getattr(server, how)()
        server.start()
        assert server.port == port
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)


def test_embedded_with_tls_and_scram_serves_only_the_password_over_tls():
    """The certificate verifies, the right password enters, and without TLS hba refuses."""
    hba = ["local all all trust", "hostssl all all 127.0.0.1/32 scram-sha-256"]
    with EmbeddedPostgres(settings=FAST, hba=hba, tls=True, password="right") as server:
        assert server.tls is not None
        verify = {"sslmode": "verify-full", "sslrootcert": str(server.tls.cert), "host": "127.0.0.1"}
        with psycopg.connect(server.dsn(), password="right", **verify) as connection:
            assert connection.pgconn.ssl_in_use
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.dsn(), password="wrong", **verify)
        with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
            psycopg.connect(server.dsn(), password="right", sslmode="disable")


def test_embedded_version_asked_for_is_the_one_that_runs():
    """Asking for a major version gives that version, whatever else the machine has."""
    assert find_binaries(18).major == 18


def test_embedded_unknown_version_is_refused_by_name():
    """A version nobody ships is an error that lists what can be had."""
    with pytest.raises(ServerMissing, match="PostgreSQL 9 is not one of 14, 15, 16, 17, 18"):
        find_binaries(9)


def test_sources_are_asked_in_their_order_until_one_has_the_version():
    """Machine, wheels, container: the first that has what was asked for; later ones are not asked."""
    assert [source.__name__ for source in SOURCES] == ["_of_machine", "_of_celerp", "_of_wheel", "_of_container"]
    asked = []

    def source(name, major):
        def give(version):
            asked.append(name)
            return None if major is None else Binaries(Path(name), major, f"{major}.1")

        return give

    sources = [source("none", None), source("other", 14), source("right", 17), source("late", 17)]
    assert find_binaries(17, sources).folder == Path("right")
    assert asked == ["none", "other", "right"]


def test_sources_that_all_fail_are_each_told():
    """Where there is no server, no wheel and no engine, the message names every reason."""

    def refuses(reason):
        def give(version):
            raise ServerMissing(reason)

        return give

    with pytest.raises(ServerMissing, match="no wheel; no container: no Docker engine"):
        find_binaries(17, [refuses("no wheel"), refuses("no container: no Docker engine")])
    with pytest.raises(ServerMissing, match="no PostgreSQL could be found"):
        find_binaries(17, [])


def test_container_without_an_engine_is_refused_with_the_reason(monkeypatch):
    """Neither the client library's absence nor a dead engine is an internal error."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(NoEngine, match=r"testcontainers is not installed|no Docker engine answers"):
        require_engine()


def test_embedded_bad_setting_fails_with_the_server_s_words():
    """A server that does not come up says why and leaves no folder."""
    with (
        pytest.raises(ServerMissing, match="no_such_setting"),
        EmbeddedPostgres(settings={"no_such_setting": "1"}),
    ):
        pass


def test_database_fixture_is_empty_and_writable(database):
    """The fixture's database is the test's own."""
    database.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    with database.connect() as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]
