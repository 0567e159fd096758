"""The keyring over a real key store: what a session gets, what it waits for, and what ends a key."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.crypto.envelope import describe, key_id_of
from proxy.errors import CellNotOpen, KeyUnavailable, PgsealError, TenantUnknown
from proxy.keys.columns import FIRST_LEASE, ROTATE_AT
from proxy.keys.keyring import STATUS_LIMIT_S
from proxy.keys.kms.base import KmsRefused, KmsUnavailable
from proxy.keys.material import ActiveKeyNeed, KeyIdNeed, LeaseNeed
from proxy.keys.records import KeyStatus, StoreTampered
from proxy.keys.upkeep import keep_fresh
from proxy.rules import ColumnRule, Compare
from tests.conftest import Database
from tests.keyrings import BADGE, EMAIL, LOGIN, NOTES, OPTIONS, SSN, as_view, bench, open_cell, seal, sealing

DOWN = KmsUnavailable("down")
NO = KmsRefused("no")


async def test_sealing_of_a_new_tenant_makes_its_key_and_opens_again(database: Database, tmp_path: Path) -> None:
    """First None, after `ensure` a key; what it seals opens under another process."""
    async with bench(database, tmp_path / "1") as one, bench(database, tmp_path / "2", is_first=False) as two:
        view = as_view(one.ring)
        assert view.sealing(NOTES, "a") is None
        assert view.sealing_needs(NOTES, "a") == (ActiveKeyNeed("a", "PII_DATA", "data"),)
        cell = await seal(one.ring, NOTES, "a", b"value")
        assert two.ring.opening(NOTES, key_id_of(cell)) is None
        await two.ring.ensure((KeyIdNeed(key_id_of(cell)),))
        keys = two.ring.opening(NOTES, key_id_of(cell))
        assert keys is not None and keys.tenant == "a"
        assert keys.open(cell, ()) == b"value"
        assert one.kinds == ["key.generate"] and two.kinds == ["key.unwrap"]


async def test_sealing_by_many_at_once_asks_the_kms_once(database: Database, tmp_path: Path) -> None:
    """One flight a key, in one process and across two."""
    async with bench(database, tmp_path / "1") as one, bench(database, tmp_path / "2", is_first=False) as two:
        n_before = one.kms.n_calls
        needs = one.ring.sealing_needs(NOTES, "a")
        await asyncio.gather(*(b.ring.ensure(needs) for b in (one, two) for _ in range(20)))
        assert one.kms.n_calls - n_before <= 2
        first, second = one.ring.sealing(NOTES, "a"), two.ring.sealing(NOTES, "a")
        assert first is not None and second is not None and first.key_id == second.key_id
        assert len(one.store.records) == 1 and one.ring.stats.n_created + two.ring.stats.n_created == 1


@pytest.mark.parametrize(
    ("rule", "cell_owner", "index_owner"),
    [(NOTES, "a", None), (SSN, "a", "a"), (EMAIL, "a", ""), (BADGE, "a", None), (LOGIN, "", None)],
    ids=lambda value: getattr(value, "column", value),
)
async def test_keys_of_a_rule_belong_to_tenant_or_domain(
    database: Database, tmp_path: Path, rule: ColumnRule, cell_owner: str, index_owner: str | None
) -> None:
    """Whose key seals a cell, and whose makes its token, is the document's table."""
    async with bench(database, tmp_path) as one:
        cell = await seal(one.ring, rule, "a", b"value")
        record = one.store.records[key_id_of(cell)]
        assert record.tenant == cell_owner
        assert record.purpose.value == ("index" if rule.mode.value == "deterministic" else "data")
        others = {r.tenant for r in one.store.records.values() if r.key_id != record.key_id}
        assert others == (set() if index_owner is None else {index_owner})
        assert describe(cell).index_version == (0 if rule is NOTES else 1)
        assert await open_cell(one.ring, rule, cell) == b"value"


async def test_tokens_are_equal_inside_a_domain_and_nowhere_else(database: Database, tmp_path: Path) -> None:
    """scope: tenant keeps equality in the tenant, scope: table across them."""
    async with bench(database, tmp_path) as one:
        tokens = {}
        for rule in (SSN, EMAIL, BADGE, LOGIN):
            for tenant in ("a", "b"):
                await one.ring.ensure(one.ring.sealing_needs(rule, tenant))
                keys = one.ring.tokens(rule, tenant)
                assert keys is not None
                tokens[rule.column, tenant] = keys.token(b"value")
        assert tokens["ssn", "a"] != tokens["ssn", "b"] and tokens["badge", "a"] != tokens["badge", "b"]
        assert tokens["email", "a"] == tokens["email", "b"] and tokens["login", "a"] == tokens["login", "b"]
        assert len(set(tokens.values())) == 6
        nocase = one.ring.tokens(replace(SSN, compare=Compare.NOCASE), "a")
        assert nocase is not None and nocase.token(b"value") != tokens["ssn", "a"]


