"""The auditor and its file: nothing waits, nothing is torn, a full disk blocks and passes."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.audit.events import Event, SystemEvent
from proxy.audit.sinks import (
    GATHER_EVENTS,
    GATHER_S,
    HEADS_FOLDER,
    MAX_WAITING,
    Auditor,
    FileSink,
    open_auditor,
)
from proxy.audit.verify import verify
from proxy.audit.writers import next_writer, previous_head
from proxy.errors import AuditNotWritable
from tests.clock import on_its_own_clock
from tests.trails import ROOT_KEY, statement, write_trail

ROOT = Path(__file__).resolve().parents[3]


def start(tmp_path: Path, *, is_blocking: bool = True) -> Auditor:
    writer = next_writer(ROOT_KEY, tmp_path / "audit", tmp_path / "state", "demo", 0, 1700000000.5)
    return open_auditor(tmp_path / "audit", tmp_path / "state", writer, is_blocking=is_blocking)


def n_lines(tmp_path: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (tmp_path / "audit").iterdir())


def test_auditor_file_and_folders_are_private(tmp_path: Path) -> None:
    """Only pgseal's user reads the trail and the heads."""
    auditor = start(tmp_path)
    [path] = (tmp_path / "audit").iterdir()
    [head] = (tmp_path / "state" / HEADS_FOLDER).iterdir()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, head)] == [0o600, 0o600]
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o700
    auditor.close()


def records(tmp_path: Path) -> list[list[str]]:
    """Of each record in the file what its events are: a statement's tag, or the kind."""
    lines = [line for path in (tmp_path / "audit").iterdir() for line in path.read_bytes().splitlines()]
    return [[event.get("tag") or event["kind"] for event in json.loads(line)["events"]] for line in lines]


def tagged(*tags: str) -> list[Event]:
    return [statement(tag=tag) for tag in tags]


def test_auditor_writes_with_a_flush_and_at_once_when_many_wait(tmp_path: Path) -> None:
    """A few events wait for the next tick; many do not, and are counted by event."""
    auditor = start(tmp_path)
    auditor.write([statement()])
    assert n_lines(tmp_path) == 1
    auditor.write([statement()] * GATHER_EVENTS)
    assert n_lines(tmp_path) == 3
    auditor.write([statement()])
    auditor.flush()
    assert n_lines(tmp_path) == 4
    assert auditor.n_written == GATHER_EVENTS + 3
    assert auditor.n_waiting == 0
    auditor.close()
    assert verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state").n_events == GATHER_EVENTS + 4


def test_auditor_gathers_for_a_moment_and_makes_one_record(tmp_path: Path) -> None:
    """What comes within the moment is chained together, what comes later is another record."""

    async def talk() -> None:
        auditor = start(tmp_path)
        auditor.write(tagged("A"))
        await asyncio.sleep(GATHER_S * 0.9)
        auditor.write(tagged("B", "C"))
        await asyncio.sleep(GATHER_S * 0.2)
        auditor.write(tagged("D"))
        await asyncio.sleep(GATHER_S * 1.1)
        auditor.write(tagged("E"))
        auditor.close()

    on_its_own_clock(talk())
    assert records(tmp_path) == [["chain.start"], ["A", "B", "C"], ["D"], ["E"], ["chain.stop"]]


def test_auditor_does_not_gather_beyond_its_bound(tmp_path: Path) -> None:
    """So many events are a record at once, and in the file."""

    async def talk() -> None:
        auditor = start(tmp_path)
        auditor.write([statement()] * (GATHER_EVENTS - 1))
        assert n_lines(tmp_path) == 1
        auditor.write([statement()])
        assert n_lines(tmp_path) == 2
        auditor.close()

    on_its_own_clock(talk())
    assert list(map(len, records(tmp_path))) == [1, GATHER_EVENTS, 1]


def test_system_event_is_chained_at_once_behind_what_waits(tmp_path: Path) -> None:
    """It takes with it what was before it, in order, and what comes next is gathered anew."""

    async def talk() -> None:
        auditor = start(tmp_path)
        auditor.write(tagged("A", "B"))
        auditor.write([SystemEvent(1.0, "login")])
        auditor.write(tagged("C"))
        auditor.write([statement(tag="D"), SystemEvent(2.0, "config.reload"), statement(tag="E")])
        auditor.close()

    on_its_own_clock(talk())
    assert records(tmp_path) == [
        ["chain.start"], ["A", "B", "login"], ["C", "D", "config.reload", "E"], ["chain.stop"]
    ]  # fmt: skip


def test_auditor_without_a_loop_chains_at_once(tmp_path: Path) -> None:
    """There is nobody who would come back to it, even where a loop that ran before left something waiting."""

    async def left() -> Auditor:
        auditor = start(tmp_path)
        auditor.write(tagged("A"))
        return auditor

    auditor = on_its_own_clock(left())
    auditor.flush()
    auditor.write(tagged("B"))
    auditor.write(tagged("C"))
    auditor.close()
    assert records(tmp_path) == [["chain.start"], ["A"], ["B"], ["C"], ["chain.stop"]]


