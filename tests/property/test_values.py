"""Properties of values: any bytes end in a display form or a documented error; wire forms are inverse."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import PgsealError
from proxy.values.arrays import build_binary, build_text, split_binary, split_text
from proxy.values.base import Settings
from proxy.values.calendar import civil_of, days_of
from proxy.values.registry import BASE, codec

SETTINGS = st.builds(
    Settings,
    client_encoding=st.sampled_from(["UTF8", "LATIN1", "WIN1252", "SJIS", "EUC_JP", "SQL_ASCII"]),
    date_style=st.sampled_from(["ISO, MDY", "SQL, DMY", "Postgres, MDY", "German, DMY", "ISO, YMD"]),
    time_zone=st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu", "<-03>+03"]),
    bytea_output=st.sampled_from(["hex", "escape"]),
)
WIRE = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=40).map(str.encode),
    st.text(alphabet="0123456789-+:./ eETZjanfebmrBC{}[],\"'\\ux", max_size=30).map(str.encode),
)


@pytest.mark.parametrize("type_name", BASE)
@given(raw=WIRE, settings=SETTINGS, binary=st.booleans())
def test_read_any_bytes_ends_in_a_display_form_or_a_documented_error(
    type_name: str, raw: bytes, settings: Settings, binary: bool
) -> None:
    """What is accepted is canonical: it shows and reads back as itself; all else is an error of the tree."""
    chosen = codec(BASE[type_name])
    try:
        display = chosen.read_binary(raw, settings) if binary else chosen.read_text(raw, settings)
    except PgsealError as error:
        assert error.sqlstate != "XX000" or type_name == "jsonb"
        return
    plain = Settings()
    assert chosen.read_binary(chosen.show_binary(display, plain), plain) == display
    assert chosen.read_text(chosen.show_text(display, plain), plain) == display


@given(st.floats())
def test_float8_shown_text_reads_back_as_the_same_double(value: float) -> None:
    """The shortest text loses nothing (NaN is one value)."""
    chosen, raw = codec(BASE["float8"]), struct.pack(">d", value)
    shown = chosen.read_binary(raw, Settings())
    assert value != value or struct.pack(">d", float(shown)) == raw


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6), st.integers(0, 10))
def test_numeric_equality_form_ignores_scale(value: Decimal, zeros: int) -> None:
    """Trailing zeros do not change the form, another value does."""
    chosen = codec(BASE["numeric"])
    text = f"{value:f}"
    form = chosen.equality(chosen.read_text(text.encode(), Settings()))
    assert form == chosen.equality(chosen.read_text((text + "0" * zeros).encode(), Settings()))
    assert Decimal(form.decode()) == value


@given(st.integers(-2_451_545, 2_145_031_948))
def test_calendar_days_and_dates_are_inverse(days: int) -> None:
    """Every day the server knows has one date."""
    year, month, day = civil_of(days)
    assert days_of(year, month, day) == days
    assert 1 <= month <= 12 and 1 <= day <= 31


ELEMENTS = st.lists(st.none() | st.binary(max_size=20), max_size=8).map(tuple)


@given(ELEMENTS)
def test_array_binary_build_then_split_is_the_identity(elements: tuple[bytes | None, ...]) -> None:
    """Any elements survive the binary form."""
    assert split_binary(build_binary(elements, 17)) == (17, elements)


@given(st.lists(st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=8))
def test_array_text_build_then_split_is_the_identity(texts: list[str | None]) -> None:
    """Any texts survive the text form."""
    elements = tuple(None if text is None else text.encode() for text in texts)
    assert split_text(build_text(elements, 25), Settings()) == elements


@given(st.binary(max_size=60))
def test_split_any_bytes_ends_in_elements_or_a_documented_error(raw: bytes) -> None:
    """No array input raises anything else."""
    for split in (lambda: split_text(raw, Settings()), lambda: split_binary(raw)):
        try:
            split()
        except PgsealError as error:
            assert error.sqlstate != "XX000"
