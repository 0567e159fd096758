"""The chain of one writer against the format's page: records, keys, heads, encoding."""

from __future__ import annotations

import itertools
import json
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.chain import (
    MAX_EVENTS,
    MAX_EVENTS_SIZE,
    Chain,
    Head,
    WriterStart,
    grouped,
    is_head_authentic,
    next_key,
    parse_head,
    record_hash,
    start_key,
    writer_name,
    writer_parts,
)
from proxy.audit.encode import encode_event
from proxy.audit.events import Outcome, StatementEvent, Subject, SystemEvent
from tests.trails import ROOT_KEY, statement

WRITER = "demo-0-20231114T221320500000Z"
DOCUMENT = Path(__file__).resolve().parents[3] / "docs/audit-format.md"


def vector() -> list[bytes]:
    found = re.search(r"```vector\n(.*?)```", DOCUMENT.read_text(), re.S)
    assert found is not None
    return [line.encode() + b"\n" for line in found[1].splitlines()]


def chain(previous: Head | None = None) -> Chain:
    return Chain(WriterStart(WRITER, start_key(ROOT_KEY, WRITER), previous), 1700000000.5)


def encoded(*events: StatementEvent | SystemEvent) -> list[bytes]:
    return [encode_event(event) for event in events]


def test_chain_writes_the_vector_of_the_document() -> None:
    """Two records, the second of two events, and a head, byte for byte."""
    made = chain()
    failed = statement(n_rows=0, n_cells_opened=0, key_ids=(), outcome=Outcome.FAILED, sqlstate="57014")
    assert [made.first_line, made.append(encoded(statement(), failed)), made.head_line()] == vector()


def test_records_name_each_other_and_change_their_key() -> None:
    """Each record's prev is the hash of the one before; the key moves on and is gone."""
    made = chain()
    lines = [made.first_line, *(made.append(encoded(statement(n_rows=i))) for i in range(3))]
    for before, after in itertools.pairwise(lines):
        assert json.loads(after)["prev"] == record_hash(before[:-1])
    assert [json.loads(line)["seq"] for line in lines] == [0, 1, 2, 3]
    key = start_key(ROOT_KEY, WRITER)
    assert len({key, next_key(key), next_key(next_key(key))}) == 3


def test_first_record_names_the_head_it_goes_on_from() -> None:
    """The previous writer's name, number and hash are under the first MAC."""
    previous = Head("demo-0-20231113T000000000000Z", 41, "ab" * 32)
    record = json.loads(chain(previous).first_line)
    assert record["prev"] == "ab" * 32
    assert record["n"] == 1
    assert record["events"][0]["fields"] == {
        "previous_seq": 41, "previous_writer": "demo-0-20231113T000000000000Z", "writer": WRITER
    }  # fmt: skip


def test_head_is_authentic_only_with_its_key() -> None:
    """A head verifies under the key after its record, unchanged."""
    line = vector()[2]
    head = parse_head(line)
    assert head is not None
    key = next_key(next_key(start_key(ROOT_KEY, WRITER)))
    assert is_head_authentic(line, head, key)
    assert not is_head_authentic(line, head, next_key(key))
    assert not is_head_authentic(line.replace(b'"seq":1', b'"seq":2'), Head(WRITER, 2, head.hash), key)


@pytest.mark.parametrize("line", [b"", b"{}", b"\n", vector()[0], vector()[2][:-1], vector()[2] * 2])
def test_head_that_is_not_one_is_none(line: bytes) -> None:
    """Nothing but the exact form is a head."""
    assert parse_head(line) is None


text = st.text(max_size=300)