async def test_deterministic_cell_is_its_own_token(database: Database, tmp_path: Path) -> None:
    """Equality of a deterministic column compares whole envelopes."""
    async with bench(database, tmp_path) as one:
        cell = await seal(one.ring, BADGE, "a", b"value")
        keys = one.ring.tokens(BADGE, "a")
        assert keys is not None and keys.token(b"value") == cell == await seal(one.ring, BADGE, "a", b"value")


@pytest.mark.parametrize("tenant", ["", "x" * 256, "é" * 128, "a\0b", "\udc80"])
async def test_sealing_for_what_is_no_tenant_is_refused(database: Database, tmp_path: Path, tenant: str) -> None:
    """Above all the empty text, which is the identity of all tenants' domain."""
    async with bench(database, tmp_path) as one:
        for rule in (NOTES, SSN, EMAIL, BADGE):
            with pytest.raises(TenantUnknown):
                one.ring.sealing(rule, tenant)
        for rule in (SSN, BADGE):
            with pytest.raises(TenantUnknown):
                one.ring.tokens(rule, tenant)
        await one.ring.ensure((ActiveKeyNeed(tenant, "PII_DATA", "data"),))
        assert not one.store.records


async def test_opening_of_an_unknown_id_is_refused_and_remembered(database: Database, tmp_path: Path) -> None:
    """PS004 without asking the store again for some seconds."""
    async with bench(database, tmp_path) as one:
        assert one.ring.opening(NOTES, 77) is None
        await one.ring.ensure((KeyIdNeed(77),))
        n_reads = one.ring.stats.n_store_reads
        for _ in range(3):
            with pytest.raises(CellNotOpen) as caught:
                one.ring.opening(NOTES, 77)
            assert caught.value.column == "public.t.notes"
        assert one.ring.stats.n_store_reads == n_reads
        one.pass_time(OPTIONS.negative_s)
        assert one.ring.opening(NOTES, 77) is None


async def test_opening_with_a_key_of_another_purpose_or_domain_does_not_open(
    database: Database, tmp_path: Path
) -> None:
    """An index key opens no randomised cell, a domain's key no tenant's deterministic cell."""
    async with bench(database, tmp_path) as one:
        cells = {rule.column: await seal(one.ring, rule, "a", b"value") for rule in (NOTES, BADGE, LOGIN)}
        for rule, foreign in ((NOTES, "badge"), (BADGE, "notes"), (BADGE, "login"), (LOGIN, "badge")):
            with pytest.raises(CellNotOpen):
                one.ring.opening(rule, key_id_of(cells[foreign]))


@pytest.mark.parametrize("status", [KeyStatus.COMPROMISED, KeyStatus.INACTIVE, KeyStatus.DESTROYED])
async def test_status_changed_by_another_proxy_wins_over_the_cache(
    database: Database, tmp_path: Path, status: KeyStatus
) -> None:
    """After the next read the key neither seals nor opens, not even for those who hold it; no other is made."""
    async with bench(database, tmp_path / "1") as one, bench(database, tmp_path / "2", is_first=False) as two:
        cell = await seal(one.ring, NOTES, "a", b"value")
        held = one.ring.sealing(NOTES, "a")
        opener = one.ring.opening(NOTES, 1)
        assert held is not None and opener is not None and opener.open(cell, ()) == b"value"
        await two.ring.read()
        await two.store.set_status(1, status)
        await one.ring.read()
        with pytest.raises(CellNotOpen):
            one.ring.opening(NOTES, 1)
        with pytest.raises(CellNotOpen):
            opener.open(cell, ())
        with pytest.raises(KeyUnavailable):
            held.seal(b"value", None, ())
        assert one.ring.sealing(NOTES, "a") is None
        await one.ring.ensure(one.ring.sealing_needs(NOTES, "a"))
        with pytest.raises(KeyUnavailable, match="may seal"):
            one.ring.sealing(NOTES, "a")
        assert len(one.store.records) == 1


