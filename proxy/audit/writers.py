"""How the supervising process gives each worker its place in the trail: a new writer's name, its start key, and
the head it goes on from. Only this process and the verifier hold the root key. One reason to change: how writers
follow one another.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Final

from proxy.audit.chain import (
    KEY_SIZE,
    Head,
    WriterStart,
    parse_head,
    record_hash,
    start_key,
    writer_name,
    writer_parts,
)
from proxy.audit.sinks import HEADS_FOLDER

_TAIL_SIZE: Final = 64 * 1024
_SEQ: Final = re.compile(rb'\{"v":1,"seq":([0-9]{1,18}),')


def new_root_key() -> bytes:
    """An audit root key; the caller has the KMS wrap it and keeps it in the state folder."""
    return secrets.token_bytes(KEY_SIZE)


def next_writer(
    root_key: bytes, folder: Path, state: Path, instance: str, worker: int, now_s: float
) -> WriterStart:
    """What to hand to a worker that starts now."""
    name = writer_name(instance, worker, now_s)
    return WriterStart(name, start_key(root_key, name), previous_head(folder, state, instance, worker))


def previous_head(folder: Path, state: Path, instance: str, worker: int) -> Head | None:
    """The last head of the same instance and worker: of its file or of its head, whichever is further, so that a
    file cut short stays visible."""
    writers = [
        *_writers(folder, f"{instance}-{worker}", ".jsonl"),
        *_writers(state / HEADS_FOLDER, f"{instance}-{worker}", ".head"),
    ]
    if not writers:
        return None
    latest = max(writers)
    candidates = [
        _last_record(folder / f"{latest}.jsonl", latest),
        read_head(state / HEADS_FOLDER / f"{latest}.head"),
    ]
    return max((head for head in candidates if head is not None), key=lambda head: head.seq, default=None)


def _writers(folder: Path, series: str, suffix: str) -> list[str]:
    if not folder.is_dir():
        return []
    names = [path.stem for path in folder.iterdir() if path.suffix == suffix]
    return [name for name in names if (parts := writer_parts(name)) is not None and parts[0] == series]


def read_head(path: Path) -> Head | None:
    """A head as its file says it; believed only by the verifier."""
    try:
        with path.open("rb") as file:
            return parse_head(file.read(512))
    except OSError:
        return None


def _last_record(path: Path, writer: str) -> Head | None:
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # what the next writer names must outlive a crash
            size = file.seek(0, os.SEEK_END)
            line, take = b"", _TAIL_SIZE
            while not line and size:
                file.seek(max(0, size - take))
                line = _last_line(file.read(take), is_whole=take >= size)
                if take >= size:
                    break
                take *= 4
    except OSError:
        return None
    match = _SEQ.match(line)
    return Head(writer, int(match[1]), record_hash(line)) if match else None


def _last_line(tail: bytes, *, is_whole: bool) -> bytes:
    """The last line that has its line feed; empty when the tail does not hold all of one."""
    end = tail.rfind(b"\n")
    begin = tail.rfind(b"\n", 0, max(0, end))
    if end < 0 or (begin < 0 and not is_whole):
        return b""
    return tail[begin + 1 : end]
