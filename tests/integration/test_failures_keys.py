"""Keys that fail under a running proxy: KMS gone, key row deleted, envelope changed; an error, then recovery."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.embedded import EmbeddedPostgres
from tests.conftest import Database
from tests.integration.failing import eventually, refused, running
from tests.kms_servers import REGION, KmsProcess, roto
from tests.sealed import Sealed, sealed_database

RULES = """
version: 1
tenant: {from: setting, name: app.tenant_id}
tables:
  public.people:
    columns:
      ssn: {type: text}
roles:
  default: {read: plain}
"""
TABLE = "CREATE TABLE people (id int PRIMARY KEY, ssn text)"


def write(connection: psycopg.Connection, tenant: str, number: int) -> None:
    """One row of a tenant."""
    connection.execute("SELECT set_config('app.tenant_id', %s, false)", [tenant])
    connection.execute("INSERT INTO people VALUES (%s, %s)", [number, f"ssn of {number}"])


def read(connection: psycopg.Connection, tenant: str, number: int) -> str:
    connection.execute("SELECT set_config('app.tenant_id', %s, false)", [tenant])
    found = connection.execute("SELECT ssn FROM people WHERE id = %s", [number]).fetchone()
    assert found is not None
    return str(found[0])


@pytest.fixture
def kms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsProcess]:
    """A KMS of the test's own, that is killed and comes back."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    made = roto(tmp_path / "roto")
    made.start()
    yield made
    made.kill()


def test_kms_that_is_down_refuses_new_tenants_and_recovers(
    kms: KmsProcess, database: Database, tmp_path: Path
) -> None:
    """Known keys go on, a new tenant gets PS003, plain statements notice nothing; no restart is needed."""
    key = kms.admin().create_key()["KeyMetadata"]["KeyId"]
    place = f"{{provider: aws, key: '{key}', region: {REGION}, endpoint: '{kms.endpoint}'}}"
    with (
        running(tmp_path, database, RULES, place) as (_, dsn),
        psycopg.connect(dsn, autocommit=True) as connection,
    ):
        connection.execute(TABLE)
        write(connection, "a", 1)
        kms.kill()
        write(connection, "a", 2)
        assert refused(lambda: write(connection, "b", 3)) == "PS003"
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert read(connection, "a", 1) == "ssn of 1"
        kms.start()
        eventually(lambda: write(connection, "b", 3), None, "PS003")
        assert read(connection, "b", 3) == "ssn of 3"
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (3,)
    assert "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.fixture(scope="module")
def sealed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    """One installation whose key store is looked at often."""
    with sealed_database(postgres, RULES, [TABLE], config="key_cache: {status_ttl: 1s}\n") as made:
        yield made


def test_deleted_key_row_stops_its_use_and_comes_back(sealed: Sealed) -> None:
    """A key store that lost a row is not believed: PS003 or PS004; with the row again all goes on."""
    with sealed.connect() as connection, sealed.direct() as admin:
        write(connection, "lost", 1)
        admin.execute("CREATE TABLE pgseal.kept AS SELECT * FROM pgseal.encryption_keys WHERE tenant = 'lost'")
        admin.execute("DELETE FROM pgseal.encryption_keys WHERE tenant = 'lost'")
        numbers = itertools.count(1000)
        eventually(lambda: write(connection, "other", next(numbers)), "PS003")
        assert refused(lambda: write(connection, "lost", 2)) in ("PS003", "PS004")
        assert connection.execute("SELECT 1").fetchone() == (1,)
        admin.execute("INSERT INTO pgseal.encryption_keys SELECT * FROM pgseal.kept")
        admin.execute("DROP TABLE pgseal.kept")
        eventually(lambda: read(connection, "lost", 1), None, "PS003", "PS004")
        eventually(lambda: write(connection, "lost", 2), None, "PS003")
        assert read(connection, "lost", 1) == "ssn of 1"


@pytest.mark.parametrize(
    "change",
    [
        "set_byte(ssn, 8, get_byte(ssn, 8) # 255)",
        "set_byte(ssn, 12, get_byte(ssn, 12) # 128)",
        "set_byte(ssn, length(ssn) - 1, get_byte(ssn, length(ssn) - 1) # 1)",
        "(SELECT ssn FROM people WHERE id = 11)",
    ],
)
def test_changed_envelope_does_not_open(sealed: Sealed, change: str) -> None:
    """Key id, nonce or tag changed, or another tenant's cell put there: an error, never a value."""
    with sealed.connect() as connection, sealed.direct() as admin:
        admin.execute("DELETE FROM people")
        write(connection, "b", 11)
        write(connection, "a", 10)
        admin.execute(f"UPDATE people SET ssn = {change} WHERE id = 10".encode())
        assert refused(lambda: read(connection, "a", 10)) in ("PS004", "PS005")
        assert read(connection, "b", 11) == "ssn of 11"
        write(connection, "a", 12)
        assert read(connection, "a", 12) == "ssn of 12"


def test_envelope_of_another_row_of_the_same_tenant_opens_without_bind(sealed: Sealed) -> None:
    """What `bind:` is for, and docs/threat-model.md says: without it a cell may be moved between rows."""
    with sealed.connect() as connection, sealed.direct() as admin:
        admin.execute("DELETE FROM people")
        write(connection, "a", 20)
        write(connection, "a", 21)
        admin.execute("UPDATE people SET ssn = (SELECT ssn FROM people WHERE id = 21) WHERE id = 20")
        assert read(connection, "a", 20) == "ssn of 21"
