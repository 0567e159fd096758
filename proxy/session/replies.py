"""The server half of a session: each reply matched to the request that asked, opened, exchanged or passed.

Replies that need nothing leave as the slice they came in; a run of DataRows of a plain result is skipped over
without a look at the rows (`skipping`). The order of what the client sees is the order of the queue, always. What
follows when a reply cannot be shown is in `failing`. One step takes so many replies, and others have their turn.

One reason to change: what a message of the server means to pgseal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.errors import PgsealError
from proxy.session.failing import EXTENDED, Failing, gone, n_executes
from proxy.session.inbox import Inbox
from proxy.session.skipping import rows_end
from proxy.session.state import ENDS_AT_READY, REPLIES, ROW_KINDS, Action, Asked, Entry, Next, Phase, State
from proxy.wire import backend as b
from proxy.wire.backend import notice_response
from proxy.wire.framing import LENGTH
from proxy.wire.frontend import LARGE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.session.output import Output
    from proxy.session.results import Results

IDLE: Final = ord("I")
STREAM_FROM: Final = 65536
PLAIN_A_STEP: Final = 2000  # replies that pass without a look
SEVERAL: Final = 64  # bytes behind a row, which may be a run of rows
LOOK: Final = 8  # what a reply that is looked at counts for
# What needs no look when the head of the queue is plain.
QUIET: Final = frozenset(
    {b.PARSE_COMPLETE, b.BIND_COMPLETE, b.CLOSE_COMPLETE, b.COMMAND_COMPLETE, b.EMPTY_QUERY, b.PORTAL_SUSPENDED,
     b.NO_DATA, b.PARAMETER_DESCRIPTION}
)  # fmt: skip
ASYNCHRONOUS: Final = frozenset({b.NOTICE_RESPONSE, b.NOTIFICATION, b.PARAMETER_STATUS})
QUICK: Final = frozenset({b.BIND_COMPLETE, b.ROW_DESCRIPTION, b.COMMAND_COMPLETE})
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
        self._failing = Failing(state, results, out)
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
            b.COPY_OUT: self._copy_out,
            b.COPY_DONE: self._copy_out,
            b.COPY_BOTH: self._copy_both,
            b.BACKEND_KEY_DATA: self._key,
        }

    def push(self, chunk: bytes) -> None:
        self._inbox.push(chunk)

    @property
    def is_at_rest(self) -> bool:
        """No byte of the server is kept, nothing is half done."""
        failing = self._failing
        return not (len(self._inbox) or self._remain or failing.is_dropping or failing.is_failing_block)

    def server_eof(self) -> None:
        """One FATAL where a reply is owed, unless the server said its last word itself, the client has ended the
        session, or the stream stands inside a message: then nothing may be added."""
        state, is_inside = self._state, len(self._inbox) > 0 or self._remain > 0
        if not state.queue or is_inside or state.has_failed or state.phase in (Phase.BROKEN, Phase.RAW):
            return
        if not state.is_ready or self._out.close is not None:
            return
        self._out.to_client.append(gone())

    def run(self) -> None:
        """Consume as many replies as can be."""
        if not self._inbox.is_ready:
            return
        if self._state.phase is Phase.RAW:
            self._out.to_client.append(self._inbox.take())
            return
        self._consume(self._inbox.take())

    def _consume(self, buffer: bytes) -> None:
        size, length_at = len(buffer), LENGTH.unpack_from
        out, queue, failing = self._out, self._state.queue, self._failing
        position, run = self._behind_streamed(size) if self._remain else (0, 0)
        wanted, left = 0, PLAIN_A_STEP
        while size - position >= 5 and left > 0:
            kind = buffer[position]
            end = position + 1 + length_at(buffer, position + 1)[0]
            if end > size:
                if self._streams(kind, end - position):
                    self._remain = end - size
                    position, run = size, size if failing.is_dropping else run
                else:
                    wanted = end - position
                break
            if kind in ROW_KINDS:
                if self._is_plain_row():
                    is_run = size - end > SEVERAL and buffer[end] == kind
                    position = rows_end(buffer, position, end) if is_run else end
                    if failing.is_dropping:
                        run = position
                    continue
                left -= LOOK
                position = run = self._open_rows(buffer, run, position)
                if out.has_more or out.needs or out.close is not None:
                    break
                continue
            if queue and (head := queue[0]).is_plain and not failing.is_dropping:
                what = REPLIES[head.asked].get(kind)
                if kind in QUIET or self._is_quiet(kind, what, buffer, position, end):
                    if what is None:
                        raise Desynchronised
                    if what is Next.POP:
                        queue.popleft()
                    position = end
                    left -= 1
                    continue
            left -= LOOK
            replaced = self._look(kind, buffer, position, end)
            if replaced is None:
                position = end
                continue
            position = run = self._replace(buffer, run, position, end, replaced)
            if out.needs or out.close is not None or self._state.phase is Phase.RAW:  # a FATAL is the last word
                break
        out.has_more |= left <= 0 and position < size
        self._leave(buffer, run, position, wanted)

    def _leave(self, buffer: bytes, run: int, end: int, wanted: int) -> None:
        """The end of a step: replies that pass leave, and what is behind them is kept, but for a raw stream."""
        to_client = self._out.to_client
        if run < end:
            to_client.append(buffer if run == 0 and end == len(buffer) else buffer[run:end])
        if self._state.phase is not Phase.RAW:
            self._inbox.keep(buffer[end:], wanted)
        elif end < len(buffer):
            to_client.append(buffer[end:])

    def _behind_streamed(self, size: int) -> tuple[int, int]:
        """More of a row whose first bytes have left: how far it goes, and from where on the buffer leaves."""
        position = min(self._remain, size)
        self._remain -= position
        return position, position if self._failing.is_dropping else 0

    def _streams(self, kind: int, size: int) -> bool:
        """A message of this size that is not whole yet, but passes: its first bytes may leave."""
        does_pass = kind in ROW_KINDS and size > STREAM_FROM and self._is_plain_row()
        if size > LARGE_LIMIT and not does_pass:
            raise Desynchronised
        return does_pass

    def _open_rows(self, buffer: bytes, run: int, position: int) -> int:
        """Rows from `position` on, opened; the offset behind them. What is before them leaves first."""
        out = self._out
        if run < position:
            out.to_client.append(buffer[run:position])
        position, error = self._results.rows(buffer, position, self._head(), out)
        if error is not None:
            out.to_client.append(self._failing.fail(error))
        return position

    def _replace(self, buffer: bytes, run: int, start: int, end: int, replaced: bytes) -> int:
        """The message leaves as something else, or waits, whole, for what is needed: the offset to go on at."""
        out = self._out
        if run < start:
            out.to_client.append(buffer[run:start])
        if out.needs:
            return start
        if replaced:
            out.to_client.append(replaced)
        return end

    def _is_quiet(self, kind: int, what: Next | None, buffer: bytes, start: int, end: int) -> bool:
        """This reply to a plain head needs no look, or has had it."""
        if kind == b.ROW_DESCRIPTION:
            return self._results.has_passed(buffer[start:end])
        return kind == b.READY_FOR_QUERY and what is not None and self._ends_quietly(buffer[start + 5])

    def _look(self, kind: int, buffer: bytes, start: int, end: int) -> bytes | None:
        """None: pass the bytes. Else what to write in their place (b"": nothing). The usual replies to a planned
        statement are taken in one go."""
        queue = self._state.queue
        if (
            kind in QUICK
            and queue
            and (head := queue[0]).action is Action.FORWARD
            and not self._failing.is_dropping
        ):
            asked = head.asked
            if kind == b.BIND_COMPLETE and asked is Asked.BIND:
                queue.popleft()
                return None
            if kind == b.ROW_DESCRIPTION and asked is Asked.DESCRIBE_PORTAL and head.statement is not None:
                shown = self._results.shown(head.statement, buffer[start:end])
                if shown is not None:
                    queue.popleft()
                    return shown
            execution = head.execution
            if kind == b.COMMAND_COMPLETE and execution is not None and execution.is_simple:
                queue.popleft()
                self._results.ended(execution)
                return None
        return self._reply(kind, buffer, start, end)

    # --- the head of the queue -----------------------------------------------------------------------

    def _head(self) -> Entry:
        if not self._state.queue:
            raise Desynchronised
        return self._state.queue[0]

    def _is_plain_row(self) -> bool:
        """Rows of the head need no look (or are dropped)."""
        if self._failing.is_dropping:
            return True
        head = self._head()
        if b.DATA_ROW not in REPLIES[head.asked] or head.action is Action.SUBSTITUTE:
            raise Desynchronised
        return self._results.is_plain(head)

    def _reply(self, kind: int, buffer: bytes, start: int, end: int) -> bytes | None:
        queue = self._state.queue
        if queue and queue[0].is_maybe and kind not in ASYNCHRONOUS:
            self._settle_maybe(kind)
        handler = self._handlers.get(kind)
        if handler is None:
            if kind in ASYNCHRONOUS:
                return self._results.asynchronous(kind, queue[0] if queue else None, buffer[start:end])
            return self._match(kind)
        if self._failing.is_dropping and kind in UNSEEN:
            self._advance(kind)
            return b""
        replaced = handler(buffer, start, end)
        return b"" if self._failing.is_dropping and replaced is None else replaced

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
        if self._failing.is_dropping:
            return b""
        return b"" if head.action is Action.SKIP else None

    def _parse_complete(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._advance(b.PARSE_COMPLETE)
        if head.previous_statement is not None and head.statement is not None and head.statement.name:
            self._state.statements[head.statement.name] = head.statement
        return b"" if head.action is Action.SKIP else None

    def _close_complete(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._advance(b.CLOSE_COMPLETE)
        if head.fetches:
            self._results.cursor_closed(head.fetches)
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
            return self._failing.fail(error)
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
            return self._failing.fail(error)
        self._advance(b.NO_DATA)
        return b"" if head.action is Action.SKIP else None

    # --- ends of statements --------------------------------------------------------------------------

    def _complete(self, buffer: bytes, start: int, end: int) -> bytes | None:
        head = self._advance(buffer[start])
        state, queue = self._state, self._state.queue
        if state.phase is Phase.COPY_IN or head.awaits_copy:
            self._results.copies.completes(head)
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
        if self._failing.is_dropping:
            raise Desynchronised  # the client knows nothing of it, and the server waits for its data
        return self._results.copies.begins_in(head, buffer[start:end])

    def _copy_out(self, buffer: bytes, start: int, end: int) -> bytes | None:
        self._results.copies.flows_out(self._advance(buffer[start]), is_end=buffer[start] == b.COPY_DONE)
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
        self._results.copies.fails(head)
        shown = self._shown_error(head, buffer[start:end])
        state.has_failed = True
        self._results.failed(head, buffer[start + 5 : end])
        if head.asked in EXTENDED:
            self._skip_to_sync()
        return shown

    def _shown_error(self, head: Entry, message: bytes) -> bytes | None:
        if self._failing.is_dropping or self._failing.is_failing_block:
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
        if self._failing.is_failing_block or self._results.is_dirty:
            return False
        state.status = status
        state.n_ready += 1
        if status == IDLE and state.portals:
            state.end_portals()
        state.n_executes = n_executes(state, 1) if len(state.queue) > 1 else 0  # the head is still there
        return True

    def _ready(self, buffer: bytes, start: int, end: int) -> bytes | None:
        state, failing = self._state, self._failing
        queue = state.queue
        status = buffer[start + 5]
        while queue and queue[0].asked not in ENDS_AT_READY:
            state.undo(queue.popleft())
        head = self._advance(b.READY_FOR_QUERY)
        state.status = status
        state.is_ready = True
        if not head.is_maybe and not failing.is_failing_block and head.action is not Action.SKIP:
            state.n_ready += 0 if head.is_internal_ready else 1
        if status == IDLE and state.portals:
            state.end_portals()
        state.n_executes = n_executes(state)
        if state.phase is Phase.COPY_IN:
            state.phase = Phase.NORMAL
        if not head.is_plain or state.has_failed or state.has_run_ddl or self._results.is_dirty:
            self._results.ready(head, status)
        if failing.is_at_rest:
            return b"" if head.is_internal_ready else None
        return failing.ready(buffer[start:end], status)
