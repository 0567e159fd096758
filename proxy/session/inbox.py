"""Received bytes that are not consumed yet, without copying what need not be joined.

One reason to change: how received bytes are kept.
"""

from __future__ import annotations


class Inbox:
    """Bytes of one direction. `take` gives all there is; what stays is put back by `keep`.

    While a message of known size is incomplete, chunks are only collected: a large message is joined once.
    """

    __slots__ = ("_chunks", "_size", "_wanted")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._wanted = 0

    def __len__(self) -> int:
        return self._size

    def push(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)

    @property
    def is_ready(self) -> bool:
        """There is something, and enough of it for the message that was incomplete."""
        return self._size > 0 and self._size >= self._wanted

    def take(self) -> bytes:
        """All bytes; the inbox is empty afterwards."""
        chunks = self._chunks
        taken = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._size = self._wanted = 0
        return taken

    def keep(self, rest: bytes, wanted: int = 0) -> None:
        """Put back what was not consumed; `wanted` is the least number of bytes that makes another try useful."""
        if rest:
            self._chunks.insert(0, rest)
            self._size += len(rest)
        self._wanted = wanted
