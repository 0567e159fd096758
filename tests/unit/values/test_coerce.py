"""Parameters by declared type, deterministic forms, and the callables resolved once per statement."""

from __future__ import annotations

import struct

import pytest

from proxy.errors import PgsealError
from proxy.values.base import Settings
from proxy.values.coerce import assign, comparable, deterministic
from proxy.values.fast import reader, shower
from proxy.values.registry import BASE, codec, parse_type

SETTINGS = Settings()


@pytest.mark.parametrize(
    ("equality", "type_name", "display"),
    [
        (b"1.5", "numeric(5,2)", b"1.50"),
        (b"-3", "numeric(5,2)", b"-3.00"),
        (b"1.555", "numeric(5,2)", None),
        (b"NaN", "numeric(5,2)", b"NaN"),
        (b"Infinity", "numeric(5,2)", None),
        (b"7", "numeric(5,0)", b"7"),
        (b"abc", "text", b"abc"),
        (b"7", "int4", b"7"),
    ],
)
def test_deterministic_form_is_the_columns_display(
    equality: bytes, type_name: str, display: bytes | None
) -> None:
    """A deterministic column is compared by what it would hold; what it cannot hold equals nothing."""
    assert deterministic(equality, parse_type(type_name)) == display


@pytest.mark.parametrize("scale", ["12,2", "5,0", "3,-2"])
@pytest.mark.parametrize("written", ["NaN", " nan ", "-0", "-0.00", "0", "1e2", "1.50", "-.5", "00012.3", "100"])
def test_deterministic_form_of_a_numeric_that_fits_is_what_is_stored(written: str, scale: str) -> None:
    """However a number is written, comparing it finds the row that storing it made."""
    target = parse_type(f"numeric({scale})")
    raw = written.encode()
    stored = assign(raw, binary=False, source_oid=0, target=target, settings=SETTINGS)
    again = comparable(stored, binary=False, source_oid=0, target=target, settings=SETTINGS)
    assert again is not None
    assert deterministic(again, target) == stored
    asked = comparable(raw, binary=False, source_oid=0, target=target, settings=SETTINGS)
    if asked == again:
        assert deterministic(asked, target) == stored


def test_assign_char_parameter_loses_its_padding() -> None:
    """char(n) becomes text without its trailing blanks."""
    assert assign(b"ab  ", binary=False, source_oid=1042, target=BASE["text"], settings=SETTINGS) == b"ab"


def test_assign_real_parameter_widens_exactly() -> None:
    """real goes into double precision with its own binary value."""
    wide = b"0.10000000149011612"
    for raw, binary in ((struct.pack(">f", 0.1), True), (b"0.1", False)):
        target = BASE["float8"]
        assert assign(raw, binary=binary, source_oid=700, target=target, settings=SETTINGS) == wide


def test_assign_foreign_source_type_is_unsupported() -> None:
    """A parameter of a type pgseal has not is refused, never guessed."""
    with pytest.raises(PgsealError) as caught:
        assign(b"1.2.3.4", binary=False, source_oid=869, target=BASE["text"], settings=SETTINGS)
    assert caught.value.sqlstate == "PS001"


def test_comparable_large_double_with_integer_is_unsupported() -> None:
    """Beyond 2^53 one double equals several integers, which one token cannot say."""
    with pytest.raises(PgsealError) as caught:
        comparable(b"1e18", binary=False, source_oid=701, target=BASE["int8"], settings=SETTINGS)
    assert caught.value.sqlstate == "PS001"


def test_comparable_time_in_a_gap_is_unsupported_and_in_an_overlap_is_one_or_none() -> None:
    """Two local times become the instant after a leap forward; after a leap back one instant is no local time."""
    new_york = Settings(time_zone="America/New_York")

    def local(raw: bytes) -> bytes | None:
        return comparable(raw, binary=False, source_oid=1184, target=BASE["timestamp"], settings=new_york)

    with pytest.raises(PgsealError):
        local(b"2020-03-08 07:30:00+00")
    assert local(b"2020-11-01 05:30:00+00") is None
    assert local(b"2020-11-01 06:30:00+00") == b"2020-11-01 01:30:00"
    assert local(b"2020-07-01 06:30:00+00") == b"2020-07-01 02:30:00"


@pytest.mark.parametrize("type_name", [name for name in BASE if name != "bytea"])
def test_shower_of_usual_text_is_the_identity(type_name: str) -> None:
    """Under UTF-8, ISO dates and UTC the display form is what the client gets."""
    assert shower(BASE[type_name], False, SETTINGS) is None


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    ("type_name", "display"),
    [
        ("int4", b"42"),
        ("text", "é".encode()),
        ("timestamptz", b"2020-01-01 00:00:00+00"),
        ("bytea", b"a\\b"),
        ("jsonb", b'{"a": 1}'),
        ("date", b"2020-01-01"),
        ("float8", b"0.1"),
    ],
)
def test_shower_and_reader_agree_with_the_codec(type_name: str, display: bytes, binary: bool) -> None:
    """The resolved callables are the codec's own methods, under any settings."""
    type_ = BASE[type_name]
    for settings in (SETTINGS, Settings("LATIN1", "German, DMY", time_zone="Asia/Kolkata", extra_float_digits=0)):
        show = shower(type_, binary, settings)
        raw = display if show is None else show(display)
        chosen = codec(type_)
        expected = chosen.show_binary if binary else chosen.show_text
        assert raw == expected(display, settings)
        if binary or settings is SETTINGS:
            assert reader(type_, type_.oid, binary, settings)(raw) == display
            assert reader(type_, 0, binary, settings)(raw) == display


def test_reader_of_other_type_casts_or_refuses_at_once() -> None:
    """A declared type without assignment cast fails when the statement is prepared, not per value."""
    assert reader(BASE["numeric"], 23, False, SETTINGS)(b"07") == b"7"
    with pytest.raises(PgsealError) as caught:
        reader(BASE["int4"], 25, False, SETTINGS)
    assert caught.value.sqlstate == "42804"
