"""Where a writer's records go: one append-only file, and the auditor that feeds it without holding anyone up.

Events wait in memory for at most `FLUSH_INTERVAL_S`, then go to the file in one write; each `SYNC_INTERVAL_S`
the file is synced on a thread and the head in the state folder is replaced. A failed write keeps what was whole
before it (the torn line is cut off) and keeps what was not written in memory up to a bound; what finds no room is
counted. With each tick it is tried again: the sink recovers without a restart. One reason to change: how a
record becomes durable.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from proxy.audit.chain import Chain, WriterStart
from proxy.audit.events import Event, SystemEvent
from proxy.errors import AuditNotWritable

FLUSH_INTERVAL_S: Final = 0.1
SYNC_INTERVAL_S: Final = 1.0
FLUSH_EVENTS: Final = 128
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
            n_written = self._write(lines)
            n_whole = n_written if n_written == len(lines) else lines.rfind(b"\n", 0, n_written) + 1
            self.size += n_whole
            if n_whole < n_written:
                os.ftruncate(self._descriptor, self.size)
        except OSError:
            return 0
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


class Auditor:
    """What a worker writes its events to. `write` never waits and never raises; `is_writable` is what protected
    statements ask first (PS007)."""

    def __init__(self, chain: Chain, sink: FileSink, head_path: Path, *, is_blocking: bool) -> None:
        self._chain = chain
        self._sink = sink
        self._head_path = head_path
        self._is_blocking = is_blocking
        self._events: list[Event] = []  # not chained yet
        self._lines: list[bytes] = [chain.first_line]  # chained, not written yet
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
        return len(self._events) + len(self._lines)

    def write(self, events: Sequence[Event]) -> None:
        """Take events over; they are in the file within `FLUSH_INTERVAL_S` when the sink works."""
        room = 0 if self._is_closed else max(0, MAX_WAITING - self.n_waiting)
        self._events.extend(events[:room])
        n_lost = max(0, len(events) - room)
        self.n_lost += n_lost
        self._n_lost_unsaid += n_lost
        if len(self._events) >= FLUSH_EVENTS and not self.is_failing:
            self.flush()

    def flush(self) -> None:
        """Chain what waits and write it."""
        if self._is_closed:
            return
        self._chain_events()
        if self._lines:
            self._write_lines()
        if self._n_lost_unsaid and not self._lines:
            event = SystemEvent(time.time(), "chain.lost", (("events", self._n_lost_unsaid),))
            self._lines.append(self._chain.append(event))
            self._n_lost_unsaid = 0
            self._write_lines()

    def _chain_events(self) -> None:
        for event in self._events:
            try:
                self._lines.append(self._chain.append(event))
            except (ValueError, TypeError, OverflowError):  # no JSON of it: said as lost, the others go on
                self.n_lost += 1
                self._n_lost_unsaid += 1
        self._events.clear()

    def _write_lines(self) -> None:
        lines = b"".join(self._lines)
        n_kept = self._sink.append(lines)
        n_whole = len(self._lines) if n_kept == len(lines) else lines.count(b"\n", 0, n_kept)
        del self._lines[:n_whole]
        self.n_written += n_whole
        self._is_write_failing = bool(self._lines)

    def sync(self) -> None:
        """Flush, make durable, replace the head. Blocks; `run` does it on a thread."""
        self.flush()
        self._make_durable(*self._next_head())

    def _next_head(self) -> tuple[int, bytes | None]:
        if self._lines or self._chain.seq == self._synced_seq:
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
