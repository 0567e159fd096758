"""The keyring over a KMS that is a real process: killed, frozen, its key disabled, and back again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.audit.events import SystemEvent
from proxy.crypto.envelope import key_id_of
from proxy.errors import KeyUnavailable
from proxy.keys.keyring import Keyring
from proxy.keys.kms.aws import AwsKms
from proxy.keys.material import KeyIdNeed
from tests.conftest import Database
from tests.keyrings import NOTES, OPTIONS, open_cell, seal
from tests.keystores import install, opened
from tests.kms_servers import REGION, KmsProcess, roto


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsProcess]:
    """A KMS of the test's own, that may be killed."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr("proxy.keys.kms.aws._CALL_TIMEOUT_S", 0.5)
    made = roto(tmp_path / "roto")
    made.start()
    yield made
    made.kill()


@dataclass(slots=True)
class Running:
    """A keyring over the real KMS, with a clock to turn."""

    ring: Keyring
    key: str
    now: list[float]


@pytest.fixture
async def running(server: KmsProcess, database: Database, tmp_path: Path) -> AsyncIterator[Running]:
    """An initialised installation whose KEK is in the KMS."""
    key = str(server.admin().create_key()["KeyMetadata"]["KeyId"])
    kms = {"main": AwsKms("main", key, region=REGION, endpoint=server.endpoint)}
    install(database)
    async with opened(database, tmp_path / "state", kms) as store:
        assert await store.initialise("main")
        now, events = [1000.0], list[SystemEvent]()
        ring = Keyring(store, kms, OPTIONS, events.append, lambda: now[0])
        await ring.read()
        yield Running(ring, key, now)
        ring.close()
    await kms["main"].close()


async def test_kms_killed_and_started_again_loses_no_read(server: KmsProcess, running: Running) -> None:
    """Cached keys go on past their ttl, new tenants get PS003; after the start all is as before."""
    ring = running.ring
    cell = await seal(ring, NOTES, "a", b"value")
    server.kill()
    running.now[0] += OPTIONS.ttl_s + 1
    assert await open_cell(ring, NOTES, cell) == b"value"
    await ring.ensure(ring.sealing_needs(NOTES, "b"))
    with pytest.raises(KeyUnavailable) as caught:
        ring.sealing(NOTES, "b")
    assert caught.value.sqlstate == "PS003"
    server.start()
    running.now[0] += 31
    assert await seal(ring, NOTES, "b", b"value")
    assert await open_cell(ring, NOTES, cell) == b"value"
    assert not ring.problems()


async def test_kms_frozen_keeps_nobody_with_a_cached_key_waiting(server: KmsProcess, running: Running) -> None:
    """While one tenant's key hangs, another's cells open; the hanging one gets PS003 by the time-out."""
    ring = running.ring
    cell = await seal(ring, NOTES, "a", b"value")
    with server.frozen():
        hanging = asyncio.ensure_future(ring.ensure(ring.sealing_needs(NOTES, "b")))
        n_opened = 0
        while not hanging.done():
            keys = ring.opening(NOTES, key_id_of(cell))
            assert keys is not None and keys.open(cell, ()) == b"value"
            n_opened += 1
            await asyncio.wait({hanging}, timeout=0.01)
        assert n_opened > 1
    with pytest.raises(KeyUnavailable, match="in time"):
        ring.sealing(NOTES, "b")
    running.now[0] += OPTIONS.negative_s
    assert await seal(ring, NOTES, "b", b"value")


async def test_kek_disabled_ends_every_key_at_its_ttl(server: KmsProcess, running: Running) -> None:
    """The KMS's no is final until it says yes: no stale use, PS003; enabled again, the cell opens."""
    ring = running.ring
    cell = await seal(ring, NOTES, "a", b"value")
    server.admin().disable_key(KeyId=running.key)
    running.now[0] += OPTIONS.ttl_s
    await ring.ensure((KeyIdNeed(key_id_of(cell)),))
    with pytest.raises(KeyUnavailable, match="disabled"):
        ring.opening(NOTES, key_id_of(cell))
    server.admin().enable_key(KeyId=running.key)
    running.now[0] += OPTIONS.negative_s
    assert await open_cell(ring, NOTES, cell) == b"value"


async def test_store_unlocks_when_the_kms_comes_up_after_the_proxy(
    server: KmsProcess, running: Running, database: Database, tmp_path: Path
) -> None:
    """A proxy that starts while the KMS is away says so and is ready once it answers."""
    server.kill()
    kms = {"main": AwsKms("main", running.key, region=REGION, endpoint=server.endpoint)}
    async with opened(database, tmp_path / "other", kms) as store:
        with pytest.raises(KeyUnavailable, match="cannot be reached"):
            await store.read()
        server.start()
        await store.read()
        assert store.realm == running.ring._store.realm
    await kms["main"].close()