@given(
    statement_=st.builds(
        StatementEvent,
        subject=st.builds(
            Subject,
            session=text,
            tenant=text | st.none(),
            user=text,
            application=text,
            client_address=text,
            correlation_id=text,
            fingerprint=text,
            tag=text,
            columns=st.lists(text).map(tuple),
        ),
        time_s=st.floats(0, 4e9),
        n_cells_sealed=st.integers(0),
        n_cells_opened=st.integers(0),
        n_rows=st.integers(0),
        key_ids=st.lists(st.integers(0)).map(tuple),
        outcome=st.sampled_from(Outcome),
        sqlstate=text,
        duration_s=st.floats(0, 1e6),
    )
)
def test_statement_encoding_is_canonical_json(statement_: StatementEvent) -> None:
    """The hand-written encoder gives what sorted, compact JSON gives, on one ASCII line."""
    encoded = encode_event(statement_)
    parsed = json.loads(encoded)
    assert json.dumps(parsed, sort_keys=True, separators=(",", ":")).encode() == encoded
    assert b"\n" not in encoded
    assert parsed["user"] == statement_.user
    assert parsed["application"] == statement_.application[:256]
    assert parsed["keys"] == list(statement_.key_ids)
    assert parsed["outcome"] == statement_.outcome.value


def test_subject_is_encoded_once_for_all_its_events() -> None:
    """The second event of a subject re-uses the first's form; percent signs in it stay what they are."""
    first = statement(application="100%d %s %% x")
    one = encode_event(first)
    kept = first.subject.form
    two = encode_event(StatementEvent(first.subject, 2.0, 3, 4, 5, (6, 7), Outcome.SKIPPED, "25P02"))
    assert first.subject.form is kept
    assert json.loads(one)["application"] == json.loads(two)["application"] == "100%d %s %% x"
    assert json.loads(two)["keys"] == [6, 7]
    assert first.subject == statement(application="100%d %s %% x").subject  # the form is no part of it


@given(sizes=st.lists(st.sampled_from([0, 1, 300, MAX_EVENTS_SIZE // 2, MAX_EVENTS_SIZE + 1]), max_size=20))
def test_groups_keep_order_and_stay_below_the_size(sizes: list[int]) -> None:
    """Nothing is left out or moved; only an event that is too large alone makes a large record."""
    events = [bytes(size) for size in sizes]
    groups = list(grouped(events))
    assert [event for group in groups for event in group] == events
    assert all(len(group) == 1 or sum(map(len, group)) <= MAX_EVENTS_SIZE for group in groups)
    assert all(groups)


def test_groups_have_a_bound_of_events() -> None:
    """What came at once goes into records of the bound."""
    assert [len(group) for group in grouped([b"x"] * (2 * MAX_EVENTS + 1))] == [MAX_EVENTS, MAX_EVENTS, 1]


def test_system_encoding_sorts_fields_and_has_no_fractions() -> None:
    """A fraction is written as text, so that every reader sees the same."""
    event = SystemEvent(1.5, "key.generate", (("z", 1), ("a", 0.25), ("m", None), ("b", True), ("t", "x" * 999)))
    expected = (
        '{"fields":{"a":"0.25","b":true,"m":null,"t":"'
        + "x" * 256
        + '","z":1},"kind":"key.generate","time_us":1500000}'
    )
    assert encode_event(event).decode() == expected


def test_writer_start_shows_no_key_and_crosses_a_pipe() -> None:
    """It is handed to a worker process and may stand in a log by accident."""
    start = WriterStart(WRITER, b"canary-key-bytes" * 2)
    assert "canary" not in repr(start)
    assert pickle.loads(pickle.dumps(start)) == start


@pytest.mark.parametrize("instance", ["", "A", "a-b", "a/b", "..", "x" * 33, "a\n"])
def test_writer_name_with_another_instance_is_refused(instance: str) -> None:
    """A writer's name is a file's name; nothing else gets in."""
    with pytest.raises(ValueError, match="instance"):
        writer_name(instance, 0, 1700000000.5)


def test_writer_name_has_parts() -> None:
    """Instance and worker make a series, the start orders it."""
    assert writer_name("demo", 0, 1700000000.5) == WRITER
    assert writer_parts(WRITER) == ("demo-0", "20231114T221320500000Z")
    assert writer_parts("notes") is None