def test_auditor_that_cannot_write_while_it_gathers_loses_nothing_and_blocks(tmp_path: Path) -> None:
    """What is gathered meanwhile is chained in order behind what could not be written, and follows it."""

    async def talk() -> None:
        auditor = start(tmp_path)
        [path] = (tmp_path / "audit").iterdir()
        reached = os.open(path, os.O_RDONLY)
        sink = auditor._sink
        whole, sink._descriptor = sink._descriptor, reached  # a file that cannot be written
        auditor.write(tagged("A"))
        await asyncio.sleep(GATHER_S * 2)
        assert auditor.is_writable  # nobody tried to write yet
        auditor.flush()
        assert not auditor.is_writable
        auditor.write(tagged("B", "C"))
        await asyncio.sleep(GATHER_S * 2)
        auditor.write([statement(tag="D")] * GATHER_EVENTS)  # no retry for each of them: with the next tick
        assert n_lines(tmp_path) == 1
        assert auditor.n_waiting == 3 + GATHER_EVENTS
        sink._descriptor = whole
        os.close(reached)
        auditor.flush()
        assert auditor.is_writable
        auditor.close()

    on_its_own_clock(talk())
    assert records(tmp_path) == [["chain.start"], ["A"], ["B", "C"], ["D"] * GATHER_EVENTS, ["chain.stop"]]
    assert verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state").is_whole


def test_auditor_closed_while_gathering_has_all_of_it(tmp_path: Path) -> None:
    """The end does not wait for the moment, and the moment finds nothing to do."""

    async def talk() -> None:
        auditor = start(tmp_path)
        auditor.write(tagged("A"))
        auditor.close()
        await asyncio.sleep(GATHER_S * 2)

    on_its_own_clock(talk())
    assert records(tmp_path) == [["chain.start"], ["A"], ["chain.stop"]]
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole
    assert not any("did not stop" in note for note in report.notes)


async def test_auditor_running_makes_events_durable_by_itself(tmp_path: Path) -> None:
    """The task flushes and moves the head without being asked."""
    auditor = start(tmp_path)
    [head] = (tmp_path / "state" / HEADS_FOLDER).iterdir()
    before = head.read_bytes()
    task = asyncio.get_running_loop().create_task(auditor.run())
    auditor.write([statement()])
    async with asyncio.timeout(20):
        while head.read_bytes() == before:  # noqa: ASYNC110  a file has no event to wait for
            await asyncio.sleep(0.01)
    assert n_lines(tmp_path) == 2
    task.cancel()
    auditor.close()
    assert verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state").is_whole


def test_auditor_closed_takes_nothing_and_counts_it(tmp_path: Path) -> None:
    """After its end a protected statement is refused, and a late event is at least counted."""
    auditor = start(tmp_path)
    auditor.close()
    auditor.close()
    auditor.write([statement()])
    assert not auditor.is_writable
    assert auditor.n_lost == 1


def test_writer_name_taken_is_refused_and_the_file_kept(tmp_path: Path) -> None:
    """No writer ever writes into another's file, nor through a link."""
    auditor = start(tmp_path)
    writer = next_writer(ROOT_KEY, tmp_path / "audit", tmp_path / "state", "demo", 0, 1700000000.5)
    with pytest.raises(AuditNotWritable) as caught:
        open_auditor(tmp_path / "audit", tmp_path / "state", writer, is_blocking=True)
    assert caught.value.sqlstate == "PS007"
    auditor.close()
    assert n_lines(tmp_path) == 2
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="exists"):
        FileSink(tmp_path / "link")


def test_audit_folder_that_cannot_be_made_is_ps007(tmp_path: Path) -> None:
    """The reason is the operating system's, and there is a hint."""
    (tmp_path / "audit").write_text("a file")
    with pytest.raises(AuditNotWritable, match="cannot be made"):
        start(tmp_path)


# A limit on file size stands for a full disk: the write is short first, then fails, in a process of its own.
FULL = """
import json, resource, signal, sys
from pathlib import Path
from proxy.audit.sinks import MAX_WAITING, open_auditor
from proxy.audit.writers import next_writer
from tests.trails import ROOT_KEY, statement

folder, is_blocking = Path(sys.argv[1]), sys.argv[2] == "block"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = next_writer(ROOT_KEY, folder / "audit", folder / "state", "demo", 0, 1700000000.5)
auditor = open_auditor(folder / "audit", folder / "state", writer, is_blocking=is_blocking)
[path] = (folder / "audit").iterdir()
for _ in range(3):
    auditor.write([statement()])
auditor.sync()
said = {"before": path.stat().st_size, "writable": [auditor.is_writable]}
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 700, resource.RLIM_INFINITY))
for _ in range(0, 5, int(sys.argv[4])):
    auditor.write([statement()] * int(sys.argv[4]))
auditor.sync()
said["writable"].append(auditor.is_writable)
said["full"] = path.read_bytes().decode()
auditor.write([statement() for _ in range(int(sys.argv[3]))])
auditor.sync()
said["lost"] = auditor.n_lost
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
auditor.sync()
said["writable"].append(auditor.is_writable)
auditor.close()
print(json.dumps(said))
"""


