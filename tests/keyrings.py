"""A keyring with its store, its KMS and a clock that tests turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxy.audit.events import SystemEvent
from proxy.crypto.envelope import key_id_of
from proxy.keys.keyring import Keyring, KeyringOptions
from proxy.keys.material import ColumnKeys, KeyIdNeed, KeyView, LeaseNeed
from proxy.keys.store import KeyStore
from proxy.rules import ColumnRule, Mode, Scope
from proxy.values.registry import parse_type
from tests.conftest import Database
from tests.keystores import KEK, install, opened
from tests.kms_servers import SwitchedKms

OPTIONS = KeyringOptions("main", ttl_s=600, stale_s=600, status_ttl_s=30, negative_s=5)
NOTES = ColumnRule("public.t", "notes", parse_type("text"), "public.t.notes")
SSN = replace(NOTES, column="ssn", context="public.t.ssn", search=True)
EMAIL = replace(SSN, column="email", context="public.t.email", scope=Scope.TABLE)
BADGE = replace(NOTES, column="badge", context="public.t.badge", mode=Mode.DETERMINISTIC)
LOGIN = replace(BADGE, column="login", context="public.t.login", scope=Scope.TABLE)


@dataclass(slots=True)
class Bench:
    """All of one process."""

    ring: Keyring
    store: KeyStore
    kms: SwitchedKms
    events: list[SystemEvent]
    told: asyncio.Event
    now: list[float] = field(default_factory=lambda: [0.0])

    def pass_time(self, seconds: float) -> None:
        """Turn the clock."""
        self.now[0] += seconds

    @property
    def kinds(self) -> list[str]:
        """The kinds of the events so far."""
        return [event.kind for event in self.events]


@asynccontextmanager
async def bench(
    database: Database, state: Path, options: KeyringOptions = OPTIONS, *, is_first: bool = True
) -> AsyncIterator[Bench]:
    """A keyring over a store of its own; the first one installs and initialises."""
    kms = SwitchedKms(KEK)
    if is_first:
        install(database)
    async with opened(database, state, {"main": kms}) as store:
        if is_first:
            await store.initialise("main")
        now, events, told = [1000.0], list[SystemEvent](), asyncio.Event()

        def emit(event: SystemEvent) -> None:
            events.append(event)
            told.set()

        ring = Keyring(store, {"main": kms}, options, emit, lambda: now[0])
        await ring.read()
        yield Bench(ring, store, kms, events, told, now)
        ring.close()


async def sealing(view: Keyring, rule: ColumnRule, tenant: str) -> ColumnKeys:
    """As a session and its relay do: ask, ensure, ask again."""
    keys = view.sealing(rule, tenant)
    if keys is None:
        await view.ensure(view.sealing_needs(rule, tenant))
        keys = view.sealing(rule, tenant)
    assert keys is not None
    return keys


async def seal(view: Keyring, rule: ColumnRule, tenant: str, display: bytes) -> bytes:
    """One cell, with token and lease as they are needed."""
    keys = await sealing(view, rule, tenant)
    token = None
    if rule.search:
        tokens = view.tokens(rule, tenant)
        if tokens is None:
            await view.ensure(view.sealing_needs(rule, tenant))
            tokens = view.tokens(rule, tenant)
        assert tokens is not None
        token = tokens.token(display)
    sealed = keys.seal(display, token, ())
    if isinstance(sealed, LeaseNeed):
        await view.ensure((sealed,))
        keys = await sealing(view, rule, tenant)
        sealed = keys.seal(display, token, ())
    if isinstance(sealed, LeaseNeed):
        await view.ensure((sealed,))
        sealed = keys.seal(display, token, ())
    assert isinstance(sealed, bytes)
    return sealed


async def open_cell(view: Keyring, rule: ColumnRule, cell: bytes) -> bytes:
    """One cell, its key fetched when it is not there."""
    need = KeyIdNeed(key_id_of(cell))
    keys = view.opening(rule, need.key_id)
    if keys is None:
        await view.ensure((need,))
        keys = view.opening(rule, need.key_id)
    assert keys is not None
    return keys.open(cell, ())


def as_view(ring: Keyring) -> KeyView:
    """The keyring as the session sees it; checked by mypy, and used where only the view should be."""
    return ring
