"""Whether an audit trail is whole: walks every writer's file with the root key and names what is wrong first.

What is found, what is only noted and what cannot be seen is in docs/audit-format.md. The files are treated as
written by an adversary. One reason to change: the findings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

from proxy.audit.chain import (
    NO_HASH,
    Head,
    is_head_authentic,
    is_record_authentic,
    next_key,
    parse_head,
    record_hash,
    start_key,
    writer_parts,
)
from proxy.audit.sinks import HEADS_FOLDER

MAX_LINE_SIZE: Final = 16 * 1024 * 1024
MAX_GAP: Final = 1_000_000  # records over which a skipped key is followed to tell a gap from a change
_RECORD: Final = re.compile(
    rb'\{"v":1,"seq":([0-9]{1,18}),"prev":"([0-9a-f]{64})","n":([1-9][0-9]{0,5}),"events":\['
)


class Kind(Enum):
    CHANGED = "changed"
    MISSING = "missing"
    REORDERED = "reordered"
    FOREIGN = "foreign"
    TRUNCATED = "truncated"
    FILE_GONE = "file gone"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing wrong with one writer: at record `seq`, on line `line` of its file (0: no line)."""

    writer: str
    seq: int
    line: int
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.writer}, record {self.seq} (line {self.line}): {self.kind.value}: {self.text}"


@dataclass(frozen=True, slots=True)
class Report:
    """`is_anchored` is False as long as no head is kept off this host: the newest records may be missing."""

    n_writers: int
    n_records: int
    n_events: int
    n_lost: int
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    is_anchored: bool = False

    @property
    def is_whole(self) -> bool:
        return not self.findings


@dataclass(slots=True)
class _Walk:
    """One writer's file while it is read."""

    writer: str
    n_records: int = 0
    n_events: int = 0
    n_lost: int = 0
    previous: Head | None = None  # as record 0 names it
    is_stopped: bool = False
    is_torn: bool = False
    finding: Finding | None = None
    anchors: dict[int, str] = field(default_factory=dict)  # seq -> hash that a head or a successor names
    head_key: bytes | None = None  # K<seq+1> of the head


def verify(folder: Path, root_key: bytes, state: Path | None = None) -> Report:
    """Verify all writers of a folder; `state` gives the heads against which truncation shows."""
    files = {path.stem: path for path in _listed(folder, ".jsonl") if writer_parts(path.stem)}
    strangers = [path.name for path in _listed(folder, "") if path.stem not in files]
    heads = {path.stem: path for path in (_listed(state / HEADS_FOLDER, ".head") if state else [])}
    walks: dict[str, _Walk] = {}
    findings: list[Finding] = []
    for writer in sorted(files, key=lambda name: writer_parts(name) or ("", ""), reverse=True):
        # newest first: a successor's first record, once verified, is an anchor of the one before it
        walk = walks.setdefault(writer, _Walk(writer))
        _verify_writer(walk, files[writer], root_key, heads.get(writer))
        if walk.previous is not None:
            walks.setdefault(walk.previous.writer, _Walk(walk.previous.writer)).anchors[walk.previous.seq] = (
                walk.previous.hash
            )
    for writer in sorted({*walks, *heads} - files.keys()):
        findings.append(
            Finding(writer, 0, 0, Kind.FILE_GONE, "a head or a later writer names it, its file is not there")
        )
    findings += [walk.finding for walk in walks.values() if walk.finding is not None]
    notes = [f"{name}: is no audit file" for name in strangers] + list(_notes(walks, files, heads, state))
    return Report(
        n_writers=len(files),
        n_records=sum(walk.n_records for walk in walks.values()),
        n_events=sum(walk.n_events for walk in walks.values()),
        n_lost=sum(walk.n_lost for walk in walks.values()),
        findings=tuple(sorted(findings, key=lambda finding: (finding.writer, finding.seq))),
        notes=tuple(notes),
    )


def _listed(folder: Path, suffix: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.endswith(suffix)) if folder.is_dir() else []


def _notes(
    walks: dict[str, _Walk], files: dict[str, Path], heads: dict[str, Path], state: Path | None
) -> Iterator[str]:
    for writer in sorted(files):
        walk = walks[writer]
        if walk.is_torn:
            yield f"{writer}: the last line is not whole: the process ended while writing it"
        if not walk.is_stopped and walk.finding is None:
            last = walk.n_records - 1
            yield f"{writer}: still runs or did not stop in order; events after record {last} may be missing"
        if walk.n_lost:
            yield f"{writer}: {walk.n_lost} events could not be kept while the sink failed"
        if state is not None and writer not in heads:
            yield f"{writer}: has no head in the state folder; a cut end would not show"
    if state is None:
        yield "no state folder given: a cut end does not show"
    yield "not anchored: no head is kept off this host; the newest records may be gone together with their heads"


