"""The client half of a session: what each message of the client becomes on its way to the server.

Runs of messages that need nothing leave as the slice they came in. A message that must be changed is replaced
in place; one that must wait (for a key, a plan, an answer) stays where it is, with all behind it, and is
tried again at the next step: no handler changes anything before it is sure to go through.

One reason to change: what a message of the client means to pgseal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.errors import ProgramLimitExceeded
from proxy.session.copies import CopyRequests
from proxy.session.extended import Extended
from proxy.session.inbox import Inbox
from proxy.session.sender import FORWARD, HOLD, Done, Sender
from proxy.session.simple import Simple
from proxy.session.state import BIND, DESCRIBE_PORTAL, EXECUTE, SYNC, Phase, State
from proxy.wire import frontend as f
from proxy.wire.framing import LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.session.output import Output
    from proxy.session.planning import Planning

STREAM_FROM: Final = 16384  # a message that passes is sent on in pieces from this size

# A step ends once its messages have cost so much, so that others have their turn: a text is parsed and planned,
# and the data of a copy are hardly looked at.
COST_A_STEP: Final = 10_000
TEXT_COST, COST, COPY_COST = 500, 25, 2

# What drivers send behind a Bind of the unnamed portal, whole.
TAILS: Final = {
    f.build_execute(b"") + f.SYNC_MESSAGE: (EXECUTE, SYNC),
    f.build_describe_portal(b"") + f.build_execute(b"") + f.SYNC_MESSAGE: (DESCRIBE_PORTAL, EXECUTE, SYNC),
}
TAIL_SIZES: Final = frozenset(map(len, TAILS))


class Requests:
    """Consumes the client's bytes. `state` is shared with `Replies`, which runs between two of our runs."""

    def __init__(self, state: State, planning: Planning, out: Output, max_message: int) -> None:
        self._state = state
        self._out = out
        self._counters = planning.runtime.counters
        self._max_message = max_message
        self._inbox = Inbox()
        self._remain = 0  # bytes still to come of a message that is sent on in pieces
        self._sender = Sender(state, planning, out)
        extended = Extended(state, planning, self._sender)
        simple = Simple(state, planning, self._sender)
        copies = CopyRequests(state, planning, self._sender)
        self.is_held = False
        self._handlers: dict[int, tuple[Callable[[bytes, int, int], Done], int]] = {
            f.PARSE: (extended.parse, TEXT_COST),
            f.BIND: (extended.bind, COST),
            f.DESCRIBE: (extended.describe, COST),
            f.EXECUTE: (extended.execute, COST),
            f.CLOSE: (extended.close, COST),
            f.SYNC: (extended.sync, COST),
            f.FLUSH: (extended.flush, COST),
            f.QUERY: (simple.query, TEXT_COST),
            f.FUNCTION_CALL: (simple.function_call, COST),
            f.COPY_DATA: (copies.data, COPY_COST),
            f.COPY_DONE: (copies.end, COST),
            f.COPY_FAIL: (copies.end, COST),
        }  # Terminate has none: its header leaves, and nothing behind it means anything

    def push(self, chunk: bytes) -> None:
        self._inbox.push(chunk)

    @property
    def n_waiting(self) -> int:
        return len(self._inbox)

    @property
    def is_at_rest(self) -> bool:
        """No byte of the client is kept, nothing is half done."""
        return not (len(self._inbox) or self._remain or self.is_held or self._sender.job is not None)

    def run(self) -> None:
        """Consume as many messages as can be."""
        self.is_held = False
        if not self._inbox.is_ready:
            return
        phase = self._state.phase
        if phase is Phase.BROKEN:
            self._inbox.take()
            return
        if phase is Phase.RAW:
            self._out.to_server.append(self._inbox.take())
            return
        self._consume(self._inbox.take())

    def _consume(self, buffer: bytes) -> None:
        size = len(buffer)
        position, run = min(self._remain, size), 0
        self._remain -= position
        handlers, sender = self._handlers, self._sender
        to_server = self._out.to_server
        length_at = LENGTH.unpack_from
        wanted, left = 0, COST_A_STEP
        while size - position >= 5 and left > 0:
            length = length_at(buffer, position + 1)[0]
            known = handlers.get(buffer[position])
            if (
                known is None
                or length < 4
                or (length > f.SMALL_LIMIT and not self._is_legal_length(buffer[position], length))
            ):
                self._break(buffer, run, position)
                return
            end = position + 1 + length
            if end > size:
                if self._streams(buffer, position, end):
                    self._remain = end - size
                    position = size
                else:
                    wanted = end - position
                break
            handler, cost = known
            done = handler(buffer, position, end)
            if done is HOLD:
                self.is_held = True
                break
            left -= cost
            sender.has_flushed = False
            sender.job = None
            if done is FORWARD:
                position = end
                if size - end in TAIL_SIZES and self._is_plain_batch(buffer[end:]):
                    position = size
            else:
                if run < position:
                    to_server.append(buffer[run:position])
                to_server.extend(sender.pending)
                sender.pending.clear()
                position = run = end
        if left <= 0 and position < size:
            self._out.has_more = True
        self._leave(buffer, run, position)
        self._inbox.keep(buffer[position:], wanted)

    def _leave(self, buffer: bytes, run: int, end: int) -> None:
        """The end of a step: messages that pass leave, then what a held message wants sent meanwhile."""
        to_server, pending = self._out.to_server, self._sender.pending
        if run < end:
            to_server.append(buffer if run == 0 and end == len(buffer) else buffer[run:end])
        if pending:
            to_server.extend(pending)
            pending.clear()

    def _is_plain_batch(self, tail: bytes) -> bool:
        """Behind a Bind that passes comes nothing but its Describe, Execute and Sync: queued at once."""
        state = self._state
        entries = TAILS.get(tail)
        if entries is None or not state.queue or state.queue[-1] is not BIND or state.phase is not Phase.NORMAL:
            return False
        state.n_executes += 1
        state.n_asked_ready += 1
        self._counters.n_irrelevant += 1
        state.queue.extend(entries)
        return True

    def _streams(self, buffer: bytes, position: int, end: int) -> bool:
        """A message that is not whole yet, but passes: its first bytes may leave."""
        if end - position < STREAM_FROM:
            return False
        state = self._state
        if buffer[position] != f.COPY_DATA or state.is_skipping or state.drops_copy:
            return False
        return state.copying is None and not self._sender.may_copy_in()

    def _is_legal_length(self, kind: int, length: int) -> bool:
        """For a length above what small messages may have."""
        if kind in f.SMALL_MESSAGES or length > f.LARGE_LIMIT:
            return False
        if length > self._max_message and (kind != f.COPY_DATA or self._state.copying is not None):
            error = ProgramLimitExceeded(
                f"message of {length} bytes exceeds max_message", hint="Raise max_message.", severity="FATAL"
            )
            raise error
        return True

    def _break(self, buffer: bytes, run: int, position: int) -> None:
        """A Terminate, or a malformed header: the server gets no more than it needs to end the connection."""
        self._out.to_server.append(buffer[run : position + 5])
        self._state.phase = Phase.BROKEN
