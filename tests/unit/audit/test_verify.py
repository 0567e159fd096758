"""What the verifier finds: every way to tamper with a trail, and what it only notes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.audit.chain import Chain
from proxy.audit.sinks import HEADS_FOLDER
from proxy.audit.verify import Kind, Report, verify
from proxy.audit.writers import next_writer
from tests.trails import ROOT_KEY, N, write_trail


def check(folder: Path) -> Report:
    return verify(folder / "audit", ROOT_KEY, folder / "state")


def edit(folder: Path, writer: str, change: object) -> None:
    path = folder / "audit" / f"{writer}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(lines)))  # type: ignore[operator]


def test_trail_as_written_is_whole_and_not_anchored(tmp_path: Path) -> None:
    """No finding, all records counted, and the report does not claim more than it knows."""
    write_trail(tmp_path)
    report = check(tmp_path)
    assert report.is_whole
    assert (report.n_writers, report.n_records, report.n_events, report.n_lost) == (1, N + 2, N + 2, 0)
    assert not report.is_anchored
    assert report.notes == (
        "not anchored: no head is kept off this host; the newest records may be gone together with their heads",
    )


@pytest.mark.parametrize(
    ("change", "kind", "seq"),
    [
        (lambda x: [*x[:5], x[5].replace(b'"rows":4', b'"rows":5'), *x[6:]], Kind.CHANGED, 5),
        (lambda x: [*x[:5], *x[6:]], Kind.MISSING, 5),
        (lambda x: x[1:], Kind.MISSING, 0),
        (lambda x: [*x[:5], x[6], x[5], *x[7:]], Kind.REORDERED, 5),
        (lambda x: [*x[:5], x[4], *x[5:]], Kind.REORDERED, 5),
        (lambda x: x[:8], Kind.TRUNCATED, 8),
        (lambda x: [*x[:8], x[8][:30]], Kind.TRUNCATED, 8),
        (lambda x: [], Kind.TRUNCATED, 0),
        (lambda x: [*x, x[-1]], Kind.REORDERED, N + 2),
        (lambda x: [*x[:5], b"\n", *x[5:]], Kind.CHANGED, 5),
        (lambda x: [*x[:5], b"{}\n"], Kind.CHANGED, 5),
        (lambda x: [*x[:5], x[5].replace(b'"seq":5', b'"seq":999999999'), *x[6:]], Kind.CHANGED, 5),
        (lambda x: [*x[:5], x[5].replace(b'"seq":5', b'"seq":7'), *x[6:]], Kind.CHANGED, 5),
        (lambda x: [*x[:5], x[5][:-1] + b" \n", *x[6:]], Kind.CHANGED, 5),
    ],
)
def test_tampering_is_named_with_its_first_bad_record(
    tmp_path: Path, change: object, kind: Kind, seq: int
) -> None:
    """Change, deletion, reordering, repetition and truncation each have a name and a place."""
    writer = write_trail(tmp_path)
    edit(tmp_path, writer, change)
    [finding] = check(tmp_path).findings
    assert (finding.writer, finding.kind, finding.seq) == (writer, kind, seq)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path: Path, place: float, bit: int) -> None:
    """There is no byte of a trail that does not matter."""
    if not (tmp_path / "audit").exists():
        write_trail(tmp_path)
    [path] = (tmp_path / "audit").iterdir()
    good = path.read_bytes()
    at = int(place * len(good))
    path.write_bytes(good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :])
    try:
        assert not check(tmp_path).is_whole
    finally:
        path.write_bytes(good)


def test_trail_under_another_root_key_is_not_believed(tmp_path: Path) -> None:
    """Without the root key nothing verifies, the first record already."""
    write_trail(tmp_path)
    [finding] = verify(tmp_path / "audit", bytes(32), tmp_path / "state").findings
    assert (finding.kind, finding.seq) == (Kind.CHANGED, 0)


def test_file_of_another_writer_under_this_name_is_found(tmp_path: Path) -> None:
    """One writer's records cannot stand in for another's."""
    first = write_trail(tmp_path)
    second = write_trail(tmp_path, start_s=1700000900)
    folder = tmp_path / "audit"
    (folder / f"{second}.jsonl").write_bytes((folder / f"{first}.jsonl").read_bytes())
    assert (second, Kind.CHANGED) in {(finding.writer, finding.kind) for finding in check(tmp_path).findings}


def test_writers_follow_one_another(tmp_path: Path) -> None:
    """A restart goes on from the last record of the writer before it."""
    write_trail(tmp_path)
    write_trail(tmp_path, start_s=1700000900)
    write_trail(tmp_path, start_s=1700001800)
    report = check(tmp_path)
    assert report.is_whole
    assert report.n_writers == 3


def test_file_deleted_is_found_by_its_head(tmp_path: Path) -> None:
    """A whole writer cannot be removed while its head stands."""
    writer = write_trail(tmp_path)
    (tmp_path / "audit" / f"{writer}.jsonl").unlink()
    [finding] = check(tmp_path).findings
    assert (finding.writer, finding.kind) == (writer, Kind.FILE_GONE)


def test_file_and_head_deleted_are_found_by_the_next_writer(tmp_path: Path) -> None:
    """The next writer names the one before it."""
    writer = write_trail(tmp_path)
    write_trail(tmp_path, start_s=1700000900)
    (tmp_path / "audit" / f"{writer}.jsonl").unlink()
    (tmp_path / "state" / HEADS_FOLDER / f"{writer}.head").unlink()
    [finding] = check(tmp_path).findings
    assert (finding.writer, finding.kind) == (writer, Kind.FILE_GONE)


def test_file_cut_together_with_its_head_is_found_by_the_next_writer(tmp_path: Path) -> None:
    """So is an end that was cut off after the next writer started."""
    writer = write_trail(tmp_path)
    write_trail(tmp_path, start_s=1700000900)
    edit(tmp_path, writer, lambda lines: lines[:4])
    (tmp_path / "state" / HEADS_FOLDER / f"{writer}.head").unlink()
    [finding] = check(tmp_path).findings
    assert (finding.writer, finding.kind, finding.seq) == (writer, Kind.TRUNCATED, 4)


def test_file_cut_before_the_next_writer_starts_stays_found(tmp_path: Path) -> None:
    """The next writer goes on from the head where that is further than the file."""
    writer = write_trail(tmp_path)
    edit(tmp_path, writer, lambda lines: lines[:4])
    write_trail(tmp_path, start_s=1700000900)
    (tmp_path / "state" / HEADS_FOLDER / f"{writer}.head").unlink()
    [finding] = check(tmp_path).findings
    assert (finding.writer, finding.kind) == (writer, Kind.TRUNCATED)


def test_head_put_back_to_an_earlier_record_is_found_when_forged(tmp_path: Path) -> None:
    """A head needs the key of its place, which nobody has any more."""
    writer = write_trail(tmp_path)
    path = tmp_path / "state" / HEADS_FOLDER / f"{writer}.head"
    path.write_bytes(path.read_bytes().replace(b'"mac":"', b'"mac":"0')[:-4] + b'"}\n')
    [finding] = check(tmp_path).findings
    assert finding.kind is Kind.FOREIGN


def test_torn_last_line_and_missing_stop_are_notes(tmp_path: Path) -> None:
    """A killed process is no tampering, and the open interval is said."""
    writer = write_trail(tmp_path, stop=False)
    with (tmp_path / "audit" / f"{writer}.jsonl").open("ab") as file:
        file.write(b'{"v":1,"seq":13,"pr')
    report = check(tmp_path)
    assert report.is_whole
    assert any("the last line is not whole" in note for note in report.notes)
    assert any(f"events after record {N} may be missing" in note for note in report.notes)


def test_verification_without_state_says_that_a_cut_end_does_not_show(tmp_path: Path) -> None:
    """What was not compared is not implied."""
    write_trail(tmp_path)
    assert "no state folder given: a cut end does not show" in verify(tmp_path / "audit", ROOT_KEY).notes


def test_empty_or_missing_folder_is_whole_with_no_writers(tmp_path: Path) -> None:
    """Nothing written is nothing to find; other files are noted."""
    assert verify(tmp_path / "none", ROOT_KEY).n_writers == 0
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt: is no audit file" in verify(tmp_path, ROOT_KEY).notes


def test_trail_of_records_with_many_events_is_whole(tmp_path: Path) -> None:
    """Events are counted beside the records that hold them."""
    write_trail(tmp_path, 50, group=16)
    report = check(tmp_path)
    assert report.is_whole
    assert (report.n_records, report.n_events) == (2 + 4, 2 + 50)


def events_of(line: bytes) -> list[bytes]:
    """The events of a record, as they stand in it."""
    return re.findall(rb'\{"address":.*?"user":"app"\}', line)


def without_one(line: bytes) -> bytes:
    return line.replace(events_of(line)[3] + b",", b"")


def without_one_and_its_count(line: bytes) -> bytes:
    return without_one(line).replace(b'"n":16,', b'"n":15,')


def swapped(line: bytes) -> bytes:
    one, two = events_of(line)[3:5]
    return line.replace(one + b"," + two, two + b"," + one)


def repeated(line: bytes) -> bytes:
    one = events_of(line)[3]
    return line.replace(one, one + b"," + one)


def changed(line: bytes) -> bytes:
    return line.replace(b'"rows":4,', b'"rows":5,')


@pytest.mark.parametrize("change", [without_one, without_one_and_its_count, swapped, repeated, changed])
def test_tampering_with_an_event_inside_a_record_is_found(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    """The MAC is over all events of a record and their order."""
    writer = write_trail(tmp_path, 32, group=16)

    def tamper(lines: list[bytes]) -> list[bytes]:
        assert change(lines[1]) != lines[1]
        return [lines[0], change(lines[1]), *lines[2:]]

    edit(tmp_path, writer, tamper)
    [finding] = check(tmp_path).findings
    assert (finding.writer, finding.kind, finding.seq, finding.line) == (writer, Kind.CHANGED, 1, 2)


def test_event_moved_to_another_record_is_found(tmp_path: Path) -> None:
    """Both records no longer are what was authenticated; the first is named."""
    writer = write_trail(tmp_path, 32, group=16)

    def tamper(lines: list[bytes]) -> list[bytes]:
        moved = events_of(lines[1])[-1]
        first = lines[1].replace(b"," + moved, b"")
        return [lines[0], first, lines[2].replace(b'"events":[', b'"events":[' + moved + b","), *lines[3:]]

    edit(tmp_path, writer, tamper)
    [finding] = check(tmp_path).findings
    assert (finding.kind, finding.seq) == (Kind.CHANGED, 1)


@pytest.mark.parametrize(
    "events",
    [
        [b'{"kind":"chain.lost","fields":{"events":"x"}}'],
        [b'{"kind":"chain.'],
        [b"[" * 100_000],
        [b""],
        [b'1],"events":7,"x":["kind"'],
    ],
)
def test_record_that_only_a_worker_taken_over_can_make_does_not_stop_the_verifier(
    tmp_path: Path, events: list[bytes]
) -> None:
    """It is authentic, since the key was there, and says nothing; the other writers are still verified."""
    start = next_writer(ROOT_KEY, tmp_path / "audit", tmp_path / "state", "demo", 0, 1700000000.5)
    chain = Chain(start, 1700000000.5)
    (tmp_path / "audit").mkdir()
    made = [*events, b'{"kind":"chain.x"}']
    (tmp_path / "audit" / f"{start.writer}.jsonl").write_bytes(chain.first_line + chain.append(made))
    report = check(tmp_path)
    assert (report.n_records, report.n_events, report.n_lost) == (2, 1 + len(made), 0)


def test_record_of_no_events_is_no_record(tmp_path: Path) -> None:
    """Even with its MAC."""
    start = next_writer(ROOT_KEY, tmp_path / "audit", tmp_path / "state", "demo", 0, 1700000000.5)
    chain = Chain(start, 1700000000.5)
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / f"{start.writer}.jsonl").write_bytes(chain.first_line + chain.append([]))
    [finding] = check(tmp_path).findings
    assert (finding.kind, finding.seq) == (Kind.CHANGED, 1)


def test_verification_is_fast_enough_for_a_year(tmp_path: Path) -> None:
    """At least 20,000 records a second of processor time."""
    write_trail(tmp_path, 8000)
    begin = time.process_time()
    report = check(tmp_path)
    assert report.is_whole
    assert report.n_records / (time.process_time() - begin) > 20_000
