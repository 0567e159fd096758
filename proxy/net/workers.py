"""Processes: a parent that supervises and workers that serve, also with one worker.

The parent opens no client socket and starts no thread, so that it can fork a fresh worker at any time: it holds
the address (bound, never listening), restarts a worker that dies, passes SIGHUP on, and stops all at SIGTERM or
SIGINT. Each worker listens on the same address (SO_REUSEPORT) and watches a pipe whose other end only the parent
holds: when the parent is gone, however it went, the pipe ends and the worker stops.
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
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Never, Protocol

import uvloop

from proxy.net.relay import exit_code
from proxy.net.server import Server, bind
from proxy.net.settings import NetSettings

_PR_SET_DUMPABLE: Final = 4
_WATCHED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_RESTART_DELAY_S: Final = 0.5
_POLL_S: Final = 0.5
_KILL_MARGIN_S: Final = 5.0
_log = logging.getLogger("pgseal.net")


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
    """Runs `n_workers` until told to stop; returns the exit code. `ready` hears the port once workers start.

    Raises OSError where the address is taken."""
    harden()
    holder = bind(settings.host, settings.port)
    placed = replace(settings, port=holder.getsockname()[1])
    parent = _Parent(placed, n_workers, start, holder)
    ready(placed.port)
    return parent.run()


class _Parent:
    """The supervising loop; everything happens between two waits for a signal."""

    def __init__(self, settings: NetSettings, n_workers: int, start: Start, holder: socket.socket) -> None:
        self._settings = settings
        self._start = start
        self._holder = holder
        self._missing = dict.fromkeys(range(n_workers), 0.0)  # worker number -> when to start it
        self._workers: dict[int, int] = {}  # pid -> worker number
        self._alive_read, self._alive_write = os.pipe()

    def run(self) -> int:
        old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        try:
            while True:
                self._fill()
                got = signal.sigtimedwait(_WATCHED, _POLL_S)
                self._reap()
                if got is not None and got.si_signo in (signal.SIGTERM, signal.SIGINT):
                    return self._stop()
                if got is not None and got.si_signo == signal.SIGHUP:
                    self._tell(signal.SIGHUP)
        finally:
            self._tell(signal.SIGKILL)
            os.close(self._alive_read)
            os.close(self._alive_write)
            self._holder.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)

    def _fill(self) -> None:
        now = time.monotonic()
        for index in [index for index, due in self._missing.items() if due <= now]:
            del self._missing[index]
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        harden()
        uvloop.run(run_worker(Place(index, self._settings), self._start, self._alive_read))

    def _reap(self) -> None:
        for pid, index in list(self._workers.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._workers[pid]
                self._missing[index] = time.monotonic() + _RESTART_DELAY_S
                code = os.waitstatus_to_exitcode(status)
                _log.log(logging.ERROR if code else logging.INFO, "worker %d ended with code %d", index, code)

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


async def run_worker(place: Place, start: Start, parent_pipe: int | None = None) -> None:
    """Serves until SIGTERM, SIGINT or the parent's end; a second signal does not wait for clients."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    heard = [signal.SIGTERM, signal.SIGHUP]
    if parent_pipe is None:
        heard.append(signal.SIGINT)  # a terminal sends it to all; under a parent only the parent decides
    for number in heard:
        loop.add_signal_handler(number, signals.put_nowait, number)
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
