"""Row MACs and the checks of a key store, over any change and any bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.keys.records import (
    COLUMNS,
    KeyRecord,
    KeyStatus,
    Purpose,
    StoreKey,
    StoreTampered,
    encode_field,
    record_of,
    row_of,
)

KEY = StoreKey(bytes(range(32)), bytes(16))
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
times = st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))
numbers = st.integers(1, 2**32 - 1)
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "key_id": numbers,
    "tenant": texts,
    "name": texts,
    "key_type": texts,
    "purpose": st.sampled_from(Purpose),
    "version": numbers,
    "status": st.sampled_from(KeyStatus),
    "algorithm": texts,
    "kek_alias": texts,
    "wrapped_dek": st.none() | st.binary(max_size=70),
    "parent_key_id": st.none() | numbers,
    "created_at": times,
    **{
        name: st.none() | times
        for name in ("activated_at", "expires_at", "rotated_at", "last_used_at", "rollback_until")
    },
    "compliance_tags": st.lists(texts, max_size=3).map(tuple),
    "authorised_services": st.lists(texts, max_size=3).map(tuple),
    "access_policy": st.none() | texts,
    "correlation_id": st.none() | texts,
    "created_by": texts,
    "changed_by": texts,
    "epoch": numbers,
}
records = st.builds(KeyRecord, **FIELDS)  # type: ignore[arg-type]


@given(records)
def test_record_as_row_and_back_keeps_its_mac(record: KeyRecord) -> None:
    """What is read is what was written, and verifies."""
    again = record_of(dict(zip(COLUMNS, row_of(record), strict=True)))
    assert again == record
    KEY.verify_row(again, KEY.row(record))


@given(records, st.sampled_from(COLUMNS), st.data())
def test_record_with_any_other_field_does_not_verify(record: KeyRecord, column: str, data: st.DataObject) -> None:
    """Any other value of any field breaks the MAC."""
    other = replace(record, **{column: data.draw(FIELDS[column])})
    assume(other != record)
    with pytest.raises(StoreTampered):
        KEY.verify_row(other, KEY.row(record))


@given(records, records)
def test_records_that_differ_have_different_macs(one: KeyRecord, other: KeyRecord) -> None:
    """The encoding is one to one."""
    assert (KEY.row(one) == KEY.row(other)) == (one == other)


@given(st.lists(st.none() | texts | st.lists(texts, max_size=2).map(tuple), min_size=2, max_size=2))
def test_fields_joined_come_apart_in_one_way_only(pair: list[object]) -> None:
    """Two fields are never another two fields."""
    joined = b"".join(map(encode_field, pair))
    first = encode_field(pair[0])
    assert joined.startswith(first) and joined[len(first) :] == encode_field(pair[1])
    size = 1 if first == b"\0" else 5 + int.from_bytes(first[1:5], "big")
    assert size == len(first)
