"""The keys a process holds: what a session asks without waiting, and the waiting that is done for it.

`sealing`, `tokens` and `opening` answer from memory; None means: `await ensure(needs)`, then ask again. What
`ensure` could not get is remembered for some seconds, so that the next ask raises instead of asking for ever.
The store's statuses win over every cache: they are polled, NOTIFY only makes the poll come sooner, and when
they are older than five minutes nothing is sealed. State is changed between awaits only, by one loop.
One reason to change: when a key may be used.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from proxy.audit.events import SystemEvent
from proxy.crypto.blind_index import IndexTokens
from proxy.crypto.envelope import not_open
from proxy.errors import KeyUnavailable, PgsealError
from proxy.keys.cache import Dek, DekCache, Hot
from proxy.keys.calls import Clock, Flights
from proxy.keys.columns import (
    FIRST_LEASE,
    LARGEST_LEASE,
    OPENING_ONLY,
    ROTATE_AT,
    AnyKeys,
    DeterministicKeys,
    NonceLease,
)
from proxy.keys.keks import Emit, Keks
from proxy.keys.kms.base import DataKey, Kms, KmsRefused, KmsUnavailable, overwrite
from proxy.keys.material import ActiveKeyNeed, ColumnKeys, KeyIdNeed, KeyNeed, LeaseNeed, TokenKey
from proxy.keys.needs import cell_need, check_need, has_token, index_need, line_of, may_open
from proxy.keys.options import KeyringOptions as KeyringOptions
from proxy.keys.options import KeyringStats
from proxy.keys.records import KeyRecord, StoreTampered
from proxy.keys.remembered import Remembered, again
from proxy.keys.store import KeyStore
from proxy.rules import ColumnRule, Mode

STATUS_LIMIT_S: Final = 300.0  # statuses older than this seal nothing
MAX_HOT: Final = 100_000
MAX_DERIVED: Final = 1_000  # derived keys a data key keeps: columns of today's rules, and of some before
AT_ONCE: Final = 16
REFRESH_PART: Final = 0.2  # of the ttl: so long before its end a used key is asked for again


class Keyring:
    """Implements `material.KeyView`. `emit` takes an audit event for each key operation and security event."""

    def __init__(
        self,
        store: KeyStore,
        kms: Mapping[str, Kms],
        options: KeyringOptions,
        emit: Emit,
        clock: Clock = time.monotonic,
    ) -> None:
        self.options = options
        self._store = store
        self._emit = emit
        self._clock = clock
        self._keks = Keks(kms, options.default_kek, emit, clock)
        self.stats = KeyringStats(kms=self._keks.stats)
        self._deks = DekCache(options.max_keys)
        self._active: dict[tuple[str, str, str], KeyRecord] = {}
        self._leases: dict[LeaseNeed, NonceLease] = {}
        self._lease_sizes: dict[LeaseNeed, int] = {}
        self._errors = Remembered(clock, options.negative_s)
        self._blocked: KeyUnavailable | None = None
        self._read_at_s = -float("inf")
        self._flights = Flights()
        self._hot_sealing: dict[tuple[int, str], Hot[AnyKeys]] = {}
        self._hot_opening: dict[tuple[int, int], Hot[AnyKeys]] = {}
        self._hot_tokens: dict[tuple[int, str], Hot[IndexTokens]] = {}

    def __repr__(self) -> str:
        return f"Keyring({len(self._deks)} keys)"

    # --- what a session asks: no waiting --------------------------------------------------------------

    def sealing(self, rule: ColumnRule, tenant: str) -> ColumnKeys | None:
        """Keys to seal a cell of this column for this tenant."""
        hot = self._hot_sealing.get((id(rule), tenant))
        if hot is not None and self._clock() < hot.until_s:
            self.stats.n_hits += 1
            hot.dek.was_used = True
            return hot.keys
        need = cell_need(rule, tenant)
        dek = self._sealing_dek(need)
        if dek is None:
            return None
        version = 0
        if has_token(rule):
            index = self._active.get(line_of(index_need(rule, tenant)))
            if index is None:
                self._missing(index_need(rule, tenant))
                return None
            version = index.version
        kept = dek.sealing.get((id(rule), version))
        if kept is None:
            _make_room(dek.sealing, MAX_DERIVED)
            kept = dek.sealing[id(rule), version] = (rule, self._keys_of(rule, dek, version))
        until_s = min(dek.good_until_s, self._read_at_s + STATUS_LIMIT_S)
        _make_room(self._hot_sealing, MAX_HOT)
        self._hot_sealing[id(rule), tenant] = Hot(rule, kept[1], dek, until_s)
        return kept[1]

    def tokens(self, rule: ColumnRule, tenant: str) -> TokenKey | None:
        """Keys to make tokens of a column; for a deterministic one the token is the whole envelope."""
        if rule.mode is Mode.DETERMINISTIC:
            keys = self.sealing(rule, tenant)
            assert keys is None or isinstance(keys, DeterministicKeys)
            return keys
        hot = self._hot_tokens.get((id(rule), tenant))
        if hot is not None and self._clock() < hot.until_s:
            self.stats.n_hits += 1
            hot.dek.was_used = True
            return hot.keys
        dek = self._sealing_dek(index_need(rule, tenant))
        if dek is None:
            return None
        kept = dek.tokens.get(id(rule))
        if kept is None:
            _make_room(dek.tokens, MAX_DERIVED)
            kept = dek.tokens[id(rule)] = (rule, dek.tokens_of(rule, self._store.realm))
        until_s = min(dek.good_until_s, self._read_at_s + STATUS_LIMIT_S)
        _make_room(self._hot_tokens, MAX_HOT)
        self._hot_tokens[id(rule), tenant] = Hot(rule, kept[1], dek, until_s)
        return kept[1]

    def opening(self, rule: ColumnRule, key_id: int) -> ColumnKeys | None:
        """Keys to open a cell; CellNotOpen where this key may open no cell of this column."""
        hot = self._hot_opening.get((id(rule), key_id))
        if hot is not None and self._clock() < hot.until_s:
            self.stats.n_hits += 1
            hot.dek.was_used = True
            return hot.keys
        record = self._store.records.get(key_id)
        if record is not None and not may_open(record, rule):
            raise not_open(rule.label)
        dek = self._good(key_id)
        if dek is None:
            self._missing(KeyIdNeed(key_id), rule.label)
            return None
        kept = dek.opening.get(id(rule))
        if kept is None:
            version = int(has_token(rule))
            _make_room(dek.opening, MAX_DERIVED)
            kept = dek.opening[id(rule)] = (rule, self._keys_of(rule, dek, version, may_seal=False))
        _make_room(self._hot_opening, MAX_HOT)
        self._hot_opening[id(rule), key_id] = Hot(rule, kept[1], dek, dek.good_until_s)
        return kept[1]

    def sealing_needs(self, rule: ColumnRule, tenant: str) -> tuple[KeyNeed, ...]:
        """What to ensure before `sealing` (and `tokens`) return something."""
        if has_token(rule):
            return (cell_need(rule, tenant), index_need(rule, tenant))
        return (cell_need(rule, tenant),)

    def token_needs(self, rule: ColumnRule, tenant: str) -> tuple[KeyNeed, ...]:
        """What to ensure before `tokens` returns something."""
        return (cell_need(rule, tenant) if rule.mode is Mode.DETERMINISTIC else index_need(rule, tenant),)

    # --- finding --------------------------------------------------------------------------------------

    def _sealing_dek(self, need: ActiveKeyNeed) -> Dek | None:
        if self._blocked is not None:
            raise again(self._blocked)
        record = self._active.get(line_of(need))
        if record is None or self._clock() >= self._read_at_s + STATUS_LIMIT_S:
            self._missing(need)
            return None
        dek = self._good(record.key_id)
        if dek is None:
            self._missing(need)
        return dek

    def _good(self, key_id: int) -> Dek | None:
        dek = self._deks.get(key_id)
        if dek is None or self._clock() >= dek.good_until_s:
            return None
        self.stats.n_hits += 1
        dek.was_used = True
        return dek

    def _missing(self, need: KeyNeed, label: str | None = None) -> None:
        """None, or the error that `ensure` met a moment ago."""
        self.stats.n_misses += 1
        self._errors.check(need, label)

    def _keys_of(self, rule: ColumnRule, dek: Dek, index_version: int, may_seal: bool = True) -> AnyKeys:
        lease = self._lease_of(LeaseNeed(dek.record.key_id, rule.context)) if may_seal else OPENING_ONLY
        return dek.keys_of(rule, self._store.realm, index_version, lease)

    def _lease_of(self, need: LeaseNeed) -> NonceLease:
        lease = self._leases.get(need)
        if lease is None:
            lease = self._leases[need] = NonceLease(need, 0, lambda: self._errors.check(need))
        return lease

    # --- waiting --------------------------------------------------------------------------------------

    async def ensure(self, needs: tuple[KeyNeed, ...]) -> None:
        """Get what is needed, or remember why not: the next ask tells. Raises nothing but cancellation."""
        if len(needs) == 1:
            await self._ensure(needs[0])
            return
        if len(needs) > self.options.max_keys:
            error = KeyUnavailable(
                "the statement needs more keys than the cache holds", hint="raise key_cache.max_keys"
            )
            for need in needs:
                self._errors.put(need, error)
            return
        for start in range(0, len(needs), AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for need in needs[start : start + AT_ONCE]:
                    group.create_task(self._ensure(need))

    async def _ensure(self, need: KeyNeed) -> None:
        async def work() -> None:
            try:
                match need:
                    case ActiveKeyNeed():
                        await self._ensure_active(need)
                    case KeyIdNeed():
                        await self._ensure_key(need)
                    case LeaseNeed():
                        await self._ensure_lease(need)
                self._errors.drop(need)
            except StoreTampered as error:
                self._block(error)
                self._errors.put(need, error)
            except PgsealError as error:
                self._errors.put(need, error)

        await self._flights.once(need, work)

    async def _ensure_active(self, need: ActiveKeyNeed) -> None:
        check_need(need)
        line = line_of(need)
        is_old = self._clock() >= self._read_at_s + STATUS_LIMIT_S
        if line not in self._active or is_old or self._blocked is not None:
            await self.read()
        record = self._active.get(line)
        if record is not None:
            await self._load(record)
            return
        if any(other.line == line for other in self._store.records.values()):
            raise KeyUnavailable(f"no key of type {need.key_type} may seal for this tenant")
        if not self.options.auto_create:
            raise KeyUnavailable(f"this tenant has no key of type {need.key_type}")
        made, new = await self._keks.generate(self._store.realm, need)
        record = await self._store.create(new)
        if record.wrapped_dek == made.wrapped:
            self.stats.n_created += 1
            self._keks.tell("key.generate", record)
        await self._adopt(record, made)

    async def _ensure_key(self, need: KeyIdNeed) -> None:
        if need.key_id not in self._store.records:
            await self.read()
        record = self._store.records.get(need.key_id)
        if record is None or not record.can_open:
            raise not_open()
        await self._load(record)

    async def _ensure_lease(self, need: LeaseNeed) -> None:
        lease = self._lease_of(need)
        if lease.left > 0:
            return
        size = self._lease_sizes.get(need, FIRST_LEASE)
        taken = await self._store.lease(need.key_id, need.context, size)
        self._lease_sizes[need] = min(size * 2, LARGEST_LEASE)
        lease.left += taken.granted
        self.stats.n_leases += 1
        record = self._store.records.get(need.key_id)
        if taken.total >= ROTATE_AT and record is not None and self._active.get(record.line) == record:
            await self._rotate(record)

    async def _rotate(self, old: KeyRecord) -> None:
        """A new version, since the old one has sealed half of what it may; if not now, at the next lease."""
        try:
            made, new = await self._keks.generate(self._store.realm, ActiveKeyNeed(*old.line))
            record = await self._store.rotate(old.key_id, new)
        except StoreTampered:
            raise
        except KeyUnavailable:
            return
        if record.wrapped_dek == made.wrapped:
            self.stats.n_rotated += 1
            self._keks.tell("key.rotate", record)
        await self._adopt(record, made)

    async def _adopt(self, record: KeyRecord, made: DataKey) -> None:
        """Use what was just generated, or, where another proxy was first, its key."""
        self._apply()
        if record.wrapped_dek == made.wrapped:
            self._put(record, made.plain)
            return
        overwrite(made.plain)
        await self._load(record)

    async def _load(self, record: KeyRecord) -> None:
        """Have the key unwrapped and good. One flight a key, whoever needs it."""
        while self._good(record.key_id) is None:
            if await self._flights.once(record.key_id, lambda: self._unwrap(record)):
                return
            self._errors.check(KeyIdNeed(record.key_id))

    async def _unwrap(self, record: KeyRecord) -> None:
        need = KeyIdNeed(record.key_id)
        try:
            plain = await self._keks.unwrap(self._store.realm, record)
        except KmsUnavailable as error:
            if not self._prolong(record.key_id):
                self._errors.put(need, error)
                raise
            return
        except KmsRefused as error:
            self._revoke(record.key_id)
            self._errors.put(need, error)
            raise
        self._errors.drop(need)
        self._put(record, plain)

    def _put(self, record: KeyRecord, plain: bytearray) -> None:
        current = self._store.records.get(record.key_id)
        if current is None or not current.can_open:  # its status changed while the KMS was asked
            overwrite(plain)
            raise not_open()
        good_s = self._clock() + self.options.ttl_s
        known = self._deks.get(record.key_id)
        if known is not None:
            overwrite(plain)
            known.good_until_s, known.last_until_s = good_s, good_s + self.options.stale_s
        elif self._deks.put(Dek(current, plain, good_s, good_s + self.options.stale_s)):
            self._forget_hot()
            self.stats.n_evicted = self._deks.n_evicted

    def _prolong(self, key_id: int) -> bool:
        """The KMS is down: go on with what is in memory until after the next `refresh_ahead`, up to the bound."""
        dek, now_s = self._deks.get(key_id), self._clock()
        if dek is None or now_s >= dek.last_until_s:
            return False
        dek.good_until_s = max(dek.good_until_s, min(now_s + 2 * self.options.status_ttl_s, dek.last_until_s))
        return True

    # --- the store ------------------------------------------------------------------------------------

    async def read(self, *, full: bool = False) -> None:
        """Read the key store now and let its statuses win. Raises KeyUnavailable; at start this is the test."""
        while not await self._flights.once("read", lambda: self._read(full)):
            if self._blocked is None and self._clock() < self._read_at_s + 1.0:
                return  # another's read that has just ended well

    async def _read(self, full: bool) -> None:
        epoch = self._store.epoch
        try:
            await self._store.read(full=full)
        except StoreTampered as error:
            self._block(error)
            raise
        except KeyUnavailable:
            self.stats.n_store_failures += 1
            raise
        self.stats.n_store_reads += 1
        self._read_at_s = self._clock()
        self._blocked = None
        if self._store.epoch != epoch:
            self._errors.clear()  # what was missing may be there now
        self._apply()

    def _apply(self) -> None:
        """What the store says now wins over what is cached."""
        now = datetime.now(UTC)
        records = self._store.records
        self._active = {record.line: record for record in records.values() if record.is_active(now)}
        for dek in self._deks:
            record = records.get(dek.record.key_id)
            if record is not None and record.can_open:
                dek.record = record
            else:
                self._revoke(dek.record.key_id)
                self._keks.tell("key.revoked", record or dek.record)
        self._forget_hot()

    async def refresh_ahead(self) -> None:
        """Unwrap anew what was used and ends soon; overwrite what has ended."""
        now_s = self._clock()
        soon_s = now_s + max(self.options.ttl_s * REFRESH_PART, self.options.status_ttl_s)
        due = [dek.record for dek in self._deks if dek.was_used and dek.good_until_s < soon_s]
        if self._deks.drop_ended(now_s):
            self._forget_hot()
        for record in due:
            with contextlib.suppress(PgsealError):
                await self._flights.once(record.key_id, lambda record=record: self._unwrap(record))  # type: ignore[misc]
            kept = self._deks.get(record.key_id)
            if kept is not None:
                kept.was_used = False

    @property
    def n_keys(self) -> int:
        """Data keys in memory now."""
        return len(self._deks)

    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for /readyz; empty when all is well."""
        found = [f"kms '{alias}' does not answer" for alias in self._keks.down()]
        if self._blocked is not None:
            found.append(f"nothing is sealed: {self._blocked.message}")
        if self._clock() >= self._read_at_s + STATUS_LIMIT_S:
            found.append("nothing is sealed: the key store has not been read for five minutes")
        return tuple(found)

    def close(self) -> None:
        """Overwrite every key; nothing opens afterwards."""
        self._deks.clear()
        self._active.clear()
        self._forget_hot()

    def _revoke(self, key_id: int) -> None:
        self._deks.drop(key_id, revoke=True)
        self._forget_hot()

    def _forget_hot(self) -> None:
        self._hot_sealing.clear()
        self._hot_opening.clear()
        self._hot_tokens.clear()

    def _block(self, error: StoreTampered) -> None:
        """Seal nothing until the store reads well again; say so once."""
        if self._blocked is None:
            self.stats.n_tampered += 1
            fields = (("reason", error.message),)
            self._emit(SystemEvent(time.time(), "security.key_store", fields))
        self._blocked = error
        self._forget_hot()


def _make_room(kept: dict[Any, Any], n_most: int) -> None:
    """What is kept by a rule's id outlives the rules it was made for; so it has a bound."""
    if len(kept) >= n_most:
        kept.clear()
