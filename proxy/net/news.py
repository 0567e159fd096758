"""Word between the workers of one host that a client has changed the schema of protected relations.

A file in the state folder whose time is the news: written by the worker that saw the DDL, looked at by the others
before a new session and ten times a second. Only a hint: catalogs are polled anyway. One reason to change: how
workers hear of each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

FILE: Final = "ddl"
LOOK_S: Final = 0.1


class News:
    """`folder` None: one worker, who hears itself only."""

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE if folder is not None else None
        self._known = self._mark()
        self._told = asyncio.Event()

    def tell(self) -> None:
        """A client's DDL has run."""
        self._told.set()
        if self._path is not None:
            with contextlib.suppress(OSError):  # the others see it at their next poll
                self._path.touch(mode=0o600)

    def is_new(self) -> bool:
        """True once after each word of another worker."""
        mark = self._mark()
        if mark == self._known:
            return False
        self._known = mark
        return True

    async def wait(self, wait_s: float) -> bool:
        """Until there is news, at most `wait_s`; True where there is."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        while (left_s := end_s - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LOOK_S) if self._path else left_s):
                    await self._told.wait()
            if self._told.is_set() or self.is_new():
                self._told.clear()
                return True
        return False

    def _mark(self) -> int:
        if self._path is None:
            return 0
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return 0
