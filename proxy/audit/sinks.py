"""Where a writer's records go: one append-only file, and the auditor that feeds it without holding anyone up.

Events are gathered for at most `GATHER_S` and made into one record of the chain; a system event is not waited
with. Records go to the file in one write at most `FLUSH_INTERVAL_S` later; each `SYNC_INTERVAL_S` the file is
synced on a thread and the head in the state folder is replaced. A failed write keeps what was whole before it
(the torn line is cut off) and keeps what was not written in memory up to a bound; what finds no room is counted.
With each tick it is tried again: the sink recovers without a restart. One reason to change: how a record becomes
durable.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.audit.chain import Chain, WriterStart, grouped
from proxy.audit.encode import encode_event
from proxy.audit.events import Event, SystemEvent
from proxy.errors import AuditNotWritable

FLUSH_INTERVAL_S: Final = 0.1
SYNC_INTERVAL_S: Final = 1.0
GATHER_S: Final = 0.02
GATHER_EVENTS: Final = 256  # so many are not waited with
MAX_WAITING: Final = 10_000  # events that wait for a sink that failed
HEADS_FOLDER: Final = "audit"


class FileSink:
    """One writer's file: whole lines appended, torn ones cut off."""

    __slots__ = ("_descriptor", "path", "size")

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        self.path = path
        self.size = 0  # of the whole lines written
        self._descriptor = os.open(path, flags, 0o600)

    def append(self, lines: bytes) -> int:
        """Append whole lines; how many bytes of them, ending at a line's end, are in the file now. Less than all
        of them means that the sink failed."""
        try:
            if os.fstat(self._descriptor).st_size != self.size:
                os.ftruncate(self._descriptor, self.size)
        except OSError:
            return 0
        n_written = self._write(lines)
        n_whole = n_written if n_written == len(lines) else lines.rfind(b"\n", 0, n_written) + 1
        self.size += n_whole
        if n_whole < n_written:
            with suppress(OSError):  # the next call tries again
                os.ftruncate(self._descriptor, self.size)
        return n_whole

    def _write(self, lines: bytes) -> int:
        n_written = 0
        while n_written < len(lines):
            try:
                n_written += os.write(self._descriptor, memoryview(lines)[n_written:])
            except OSError:
                break
        return n_written

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class _Record:
    line: bytes
    n_events: int


