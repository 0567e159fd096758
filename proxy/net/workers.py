"""Processes: a parent that supervises and workers that serve, also with one worker.

The parent opens no client socket and starts no thread, so that it can fork a fresh worker at any time: it holds
the address (bound, never listening), restarts a worker that dies, passes SIGHUP on, and stops all at SIGTERM or
SIGINT. Each worker listens on the same address (SO_REUSEPORT) and watches a pipe whose other end only the parent
holds: when the parent is gone, however it went, the pipe ends and the worker stops. Over another pipe each worker
says when it serves: the first one starts alone, and if it ends without having served, what stands in its way
would stop all the others too, now and later, so the parent ends as well.
One reason to change: how processes start, restart and end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Never, Protocol

import structlog
import uvloop

from proxy.net.relay import exit_code
from proxy.net.server import Server, bind
from proxy.net.settings import NetSettings

_PR_SET_DUMPABLE: Final = 4
_WATCHED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_FIRST_DELAY_S: Final = 0.5
_MAX_DELAY_S: Final = 30.0
_STEADY_S: Final = 60.0
_POLL_S: Final = 0.5
_EAGER_POLL_S: Final = 0.02  # while the first worker starts and the others wait for it
_NEVER_SERVED: Final = 2
_PID: Final = struct.Struct("=i")
_KILL_MARGIN_S: Final = 5.0
_log = structlog.get_logger("pgseal.net")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker stands: its number from 0, its settings with the port the parent holds."""

    index: int
    settings: NetSettings


class Running(Protocol):
    """What a worker's `start` gives back."""

    @property
    def server(self) -> Server: ...

    async def reload(self) -> None:
        """SIGHUP: read configuration and rules again; what fails changes nothing."""
        ...

    async def close(self) -> None:
        """After the server has closed: keys, audit, service connections."""
        ...


class Start(Protocol):
    async def __call__(self, place: Place) -> Running: ...


