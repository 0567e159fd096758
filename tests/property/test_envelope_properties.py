"""No bit may flip, no cell may move, every value comes back."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.crypto.derive import Place
from proxy.crypto.envelope import LEAST_SIZES, from_text, key_id_of, to_text
from proxy.crypto.suites import DeterministicCells, RandomisedCells
from proxy.errors import CellNotOpen

DEK = bytes(range(32))
REALM = bytes(range(16))
PLACE = Place(REALM, "tenant", "public.t.c", "text", "public.t.c")
modes = st.sampled_from(("plain", "token", "deterministic"))
values = st.binary(max_size=80)
pads = st.sampled_from((0, 1, 16, 64))


def seal(
    mode: str, value: bytes, pad: int, place: Place = PLACE, key_id: int = 1, bound: tuple[bytes, ...] = ()
) -> bytes:
    """A cell of any mode."""
    if mode == "deterministic":
        return DeterministicCells(place, DEK, key_id, index_version=1, pad=pad).seal(value, None, ())
    token = bytes(15) if mode == "token" else None
    cells = RandomisedCells(place, DEK, key_id, index_version=int(mode == "token"), pad=pad)
    return cells.seal(value, token, bound, bytes(12))


def open_(mode: str, cell: bytes, place: Place = PLACE, key_id: int = 1, bound: tuple[bytes, ...] = ()) -> bytes:
    """Opens as the mode's rule would, without knowing the block."""
    if mode == "deterministic":
        return DeterministicCells(place, DEK, key_id, index_version=1, pad=16).open(cell, bound)
    cells = RandomisedCells(place, DEK, key_id, index_version=int(mode == "token"), pad=16)
    return cells.open(cell, bound)


@given(modes, values, pads)
def test_envelope_sealed_then_opened_gives_the_value(mode: str, value: bytes, pad: int) -> None:
    """Every value comes back, through both storages."""
    cell = seal(mode, value, pad)
    assert open_(mode, from_text(to_text(cell))) == value
    assert key_id_of(cell) == 1


@given(modes, values, pads, st.data())
def test_envelope_with_a_flipped_bit_does_not_open(
    mode: str, value: bytes, pad: int, data: st.DataObject
) -> None:
    """One bit anywhere, header and token included, and the cell does not open."""
    cell = bytearray(seal(mode, value, pad))
    bit = data.draw(st.integers(0, len(cell) * 8 - 1))
    cell[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CellNotOpen):
        open_(mode, bytes(cell))


@given(modes, values, pads, st.data())
def test_envelope_cut_or_extended_does_not_open(mode: str, value: bytes, pad: int, data: st.DataObject) -> None:
    """A cell with bytes missing or added does not open."""
    cell = seal(mode, value, pad)
    size = data.draw(st.integers(0, len(cell) - 1))
    for wrong in (cell[:size], cell + b"\0", cell + cell):
        with pytest.raises(CellNotOpen):
            open_(mode, wrong)


@pytest.mark.parametrize(
    "elsewhere",
    [
        Place(REALM, "other", "public.t.c", "text", ""),
        Place(REALM, "", "public.t.c", "text", ""),
        Place(REALM, "tenant", "public.t.d", "text", ""),
        Place(REALM, "tenant", "public.u.c", "text", ""),
        Place(REALM, "tenantp", "ublic.t.c", "text", ""),
        Place(REALM, "tenant", "public.t.c", "bytea", ""),
        Place(bytes(16), "tenant", "public.t.c", "text", ""),
    ],
)
@given(mode=modes, value=values)
def test_envelope_moved_elsewhere_does_not_open(elsewhere: Place, mode: str, value: bytes) -> None:
    """Another tenant, column, table, family or realm does not open the cell, even under the same data key."""
    with pytest.raises(CellNotOpen):
        open_(mode, seal(mode, value, 16), elsewhere)


@given(modes, values)
def test_envelope_under_another_key_id_does_not_open(mode: str, value: bytes) -> None:
    """The key id is proved too."""
    with pytest.raises(CellNotOpen):
        open_(mode, seal(mode, value, 16), key_id=2)


@given(values, st.lists(st.binary(max_size=8), max_size=3), st.lists(st.binary(max_size=8), max_size=3))
def test_envelope_bound_to_a_row_opens_there_only(value: bytes, row: list[bytes], other: list[bytes]) -> None:
    """Bound values open the cell exactly when they are the same list."""
    cell = seal("plain", value, 16, bound=tuple(row))
    if row == other:
        assert open_("plain", cell, bound=tuple(other)) == value
        return
    with pytest.raises(CellNotOpen):
        open_("plain", cell, bound=tuple(other))


@given(
    st.one_of(
        st.binary(max_size=80),
        st.builds(
            lambda h, b: b"\xa6\x0b\x35" + h + b, st.sampled_from(sorted(LEAST_SIZES)), st.binary(max_size=80)
        ),
    )
)
def test_envelope_of_any_bytes_opens_never_and_raises_one_error(noise: bytes) -> None:
    """Bytes nobody sealed end in CellNotOpen, whatever they are."""
    for mode in ("plain", "token", "deterministic"):
        with pytest.raises(CellNotOpen, match=r"^cell does not open$"):
            open_(mode, noise)
    with contextlib.suppress(CellNotOpen):
        assert 1 <= key_id_of(noise) <= 0xFFFFFFFF


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_text_storage_of_any_bytes_is_refused_or_round_trips(noise: bytes) -> None:
    """A text is the one spelling of its envelope, or refused."""
    try:
        envelope = from_text(noise)
    except CellNotOpen:
        return
    assert to_text(envelope) == noise