def _verify_writer(walk: _Walk, path: Path, root_key: bytes, head_path: Path | None) -> None:
    head_line = _read_head_line(head_path)
    head = parse_head(head_line) if head_line is not None else None
    if head is not None and head.writer == walk.writer:
        walk.anchors.setdefault(head.seq, head.hash)
    with path.open("rb") as file:
        _walk_file(walk, file, start_key(root_key, walk.writer), head)
    if walk.finding is not None:
        return
    n = walk.n_records
    cut = [seq for seq in walk.anchors if seq >= n]
    if cut:
        text = f"the trail went on at least to record {max(cut)}"
        walk.finding = Finding(walk.writer, n, n + 1, Kind.TRUNCATED, text)
    elif head_line is not None and not _is_head_good(walk, head_line, head):
        walk.finding = Finding(
            walk.writer, head.seq if head else 0, 0, Kind.FOREIGN, "its head was not written by it"
        )


def _read_head_line(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError:
        return None


def _is_head_good(walk: _Walk, line: bytes, head: Head | None) -> bool:
    if head is None or head.writer != walk.writer or walk.head_key is None:
        return False
    return is_head_authentic(line, head, walk.head_key)


def _walk_file(walk: _Walk, file: BinaryIO, key: bytes, head: Head | None) -> None:
    prev = ""
    for seq, line in enumerate(iter(lambda: file.readline(MAX_LINE_SIZE), b"")):
        if not line.endswith(b"\n") and len(line) < MAX_LINE_SIZE:
            walk.is_torn = True
            break
        record = line[:-1]
        hash_ = record_hash(record)
        match = _next_record(record, seq, prev)
        if match is None or not is_record_authentic(record, hash_, key):
            kind, text = _classify(record, seq, key, file)
            walk.finding = Finding(walk.writer, seq, seq + 1, kind, text)
            return
        if seq == 0 and not _read_start(walk, record):
            walk.finding = Finding(walk.writer, 0, 1, Kind.FOREIGN, "the first record is not this writer's start")
            return
        if b'"kind":"chain.' in record:
            _read_chain_events(walk, record)
        key, prev = next_key(key), hash_
        if walk.anchors.get(seq, prev) != prev:
            walk.finding = Finding(
                walk.writer, seq, seq + 1, Kind.FOREIGN, "a head or a later writer names another record"
            )
            return
        if head is not None and head.seq == seq:
            walk.head_key = key
        walk.n_records = seq + 1
        walk.n_events += int(match[3])
    if walk.n_records == 0:
        walk.finding = Finding(walk.writer, 0, 1, Kind.TRUNCATED, "the file holds no record")


def _next_record(record: bytes, seq: int, prev: str) -> re.Match[bytes] | None:
    """Of a record in its place, before its MAC is believed. `prev` empty: record 0, whose prev only its MAC
    vouches for."""
    begin = b'{"v":1,"seq":%d,"prev":"%b' % (seq, prev.encode("ascii"))
    return _RECORD.match(record) if record.startswith(begin) else None


def _is_authentic(record: bytes, key: bytes) -> bool:
    return is_record_authentic(record, record_hash(record), key)


def _classify(record: bytes, seq: int, key: bytes, rest: BinaryIO) -> tuple[Kind, str]:
    match = _RECORD.match(record)
    if match is None:
        return Kind.CHANGED, "the line is not a record"
    found = int(match[1])
    if found == seq:
        is_own = _is_authentic(record, key)
        return (Kind.FOREIGN, "it follows another record") if is_own else (Kind.CHANGED, "its MAC does not hold")
    if found < seq:
        return Kind.REORDERED, f"record {found} stands here"
    if found - seq > MAX_GAP or not _is_authentic(record, _forward(key, found - seq)):
        return Kind.CHANGED, f"a record {found} stands here and its MAC does not hold"
    if _stands_later(seq, rest):
        return Kind.REORDERED, f"record {found} stands here, this one later"
    return Kind.MISSING, f"the next record is {found}"


def _forward(key: bytes, n: int) -> bytes:
    for _ in range(n):
        key = next_key(key)
    return key


def _stands_later(seq: int, rest: BinaryIO) -> bool:
    wanted = b'{"v":1,"seq":%d,' % seq
    return any(line.startswith(wanted) for line in iter(lambda: rest.readline(MAX_LINE_SIZE), b""))


def _events(record: bytes) -> list[dict[str, object]]:
    """The events of an authentic record; none where it is no JSON, as who took its worker over may make it."""
    try:
        events = json.loads(record)["events"]
    except (ValueError, RecursionError):
        return []
    return [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []


def _read_start(walk: _Walk, record: bytes) -> bool:
    """Whether this is the start of this writer, alone in its record."""
    match, events = _RECORD.match(record), _events(record)
    fields = events[0].get("fields") if len(events) == 1 else None
    if match is None or not isinstance(fields, dict) or events[0].get("kind") != "chain.start":
        return False
    name, seq = fields.get("previous_writer"), fields.get("previous_seq")
    if isinstance(name, str) and isinstance(seq, int):
        walk.previous = Head(name, seq, match[2].decode())
    return fields.get("writer") == walk.writer and (walk.previous is not None or match[2] == NO_HASH.encode())


def _read_chain_events(walk: _Walk, record: bytes) -> None:
    for event in _events(record):
        fields = event.get("fields")
        walk.is_stopped = event.get("kind") == "chain.stop"
        if (
            event.get("kind") == "chain.lost"
            and isinstance(fields, dict)
            and isinstance(fields.get("events"), int)
        ):
            walk.n_lost += fields["events"]