def harden() -> None:
    """No core dump, no ptrace by the same user: keys live in this memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def supervise(settings: NetSettings, n_workers: int, start: Start, ready: Callable[[int], None]) -> int:
    """Runs `n_workers` until told to stop; returns the exit code, 2 when none could serve. `ready` hears the port
    once workers start.

    Raises OSError where the address is taken."""
    harden()
    holder = bind(settings.host, settings.port)
    placed = replace(settings, port=holder.getsockname()[1])
    parent = _Parent(placed, n_workers, start, holder)
    ready(placed.port)
    return parent.run()


@dataclass(slots=True)
class Post:
    """The place of one worker, over all its restarts: when it serves and how long its next start waits."""

    due: float = 0.0
    n_ended: int = 0  # since it last served steadily
    served_since: float | None = None

    def ended(self, now: float) -> None:
        """The next start: at once after the first end, then ever later; one that served a minute is as new."""
        if self.served_since is not None and now - self.served_since >= _STEADY_S:
            self.n_ended = 0
        doublings = min(self.n_ended - 1, 16)
        self.due = now + (min(_FIRST_DELAY_S * 2.0**doublings, _MAX_DELAY_S) if self.n_ended else 0.0)
        self.n_ended += 1
        self.served_since = None


@dataclass(slots=True)
class _News:
    """The pipe on which workers say that they serve; a message is one pid, so it is written whole."""

    ends: tuple[int, int] = field(default_factory=os.pipe)

    def __post_init__(self) -> None:
        os.set_blocking(self.ends[0], False)

    def tell(self) -> None:
        """In a worker."""
        os.write(self.ends[1], _PID.pack(os.getpid()))

    def hear(self) -> list[int]:
        """In the parent: the pids that said so since it last asked."""
        try:
            said = os.read(self.ends[0], 1024 * _PID.size)
        except BlockingIOError:
            return []
        return [pid for (pid,) in _PID.iter_unpack(said)]

    def close(self) -> None:
        for end in self.ends:
            os.close(end)


class _Parent:
    """The supervising loop; everything happens between two waits for a signal."""

    def __init__(self, settings: NetSettings, n_workers: int, start: Start, holder: socket.socket) -> None:
        self._settings = settings
        self._start = start
        self._holder = holder
        self._posts = [Post() for _ in range(n_workers)]
        self._workers: dict[int, int] = {}  # pid -> worker number
        self._has_served = False
        self._news = _News()
        self._alive_read, self._alive_write = os.pipe()

    def run(self) -> int:
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            while True:
                self._fill()
                got = signal.sigtimedwait(_WATCHED, _POLL_S if self._has_served else _EAGER_POLL_S)
                self._reap()
                if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                    return self._stop()
                if not self._has_served and not self._workers:
                    _log.error("no worker could serve: pgseal ends")
                    return _NEVER_SERVED
                if got is not None and got.si_signo == signal.SIGHUP:
                    self._tell(signal.SIGHUP)
        finally:
            self._tell(signal.SIGKILL)
            os.close(self._alive_read)
            os.close(self._alive_write)
            self._news.close()
            self._holder.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)

    def _fill(self) -> None:
        now, running = time.monotonic(), set(self._workers.values())
        posts = self._posts if self._has_served else self._posts[:1]
        for index, post in enumerate(posts):
            if index not in running and post.due <= now:
                pid = os.fork()
                if pid == 0:
                    self._become_worker(index)
                self._workers[pid] = index

    def _become_worker(self, index: int) -> Never:
        """In the child; nothing of the parent's stack ever runs here. Exit code 0 after an ordered stop."""
        code = 1
        try:
            code = exit_code(lambda: self._work(index))
        finally:
            logging.shutdown()
            os._exit(code)

    def _work(self, index: int) -> None:
        os.close(self._alive_write)
        self._holder.close()
        for number in _WATCHED:
            signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
        harden()
        uvloop.run(run_worker(Place(index, self._settings), self._serve, self._alive_read))

    async def _serve(self, place: Place) -> Running:
        running = await self._start(place)
        self._news.tell()
        return running

    def _reap(self) -> None:
        ended = [(pid, status) for pid, status in map(_ended, list(self._workers)) if pid]
        now = time.monotonic()
        for pid in self._news.hear():  # after the waiting: whoever ended has said before what it had to say
            self._has_served = True
            if pid in self._workers:
                self._posts[self._workers[pid]].served_since = now
        for pid, status in ended:
            index = self._workers.pop(pid)
            self._posts[index].ended(now)
            code = os.waitstatus_to_exitcode(status)
            _log.log(logging.ERROR if code else logging.INFO, "worker ended", worker=index, code=code)

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stop(self) -> int:
        """Workers end by themselves within their bound; who does not is killed."""
        self._tell(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.stop_timeout_s + _KILL_MARGIN_S
        while self._workers and time.monotonic() < deadline:
            got = signal.sigtimedwait(_WATCHED, _POLL_S)
            if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                self._tell(signal.SIGTERM)
            self._reap()
        return 1 if self._workers else 0


def _ended(pid: int) -> tuple[int, int]:
    """The pid and status of a child that ended, pid 0 where it has not."""
    return os.waitpid(pid, os.WNOHANG)


async def run_worker(place: Place, start: Start, parent_pipe: int | None = None) -> None:
    """Serves until SIGTERM, SIGINT or the parent's end; a second signal does not wait for clients."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    heard = [signal.SIGTERM, signal.SIGHUP]
    if parent_pipe is None:
        heard.append(signal.SIGINT)  # a terminal sends it to all; under a parent only the parent decides
    for number in heard:
        loop.add_signal_handler(number, signals.put_nowait, number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)  # what came before anyone listened has waited
    if parent_pipe is not None:
        loop.add_reader(parent_pipe, _parent_gone, loop, parent_pipe, signals)
    running = await start(place)
    try:
        while await signals.get() == signal.SIGHUP:
            await running.reload()
        await _close(running.server, signals)
    finally:
        await running.close()


def _parent_gone(loop: asyncio.AbstractEventLoop, pipe: int, signals: asyncio.Queue[signal.Signals]) -> None:
    loop.remove_reader(pipe)
    signals.put_nowait(signal.SIGTERM)


async def _close(server: Server, signals: asyncio.Queue[signal.Signals]) -> None:
    """In good order; at once when a second signal asks for it."""
    async with asyncio.TaskGroup() as group:
        closing = group.create_task(server.close())
        waiting = group.create_task(_impatience(server, signals))
        await closing
        waiting.cancel()


async def _impatience(server: Server, signals: asyncio.Queue[signal.Signals]) -> None:
    while await signals.get() == signal.SIGHUP:
        pass
    server.hurry()
