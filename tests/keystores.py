"""Key stores on a test's own database, for the tests of store and keyring."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.dsn import parse_dsn
from proxy.keys.kms.base import Kms, tenant_context
from proxy.keys.kms.local import LocalKms
from proxy.keys.records import Purpose
from proxy.keys.state_folder import StateFolder
from proxy.keys.store import KeyStore, NewKey
from proxy.keys.store_schema import STORE_DDL
from proxy.service.connection import ServiceConnection, ServiceTarget
from tests.conftest import Database

KEK = bytes(range(32))


def target(database: Database) -> ServiceTarget:
    """pgseal's own log-in, here the superuser."""
    return ServiceTarget(parse_dsn(database.dsn()))


@asynccontextmanager
async def opened(
    database: Database, state: Path, kms: Mapping[str, Kms] | None = None
) -> AsyncIterator[KeyStore]:
    """A key store as one process has it: a connection and a state folder of its own."""
    connection = ServiceConnection(target(database))
    try:
        yield KeyStore(connection, StateFolder(state), kms or {"main": LocalKms("main", KEK)})
    finally:
        await connection.close()


def install(database: Database) -> None:
    """The tables, without a head row."""
    database.execute(STORE_DDL)


async def new_key(
    store: KeyStore, tenant: str = "a", purpose: Purpose = Purpose.DATA, key_type: str = "PHI"
) -> NewKey:
    """A data key made by the local KEK."""
    made = await LocalKms("main", KEK).generate_data_key(tenant_context(store.realm, tenant, key_type))
    return NewKey(tenant, key_type, purpose, "main", made.wrapped)


def fresh_folder(base: Path) -> Path:
    """A state folder that no process has used yet."""
    return base / os.urandom(4).hex()
