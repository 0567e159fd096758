"""Row, head and lease MACs by the document's vectors, and which changes of a store are believed."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxy.keys.records import (
    COLUMNS,
    FOLLOWERS,
    LATER,
    Head,
    KeyRecord,
    KeyStatus,
    Purpose,
    StoreKey,
    StoreTampered,
    check_progress,
    encode_field,
    record_of,
    row_of,
)
from tests.vectors import DOCS, ddl, vectors

PAGE = vectors("formats.md")
KEY = StoreKey(bytes.fromhex(PAGE["store_key"]), bytes.fromhex(PAGE["realm"]))
TIMES = {"created_at", "activated_at", "expires_at", "rotated_at", "last_used_at", "rollback_until"}


def record(number: int = 0) -> KeyRecord:
    """A vector's row as a record."""
    row: dict[str, Any] = dict(PAGE["rows"][number]["fields"])
    for name in TIMES:
        if row[name] is not None:
            row[name] = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=row[name])
    if row["wrapped_dek"] is not None:
        row["wrapped_dek"] = bytes.fromhex(row["wrapped_dek"])
    return record_of(row)


@pytest.mark.parametrize("number", range(len(PAGE["rows"])))
def test_row_mac_of_vector_is_the_documents(number: int) -> None:
    """Rows with and without NULLs, a time before 1970, empty arrays and empty texts."""
    assert KEY.row(record(number)).hex() == PAGE["rows"][number]["row_mac"]
    assert [name for name, _ in PAGE["rows"][number]["fields"]] == list(COLUMNS)


def test_head_and_lease_macs_of_vectors_are_the_documents() -> None:
    """The head MAC covers every row's MAC; a lease has its own label."""
    head, lease = PAGE["head"], PAGE["lease"]
    made = Head(
        KEY.realm, head["epoch"], head["last_key_id"], head["kek_alias"], bytes.fromhex(head["wrapped_store_key"])
    )
    macs = {record(n).key_id: KEY.row(record(n)) for n in (1, 0)}
    assert KEY.head(made, macs).hex() == head["head_mac"]
    assert KEY.lease(lease["key_id"], lease["context"], lease["leased"]).hex() == lease["lease_mac"]


def test_columns_of_record_are_those_of_the_table() -> None:
    """Fields, the document's table and their order agree."""
    table = ddl("formats.md").split("encryption_keys (")[1].split("UNIQUE")[0]
    assert tuple(re.findall(r"^    ([a-z_]+) +(?:bigint|text|integer|bytea|timestamptz)", table, re.M)) == (
        *COLUMNS,
        "row_mac",
    )


def test_followers_agree_with_the_documents_table() -> None:
    """The transitions are the document's, literally."""
    names = "|".join(status.value for status in KeyStatus)
    rows = re.findall(rf"^\| ({names}) \| ([A-Z -]+) \|$", (DOCS / "formats.md").read_text(), re.M)
    table = {KeyStatus(old): {KeyStatus(new) for new in more.split() if new != "-"} for old, more in rows}
    assert table == dict(FOLLOWERS)


CHANGES: dict[str, Any] = {
    "key_id": 9,
    "tenant": "hospital-2",
    "name": "other",
    "key_type": "PII_DATA",
    "purpose": Purpose.INDEX,
    "version": 2,
    "status": KeyStatus.ROTATED,
    "algorithm": "AES-128",
    "kek_alias": "other",
    "wrapped_dek": b"other",
    "parent_key_id": 0,
    "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    "activated_at": None,
    "expires_at": datetime(2026, 1, 1, tzinfo=UTC),
    "rotated_at": datetime(2026, 1, 1, tzinfo=UTC),
    "last_used_at": datetime(2026, 1, 1, tzinfo=UTC),
    "rollback_until": datetime(2026, 1, 1, tzinfo=UTC),
    "compliance_tags": ("HIPAAGDPR art. 32",),
    "authorised_services": ("",),
    "access_policy": "",
    "correlation_id": None,
    "created_by": "",
    "changed_by": "x",
    "epoch": 2,
}


