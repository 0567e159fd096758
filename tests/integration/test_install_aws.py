"""`pgseal init` and a worker with a KEK in AWS KMS (the simulator roto, a real process)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.audit.writers import next_writer
from proxy.cli.approval import secrets_of
from proxy.cli.init import Init
from proxy.cli.installation import load
from proxy.cli.worker import start_worker
from proxy.dsn import parse_dsn
from proxy.net.settings import NetSettings
from proxy.net.workers import Place
from tests.conftest import Database
from tests.kms_servers import REGION, KmsProcess, roto

RULES = """\
version: 1
tables:
  public.patients:
    tenant: {from: fixed, name: main}
    columns:
      ssn: {type: text, search: equality}
roles:
  postgres: {read: plain}
"""


@pytest.fixture
def kms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsProcess]:
    """A KMS of the test's own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    made = roto(tmp_path / "roto")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def config(kms: KmsProcess, database: Database, tmp_path: Path) -> Iterator[Path]:
    """pgseal.yaml with one KEK in that KMS, and rules."""
    key = kms.admin().create_key()["KeyMetadata"]["KeyId"]
    path = tmp_path / "pgseal.yaml"
    path.write_text(
        "listen: 127.0.0.1:0\nstate: state\nrules: rules/\n"
        f"server: {{port: {database.port}, tls: disable}}\n"
        f"service: postgresql://pgseal_{database.name}@127.0.0.1:{database.port}/{database.name}\n"
        f'kms: {{main: {{provider: aws, key: "{key}", region: {REGION}, endpoint: "{kms.endpoint}"}}}}\n'
        'http: {listen: "127.0.0.1:0"}\n'
    )
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "app.yaml").write_text(RULES)
    yield path
    login = f"pgseal_{database.name}"
    database.execute(f"DROP OWNED BY {login} CASCADE; DROP ROLE {login}")


async def test_init_and_worker_with_aws_kms_seal_count_and_show_an_outage(
    kms: KmsProcess, database: Database, config: Path
) -> None:
    """Keys come from the KMS and its calls are counted; when it is gone, /readyz says so and known keys go on."""
    await Init(config, parse_dsn(database.dsn()), None, False, False).run()
    installation = load(config)
    secrets = await secrets_of(installation)
    audit, state = installation.config.audit.folder, installation.config.state
    writer = next_writer(bytes(secrets.audit_root), audit, state, secrets.name, 0, time.time())
    worker = await start_worker(installation, secrets, writer, Place(0, NetSettings.of(installation.config)))
    try:
        dsn = f"postgresql://postgres@127.0.0.1:{worker.server.port}/{database.name}"
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute("CREATE TABLE patients (id int, ssn text)")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute("INSERT INTO patients VALUES (1, %s)", ["123-45-6789"])
            assert worker.own_metrics()["kms_calls"]["main ok"] >= 2
            assert worker.readiness().is_ready
            kms.kill()
            cursor = await connection.execute("SELECT id FROM patients WHERE ssn = %s", ["123-45-6789"])
            assert await cursor.fetchall() == [(1,)]
        async with asyncio.timeout(20):
            while worker.server.counters.n_open:  # noqa: ASYNC110  (another task counts it down)
                await asyncio.sleep(0.01)
    finally:
        await worker.server.close(1.0)
        await worker.close()
