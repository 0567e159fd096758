"""Unwrapped data keys in memory: their times, their bound, and their end in zeros.

Eviction gives a key that was used since the last look a second chance. CPython cannot promise that no copy of
a key is left behind; what can be overwritten is. One reason to change: how long and how many keys are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from proxy.crypto.blind_index import IndexTokens
from proxy.crypto.derive import Place
from proxy.crypto.suites import DeterministicCells, RandomisedCells
from proxy.keys.columns import AnyKeys, DeterministicKeys, NonceLease, RandomisedKeys
from proxy.keys.kms.base import overwrite
from proxy.keys.records import KeyRecord
from proxy.rules import ColumnRule, Mode

K = TypeVar("K")


@dataclass(slots=True, repr=False)
class Dek:
    """One unwrapped data key. `good_until_s`: until then it is used without asking the KMS again (monotonic);
    `last_until_s`: until then it may be prolonged while the KMS is down. Derived keys by the id of their rule;
    each entry keeps its rule alive, so an id is never another's."""

    record: KeyRecord
    material: bytearray
    good_until_s: float
    last_until_s: float
    was_used: bool = True
    sealing: dict[tuple[int, int], tuple[ColumnRule, AnyKeys]] = field(default_factory=dict)
    opening: dict[int, tuple[ColumnRule, AnyKeys]] = field(default_factory=dict)
    tokens: dict[int, tuple[ColumnRule, IndexTokens]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Dek(key_id={self.record.key_id})"

    def keys_of(self, rule: ColumnRule, realm: bytes, index_version: int, lease: NonceLease) -> AnyKeys:
        """The keys of a column's cells. `index_version` 0 where they carry no token."""
        record = self.record
        place = Place(realm, record.tenant, rule.context, rule.type.family, rule.label)
        if rule.mode is Mode.DETERMINISTIC:
            certain = DeterministicCells(
                place, self.material, record.key_id, index_version=record.version, pad=rule.pad
            )
            return DeterministicKeys(record.key_id, record.tenant, certain)
        cells = RandomisedCells(place, self.material, record.key_id, index_version=index_version, pad=rule.pad)
        return RandomisedKeys(record.key_id, record.tenant, cells, lease)

    def tokens_of(self, rule: ColumnRule, realm: bytes) -> IndexTokens:
        """The token key of a column."""
        place = Place(realm, self.record.tenant, rule.context, rule.type.family, rule.label)
        return IndexTokens(place, self.material, rule.compare.value)

    def close(self, *, revoke: bool) -> None:
        """Overwrite the key. `revoke` also stops those who hold a derived key right now."""
        overwrite(self.material)
        if revoke:
            for _, keys in (*self.sealing.values(), *self.opening.values()):
                keys.revoke()
        self.sealing.clear()
        self.opening.clear()
        self.tokens.clear()


@dataclass(slots=True, repr=False)
class Hot(Generic[K]):
    """A derived key that was asked for before, until a time that needs no further look. It keeps its rule
    alive, so that the rule's id in the key of the mapping is never another's."""

    rule: ColumnRule
    keys: K
    dek: Dek
    until_s: float


class DekCache:
    """Data keys by id, at most `max_keys`."""

    def __init__(self, max_keys: int) -> None:
        self.n_evicted = 0
        self._max_keys = max_keys
        self._deks: dict[int, Dek] = {}

    def __len__(self) -> int:
        return len(self._deks)

    def __iter__(self) -> Iterator[Dek]:
        return iter(tuple(self._deks.values()))

    def get(self, key_id: int) -> Dek | None:
        return self._deks.get(key_id)

    def put(self, dek: Dek) -> bool:
        """Keep a key; True where another had to go for it."""
        self.drop(dek.record.key_id, revoke=False)
        is_full = len(self._deks) >= self._max_keys
        if is_full:
            self._evict()
        self._deks[dek.record.key_id] = dek
        return is_full

    def _evict(self) -> None:
        """The clock: the first key not used since it was last looked at goes."""
        while True:
            key_id, dek = next(iter(self._deks.items()))
            if not dek.was_used:
                self.n_evicted += 1
                self.drop(key_id, revoke=False)
                return
            dek.was_used = False
            self._deks[key_id] = self._deks.pop(key_id)

    def drop(self, key_id: int, *, revoke: bool) -> None:
        dek = self._deks.pop(key_id, None)
        if dek is not None:
            dek.close(revoke=revoke)

    def drop_ended(self, now_s: float) -> bool:
        """Overwrite what may not even be prolonged any more; True where there was something."""
        ended = [key_id for key_id, dek in self._deks.items() if now_s >= dek.last_until_s]
        for key_id in ended:
            self.drop(key_id, revoke=False)
        return bool(ended)

    def clear(self) -> None:
        for key_id in tuple(self._deks):
            self.drop(key_id, revoke=True)
