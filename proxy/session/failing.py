"""What follows when a reply cannot be shown: a cell does not open, a description disagrees with the plan.

The client gets one ErrorResponse, and everything up to its ReadyForQuery is dropped. If the transaction block is
still open then, a Query the server must fail puts it into the failed state before the client hears that it is
ready; if something may have been committed meanwhile, the answer is FATAL and both sides close.

One reason to change: what a client may be told of a reply that it does not get.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from proxy.errors import ConnectionFailure, PgsealError
from proxy.session.interface import Close
from proxy.session.state import ENDS_AT_READY, Asked, Entry, State
from proxy.wire.backend import error_response
from proxy.wire.frontend import build_query

if TYPE_CHECKING:
    from proxy.session.output import Output
    from proxy.session.results import Results

IN_BLOCK: Final = ord("T")
POISON_TEXT: Final = b"pgseal failed this transaction"
EXTENDED: Final = frozenset(Asked) - ENDS_AT_READY
RUNS: Final = frozenset({Asked.EXECUTE, Asked.QUERY})
MANY: Final = 2  # Executes and Queries of which more than one may stand
LOOKED_AT: Final = 256  # entries; behind more than that, one that runs something is taken to be there


class Failing:
    """Owned by `Replies`, which drops what it reads while `is_dropping`."""

    __slots__ = ("_out", "_results", "_state", "is_dropping", "is_failing_block")

    def __init__(self, state: State, results: Results, out: Output) -> None:
        self._state = state
        self._results = results
        self._out = out
        self.is_dropping = False  # an error was shown; the rest up to ReadyForQuery is not
        self.is_failing_block = False  # the poison Query is under way

    @property
    def is_at_rest(self) -> bool:
        return not (self.is_dropping or self.is_failing_block)

    def fail(self, error: PgsealError) -> bytes:
        """The ErrorResponse the client gets; all else up to its ReadyForQuery is dropped."""
        state = self._state
        head = state.queue[0] if state.queue else None
        if head is not None:
            self._results.unshown(head, error)
        self.is_dropping = True
        if self._may_have_committed(head):
            closing = ConnectionFailure(
                f"{error.sqlstate} {error.message}; the statement may have been committed",
                column=error.column,
                hint=error.hint,
                severity="FATAL",
            )
            self._out.close = Close.GRACEFUL
            return error_response(closing)
        if head is not None and head.asked in EXTENDED:
            state.is_skipping = not any(e.asked is Asked.SYNC for e in state.queue)
        return error_response(error)

    def ready(self, message: bytes, status: int) -> bytes | None:
        """The ReadyForQuery at the end of what is dropped, or of the poison Query: as `Replies` returns it."""
        if self.is_failing_block:
            self.is_failing_block = False
            return None
        self.is_dropping = False
        if status != IN_BLOCK:
            return message
        queue = self._state.queue
        if queue:  # what the client sent behind it has run in the block that should have failed
            self._out.close = Close.GRACEFUL
            self.is_dropping = True
            return error_response(
                ConnectionFailure("a result could not be shown in a pipeline", severity="FATAL")
            )
        self.is_failing_block = True
        self._out.to_server.append(build_query(POISON_TEXT))
        queue.appendleft(Entry(Asked.QUERY))
        return b""

    def _may_have_committed(self, head: Entry | None) -> bool:
        """Outside a block, anything but one read may stand although the client is told of an error."""
        state = self._state
        if state.status == IN_BLOCK:
            return False
        if head is not None and self._results.is_write(head):
            return True
        return state.n_executes > 1


def gone() -> bytes:
    """The last word where the server is gone and a reply is owed."""
    error = ConnectionFailure(
        "the server closed the connection; whether the statement took effect is not known",
        hint="Connect again.",
        severity="FATAL",
    )
    return error_response(error)


def n_executes(state: State, start: int = 0) -> int:
    """Executes and Queries the server has not answered, from this place of the queue on, up to MANY: it is asked
    at each ReadyForQuery, and a pipeline may hold many thousands."""
    queue = state.queue
    n = 0
    for entry in islice(queue, start, LOOKED_AT):
        if entry.asked in RUNS:
            n += 1
            if n == MANY:
                return n
    return n if len(queue) <= LOOKED_AT else MANY
