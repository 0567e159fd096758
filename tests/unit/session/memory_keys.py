"""Data keys in memory behind the view a session has: real cells, nonces that count up so that runs repeat.

What was not ensured is a need, as with the keyring. One reason to change: what a session may ask of keys.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from hashlib import sha256

from proxy.crypto.blind_index import IndexTokens
from proxy.crypto.derive import Place
from proxy.crypto.suites import DeterministicCells, RandomisedCells
from proxy.errors import CellNotOpen, KeyUnavailable
from proxy.keys.columns import DeterministicKeys
from proxy.keys.material import ActiveKeyNeed, ColumnKeys, Inline, KeyIdNeed, KeyNeed, LeaseNeed, TokenKey
from proxy.keys.needs import cell_need, has_token, index_need
from proxy.rules import ColumnRule, Mode

REALM = b"realm of a test."


@dataclass(slots=True)
class CountedCells:
    """Randomised cells whose nonces are numbers: two runs of a conversation give the same bytes."""

    key_id: int
    tenant: str
    cells: RandomisedCells
    view: MemoryKeys
    context: str

    def seal(self, display: bytes, token: bytes | None, bound: tuple[bytes, ...]) -> bytes | LeaseNeed:
        need = LeaseNeed(self.key_id, self.context)
        if need not in self.view.ready:
            return need
        return self.cells.seal(display, token, bound, next(self.view.nonces).to_bytes(12, "big"))

    def open(self, envelope: bytes, bound: tuple[bytes, ...]) -> bytes:
        return self.cells.open(envelope, bound)

    def inline(self, head: bytes) -> Inline | None:
        return self.cells.inline(head)


@dataclass(slots=True)
class MemoryKeys:
    """A `KeyView`. `ensure` makes needs ready; `down` makes every key unavailable."""

    is_eager: bool = True  # everything is ready from the start
    is_down: bool = False
    ready: set[KeyNeed] = field(default_factory=set)
    nonces: itertools.count[int] = field(default_factory=itertools.count)
    _ids: dict[ActiveKeyNeed, int] = field(default_factory=dict)
    _made: dict[tuple[str, ActiveKeyNeed], ColumnKeys] = field(default_factory=dict)
    _tokens: dict[tuple[str, ActiveKeyNeed], TokenKey] = field(default_factory=dict)

    def ensure(self, need: KeyNeed) -> None:
        self.ready.add(need)
        if isinstance(need, ActiveKeyNeed):
            self.id_of(need)

    def id_of(self, need: ActiveKeyNeed) -> int:
        """The key id; made at first."""
        return self._ids.setdefault(need, 1000 + len(self._ids))

    def _is_ready(self, need: KeyNeed) -> bool:
        if self.is_down:
            raise KeyUnavailable("the KMS does not answer")
        if self.is_eager:
            self.ensure(need)
        return need in self.ready

    def _columns(self, rule: ColumnRule, need: ActiveKeyNeed) -> ColumnKeys:
        known = self._made.get((rule.label, need))
        if known is None:
            known = self._made[rule.label, need] = self._derived(rule, need)
        return known

    def _derived(self, rule: ColumnRule, need: ActiveKeyNeed) -> ColumnKeys:
        key_id = self.id_of(need)
        dek = sha256(repr(need).encode()).digest()
        place = Place(REALM, need.tenant, rule.context, rule.type.family, rule.label)
        version = 1 if has_token(rule) else 0
        if rule.mode is Mode.DETERMINISTIC:
            certain = DeterministicCells(place, dek, key_id, index_version=1, pad=rule.pad)
            return DeterministicKeys(key_id, need.tenant, certain)
        cells = RandomisedCells(place, dek, key_id, index_version=version, pad=rule.pad)
        made = CountedCells(key_id, need.tenant, cells, self, rule.context)
        if self.is_eager:
            self.ready.add(LeaseNeed(key_id, rule.context))
        return made

    def sealing(self, rule: ColumnRule, tenant: str) -> ColumnKeys | None:
        if not all(self._is_ready(need) for need in self.sealing_needs(rule, tenant)):
            return None
        return self._columns(rule, cell_need(rule, tenant))

    def tokens(self, rule: ColumnRule, tenant: str) -> TokenKey | None:
        if rule.mode is Mode.DETERMINISTIC:
            return self.sealing(rule, tenant)  # type: ignore[return-value]  # DeterministicKeys
        need = index_need(rule, tenant)
        if not self._is_ready(need):
            return None
        known = self._tokens.get((rule.label, need))
        if known is None:
            place = Place(REALM, need.tenant, rule.context, rule.type.family, rule.label)
            known = IndexTokens(place, sha256(repr(need).encode()).digest(), rule.compare.value)
            self._tokens[rule.label, need] = known
        return known

    def opening(self, rule: ColumnRule, key_id: int) -> ColumnKeys | None:
        owner = next((need for need, known in self._ids.items() if known == key_id), None)
        if owner is None:
            raise CellNotOpen("the cell does not open", column=rule.label)
        if not self._is_ready(KeyIdNeed(key_id)):
            return None
        return self._columns(rule, owner)

    def sealing_needs(self, rule: ColumnRule, tenant: str) -> tuple[KeyNeed, ...]:
        needs = [cell_need(rule, tenant)]
        if has_token(rule):
            needs.append(index_need(rule, tenant))
        return tuple(needs)
