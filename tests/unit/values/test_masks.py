"""Masks: what each form shows, of short values, of letters of any script, and within the length of a type."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.values.base import Settings
from proxy.values.masks import Mask, MaskForm, full_mask, mask_problems, masker
from proxy.values.registry import codec, parse_type

TEXT = parse_type("text")
SSN = Mask(MaskForm.PATTERN, "***-**-####")


@pytest.mark.parametrize(
    ("mask", "value", "shown"),
    [
        (Mask(MaskForm.LAST4), "123-45-6789", "***6789"),
        (Mask(MaskForm.LAST4), "12345678", "***5678"),
        (Mask(MaskForm.LAST4), "1234567", "***"),
        (Mask(MaskForm.LAST4), "", "***"),
        (Mask(MaskForm.LAST4), "Straße 1 名字ü", "*** 名字ü"),
        (Mask(MaskForm.FIRST1), "Bob", "B***"),
        (Mask(MaskForm.FIRST1), "Ödön", "Ö***"),
        (Mask(MaskForm.FIRST1), "𝔘𝔫𝔦", "𝔘***"),
        (Mask(MaskForm.FIRST1), "B", "***"),
        (Mask(MaskForm.FIRST1), "", "***"),
        (Mask(MaskForm.EMAIL), "alice@example.org", "a***@example.org"),
        (Mask(MaskForm.EMAIL), "ämil@münchen.de", "ä***@münchen.de"),
        (Mask(MaskForm.EMAIL), "a@b", "***@b"),
        (Mask(MaskForm.EMAIL), '"a@b"@c.d', '"***@c.d'),
        (Mask(MaskForm.EMAIL), "no mail", "***"),
        (Mask(MaskForm.EMAIL), "@", "***"),
        (Mask(MaskForm.EMAIL), "me@", "***"),
        (Mask(MaskForm.EMAIL), "me@home, or call 555", "***"),
        (SSN, "123-45-6789", "***-**-6789"),
        (SSN, "äöüäöüäöüßÖ", "***-**-öüßÖ"),
        (SSN, "123456789", "***"),
        (SSN, "", "***"),
    ],
)
def test_mask_of_text_shows_what_its_form_says(mask: Mask, value: str, shown: str) -> None:
    """Characters are counted, not bytes; what is too short or of another form shows nothing."""
    assert masker(TEXT, mask)(value.encode()).decode() == shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("date", b"1987-06-05", b"1987-01-01"),
        ("date", b"0044-03-15 BC", b"0044-01-01 BC"),
        ("date", b"12345-12-31", b"12345-01-01"),
        ("date", b"infinity", b"infinity"),
        ("date", b"-infinity", b"-infinity"),
        ("timestamp", b"1987-06-05 04:03:02.000001", b"1987-01-01 00:00:00"),
        ("timestamp", b"0044-03-15 12:00:00 BC", b"0044-01-01 00:00:00 BC"),
    ],
)
def test_mask_year_of_a_date_is_its_first_day(name: str, value: bytes, shown: bytes) -> None:
    """The masked value is one of the type."""
    type_ = parse_type(name)
    assert masker(type_, Mask(MaskForm.YEAR))(value) == shown
    assert codec(type_).read_text(shown, Settings()) == shown


def test_mask_year_of_something_else_is_refused() -> None:
    """What is not in display form is not shown in part."""
    with pytest.raises(ValueError, match="ISO"):
        masker(parse_type("date"), Mask(MaskForm.YEAR))(b"05.06.1987")


@pytest.mark.parametrize(
    ("name", "mask", "shown"),
    [
        ("text", Mask(), b"***"),
        ("varchar(2)", Mask(), b"**"),
        ("varchar(254)", Mask(MaskForm.LAST4), b"***"),
        ("text", Mask(MaskForm.PATTERN, "[hidden]"), b"[hidden]"),
        *((name, Mask(), None) for name in ("int4", "numeric(5,2)", "bool", "uuid", "date", "json", "bytea")),
    ],
)
def test_full_mask_is_a_text_for_text_and_null_for_all_else(name: str, mask: Mask, shown: bytes | None) -> None:
    """No number, date or truth is made up."""
    assert full_mask(parse_type(name), mask) == shown


def test_mask_with_nothing_to_show_is_full() -> None:
    """Such a cell needs not be opened."""
    assert Mask().is_full
    assert Mask(MaskForm.PATTERN, "none").is_full
    assert not SSN.is_full
    assert not Mask(MaskForm.LAST4).is_full


TEXT_MASKS = [Mask(form) for form in (MaskForm.LAST4, MaskForm.FIRST1, MaskForm.EMAIL)] + [SSN]


@given(st.text(max_size=20), st.sampled_from(TEXT_MASKS), st.integers(1, 20))
def test_mask_of_any_text_fits_its_type_and_hides(value: str, mask: Mask, longest: int) -> None:
    """Valid text within the length of the type, and never the value but where nothing of it can be told."""
    type_ = parse_type(f"varchar({longest})")
    value = value[:longest].replace("\0", "")
    if any(0xD800 <= ord(letter) < 0xE000 for letter in value):
        return
    shown = masker(type_, mask)(value.encode()).decode()
    assert len(shown) <= longest
    assert "*" in shown or longest == 1
    if len(value) == 11 and mask is SSN and longest >= 11:
        assert shown[7:] == value[7:]


@pytest.mark.parametrize("name", ["int8", "bool", "uuid", "bytea", "jsonb", "float8", "numeric", "timestamptz"])
def test_mask_that_a_type_cannot_show_is_a_problem(name: str) -> None:
    """All but full."""
    type_ = parse_type(name)
    assert not list(mask_problems(type_, Mask()))
    for form in MaskForm:
        if form is not MaskForm.FULL:
            assert list(mask_problems(type_, Mask(form, "*#" if form is MaskForm.PATTERN else "")))