async def test_sealing_with_statuses_older_than_five_minutes_reads_or_refuses(
    database: Database, tmp_path: Path
) -> None:
    """Statuses that old seal nothing; opening goes on; a read heals it."""
    async with bench(database, tmp_path) as one:
        cell = await seal(one.ring, NOTES, "a", b"value")
        one.pass_time(STATUS_LIMIT_S - 1)
        assert one.ring.sealing(NOTES, "a") is not None
        one.pass_time(1)
        assert one.ring.sealing(NOTES, "a") is None and one.ring.problems()
        assert await open_cell(one.ring, NOTES, cell) == b"value"
        database.execute("ALTER TABLE pgseal.key_store_head RENAME TO gone")
        await one.ring.ensure(one.ring.sealing_needs(NOTES, "a"))
        with pytest.raises(KeyUnavailable):
            one.ring.sealing(NOTES, "a")
        database.execute("ALTER TABLE pgseal.gone RENAME TO key_store_head")
        one.pass_time(OPTIONS.negative_s)
        assert await sealing(one.ring, NOTES, "a")
        assert not one.ring.problems()


async def test_tampered_store_stops_sealing_until_it_reads_well(database: Database, tmp_path: Path) -> None:
    """A security event, once; opening with known keys goes on."""
    async with bench(database, tmp_path) as one:
        cell = await seal(one.ring, NOTES, "a", b"value")
        database.execute("UPDATE pgseal.key_store_head SET epoch = epoch - 1")
        for _ in range(2):
            with pytest.raises(StoreTampered):
                await one.ring.read()
        for _ in range(2):
            with pytest.raises(KeyUnavailable):
                one.ring.sealing(NOTES, "a")
        assert await open_cell(one.ring, NOTES, cell) == b"value"
        assert one.kinds.count("security.key_store") == 1 and one.ring.problems()
        database.execute("UPDATE pgseal.key_store_head SET epoch = epoch + 1")
        await one.ring.read()
        assert await seal(one.ring, NOTES, "a", b"value")


async def test_key_past_its_ttl_is_asked_for_again(database: Database, tmp_path: Path) -> None:
    """Within the ttl no call, after it one."""
    async with bench(database, tmp_path) as one:
        await seal(one.ring, NOTES, "a", b"value")
        n_calls = one.kms.n_calls
        one.pass_time(200)
        assert await sealing(one.ring, NOTES, "a")
        assert one.kms.n_calls == n_calls
        one.pass_time(OPTIONS.ttl_s)
        assert one.ring.opening(NOTES, 1) is None
        await one.ring.ensure((KeyIdNeed(1),))
        assert one.ring.opening(NOTES, 1) is not None
        assert one.kms.n_calls == n_calls + 1


