"""Bounds and ends of keys in memory, and what is remembered of errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.errors import CellNotOpen, KeyUnavailable
from proxy.keys.cache import Dek, DekCache
from proxy.keys.material import KeyIdNeed
from proxy.keys.remembered import MAX_ERRORS, Remembered
from tests.unit.keys.test_needs import RECORD


def dek(key_id: int, was_used: bool = True) -> Dek:
    """A key of 32 bytes of its id."""
    return Dek(replace(RECORD, key_id=key_id), bytearray([key_id] * 32), 10.0, 20.0, was_used)


def test_cache_over_its_bound_evicts_what_was_not_used() -> None:
    """The clock gives used keys a second chance and overwrites what goes."""
    cache = DekCache(3)
    keys = {key_id: dek(key_id, key_id != 2) for key_id in (1, 2, 3)}
    for key in keys.values():
        assert not cache.put(key)
    assert cache.put(dek(4))
    assert [key.record.key_id for key in cache] == [3, 1, 4]
    assert keys[2].material == bytearray(32) and keys[1].material == bytearray([1] * 32)
    assert cache.n_evicted == 1 and cache.get(2) is None


def test_cache_where_all_were_used_evicts_the_oldest() -> None:
    """The clock comes round."""
    cache = DekCache(2)
    for key_id in (1, 2, 3):
        cache.put(dek(key_id))
    assert [key.record.key_id for key in cache] == [2, 3]


def test_cache_put_of_the_same_key_replaces_and_overwrites() -> None:
    """One entry a key id."""
    cache, old = DekCache(2), dek(1)
    cache.put(old)
    cache.put(dek(1))
    assert len(cache) == 1 and old.material == bytearray(32)


def test_cache_cleared_or_ended_is_in_zeros() -> None:
    """At the last time, and at the end of the process."""
    cache, early, late = DekCache(9), dek(1), dek(2)
    early.last_until_s = 15.0
    cache.put(early)
    cache.put(late)
    assert not cache.drop_ended(14.9)
    assert cache.drop_ended(15.0)
    assert early.material == bytearray(32) and len(cache) == 1
    cache.clear()
    assert late.material == bytearray(32) and len(cache) == 0


def test_repr_of_dek_shows_its_id_only() -> None:
    """No key material."""
    assert repr(dek(7)) == "Dek(key_id=7)"


def test_remembered_error_is_raised_anew_until_its_time() -> None:
    """The same class and message, another object, with the asker's column."""
    now, need, error = [0.0], KeyIdNeed(1), CellNotOpen("cell does not open", hint="h")
    errors = Remembered(lambda: now[0], 5.0)
    errors.check(need)
    errors.put(need, error)
    for label in ("public.t.c", None):
        with pytest.raises(CellNotOpen) as caught:
            errors.check(need, label)
        assert caught.value is not error
        assert (caught.value.message, caught.value.column, caught.value.hint) == (error.message, label, "h")
    now[0] = 5.0
    errors.check(need)
    errors.put(need, error)
    errors.drop(need)
    errors.check(need)


def test_remembered_errors_are_bounded() -> None:
    """Whatever ids arrive, memory does not grow; the oldest go first."""
    errors = Remembered(lambda: 0.0, 5.0)
    for key_id in range(MAX_ERRORS + 10):
        errors.put(KeyIdNeed(key_id), KeyUnavailable("x"))
    for key_id in range(10):
        errors.check(KeyIdNeed(key_id))
    with pytest.raises(KeyUnavailable):
        errors.check(KeyIdNeed(10))
