"""What a session holds: leases count down, taken keys are closed at once."""

from __future__ import annotations

from typing import NoReturn

import pytest

from proxy.crypto.derive import Place
from proxy.crypto.suites import DeterministicCells, RandomisedCells
from proxy.errors import CellNotOpen, KeyUnavailable
from proxy.keys.columns import OPENING_ONLY, DeterministicKeys, NonceLease, RandomisedKeys
from proxy.keys.material import ColumnKeys, LeaseNeed, TokenKey

PLACE = Place(bytes(16), "a", "public.t.c", "text", "public.t.c")
NEED = LeaseNeed(1, "public.t.c")


def lease(left: int) -> NonceLease:
    """A lease that has no error to tell."""
    return NonceLease(NEED, left, lambda: None)


def randomised(found: NonceLease) -> RandomisedKeys:
    """Keys of key 1 over a lease."""
    return RandomisedKeys(1, "a", RandomisedCells(PLACE, bytes(32), 1, index_version=0, pad=16), found)


def deterministic() -> DeterministicKeys:
    """Deterministic keys of key 1."""
    return DeterministicKeys(1, "a", DeterministicCells(PLACE, bytes(32), 1, index_version=1, pad=16))


def test_seal_takes_one_of_the_lease_and_then_asks_for_more() -> None:
    """Exactly as many cells as were leased, shared by all keys of the lease, each with a nonce of its own."""
    found = lease(100)
    one, other = randomised(found), randomised(found)
    cells = [keys.seal(b"x", None, ()) for _ in range(50) for keys in (one, other)]
    assert len({cell[9:21] for cell in cells if isinstance(cell, bytes)}) == 100
    assert one.seal(b"x", None, ()) == other.seal(b"x", None, ()) == NEED
    assert found.left == 0


def test_seal_without_a_lease_to_be_had_raises_its_reason() -> None:
    """A remembered error comes instead of the need."""

    def refused() -> NoReturn:
        raise KeyUnavailable("none left")

    with pytest.raises(KeyUnavailable, match="none left"):
        randomised(NonceLease(NEED, 0, refused)).seal(b"x", None, ())


def test_seal_with_a_key_that_only_opens_is_refused() -> None:
    """A rotated key seals nothing."""
    with pytest.raises(KeyUnavailable):
        randomised(OPENING_ONLY).seal(b"x", None, ())
    assert OPENING_ONLY.left == 0


def test_revoked_keys_neither_open_nor_seal() -> None:
    """Also for those who took `open` from the object before asking again."""
    keys, certain = randomised(lease(9)), deterministic()
    cell, certain_cell = keys.seal(b"x", None, ()), certain.seal(b"x", None, ())
    assert isinstance(cell, bytes) and isinstance(certain_cell, bytes)
    assert keys.open(cell, ()) == certain.open(certain_cell, ()) == b"x"
    for taken, its_cell in ((keys, cell), (certain, certain_cell)):
        taken.revoke()
        with pytest.raises(CellNotOpen, match=r"^cell does not open$"):
            taken.open(its_cell, ())
        with pytest.raises(KeyUnavailable):
            taken.seal(b"x", None, ())
    with pytest.raises(KeyUnavailable):
        certain.token(b"x")


def test_keys_are_what_a_session_expects() -> None:
    """The contracts of material.py, by name."""
    views: list[ColumnKeys] = [randomised(lease(1)), deterministic()]
    token: TokenKey = deterministic()
    assert [view.tenant for view in views] == ["a", "a"] and len(token.token(b"x")) == 25 + 16