async def test_key_is_used_past_its_ttl_while_the_kms_is_down_up_to_the_bound(
    database: Database, tmp_path: Path
) -> None:
    """stale_while_kms_down, then PS003; when the KMS is back, so is the key."""
    async with bench(database, tmp_path) as one:
        cell = await seal(one.ring, NOTES, "a", b"value")
        one.kms.error = DOWN
        one.pass_time(OPTIONS.ttl_s)
        for _ in range(int(OPTIONS.stale_s // OPTIONS.negative_s) - 1):
            assert await open_cell(one.ring, NOTES, cell) == b"value"
            one.pass_time(OPTIONS.negative_s)
        assert one.kms.n_calls < 50
        one.pass_time(OPTIONS.negative_s * 2)
        assert one.ring.opening(NOTES, 1) is None
        await one.ring.ensure((KeyIdNeed(1),))
        with pytest.raises(KeyUnavailable) as caught:
            one.ring.opening(NOTES, 1)
        assert caught.value.sqlstate == "PS003"
        one.kms.error = None
        one.pass_time(31)
        assert await open_cell(one.ring, NOTES, cell) == b"value"


async def test_key_refused_by_the_kms_at_its_ttl_ends_at_once(database: Database, tmp_path: Path) -> None:
    """A disabled KEK is an answer, not an outage: nothing stale is used."""
    async with bench(database, tmp_path) as one:
        await seal(one.ring, NOTES, "a", b"value")
        one.kms.error = NO
        one.pass_time(OPTIONS.ttl_s)
        assert one.ring.opening(NOTES, 1) is None
        await one.ring.ensure((KeyIdNeed(1),))
        with pytest.raises(KeyUnavailable):
            one.ring.opening(NOTES, 1)
        assert "security.kms_refused" in one.kinds


async def test_kms_down_at_the_first_need_is_refused_fast_and_heals(database: Database, tmp_path: Path) -> None:
    """Errors are remembered for seconds, the circuit opens after three, then closes by itself."""
    async with bench(database, tmp_path) as one:
        one.kms.error = DOWN
        n_before = one.kms.n_calls
        for n in range(20):
            needs = one.ring.sealing_needs(NOTES, f"tenant {n}")
            await one.ring.ensure(needs)
            with pytest.raises(KeyUnavailable):
                one.ring.sealing(NOTES, f"tenant {n}")
        assert one.kms.n_calls == n_before + 3
        assert one.ring.stats.kms["main"].n_unavailable == 3 and one.ring.stats.kms["main"].n_not_made == 17
        assert one.ring.problems() == ("kms 'main' does not answer",)
        one.kms.error = None
        one.pass_time(OPTIONS.negative_s)
        assert await seal(one.ring, NOTES, "tenant 0", b"value")
        assert not one.ring.problems()


async def test_refresh_ahead_keeps_used_keys_and_ends_others(database: Database, tmp_path: Path) -> None:
    """A used key never falls due; an unused one is gone after ttl and stale time, in zeros."""
    async with bench(database, tmp_path) as one:
        for tenant in ("a", "b"):
            await seal(one.ring, NOTES, tenant, b"value")
        deks = list(one.ring._deks)
        await one.ring.refresh_ahead()
        for _ in range(5):
            one.pass_time(OPTIONS.ttl_s * 0.85)
            assert one.ring.opening(NOTES, 1) is not None
            await one.ring.refresh_ahead()
        assert {dek.record.key_id for dek in one.ring._deks} == {1}
        assert deks[1].material == bytearray(32) != deks[0].material


async def test_cache_at_its_bound_evicts_and_overwrites(database: Database, tmp_path: Path) -> None:
    """No more than max_keys stay; who holds a derived key of an evicted one may finish."""
    async with bench(database, tmp_path, replace(OPTIONS, max_keys=16)) as one:
        cell = await seal(one.ring, NOTES, "0", b"value")
        held, dek = one.ring.opening(NOTES, 1), next(iter(one.ring._deks))
        for n in range(1, 40):
            await seal(one.ring, NOTES, str(n), b"value")
        assert len(one.ring._deks) == 16 and one.ring.stats.n_evicted == 24
        assert dek.material == bytearray(32)
        assert held is not None and held.open(cell, ()) == b"value"
        assert await open_cell(one.ring, NOTES, cell) == b"value"
        await one.ring.ensure(tuple(KeyIdNeed(n) for n in range(1, 18)))
        with pytest.raises(KeyUnavailable, match="more keys"):
            one.ring.opening(NOTES, 2)


async def test_lease_grows_and_is_counted_down_by_each_seal(database: Database, tmp_path: Path) -> None:
    """2^16 at first, then twice as many; every seal takes one."""
    async with bench(database, tmp_path) as one:
        keys = await sealing(one.ring, NOTES, "a")
        need = keys.seal(b"", None, ())
        assert need == LeaseNeed(1, NOTES.context)
        assert isinstance(need, LeaseNeed)
        await one.ring.ensure((need, need))
        lease = one.ring._leases[need]
        assert lease.left == FIRST_LEASE
        assert isinstance(keys.seal(b"", None, ()), bytes) and lease.left == FIRST_LEASE - 1
        lease.left = 0
        assert keys.seal(b"", None, ()) == need
        await one.ring.ensure((need,))
        assert lease.left == FIRST_LEASE * 2
        assert one.ring.stats.n_leases == 2


async def test_lease_past_half_of_what_a_key_may_seal_rotates_it(database: Database, tmp_path: Path) -> None:
    """From 2^31 a new version seals, the old one opens; at 2^32 there is no lease and PS003."""
    async with bench(database, tmp_path) as one:
        cell = await seal(one.ring, NOTES, "a", b"value")
        await one.store.lease(1, NOTES.context, ROTATE_AT)
        need = LeaseNeed(1, NOTES.context)
        one.ring._leases[need].left = 0
        assert (await sealing(one.ring, NOTES, "a")).seal(b"", None, ()) == need
        await one.ring.ensure((need,))
        keys = await sealing(one.ring, NOTES, "a")
        assert keys.key_id == 2 and one.store.records[2].version == 2
        assert one.store.records[1].status is KeyStatus.ROTATED and "key.rotate" in one.kinds
        assert await open_cell(one.ring, NOTES, cell) == b"value"
        await one.store.lease(2, NOTES.context, 1 << 32)
        assert isinstance(keys.seal(b"", None, ()), LeaseNeed)
        await one.ring.ensure((LeaseNeed(2, NOTES.context),))
        with pytest.raises(KeyUnavailable, match="sealed all"):
            keys.seal(b"", None, ())


async def test_keep_fresh_reads_on_a_hint_from_another_proxy(database: Database, tmp_path: Path) -> None:
    """NOTIFY brings a compromise within moments although the poll is far away."""
    async with bench(database, tmp_path / "1") as one, bench(database, tmp_path / "2", is_first=False) as two:
        await seal(one.ring, NOTES, "a", b"value")
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            running = group.create_task(keep_fresh(one.ring, one.store))
            await two.ring.read()
            one.told.clear()
            await two.store.set_status(1, KeyStatus.COMPROMISED)
            await one.told.wait()
            running.cancel()
        assert one.kinds[-1] == "key.revoked"


async def test_ensure_cancelled_in_flight_leaves_the_others_to_try(database: Database, tmp_path: Path) -> None:
    """A client that goes away while its key is fetched takes nobody with it."""
    async with bench(database, tmp_path) as one:
        needs = one.ring.sealing_needs(NOTES, "a")
        leader = asyncio.create_task(one.ring.ensure(needs))
        await asyncio.sleep(0)
        follower = asyncio.create_task(one.ring.ensure(needs))
        await asyncio.sleep(0)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        await follower
        assert await sealing(one.ring, NOTES, "a")


async def test_no_key_shows_in_any_repr_event_or_error(database: Database, tmp_path: Path) -> None:
    """Key bytes appear in nothing that could be printed."""
    async with bench(database, tmp_path) as one:
        await seal(one.ring, SSN, "a", b"value")
        deks = list(one.ring._deks)
        keys = one.ring.sealing(SSN, "a")
        shown = repr((one.ring, deks, keys, one.events, one.store, one.store.records, one.ring.tokens(SSN, "a")))
        one.kms.error = NO
        await one.ring.ensure(one.ring.sealing_needs(NOTES, "b"))
        with pytest.raises(PgsealError) as caught:
            one.ring.sealing(NOTES, "b")
        shown += repr(caught.value.__dict__) + str(caught.value)
        assert len(deks) == 2
        for dek in deks:
            for spelling in (dek.material.hex(), repr(bytes(dek.material))[2:-1], str(list(dek.material))):
                assert spelling not in shown
        one.ring.close()
        assert all(dek.material == bytearray(32) for dek in deks)


async def test_keep_fresh_reads_every_row_anew_now_and_then(database: Database, tmp_path: Path) -> None:
    """A field changed under an old MAC is found by a process that runs on, and said once."""
    async with bench(database, tmp_path, replace(OPTIONS, status_ttl_s=0.001)) as one:
        await seal(one.ring, NOTES, "a", b"value")
        database.execute("UPDATE pgseal.encryption_keys SET access_policy = 'all'")
        one.told.clear()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            running = group.create_task(keep_fresh(one.ring, one.store))
            await one.told.wait()
            running.cancel()
        assert one.kinds[-1] == "security.key_store"


async def test_keep_fresh_over_a_store_that_cannot_be_read_goes_on(database: Database, tmp_path: Path) -> None:
    """The job outlives an outage of the store and reads it again."""
    async with bench(database, tmp_path / "1", replace(OPTIONS, status_ttl_s=0.001)) as one:
        await seal(one.ring, NOTES, "a", b"value")
        database.execute("ALTER TABLE pgseal.encryption_keys RENAME TO gone")
        with pytest.raises(KeyUnavailable):
            await one.ring.read()
        one.told.clear()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            running = group.create_task(keep_fresh(one.ring, one.store))
            await asyncio.to_thread(database.execute, "ALTER TABLE pgseal.gone RENAME TO encryption_keys")
            async with bench(database, tmp_path / "2", is_first=False) as two:
                await two.store.set_status(1, KeyStatus.INACTIVE)
            await one.told.wait()
            running.cancel()
        assert one.kinds[-1] == "key.revoked"


async def test_derived_keys_of_rules_that_were_replaced_do_not_pile_up(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reloads make new rules for the same columns; memory keeps a bounded number of derived keys."""
    monkeypatch.setattr("proxy.keys.keyring.MAX_DERIVED", 5)
    monkeypatch.setattr("proxy.keys.keyring.MAX_HOT", 7)
    async with bench(database, tmp_path) as one:
        cells = [await seal(one.ring, replace(SSN), "a", b"value") for _ in range(20)]
        for cell in cells:
            assert await open_cell(one.ring, replace(SSN), cell) == b"value"
        for dek in one.ring._deks:
            assert max(len(dek.sealing), len(dek.opening), len(dek.tokens)) <= 5
        assert len(one.ring._hot_sealing) <= 7 and len(one.ring._hot_opening) <= 7
