"""The one job of a process beside its connections: statuses polled, used keys refreshed before they end.

One reason to change: when the keys of a process are looked after.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from proxy.errors import PgsealError
from proxy.keys.keyring import Keyring
from proxy.keys.store import KeyStore

FULL_READ_EVERY: Final = 20
_log = structlog.get_logger("pgseal.keys")


async def keep_fresh(keyring: Keyring, store: KeyStore) -> None:
    """Until cancelled: read the store's statuses when they are due or when it says that it changed (every row
    anew each 20th time), then ask ahead for keys in use and overwrite those that ended."""
    n_reads = 0
    while True:
        store.changed.clear()
        n_reads += 1
        try:
            await keyring.read(full=n_reads % FULL_READ_EVERY == 0)
        except PgsealError as error:
            _log.error("key store not read", reason=error.message)
        await keyring.refresh_ahead()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(keyring.options.status_ttl_s):
                await store.changed.wait()
