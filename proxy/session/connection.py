"""One client connection after log-in: the two halves joined, stepped by the relay.

A step takes the server's replies first, then the client's messages, as far as both go without waiting, and
says what it wants. Whatever goes wrong inside ends this connection and no other.

One reason to change: how the halves take turns.
"""

from __future__ import annotations

from proxy.audit.events import StatementEvent
from proxy.errors import InternalError, PgsealError, ProtocolViolation
from proxy.session.express import READY, Express
from proxy.session.interface import Close, Step
from proxy.session.meter import Meter
from proxy.session.output import Output
from proxy.session.planning import Planning
from proxy.session.probe import PROBE
from proxy.session.replies import Desynchronised, Replies
from proxy.session.requests import Requests
from proxy.session.results import Results
from proxy.session.runtime import Client, Runtime
from proxy.session.state import Action, Asked, Entry, Phase, State
from proxy.wire.backend import error_response
from proxy.wire.frontend import build_query

IDLE = b"Z\0\0\0\5I"
HELD_BYTES = 65536  # more than this of held client bytes, and the relay stops reading


class Session:
    """A connection to a database with rules (see `Splice` for one without)."""

    def __init__(self, client: Client, runtime: Runtime, *, max_message: int) -> None:
        self._out = Output()
        self._state = State()
        self._planning = Planning(client, runtime, self._state, self._out)
        self._requests = Requests(self._state, self._planning, self._out, max_message)
        self._results = Results(self._state, self._planning)
        self._replies = Replies(self._state, self._results, self._out)
        self._state.queue.append(Entry(Asked.START_UP, is_internal_ready=True))
        self._meter = Meter(runtime.counters)
        self._express = Express(self._state, self._planning, self._results, self._meter)
        self.request = self._express.request
        self.reply = self._express.reply
        self.events = self._express.events
        self._is_closed = False
        self._has_client_ended = False

    @property
    def server_key(self) -> bytes:
        return self._replies.server_key

    @property
    def is_idle(self) -> bool:
        """Nothing is owed. (A Sync that may have been ignored in copy mode is not waited for after the next one's
        answer.)"""
        state = self._state
        if state.status != ord("I") or state.has_failed or self._express.is_under_way:
            return False
        return all(e.is_maybe for e in state.queue)

    def client_data(self, chunk: bytes) -> None:
        self._express.land()
        self._meter.client_came(len(chunk))
        self._requests.push(chunk)

    def server_data(self, chunk: bytes) -> None:
        self._express.land()
        self._meter.server_came(len(chunk))
        self._replies.push(chunk)

    def client_eof(self) -> None:
        """Nothing more will come; what came is still answered."""
        self._has_client_ended = True

    def server_eof(self) -> None:
        """The server is gone: a client that is owed a reply hears so, with an SQLSTATE; one that ended its side
        in the middle of a batch made the server go."""
        self._express.land()
        if not self._has_client_ended:
            self._replies.server_eof()

    def step(self) -> Step:
        """Do what can be done. Never raises for anything a client or server sent."""
        if self._is_closed:
            return Step()
        out = self._out
        try:
            was_ready = self._state.is_ready
            self._replies.run()
            if self._state.is_ready and not was_ready:
                self._ask_settings()
            if self._state.is_ready and out.close is None:
                self._requests.run()
        except Desynchronised:
            self._end(InternalError("the connection is out of step and was closed", severity="FATAL"))
        except ProtocolViolation as error:
            self._end(ProtocolViolation(error.message, severity="FATAL"))
        except PgsealError as error:
            error.severity = "FATAL"
            self._end(error)
        self._is_closed = out.close is not None
        requests = self._requests
        step = out.take(hold_client=requests.is_held and requests.n_waiting > HELD_BYTES)
        self._meter.stepped(step, requests.is_held)
        self._express.is_open = not (step.needs or step.more or self._is_closed) and self._is_calm()
        return step

    def _is_calm(self) -> bool:
        """Nothing is under way in either direction, and nothing waits for the end of the open transaction but
        settings, which a batch of the usual kind does not touch."""
        state = self._state
        return (
            not state.queue
            and state.is_ready
            and state.status in READY
            and state.phase is Phase.NORMAL
            and not (state.is_skipping or state.has_failed or state.has_run_ddl or state.n_pending_effects)
            and self._requests.is_at_rest
            and self._replies.is_at_rest
            and not self._planning.settings.awaits_report
        )

    def ended(self) -> list[StatementEvent]:
        """Both sockets are gone: events of what the server has not answered, their outcome unknown."""
        self._express.land()
        for entry in self._state.queue:
            self._results.abandoned(entry)
        self._state.queue.clear()
        return [*self.events, *self._out.take(hold_client=False).events]

    def _ask_settings(self) -> None:
        self._state.queue.append(Entry(Asked.QUERY, Action.SKIP))
        self._out.to_server.append(build_query(PROBE))

    def _end(self, error: PgsealError) -> None:
        self._out.needs.clear()
        self._out.has_more = False
        self._out.to_client.append(error_response(error))
        self._out.close = Close.GRACEFUL


class Splice:
    """A connection to a database without rules: bytes as they came, both ways."""

    server_key = b""  # a splice never asks for a cancel

    def __init__(self) -> None:
        self._to_server: list[bytes] = []
        self._to_client: list[bytes] = []
        self._is_asked = False
        self._tail = b""
        self.events: list[StatementEvent] = []

    @property
    def is_idle(self) -> bool:
        """Nothing is parsed here: idle is what ends in ReadyForQuery with status I, and no question since."""
        return not self._is_asked and self._tail == IDLE

    def request(self, chunk: bytes) -> bytes | None:
        self._is_asked = True
        return chunk

    def reply(self, chunk: bytes) -> bytes | None:
        self._is_asked = False
        self._tail = (self._tail + chunk[-len(IDLE) :])[-len(IDLE) :]
        return chunk

    def client_data(self, chunk: bytes) -> None:
        self._to_server.append(chunk)
        self._is_asked = True

    def server_data(self, chunk: bytes) -> None:
        self._to_client.append(chunk)
        self.reply(chunk)

    def client_eof(self) -> None:
        """Nothing to do."""

    def server_eof(self) -> None:
        """Nothing is known of what was owed."""

    def step(self) -> Step:
        step = Step(b"".join(self._to_server), b"".join(self._to_client))
        self._to_server.clear()
        self._to_client.clear()
        return step
