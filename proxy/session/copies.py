"""COPY as the session sees it: when data begin to flow, when they end, and what becomes of the client's messages.

Data that a COPY over protected columns does not take any more (it has failed) are swallowed up to their end: the
server would ignore them, but they are plaintext. A row that cannot be sealed fails the COPY at the server with
CopyFail, and the client gets our error in the place of the server's.

Source: PostgreSQL manual, "COPY Operations". One reason to change: how a COPY begins, fails and ends.
"""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING, Final

from proxy.audit.events import Outcome
from proxy.errors import InternalError, NotAllowed, PgsealError
from proxy.session.copy_out import CopyOut
from proxy.session.copying import REASON, CopyIn
from proxy.session.sealing import Sealer
from proxy.session.sender import FORWARD, HOLD, REPLACED, Done, Sender
from proxy.session.state import Action, Entry, Phase, State
from proxy.values.constants import Inputs
from proxy.wire import frontend as f
from proxy.wire.framing import frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.session.planning import Planning
    from proxy.session.sealing import Waits
    from proxy.session.statements import Execution

COPY_HEAD: Final = 8  # of a CopyInResponse: type, length, format, number of columns


def copy_places(context: bytes) -> list[bytes]:
    """Where in the data of a COPY the server found an error, without what it found there."""
    lines = (line for line in context.split(b"\n") if line.startswith(b"COPY "))
    return [line.split(b": ", 1)[0] for line in lines][:1]


def current(head: Entry) -> Execution | None:
    """What the server is at."""
    return head.execution if head.text is None else head.text.current


class CopyReplies:
    """What the server says of a COPY."""

    def __init__(self, state: State, planning: Planning) -> None:
        self._state = state
        self._planning = planning

    def begins_in(self, head: Entry, message: bytes) -> bytes | None:
        """CopyInResponse; what the client sees of it (None: as it is)."""
        state, planning = self._state, self._planning
        state.phase = Phase.COPY_IN
        state.drops_copy = False
        if head.awaits_copy:
            head.awaits_copy = False
        execution = current(head)
        plan = execution.plan.copy if execution is not None else None
        if execution is None or plan is None or not plan.is_in:
            return None
        settings = planning.settings.values()
        tenants = execution.tenants if execution.tenants is not None else planning.tenants()
        state.copying = CopyIn(execution, Sealer(planning.keys, tenants, Inputs(settings)), settings)
        if not plan.added:
            return None
        n_columns = len(plan.columns)
        return frame(b"G", message[5:6] + pack(">H", n_columns) + message[COPY_HEAD : COPY_HEAD + 2 * n_columns])

    def flows_out(self, head: Entry, *, is_end: bool) -> None:
        """CopyOutResponse, or CopyDone. Raises where the server's data end within a row."""
        if is_end:
            self._check_whole(head)
            return
        execution = current(head)
        plan = execution.plan.copy if execution is not None else None
        if execution is not None and plan is not None and not plan.is_in:
            values, keys = self._planning.settings.values(), self._planning.keys
            execution.opener = CopyOut(plan, values, keys, execution.grant)

    def _check_whole(self, head: Entry) -> None:
        execution = current(head)
        opener = execution.opener if execution is not None else None
        if isinstance(opener, CopyOut) and not opener.is_empty:
            raise InternalError("the data of a COPY end within a row")

    def completes(self, head: Entry) -> None:
        """CommandComplete of a statement: a COPY FROM STDIN may follow it in the same text."""
        state = self._state
        if head.awaits_copy:
            head.awaits_copy = head.text is not None and head.text.index < head.text.last_copy
        if state.phase is Phase.COPY_IN:
            state.phase = Phase.NORMAL
        state.copying = None

    def fails(self, head: Entry) -> None:
        """ErrorResponse."""
        state = self._state
        if head.awaits_copy:  # entries without anything of their own are shared
            head.awaits_copy = False
        if state.phase is Phase.COPY_IN:
            state.phase = Phase.NORMAL
        if state.copying is not None:
            state.copying, state.drops_copy = None, True


class CopyRequests:
    """What the client says in a COPY."""

    def __init__(self, state: State, planning: Planning, sender: Sender) -> None:
        self._state = state
        self._planning = planning
        self._sender = sender

    def data(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        if self._sender.may_copy_in():
            return HOLD
        copying = state.copying
        if copying is None:
            return REPLACED if state.drops_copy else FORWARD
        return self._sealed(copying, lambda: copying.data(buffer[start + 5 : end]), is_end=False)

    def end(self, buffer: bytes, start: int, end: int) -> Done:
        """CopyDone or CopyFail."""
        state = self._state
        if state.is_skipping:
            return REPLACED
        if self._sender.may_copy_in():
            return HOLD
        copying, done = state.copying, FORWARD
        if copying is not None and buffer[start] == f.COPY_DONE:
            done = self._sealed(copying, copying.done, is_end=True)
            if done is HOLD or state.copying is None:
                return done
            self._sender.pending.append(buffer[start:end])
        elif state.drops_copy:
            state.drops_copy = False
            return REPLACED
        self._ends()
        return done

    def _sealed(self, copying: CopyIn, begin: Callable[[], Waits[bytes]], *, is_end: bool) -> Done:
        """Rows sealed, in the place of the message."""
        try:
            rows = self._sender.finished(begin)
        except PgsealError as error:
            self._fail(copying, error, is_end=is_end)
            return REPLACED
        if rows is None:
            return HOLD
        self._note(copying)
        if rows:
            self._sender.pending.append(frame(b"d", rows))
        return REPLACED

    def _note(self, copying: CopyIn) -> None:
        counters = self._planning.runtime.counters
        for label, count in copying.took().items():
            counters.count_sealed(label, count)

    def _fail(self, copying: CopyIn, error: PgsealError, *, is_end: bool) -> None:
        """The server fails the COPY, and the client gets this error."""
        state = self._state
        self._note(copying)
        outcome = Outcome.DENIED if isinstance(error, NotAllowed) else Outcome.FAILED
        self._planning.records.finish(copying.execution, outcome, error.sqlstate)
        head = state.queue[0]
        head.action, head.error = Action.SUBSTITUTE, self._planning.error_message(error)
        self._sender.pending.append(f.build_copy_fail(REASON))
        state.copying, state.drops_copy = None, not is_end
        state.phase = Phase.NORMAL

    def _ends(self) -> None:
        """The client is through with this COPY; another one may be ahead in the same text."""
        state = self._state
        state.copying = None
        if state.phase is not Phase.COPY_IN:
            return
        state.phase = Phase.NORMAL
        text = state.queue[0].text if state.queue else None
        if text is not None:
            state.queue[0].awaits_copy = text.index < text.last_copy
