"""The circuit breaker and the single flight."""

from __future__ import annotations

import asyncio

import pytest

from proxy.keys.calls import LATENCY_BOUNDS_S, LONGEST_WAIT_S, Circuit, Flights
from proxy.keys.kms.base import KmsRefused, KmsUnavailable


class Far:
    """A KMS call with an outcome to choose and a clock it moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.takes_s = 0.0
        self.n_calls = 0
        self.error: Exception | None = None
        self.circuit = Circuit("main", lambda: self.now_s)

    async def work(self) -> str:
        """One call."""
        self.n_calls += 1
        self.now_s += self.takes_s
        if self.error is not None:
            raise self.error
        return "answer"

    async def call(self) -> str:
        """The call behind the breaker."""
        return await self.circuit.call(self.work)


async def test_circuit_opens_after_three_failures_and_waits_longer_each_time() -> None:
    """1 s, 2 s, 4 s ... 30 s, one call each; then closed at once by an answer."""
    far = Far()
    far.error = KmsUnavailable("down")
    for _ in range(3):
        assert not far.circuit.is_open
        with pytest.raises(KmsUnavailable):
            await far.call()
    waits = [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_WAIT_S, LONGEST_WAIT_S]
    for n, wait_s in enumerate(waits):
        far.now_s += wait_s - 0.01
        with pytest.raises(KmsUnavailable, match="due shortly"):
            await far.call()
        assert far.n_calls == 3 + n
        far.now_s += 0.01
        if n < len(waits) - 1:
            with pytest.raises(KmsUnavailable, match=r"^down$"):
                await far.call()
    far.error = None
    assert await far.call() == "answer" and not far.circuit.is_open
    assert far.circuit.stats.n_not_made == len(waits)


async def test_circuit_half_open_lets_one_call_try() -> None:
    """While the one that tries is under way, the others fail fast."""
    far, gate = Far(), asyncio.Event()
    far.error = KmsUnavailable("down")
    for _ in range(3):
        with pytest.raises(KmsUnavailable):
            await far.call()
    far.now_s += 1.0

    async def slow() -> str:
        await gate.wait()
        return "answer"

    trying = asyncio.create_task(far.circuit.call(slow))
    await asyncio.sleep(0)
    with pytest.raises(KmsUnavailable, match="due shortly"):
        await far.call()
    gate.set()
    assert await trying == "answer"


async def test_circuit_stays_closed_by_refusals() -> None:
    """No is an answer."""
    far = Far()
    far.error = KmsRefused("no")
    for _ in range(10):
        with pytest.raises(KmsRefused):
            await far.call()
    assert not far.circuit.is_open and far.circuit.stats.n_refused == 10


async def test_circuit_counts_latency_by_bounds() -> None:
    """Each call falls into the first bound it does not exceed, the slowest behind the last."""
    far = Far()
    for seconds in (0.0, 0.001, 0.0011, 99.0):
        far.takes_s = seconds
        await far.call()
    counts = far.circuit.stats.n_by_latency
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (2, 1, 1, 4)
    assert len(counts) == len(LATENCY_BOUNDS_S) + 1
    assert far.circuit.stats.sum_s == pytest.approx(99.0021)


async def test_flight_of_one_name_runs_once_and_of_two_names_twice() -> None:
    """Who comes later waits; an error is the leader's alone."""
    flights, gate, ran = Flights(), asyncio.Event(), []

    async def work() -> None:
        ran.append(1)
        await gate.wait()
        raise KmsUnavailable("down")

    tasks = [asyncio.create_task(flights.once(name, work)) for name in ("a", "a", "b", "a")]
    await asyncio.sleep(0)
    gate.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(ran) == 2
    assert [type(outcome).__name__ for outcome in done] == ["KmsUnavailable", "bool", "KmsUnavailable", "bool"]
    assert await flights.once("a", _nothing)


async def _nothing() -> None:
    return None
