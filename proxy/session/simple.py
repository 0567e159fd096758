"""The client's other messages: simple Query and FunctionCall.

Source: PostgreSQL manual, "Simple Query", "Function Call".
One reason to change: what one of these messages means to pgseal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors import PgsealError, Unsupported
from proxy.session.sender import FORWARD, HOLD, REPLACED, Done, Sender
from proxy.session.state import FUNCTION_CALL, QUERY, SYNC, Action, Asked, Entry, State
from proxy.sql.plan import Plan
from proxy.wire import frontend as f
from proxy.wire.framing import frame

if TYPE_CHECKING:
    from proxy.session.planning import Planning


class Simple:
    """Handlers of one session; each gets the buffer with the message's start and end."""

    def __init__(self, state: State, planning: Planning, sender: Sender) -> None:
        self._state = state
        self._planning = planning
        self._sender = sender
        self._counters = planning.runtime.counters

    def query(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return self._skipped()
        if state.n_pending_effects:
            return self._sender.wait()
        body = buffer[start + 5 : end]
        if body.find(b"\0") != len(body) - 1:  # the server refuses it in its own words, and gets no text
            state.n_executes += 1
            state.n_asked_ready += 1
            self._sender.put(frame(b"Q", b"\0\0" if b"\0" in body else b"?"), QUERY)
            return REPLACED
        try:
            made = self._sender.finished(lambda: self._planning.query(body[:-1]))
        except PgsealError as error:
            self._planning.asking = None
            state.n_executes += 1
            return self._reject_query(error)
        if made is None:
            return HOLD
        if isinstance(made, Plan):
            return self._sender.ask(made.questions)
        self._planning.asking = None
        state.n_executes += 1
        state.n_asked_ready += 1
        text, rendered = made
        if text is None:
            self._counters.n_irrelevant += 1
            state.queue.append(QUERY)
            return FORWARD
        entry = Entry(Asked.QUERY, text=text)
        if any(self._sender.is_env_changing(e.effects) for e in text.executions):
            text.has_effects = True
            state.n_pending_effects += 1
        text.last_copy = max((n for n, e in enumerate(text.executions) if e.plan.is_copy_in), default=-1)
        entry.awaits_copy = text.last_copy >= 0
        if rendered is None:
            state.queue.append(entry)
            return FORWARD
        self._sender.put(f.build_query(rendered), entry)
        return REPLACED

    def _skipped(self) -> Done:
        """The server ignores the Query. Where it failed what this Query had asked, its ReadyForQuery is due."""
        asking, self._planning.asking = self._planning.asking, None
        if asking is not None and asking.is_failed:
            self._state.is_skipping = False
            self._state.n_executes += 1
            self._state.n_asked_ready += 1
            self._sender.put(f.SYNC_MESSAGE, SYNC)
        return REPLACED

    def _reject_query(self, error: PgsealError) -> Done:
        self._state.n_asked_ready += 1
        number = self._planning.records.refusal(error)
        entry = Entry(Asked.QUERY, Action.SUBSTITUTE, self._planning.error_message(error))
        self._sender.put(f.build_query(b"pgseal rejected statement %d" % number), entry)
        return REPLACED

    def function_call(self, buffer: bytes, start: int, end: int) -> Done:
        if self._state.is_skipping:
            return REPLACED
        self._state.n_executes += 1
        if not self._planning.may_call(buffer[start + 5 : min(start + 9, end)]):
            error = Unsupported(
                "a FunctionCall of anything but large objects is not followed", hint="Use SELECT."
            )
            return self._reject_query(error)
        self._state.n_asked_ready += 1
        self._state.queue.append(FUNCTION_CALL)
        return FORWARD