def fill_disk(tmp_path: Path, policy: str, n: int, group: int = 1) -> dict[str, object]:
    command = [sys.executable, "-c", FULL, str(tmp_path), policy, str(n), str(group)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True, timeout=60)
    said = json.loads(done.stdout)
    assert isinstance(said, dict)
    return said


def test_full_disk_blocks_keeps_whole_lines_and_recovers(tmp_path: Path) -> None:
    """What was written stays, no torn line is left, waiting events follow when there is room, none is lost."""
    said = fill_disk(tmp_path, "block", 4)
    full = said["full"]
    assert said["writable"] == [True, False, True]
    assert isinstance(full, str) and full.endswith("\n")
    assert full.count("\n") == 5  # the start, three statements, and the one for which there was room
    assert said["lost"] == 0
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole
    assert report.n_events == 1 + 3 + 5 + 4 + 1


def test_full_disk_that_tears_a_record_of_many_events_keeps_all_of_them(tmp_path: Path) -> None:
    """The torn record is cut off whole, and written whole when there is room."""
    said = fill_disk(tmp_path, "block", 4, group=5)
    full = said["full"]
    assert said["writable"] == [True, False, True]
    assert isinstance(full, str) and full.endswith("\n")
    assert full.count("\n") == 4
    assert said["lost"] == 0
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole
    assert (report.n_records, report.n_events) == (4 + 1 + 1 + 1, 1 + 3 + 5 + 4 + 1)


def test_full_disk_under_count_goes_on_and_says_how_many_were_lost(tmp_path: Path) -> None:
    """Statements go on; what finds no room is counted, and the trail itself says so."""
    said = fill_disk(tmp_path, "count", MAX_WAITING + 100)
    assert said["writable"] == [True, True, True]
    lost = said["lost"]
    assert isinstance(lost, int) and lost == 104
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole
    assert report.n_lost == lost
    assert any(f"{lost} events could not be kept" in note for note in report.notes)


def test_head_that_cannot_be_replaced_blocks_until_it_can(tmp_path: Path) -> None:
    """A trail whose end could be cut unseen is not written on."""
    auditor = start(tmp_path)
    [head] = (tmp_path / "state" / HEADS_FOLDER).iterdir()
    head.unlink()
    head.with_suffix(".head").mkdir()
    auditor.write([statement()])
    auditor.sync()
    assert not auditor.is_writable
    auditor.write([statement()])
    auditor.flush()
    assert not auditor.is_writable
    head.rmdir()
    auditor.sync()
    assert auditor.is_writable
    auditor.close()
    assert verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state").is_whole


def test_event_without_a_json_form_is_said_as_lost(tmp_path: Path) -> None:
    """One event that cannot be encoded breaks neither the chain nor the others."""
    auditor = start(tmp_path)
    auditor.write([statement(), statement(duration_s=float("nan")), statement()])
    auditor.close()
    report = verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state")
    assert report.is_whole
    assert (report.n_events, report.n_lost, auditor.n_lost) == (5, 1, 1)
    assert not any("did not stop" in note for note in report.notes)


def test_next_writer_reads_over_a_torn_line(tmp_path: Path) -> None:
    """A killed process's last, torn line is skipped; the writer goes on from the last whole one."""
    writer = write_trail(tmp_path, stop=False)
    path = tmp_path / "audit" / f"{writer}.jsonl"
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":99,"prev":"' + b"0" * 200_000)
    head = previous_head(tmp_path / "audit", tmp_path / "state", "demo", 0)
    assert head is not None and (head.writer, head.seq) == (writer, 12)
    write_trail(tmp_path, start_s=1700000900)
    assert verify(tmp_path / "audit", ROOT_KEY, tmp_path / "state").is_whole


def test_next_writer_without_a_trail_starts_one(tmp_path: Path) -> None:
    """Neither folder has to be there; another worker's writers do not count."""
    assert previous_head(tmp_path / "audit", tmp_path / "state", "demo", 0) is None
    write_trail(tmp_path)
    assert previous_head(tmp_path / "audit", tmp_path / "state", "demo", 1) is None
    assert previous_head(tmp_path / "audit", tmp_path / "state", "dem", 0) is None
