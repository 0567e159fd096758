"""Bytes and times of one session, counted into its worker's counters.

Times are taken for one chunk of the client in eight: the request side from the chunk's arrival until all of it
has left for the server, waits for keys and plans included; the server's own time until its first reply; the
reply side from a reply's arrival until it has left for the client. One reason to change: what is measured.
"""

from __future__ import annotations

from time import perf_counter
from typing import Final

from proxy.metrics import Counters, Timing
from proxy.session.interface import Step

SAMPLE_MASK: Final = 7


class Meter:
    __slots__ = ("_client_s", "_counters", "_n_chunks", "_sent_s", "_server_s")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._n_chunks = 0
        self._client_s = 0.0  # 0: nothing of that kind is being timed
        self._sent_s = 0.0
        self._server_s = 0.0

    def client_came(self, size: int) -> None:
        self._counters.n_client_in += size
        self._n_chunks += 1
        if not self._n_chunks & SAMPLE_MASK and not self._client_s:
            self._client_s = perf_counter()

    def server_came(self, size: int) -> None:
        self._counters.n_server_in += size
        if self._sent_s:
            self._server_s = perf_counter()
            self._counters.observe(Timing.SERVER, self._server_s - self._sent_s)
            self._sent_s = 0.0

    @property
    def is_sampling(self) -> bool:
        """The server's next reply is timed."""
        return self._sent_s > 0.0

    def sample_request(self, arrived_s: float) -> None:
        """A chunk that came then has left for the server."""
        self._sent_s = perf_counter()
        self._counters.observe(Timing.REQUEST, self._sent_s - arrived_s)

    def sample_reply(self, arrived_s: float) -> None:
        """The first reply since came then, and has left for the client."""
        self._counters.observe(Timing.SERVER, arrived_s - self._sent_s)
        self._counters.observe(Timing.REPLY, perf_counter() - arrived_s)
        self._sent_s = 0.0

    def stepped(self, step: Step, is_held: bool) -> None:
        """A step is done; `is_held`: bytes of the client still wait."""
        counters = self._counters
        if step.to_server:
            counters.n_server_out += len(step.to_server)
            if self._client_s and not is_held:
                self._sent_s = perf_counter()
                counters.observe(Timing.REQUEST, self._sent_s - self._client_s)
                self._client_s = 0.0
        if step.to_client:
            counters.n_client_out += len(step.to_client)
            if self._server_s:
                counters.observe(Timing.REPLY, perf_counter() - self._server_s)
                self._server_s = 0.0