def test_changes_list_has_every_column() -> None:
    """No column is forgotten by the tests of the MAC."""
    assert set(CHANGES) == set(COLUMNS)


@pytest.mark.parametrize("column", COLUMNS)
def test_row_mac_with_one_field_changed_does_not_verify(column: str) -> None:
    """Every field is under the MAC."""
    original = record()
    KEY.verify_row(original, KEY.row(original))
    with pytest.raises(StoreTampered):
        KEY.verify_row(replace(original, **{column: CHANGES[column]}), KEY.row(original))


def test_row_mac_of_another_realm_or_key_does_not_verify() -> None:
    """Rows of another installation are not believed."""
    mac = KEY.row(record())
    for other in (StoreKey(bytes(32), KEY.realm), StoreKey(bytes.fromhex(PAGE["store_key"]), bytes(16))):
        with pytest.raises(StoreTampered):
            other.verify_row(record(), mac)


def test_encode_field_tells_null_from_empty_and_arrays_apart() -> None:
    """NULL, empty text, empty array with one empty element and split arrays differ."""
    contents = [None, ("",), ("", ""), ("ab",), ("a", "b"), "ab", 0]
    assert len({encode_field(content) for content in contents}) == len(contents)


def test_record_of_a_row_round_trips() -> None:
    """What goes to the table comes back."""
    assert record_of(dict(zip(COLUMNS, row_of(record()), strict=True))) == record()


@pytest.mark.parametrize(
    ("column", "value"), [("status", "FINE"), ("purpose", "both"), ("compliance_tags", None)]
)
def test_record_of_values_no_one_wrote_is_tampering(column: str, value: object) -> None:
    """A row that cannot be a record is not an internal error."""
    row = dict(zip(COLUMNS, row_of(record()), strict=True)) | {column: value}
    with pytest.raises(StoreTampered):
        record_of(row)


@pytest.mark.parametrize("old", KeyStatus)
@pytest.mark.parametrize("new", KeyStatus)
def test_check_progress_of_statuses_believes_only_what_is_later(old: KeyStatus, new: KeyStatus) -> None:
    """PENDING is never returned to, COMPROMISED and DESTROYED are final."""
    before, after = replace(record(), status=old), replace(record(), status=new)
    if new in LATER[old]:
        check_progress({7: before}, {7: after})
        return
    with pytest.raises(StoreTampered, match="went back"):
        check_progress({7: before}, {7: after})


def test_later_of_final_statuses_is_final() -> None:
    """Nothing leads out of COMPROMISED but DESTROYED, nothing into PENDING."""
    assert LATER[KeyStatus.DESTROYED] == {KeyStatus.DESTROYED}
    assert LATER[KeyStatus.COMPROMISED] == {KeyStatus.COMPROMISED, KeyStatus.DESTROYED}
    assert [status for status in KeyStatus if KeyStatus.PENDING in LATER[status]] == [KeyStatus.PENDING]


@pytest.mark.parametrize("column", ["tenant", "key_type", "purpose", "version"])
def test_check_progress_of_a_reused_id_is_tampering(column: str) -> None:
    """An id stays with its key."""
    with pytest.raises(StoreTampered, match="another key"):
        check_progress({7: record()}, {7: replace(record(), **{column: CHANGES[column]})})


def test_check_progress_of_a_vanished_or_older_row_is_tampering() -> None:
    """Rows neither vanish nor grow younger."""
    with pytest.raises(StoreTampered, match="vanished"):
        check_progress({7: record()}, {})
    with pytest.raises(StoreTampered):
        check_progress({7: record()}, {7: replace(record(), epoch=1)})


def test_repr_of_record_shows_no_wrapped_key() -> None:
    """Not even wrapped keys are shown."""
    original = record()
    assert original.wrapped_dek is not None
    assert original.wrapped_dek.hex() not in repr(original) and "wrapped" not in repr(original)
