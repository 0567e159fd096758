"""Wrapping and unwrapping data keys under the configured KEKs, each behind its circuit breaker.

One reason to change: which KEK a key is made under, and what is told of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from proxy.audit.events import SystemEvent
from proxy.errors import KeyUnavailable
from proxy.keys.calls import Circuit, Clock, KmsStats
from proxy.keys.kms.base import DataKey, Kms, KmsRefused, tenant_context
from proxy.keys.material import ActiveKeyNeed
from proxy.keys.records import KeyRecord, Purpose
from proxy.keys.store import NewKey

Emit = Callable[[SystemEvent], None]


class Keks:
    """`kms` by alias; new keys are made under `default_alias`. `emit` takes an event for each key operation."""

    def __init__(self, kms: Mapping[str, Kms], default_alias: str, emit: Emit, clock: Clock) -> None:
        self._kms = kms
        self._default_alias = default_alias
        self._emit = emit
        self._circuits = {alias: Circuit(alias, clock) for alias in kms}

    @property
    def stats(self) -> dict[str, KmsStats]:
        """Counters by alias; the objects stay the same."""
        return {alias: circuit.stats for alias, circuit in self._circuits.items()}

    def down(self) -> tuple[str, ...]:
        """Aliases whose circuit is open."""
        return tuple(alias for alias, circuit in self._circuits.items() if circuit.is_open)

    async def generate(self, realm: bytes, need: ActiveKeyNeed) -> tuple[DataKey, NewKey]:
        """A new data key for a tenant, in the clear and as the store takes it."""
        alias = self._default_alias
        kms, context = self._get(alias), tenant_context(realm, need.tenant, need.key_type)
        made = await self._circuits[alias].call(lambda: kms.generate_data_key(context))
        return made, NewKey(need.tenant, need.key_type, Purpose(need.purpose), alias, made.wrapped)

    async def unwrap(self, realm: bytes, record: KeyRecord) -> bytearray:
        """The key of a record; raises KmsUnavailable or KmsRefused."""
        kms, context = self._get(record.kek_alias), tenant_context(realm, record.tenant, record.key_type)
        wrapped = record.wrapped_dek or b""
        try:
            plain = await self._circuits[record.kek_alias].call(lambda: kms.unwrap(wrapped, context))
        except KmsRefused:
            self.tell("security.kms_refused", record)
            raise
        self.tell("key.unwrap", record)
        return plain

    def tell(self, kind: str, record: KeyRecord) -> None:
        """An audit event about one key."""
        fields = (
            ("kek", record.kek_alias),
            ("key_id", record.key_id),
            ("key_type", record.key_type),
            ("purpose", record.purpose.value),
            ("tenant", record.tenant),
            ("version", record.version),
        )
        self._emit(SystemEvent(time.time(), kind, fields))

    def _get(self, alias: str) -> Kms:
        kms = self._kms.get(alias)
        if kms is None:
            raise KeyUnavailable(f"kms '{alias}' is not configured", hint="add it to `kms:` of the configuration")
        return kms
