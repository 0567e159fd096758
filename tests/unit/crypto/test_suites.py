"""What sealing and opening refuse, and what they do not show."""

from __future__ import annotations

import os

import pytest

from proxy.crypto.blind_index import IndexTokens
from proxy.crypto.derive import Place
from proxy.crypto.suites import DeterministicCells, RandomisedCells
from proxy.errors import CellNotOpen, InternalError

PLACE = Place(bytes(16), "a", "public.t.c", "text", "public.t.c")
DEK = bytes(range(32))
NONCE = bytes(12)


def randomised(index_version: int = 0, pad: int = 16) -> RandomisedCells:
    """Cells of key 1."""
    return RandomisedCells(PLACE, DEK, 1, index_version=index_version, pad=pad)


def deterministic(index_version: int = 1) -> DeterministicCells:
    """Deterministic cells of key 1."""
    return DeterministicCells(PLACE, DEK, 1, index_version=index_version, pad=16)


def test_open_of_other_modes_cell_does_not_open() -> None:
    """A cell opens only under the mode that its rule has."""
    plain = randomised().seal(b"x", None, (), NONCE)
    token = randomised(1).seal(b"x", bytes(15), (), NONCE)
    certain = deterministic().seal(b"x", None, ())
    for cells, foreign in (
        (randomised(), (token, certain)),
        (randomised(1), (plain, certain)),
        (deterministic(), (plain, token)),
        (deterministic(2), (certain,)),
    ):
        for envelope in foreign:
            with pytest.raises(CellNotOpen, match=r"^cell does not open$"):
                cells.open(envelope, ())


def test_open_of_an_older_index_version_opens() -> None:
    """The version in a cell is the one it was sealed under, not the newest."""
    assert randomised(9).open(randomised(1).seal(b"x", bytes(15), (), NONCE), ()) == b"x"


def test_open_after_pad_of_rule_changed_opens() -> None:
    """The flags say whether there is padding; the rule's block may change."""
    assert randomised(pad=0).open(randomised(pad=64).seal(b"x", None, (), NONCE), ()) == b"x"
    assert randomised(pad=64).open(randomised(pad=0).seal(b"x", None, (), NONCE), ()) == b"x"


@pytest.mark.parametrize("token", [None, b"", bytes(14), bytes(16)])
def test_seal_with_search_without_its_token_is_an_error(token: bytes | None) -> None:
    """A cell of a searchable column never leaves without exactly 15 bytes of token."""
    with pytest.raises(InternalError):
        randomised(1).seal(b"x", token, (), NONCE)


def test_seal_without_search_with_a_token_is_an_error() -> None:
    """A token has no place in a column without search."""
    with pytest.raises(InternalError):
        randomised().seal(b"x", bytes(15), (), NONCE)
    with pytest.raises(InternalError):
        deterministic().seal(b"x", bytes(15), ())


def test_seal_deterministic_with_bound_values_is_an_error() -> None:
    """Deterministic cells are bound to no row."""
    with pytest.raises(InternalError):
        deterministic().seal(b"x", None, (b"1",))


def test_open_with_other_bound_values_does_not_open() -> None:
    """A bound cell opens in its own row only, and values cannot be split differently."""
    envelope = randomised().seal(b"x", None, (b"ab", b"c"), NONCE)
    assert randomised().open(envelope, (b"ab", b"c")) == b"x"
    for other in ((), (b"ab",), (b"a", b"bc"), (b"c", b"ab"), (b"ab", b"c", b"")):
        with pytest.raises(CellNotOpen):
            randomised().open(envelope, other)


def test_token_of_other_column_or_compare_differs() -> None:
    """Tokens of one value differ between contexts, families and ways to compare."""
    places = [
        PLACE,
        Place(bytes(16), "a", "public.t.d", "text", ""),
        Place(bytes(16), "a", "public.t.c", "int", ""),
    ]
    tokens = {IndexTokens(place, DEK, how).token(b"x") for place in places for how in ("exact", "nocase")}
    assert len(tokens) == 6
    assert {len(token) for token in tokens} == {15}


def test_repr_of_cells_shows_no_key() -> None:
    """Nothing of the key material is in a repr."""
    dek = os.urandom(32)
    for made in (
        RandomisedCells(PLACE, dek, 1, index_version=0, pad=16),
        DeterministicCells(PLACE, dek, 1, index_version=1, pad=16),
        IndexTokens(PLACE, dek, "exact"),
    ):
        assert dek.hex() not in repr(made) and repr(dek)[2:-1] not in repr(made)