class Auditor:
    """What a worker writes its events to. `write` never waits and never raises; `is_writable` is what protected
    statements ask first (PS007)."""

    def __init__(self, chain: Chain, sink: FileSink, head_path: Path, *, is_blocking: bool) -> None:
        self._chain = chain
        self._sink = sink
        self._head_path = head_path
        self._is_blocking = is_blocking
        self._events: list[Event] = []  # not chained yet
        self._gathering: asyncio.TimerHandle | None = None  # chains them
        self._records: list[_Record] = [_Record(chain.first_line, 1)]  # chained, not written yet
        self._n_chained = 1  # events of these records
        self._synced_seq = -1
        self._n_lost_unsaid = 0
        self._is_closed = False
        self._is_write_failing = False
        self._is_sync_failing = False
        self._syncing = threading.Lock()
        self.n_written = 0
        self.n_lost = 0

    @property
    def is_failing(self) -> bool:
        """True from a write or a sync that failed until the next that succeeds."""
        return self._is_write_failing or self._is_sync_failing

    @property
    def is_writable(self) -> bool:
        """False while the sink fails under the policy `block`, and after `close`."""
        return not self._is_closed and not (self._is_blocking and self.is_failing)

    @property
    def n_waiting(self) -> int:
        """Events not written yet."""
        return len(self._events) + self._n_chained

    def write(self, events: Sequence[Event]) -> None:
        """Take events over; they are chained within `GATHER_S` and in the file within `FLUSH_INTERVAL_S` more
        when the sink works."""
        room = 0 if self._is_closed else MAX_WAITING - self.n_waiting
        if len(events) > room:
            self._lose(len(events) - room)
            events = events[:room]
        if not events:
            return
        self._events += events
        if len(self._events) >= GATHER_EVENTS or _is_urgent(events):
            self._chain_events()
        elif self._gathering is None:
            self._chain_soon()
        if self._n_chained >= GATHER_EVENTS and not self.is_failing:
            self.flush()

    def _lose(self, n: int) -> None:
        self.n_lost += n
        self._n_lost_unsaid += n

    def _chain_soon(self) -> None:
        """At once where no loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._chain_events()
        else:
            self._gathering = loop.call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._chain_events()

    def _stop_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def flush(self) -> None:
        """Chain what waits and write it."""
        if self._is_closed:
            return
        self._stop_gathering()
        self._chain_events()
        if self._records:
            self._write_records()
        if self._n_lost_unsaid and not self._records:
            self._events.append(SystemEvent(time.time(), "chain.lost", (("events", self._n_lost_unsaid),)))
            self._n_lost_unsaid = 0
            self._chain_events()
            self._write_records()

    def _chain_events(self) -> None:
        events, self._events = self._events, []
        for group in grouped(self._encoded(events)):
            self._records.append(_Record(self._chain.append(group), len(group)))
            self._n_chained += len(group)

    def _encoded(self, events: Sequence[Event]) -> list[bytes]:
        try:
            return [encode_event(event) for event in events]
        except (ValueError, TypeError, OverflowError):  # no JSON of one: said as lost, the others go on
            if len(events) > 1:
                return [text for event in events for text in self._encoded((event,))]
            self._lose(1)
            return []

    def _write_records(self) -> None:
        lines = b"".join(record.line for record in self._records)
        n_kept = self._sink.append(lines)
        n_whole = len(self._records) if n_kept == len(lines) else lines.count(b"\n", 0, n_kept)
        n_events = sum(record.n_events for record in self._records[:n_whole])
        del self._records[:n_whole]
        self._n_chained -= n_events
        self.n_written += n_events
        self._is_write_failing = bool(self._records)

    def sync(self) -> None:
        """Flush, make durable, replace the head. Blocks; `run` does it on a thread."""
        self.flush()
        self._make_durable(*self._next_head())

    def _next_head(self) -> tuple[int, bytes | None]:
        if self._records or self._chain.seq == self._synced_seq:
            return self._synced_seq, None
        return self._chain.seq, self._chain.head_line()

    def _make_durable(self, seq: int, head: bytes | None) -> None:
        with self._syncing:  # `close` may come while the thread of `run` is still syncing
            if head is None or seq <= self._synced_seq:
                return
            try:
                self._sink.sync()
                _replace(self._head_path, head)
            except OSError:
                self._is_sync_failing = True
                return
            self._synced_seq = seq
            self._is_sync_failing = False

    async def run(self) -> None:
        """Flush and sync until cancelled; give it a task of its own."""
        sync_at = time.monotonic() + SYNC_INTERVAL_S
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            self.flush()
            if time.monotonic() >= sync_at:
                await asyncio.to_thread(self._make_durable, *self._next_head())
                sync_at = time.monotonic() + SYNC_INTERVAL_S

    def close(self) -> None:
        """Write `chain.stop`, make everything durable, forget the key. What could not be written is lost, and
        the verifier shows that the writer did not stop in order."""
        if self._is_closed:
            return
        self.flush()
        self._events.append(SystemEvent(time.time(), "chain.stop"))
        self.sync()
        self._is_closed = True
        with self._syncing:
            self._chain.close()
            self._sink.close()


def _is_urgent(events: Sequence[Event]) -> bool:
    for event in events:  # noqa: SIM110  done for each statement, and any() would make a generator
        if event.__class__ is SystemEvent:
            return True
    return False


def open_auditor(folder: Path, state: Path, start: WriterStart, *, is_blocking: bool) -> Auditor:
    """Begin a writer: its file in `folder`, its head below `state`. AuditNotWritable when the first record
    cannot be made durable."""
    heads = state / HEADS_FOLDER
    try:
        for each in (folder, heads):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        sink = FileSink(folder / f"{start.writer}.jsonl")
    except OSError as error:
        raise AuditNotWritable(
            f"The audit file cannot be made in {folder}: {error.strerror or 'unknown reason'}.",
            hint="Check that the folder of audit.path exists, belongs to pgseal's user and has room.",
        ) from None
    chain = Chain(start, time.time())
    auditor = Auditor(chain, sink, heads / f"{start.writer}.head", is_blocking=is_blocking)
    auditor.sync()
    if auditor.is_failing:
        sink.close()
        raise AuditNotWritable(f"The first audit record cannot be written in {folder}.", hint="Is the disk full?")
    return auditor


def _replace(path: Path, line: bytes) -> None:
    """Replace a small file so that a crash leaves the old or the new one."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError("short write")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
