"""The server half of a session: each reply matched to the request that asked, opened, exchanged or passed.

Replies that need nothing leave as the slice they came in; a run of DataRows of a plain result is skipped over
without a look at the rows. The order of what the client sees is the order of the queue, always.

When a reply cannot be shown (a cell does not open, a description disagrees with the plan), the client gets one
ErrorResponse and everything up to its ReadyForQuery is dropped. If the transaction block is still open then,
a Query the server must fail puts it into the failed state before the client hears that it is ready; if
something may have been committed meanwhile, the answer is FATAL and both sides close.

One reason to change: what a message of the server means to pgseal.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from proxy.errors import ConnectionFailure, PgsealError
from proxy.session.inbox import Inbox
from proxy.session.interface import Close
from proxy.session.state import ENDS_AT_READY, REPLIES, ROW_KINDS, Action, Asked, Entry, Next, Phase, State
from proxy.wire import backend as b
from proxy.wire.backend import error_response, notice_response
from proxy.wire.framing import LENGTH
from proxy.wire.frontend import LARGE_LIMIT, build_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.session.output import Output
    from proxy.session.results import Results

IDLE: Final = ord("I")
IN_BLOCK: Final = ord("T")
POISON_TEXT: Final = b"pgseal failed this transaction"
EXTENDED: Final = frozenset(Asked) - ENDS_AT_READY
STREAM_FROM: Final = 65536
# What needs no look when the head of the queue is plain.
QUIET: Final = frozenset(
    {b.PARSE_COMPLETE, b.BIND_COMPLETE, b.CLOSE_COMPLETE, b.COMMAND_COMPLETE, b.EMPTY_QUERY, b.PORTAL_SUSPENDED,
     b.NO_DATA, b.PARAMETER_DESCRIPTION}
)  # fmt: skip
ASYNCHRONOUS: Final = frozenset({b.NOTICE_RESPONSE, b.NOTIFICATION, b.PARAMETER_STATUS})
RUNS: Final = frozenset({Asked.EXECUTE, Asked.QUERY})
QUICK: Final = frozenset({b.BIND_COMPLETE, b.ROW_DESCRIPTION, b.COMMAND_COMPLETE})
PASSED: Final = b""  # by identity: the reply leaves as it is
UNSEEN: Final = frozenset({b.ROW_DESCRIPTION, b.NO_DATA, b.PARAMETER_DESCRIPTION})  # while dropping


class Desynchronised(Exception):
    """The server answered something nobody asked for; nothing can be proven any more."""


class Replies:
    """Consumes the server's bytes. `state` is shared with `Requests`."""

    def __init__(self, state: State, results: Results, out: Output) -> None:
        self._state = state
        self._results = results
        self._out = out
        self._inbox = Inbox()
        self._remain = 0
        self._is_dropping = False  # an error was shown; the rest up to ReadyForQuery is not
        self._is_failing_block = False  # the poison Query is under way
        self.server_key = b""
        self._handlers: dict[int, Callable[[bytes, int, int], bytes | None]] = {
            b.PARSE_COMPLETE: self._parse_complete,
            b.CLOSE_COMPLETE: self._close_complete,
            b.READY_FOR_QUERY: self._ready,
            b.ERROR_RESPONSE: self._error,
            b.ROW_DESCRIPTION: self._row_description,
            b.NO_DATA: self._no_data,
            b.PARAMETER_DESCRIPTION: self._parameter_description,
            b.COMMAND_COMPLETE: self._complete,
            b.EMPTY_QUERY: self._complete,
            b.PORTAL_SUSPENDED: self._complete,
            b.COPY_IN: self._copy_in,
            b.COPY_BOTH: self._copy_both,
            b.BACKEND_KEY_DATA: self._key,
        }

    def push(self, chunk: bytes) -> None:
        self._inbox.push(chunk)

    @property
    def is_at_rest(self) -> bool:
        """No byte of the server is kept, nothing is half done."""
        return not (len(self._inbox) or self._remain or self._is_dropping or self._is_failing_block)

    def server_eof(self) -> None:
        """One FATAL where a reply is owed, unless the server said its last word itself, the client has ended the
        session, or the stream stands inside a message: then nothing may be added."""
        state = self._state
        is_inside = len(self._inbox) > 0 or self._remain > 0
        if not state.queue or is_inside or state.has_failed or state.phase in (Phase.BROKEN, Phase.RAW):
            return
        if not state.is_ready or self._out.close is not None:
            return
        gone = ConnectionFailure(
            "the server closed the connection; whether the statement took effect is not known",
            hint="Connect again.",
            severity="FATAL",
        )
        self._out.to_client.append(error_response(gone))

    def run(self) -> None:
        """Consume as many replies as can be."""
        if not self._inbox.is_ready:
            return
        if self._state.phase is Phase.RAW:
            self._out.to_client.append(self._inbox.take())
            return
        self._consume(self._inbox.take())

    def _consume(self, buffer: bytes) -> None:
        size = len(buffer)
        position = run = 0
        wanted = 0
        if self._remain:
            position = min(self._remain, size)
            self._remain -= position
            if self._is_dropping:
                run = position
        to_client = self._out.to_client
        queue = self._state.queue
        length_at = LENGTH.unpack_from
        while size - position >= 5:
            kind = buffer[position]
            end = position + 1 + length_at(buffer, position + 1)[0]
            if end > size:
                if kind in ROW_KINDS and end - position > STREAM_FROM and self._is_plain_row():
                    self._remain = end - size
                    position = size
                    if self._is_dropping:
                        run = size
                elif end - position > LARGE_LIMIT:
                    raise Desynchronised
                else:
                    wanted = end - position
                break
            if kind in ROW_KINDS:
                if self._is_plain_row():
                    position = end
                    if self._is_dropping:
                        run = end
                    continue
                if run < position:
                    to_client.append(buffer[run:position])
                position, error = self._results.rows(buffer, position, self._head(), self._out)
                run = position
                if error is not None:
                    to_client.append(self._fail(error))
                    if self._out.close is not None:
                        break
                elif self._out.has_more or self._out.needs:
                    break
                continue
            if queue and (head := queue[0]).is_plain and not self._is_dropping:
                what = REPLIES[head.asked].get(kind)
                if (
                    kind in QUIET
                    or (kind == b.ROW_DESCRIPTION and self._results.has_passed(buffer[position:end]))
                    or (
                        kind == b.READY_FOR_QUERY
                        and what is not None
                        and self._ends_quietly(buffer[position + 5])
                    )
                ):
                    if what is None:
                        raise Desynchronised
                    if what is Next.POP:
                        queue.popleft()
                    position = end
                    continue
            elif queue and kind in QUICK and not self._is_dropping:
                shown = self._quick(kind, queue[0], buffer[position:end])
                if shown is PASSED:
                    position = end
                    continue
                if shown is not None:
                    if run < position:
                        to_client.append(buffer[run:position])
                    to_client.append(shown)
                    position = run = end
                    continue
            replaced = self._reply(kind, buffer, position, end)
            if replaced is None:
                position = end
                continue
            if run < position:
                to_client.append(buffer[run:position])
            if self._out.needs:  # the reply waits, whole, for what is needed
                run = position
                break
            if replaced:
                to_client.append(replaced)
            position = run = end
            if self._state.phase is Phase.RAW or self._out.close is not None:  # a FATAL is the last word
                break
        if run < position:
            to_client.append(buffer if run == 0 and position == size else buffer[run:position])
        self._inbox.keep(buffer[position:], wanted)
        if self._state.phase is Phase.RAW and position < size:
            to_client.append(self._inbox.take())

    def _quick(self, kind: int, head: Entry, message: bytes) -> bytes | None:
        """The usual replies to a planned statement, taken in one go: PASSED, what is shown instead, or None where
        it must be looked at in full."""
        if head.action is not Action.FORWARD:
            return None
        if kind == b.BIND_COMPLETE and head.asked is Asked.BIND:
            self._state.queue.popleft()
            return PASSED
        if kind == b.ROW_DESCRIPTION and head.asked is Asked.DESCRIBE_PORTAL and head.statement is not None:
            shown = self._results.shown(head.statement, message)
            if shown is not None:
                self._state.queue.popleft()
            return shown
        execution = head.execution
        if kind == b.COMMAND_COMPLETE and execution is not None and execution.is_simple:
            self._state.queue.popleft()
            self._results.ended(execution)
            return PASSED
        return None

    # --- the head of the queue -----------------------------------------------------------------------

    def _head(self) -> Entry:
        queue = self._state.queue
        if not queue:
            raise Desynchronised
        return queue[0]

    def _is_plain_row(self) -> bool:
        """Rows of the head need no look (or are dropped)."""
        if self._is_dropping:
            return True
        head = self._head()
        if b.DATA_ROW not in REPLIES[head.asked] or head.action is Action.SUBSTITUTE:
            raise Desynchronised
        return self._results.is_plain(head)

    def _reply(self, kind: int, buffer: bytes, start: int, end: int) -> bytes | None:
        """None: pass the bytes. Else what to write in their place (b"": nothing)."""
        queue = self._state.queue
        if queue and queue[0].is_maybe and kind not in ASYNCHRONOUS:
            self._settle_maybe(kind)
        handler = self._handlers.get(kind)
        if handler is None:
            if kind == b.PARAMETER_STATUS:
                self._results.report(buffer[start + 5 : end])
            return None if kind in ASYNCHRONOUS else self._match(kind)
        if self._is_dropping and kind in UNSEEN:
            self._advance(kind)
            return b""
        replaced = handler(buffer, start, end)
        return b"" if self._is_dropping and replaced is None else replaced

    def _settle_maybe(self, kind: int) -> None:
        """A Sync read in copy mode was ignored; one read behind the failure of the copy gets its own Z. Only what
        comes next tells: another reply means it was ignored, and after a Z it may have been the next one's."""
        queue = self._state.queue
        while queue and queue[0].is_maybe and kind != b.READY_FOR_QUERY:
            queue.popleft()
        if queue and queue[0].is_maybe:
            for index, entry in enumerate(queue):
                if entry.asked is Asked.SYNC and not entry.is_maybe:
                    queue[0] = replace(queue[0], is_maybe=False)  # one of the two is counted
                    queue[index] = replace(entry, is_maybe=True, is_plain=False)
                    break

    def _advance(self, kind: int) -> Entry:
        """The head, popped where this reply ends it."""
        queue = self._state.queue
        if not queue:
            raise Desynchronised
        head = queue[0]
        what = REPLIES[head.asked].get(kind)
        if what is None or (head.action is Action.SUBSTITUTE and kind != b.READY_FOR_QUERY):
            raise Desynchronised  # also where a stand-in ran, which only ever fails
        if what is Next.POP:
            queue.popleft()
        return head

    def _match(self, kind: int) -> bytes | None:
        """A reply without content of interest: 1, 2, 3, c, H, R, v, V."""
        head = self._advance(kind)
        if self._is_dropping:
            return b""
        return b"" if head.action is Action.SKIP else None

    def _parse_complete(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._advance(b.PARSE_COMPLETE)
        if head.previous_statement is not None and head.statement is not None and head.statement.name:
            self._state.statements[head.statement.name] = head.statement
        return b"" if head.action is Action.SKIP else None

    def _close_complete(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._advance(b.CLOSE_COMPLETE)
        if head.previous_statement is not None:
            self._state.settle(head.previous_statement.name)
        return b"" if head.action is Action.SKIP else None

    def _key(self, buffer: bytes, start: int, end: int) -> bytes | None:
        self._advance(b.BACKEND_KEY_DATA)
        self.server_key = buffer[start + 5 : end]
        return None

    # --- descriptions --------------------------------------------------------------------------------

    def _parameter_description(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._advance(b.PARAMETER_DESCRIPTION)
        replaced = self._results.parameters(head, buffer[start + 5 : end])
        return b"" if head.action is Action.SKIP else replaced

    def _row_description(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._head()
        if b.ROW_DESCRIPTION not in REPLIES[head.asked]:
            raise Desynchronised
        try:
            replaced = self._results.description(head, buffer[start:end], self._out)
        except PgsealError as error:
            self._advance(b.ROW_DESCRIPTION)
            return self._fail(error)
        if self._out.needs:
            return b""
        self._advance(b.ROW_DESCRIPTION)
        return b"" if head.action is Action.SKIP else replaced

    def _no_data(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._head()
        if b.NO_DATA not in REPLIES[head.asked]:
            raise Desynchronised
        try:
            self._results.no_data(head)
        except PgsealError as error:
            self._advance(b.NO_DATA)
            return self._fail(error)
        self._advance(b.NO_DATA)
        return b"" if head.action is Action.SKIP else None

    # --- ends of statements --------------------------------------------------------------------------

    def _complete(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._advance(buffer[start])
        if head.awaits_copy:
            head.awaits_copy = False
        if self._state.phase is Phase.COPY_IN:
            self._state.phase = Phase.NORMAL
        queue = self._state.queue
        behind = 1 if queue and queue[0] is head else 0
        while len(queue) > behind and queue[behind].is_maybe:
            del queue[behind]  # the copy ended well: they were ignored
        if head.execution is not None or head.text is not None:
            notices = self._results.complete(head, buffer[start], buffer[start + 5 : end])
            if notices:
                return b"".join(map(notice_response, notices)) + buffer[start:end]
        return b"" if head.action is Action.SKIP else None

    def _copy_in(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._advance(b.COPY_IN)
        if head.awaits_copy:
            head.awaits_copy = False
        if self._is_dropping:
            raise Desynchronised  # the client knows nothing of it, and the server waits for its data
        self._state.phase = Phase.COPY_IN
        return None

    def _copy_both(self, buffer: bytes, start: int, end: int) -> bytes | None:
        self._advance(b.COPY_BOTH)
        self._state.phase = Phase.RAW
        return buffer[start:end]

    def _error(self, buffer: bytes, start: int, end: int) -> bytes | None:
        state = self._state
        if not state.queue:
            return None  # unsolicited: the server ends the connection
        head = state.queue[0]
        if state.phase is Phase.COPY_IN:
            state.phase = Phase.NORMAL
        if head.awaits_copy:
            head.awaits_copy = False
        shown = self._shown_error(head, buffer[start:end])
        state.has_failed = True
        self._results.failed(head, buffer[start + 5 : end])
        if head.asked in EXTENDED:
            self._skip_to_sync()
        return shown

    def _shown_error(self, head: Entry, message: bytes) -> bytes | None:
        if self._is_dropping or self._is_failing_block:
            return b""
        if head.action is Action.SUBSTITUTE:
            return head.error
        if head.action is Action.SKIP and head.asked is Asked.QUERY:
            raise Desynchronised  # the probe: without it no name can be resolved
        return self._results.error(head, message)

    def _skip_to_sync(self) -> None:
        """The server ignores everything up to the next Sync: what was queued for it will not be answered."""
        state = self._state
        queue = state.queue
        if queue[0].asked is Asked.PARSE and queue[0].statement is not None and not queue[0].statement.name:
            queue[0].previous_statement = None  # a Parse that fails has dropped it
        skipped = []
        while queue and queue[0].asked is not Asked.SYNC:
            skipped.append(queue.popleft())
            self._results.skipped(skipped[-1])
        for entry in reversed(skipped):  # what was done last is undone first
            state.undo(entry)
        if not queue:
            state.is_skipping = True

    def _ends_quietly(self, status: int) -> bool:
        """The ReadyForQuery of a plain head changes nothing but the status."""
        state = self._state
        if state.has_failed or state.has_run_ddl or state.phase is Phase.COPY_IN:
            return False
        if self._is_failing_block or self._results.is_dirty:
            return False
        state.status = status
        state.n_ready += 1
        if status == IDLE and state.portals:
            state.end_portals()
        state.n_executes = _n_executes(state, 1) if len(state.queue) > 1 else 0  # the head is still there
        return True

    def _ready(self, buffer: bytes, start: int, end: int) -> bytes | None:
        state = self._state
        queue = state.queue
        status = buffer[start + 5]
        while queue and queue[0].asked not in ENDS_AT_READY:
            state.undo(queue.popleft())
        head = self._advance(b.READY_FOR_QUERY)
        state.status = status
        state.is_ready = True
        if not head.is_maybe and not self._is_failing_block and head.action is not Action.SKIP:
            state.n_ready += 0 if head.is_internal_ready else 1
        if status == IDLE and state.portals:
            state.end_portals()
        state.n_executes = _n_executes(state)
        if state.phase is Phase.COPY_IN:
            state.phase = Phase.NORMAL
        if not head.is_plain or state.has_failed or state.has_run_ddl or self._results.is_dirty:
            self._results.ready(head, status)
        if self._is_failing_block:
            self._is_failing_block = False
            return None
        if not self._is_dropping:
            return b"" if head.is_internal_ready else None
        self._is_dropping = False
        if status != IN_BLOCK:
            return buffer[start:end]
        if queue:  # what the client sent behind it has run in the block that should have failed
            self._out.close = Close.GRACEFUL
            self._is_dropping = True
            return error_response(
                ConnectionFailure("a result could not be shown in a pipeline", severity="FATAL")
            )
        self._is_failing_block = True
        self._out.to_server.append(build_query(POISON_TEXT))
        queue.appendleft(Entry(Asked.QUERY))
        return b""

    # --- when a reply cannot be shown ----------------------------------------------------------------

    def _fail(self, error: PgsealError) -> bytes:
        state = self._state
        head = state.queue[0] if state.queue else None
        if head is not None:
            self._results.unshown(head, error)
        if self._may_have_committed(head):
            closing = ConnectionFailure(
                f"{error.sqlstate} {error.message}; the statement may have been committed",
                column=error.column,
                hint=error.hint,
                severity="FATAL",
            )
            self._out.close = Close.GRACEFUL
            self._is_dropping = True
            return error_response(closing)
        self._is_dropping = True
        if head is not None and head.asked in EXTENDED:
            state.is_skipping = not any(e.asked is Asked.SYNC for e in state.queue)
        return error_response(error)

    def _may_have_committed(self, head: Entry | None) -> bool:
        """Outside a block, anything but one read may stand although the client is told of an error."""
        state = self._state
        if state.status == IN_BLOCK:
            return False
        if head is not None and self._results.is_write(head):
            return True
        return state.n_executes > 1


def _n_executes(state: State, start: int = 0) -> int:
    """Executes and Queries the server has not answered, from this place of the queue on."""
    return sum(1 for entry in islice(state.queue, start, None) if entry.asked in RUNS)
