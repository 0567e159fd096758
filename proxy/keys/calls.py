"""Calls of the KMS: counted, timed, one flight for each key, and not made while a KEK's KMS is known to be down.

One reason to change: how pgseal behaves towards a KMS that is slow or away.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from proxy.keys.kms.base import KmsRefused, KmsUnavailable

T = TypeVar("T")
Clock = Callable[[], float]

LATENCY_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FAILURES_TO_OPEN: Final = 3
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0


@dataclass(slots=True)
class KmsStats:
    """Calls of one KEK. `n_by_latency`: how many took up to each of LATENCY_BOUNDS_S, the last: longer."""

    n_calls: int = 0
    n_refused: int = 0
    n_unavailable: int = 0
    n_not_made: int = 0  # the circuit was open
    sum_s: float = 0.0
    n_by_latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))


class Circuit:
    """The circuit breaker of one KEK: after three failures in a row no call for a wait that doubles to 30 s;
    then one call tries, and the others follow its outcome."""

    def __init__(self, alias: str, clock: Clock) -> None:
        self.stats = KmsStats()
        self._alias = alias
        self._clock = clock
        self._n_failures = 0
        self._wait_s = 0.0
        self._open_until_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._wait_s > 0 and self._clock() < self._open_until_s

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """The answer of `work`, or KmsUnavailable at once while the circuit is open."""
        if self.is_open:
            self.stats.n_not_made += 1
            raise KmsUnavailable(f"kms '{self._alias}' is down; the next try is due shortly")
        if self._wait_s:
            self._open_until_s = self._clock() + self._wait_s  # half open: this call only
        started_s = self._clock()
        self.stats.n_calls += 1
        try:
            answer = await work()
        except KmsUnavailable:
            self.stats.n_unavailable += 1
            self._failed()
            raise
        except KmsRefused:
            self.stats.n_refused += 1
            self._answered()
            raise
        finally:
            self._time(self._clock() - started_s)
        self._answered()
        return answer

    def _time(self, seconds: float) -> None:
        self.stats.sum_s += seconds
        self.stats.n_by_latency[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1

    def _answered(self) -> None:
        self._n_failures = 0
        self._wait_s = 0.0

    def _failed(self) -> None:
        self._n_failures += 1
        if self._n_failures >= FAILURES_TO_OPEN:
            self._wait_s = min(self._wait_s * 2 or FIRST_WAIT_S, LONGEST_WAIT_S)
            self._open_until_s = self._clock() + self._wait_s


class Flights:
    """One piece of work a name at a time; who comes later waits for it to end."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Event] = {}

    async def once(self, name: Hashable, work: Callable[[], Awaitable[None]]) -> bool:
        """True where this caller did the work (or saw its error), False where it waited for another's, which
        may have failed or been cancelled: look at what it left."""
        running = self._running.get(name)
        if running is not None:
            await running.wait()
            return False
        ended = self._running[name] = asyncio.Event()
        try:
            await work()
        finally:
            del self._running[name]
            ended.set()
        return True
