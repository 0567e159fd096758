"""The client half of a session: what each message of the client becomes on its way to the server.

Runs of messages that need nothing leave as the slice they came in. A message that must be changed is replaced
in place; one that must wait (for a key, a plan, an answer) stays where it is, with all behind it, and is
tried again at the next step: no handler changes anything before it is sure to go through.

One reason to change: what a message of the client means to pgseal.
"""

from __future__ import annotations

from copy import copy
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from proxy.errors import PgsealError, ProgramLimitExceeded, ProtocolViolation
from proxy.session.inbox import Inbox
from proxy.session.state import Action, Asked, Entry, Phase, State
from proxy.session.statements import Portal, Statement
from proxy.sql.plan import EffectKind
from proxy.wire import frontend as f
from proxy.wire.framing import LENGTH, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.session.output import Output
    from proxy.session.planning import Planning
    from proxy.session.sealing import Waits

T = TypeVar("T")

POISON_PORTAL: Final = b"__pgseal_reject"
PRIVATE_PREFIX: Final = b"__pgseal_"
STREAM_FROM: Final = 16384  # a message that passes is sent on in pieces from this size

# Shared entries: they say only what was asked.
BIND: Final = Entry(Asked.BIND, is_plain=True)
EXECUTE: Final = Entry(Asked.EXECUTE, is_plain=True)
CLOSE: Final = Entry(Asked.CLOSE, is_plain=True)
SYNC: Final = Entry(Asked.SYNC, is_plain=True)
MAYBE_SYNC: Final = Entry(Asked.SYNC, is_maybe=True)
QUERY: Final = Entry(Asked.QUERY, is_plain=True)
FUNCTION_CALL: Final = Entry(Asked.FUNCTION_CALL, is_plain=True)
DESCRIBE_STATEMENT: Final = Entry(Asked.DESCRIBE_STATEMENT, is_plain=True)
DESCRIBE_PORTAL: Final = Entry(Asked.DESCRIBE_PORTAL, is_plain=True)

# What drivers send behind a Bind of the unnamed portal, whole.
TAILS: Final = {
    f.build_execute(b"") + f.SYNC_MESSAGE: (EXECUTE, SYNC),
    f.build_describe_portal(b"") + f.build_execute(b"") + f.SYNC_MESSAGE: (DESCRIBE_PORTAL, EXECUTE, SYNC),
}
TAIL_SIZES: Final = frozenset(map(len, TAILS))

# Effects that do not change what a later text means while they are under way.
HARMLESS: Final = frozenset(
    {
        EffectKind.BEGIN,
        EffectKind.SAVEPOINT,
        EffectKind.RELEASE,
        EffectKind.CLOSE,
        EffectKind.FETCH,
        EffectKind.EXECUTE,
    }
)
ENDINGS: Final = frozenset({EffectKind.COMMIT, EffectKind.ROLLBACK, EffectKind.ROLLBACK_TO})


class Done(Enum):
    """What became of a message."""

    FORWARD = "forward"  # its bytes leave as they are
    REPLACED = "replaced"  # something else (or nothing) was written in its place
    HOLD = "hold"  # try again at the next step


FORWARD, REPLACED, HOLD = Done.FORWARD, Done.REPLACED, Done.HOLD


class Requests:
    """Consumes the client's bytes. `state` is shared with `Replies`, which runs between two of our runs."""

    def __init__(self, state: State, planning: Planning, out: Output, max_message: int) -> None:
        self._state = state
        self._planning = planning
        self._out = out
        self._counters = planning.runtime.counters
        self._max_message = max_message
        self._inbox = Inbox()
        self._remain = 0  # bytes still to come of a message that is sent on in pieces
        self._pending: list[bytes] = []  # what replaces the message at hand
        self._has_flushed = False
        self._job: Waits[Any] | None = None
        self.is_held = False
        self._handlers: dict[int, Callable[[bytes, int, int], Done]] = {
            f.PARSE: self._parse,
            f.BIND: self._bind,
            f.DESCRIBE: self._describe,
            f.EXECUTE: self._execute,
            f.CLOSE: self._close,
            f.SYNC: self._sync,
            f.FLUSH: self._flush,
            f.QUERY: self._query,
            f.FUNCTION_CALL: self._function_call,
            f.COPY_DATA: self._copy_data,
            f.COPY_DONE: self._copy_end,
            f.COPY_FAIL: self._copy_end,
        }  # Terminate has none: its header leaves, and nothing behind it means anything

    def push(self, chunk: bytes) -> None:
        self._inbox.push(chunk)

    @property
    def n_waiting(self) -> int:
        return len(self._inbox)

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
        position = run = 0
        if self._remain:
            position = min(self._remain, size)
            self._remain -= position
        handlers = self._handlers
        to_server = self._out.to_server
        length_at = LENGTH.unpack_from
        wanted = 0
        while size - position >= 5:
            length = length_at(buffer, position + 1)[0]
            handler = handlers.get(buffer[position])
            if (
                handler is None
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
            done = handler(buffer, position, end)
            if done is HOLD:
                self.is_held = True
                break
            self._has_flushed = False
            self._job = None
            if done is FORWARD:
                position = end
                if size - end in TAIL_SIZES and self._is_plain_batch(buffer[end:]):
                    position = size
            else:
                if run < position:
                    to_server.append(buffer[run:position])
                to_server.extend(self._pending)
                self._pending.clear()
                position = run = end
        if run < position:
            to_server.append(buffer if run == 0 and position == size else buffer[run:position])
        if self._pending:  # what a held message wants sent meanwhile
            to_server.extend(self._pending)
            self._pending.clear()
        self._inbox.keep(buffer[position:], wanted)

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
        if buffer[position] == f.COPY_DATA:
            return not self._state.is_skipping
        return False

    def _is_legal_length(self, kind: int, length: int) -> bool:
        """For a length above what small messages may have."""
        if kind in f.SMALL_MESSAGES or length > f.LARGE_LIMIT:
            return False
        if length > self._max_message and kind != f.COPY_DATA:
            error = ProgramLimitExceeded(
                f"message of {length} bytes exceeds max_message", hint="Raise max_message.", severity="FATAL"
            )
            raise error
        return True

    def _break(self, buffer: bytes, run: int, position: int) -> None:
        """A Terminate, or a malformed header: the server gets no more than it needs to end the connection."""
        self._out.to_server.append(buffer[run : position + 5])
        self._state.phase = Phase.BROKEN

    # --- helpers of the handlers ---------------------------------------------------------------------

    def _put(self, message: bytes, entry: Entry) -> None:
        self._pending.append(message)
        self._state.queue.append(entry)

    def _wait(self) -> Done:
        """Hold until the server has answered what it was asked; it answers only when told to."""
        if not self._has_flushed:
            self._pending.append(f.FLUSH_MESSAGE)
            self._has_flushed = True
        return HOLD

    def _reject_extended(self, error: PgsealError) -> Done:
        """Something the server fails stands in for the message; our error goes out in its stead."""
        entry = Entry(Asked.EXECUTE, Action.SUBSTITUTE, self._planning.error_message(error))
        self._put(f.build_execute(POISON_PORTAL), entry)
        self._planning.record_refusal(error)
        return REPLACED

    def _finished(self, begin: Callable[[], Waits[T]]) -> T | None:
        """The result of a job for the message at hand, begun or gone on with; None: it needs another step."""
        job: Waits[T] = self._job if self._job is not None else begin()
        self._job = None
        try:
            needs = next(job)
        except StopIteration as done:
            result: T = done.value
            return result
        self._job = job
        if needs:
            self._out.needs.extend(needs)
        else:
            self._out.has_more = True
        return None

    # --- extended query ------------------------------------------------------------------------------

    def _parse(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        if state.n_pending_effects:
            return self._wait()
        try:
            message = f.parse_parse(buffer[start + 5 : end])
        except ProtocolViolation:  # the server says so in its own words
            state.queue.append(Entry(Asked.PARSE))
            return FORWARD
        if message.name.startswith(PRIVATE_PREFIX):
            return self._reject_extended(_reserved())
        try:
            statement = self._finished(lambda: self._planning.statement(message))
        except PgsealError as error:
            if not message.name:
                self._put(f.build_close_statement(b""), Entry(Asked.CLOSE, Action.SKIP))
            return self._reject_extended(error)
        return HOLD if statement is None else self._register(statement)

    def _register(self, statement: Statement) -> Done:
        state = self._state
        previous = state.statements.get(statement.name) if statement.name else None
        entry = Entry(Asked.PARSE, statement=statement, previous_statement=previous)
        if previous is None:
            state.statements[statement.name] = statement
        else:  # the server will refuse the name (42P05), or, if it has lost the old one, say that it took the new
            previous.is_being_replaced = True
        if statement.rendered is None:
            state.queue.append(entry)
            return FORWARD
        self._put(f.build_parse(self._planning.server_parse(statement)), entry)
        if statement.description is None:
            self._ask_description(statement)
        return REPLACED

    def _ask_description(self, statement: Statement) -> None:
        statement.is_describe_asked = True
        entry = Entry(Asked.DESCRIBE_STATEMENT, Action.SKIP, statement=statement)
        self._put(f.build_describe_statement(statement.name), entry)

    def _bind(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        names = f.bind_names(buffer, start + 5, end)
        if names is None:
            state.queue.append(BIND)
            return FORWARD
        portal_name, statement_name = names
        if portal_name.startswith(PRIVATE_PREFIX):  # else a stand-in's Execute could find something to run
            return self._reject_extended(_reserved())
        if state.n_pending_effects:
            return self._wait()
        statement = state.statements.get(statement_name)
        if statement is None:
            return self._bind_unknown(portal_name, statement_name)
        if statement.is_being_replaced:
            return self._wait()
        if statement.is_plain:
            return self._bind_pass(portal_name, statement)
        return self._bind_planned(buffer[start + 5 : end], statement)

    def _bind_unknown(self, portal_name: bytes, statement_name: bytes) -> Done:
        """No statement of this name that pgseal knows: the server says so, and gets no value to keep."""
        if not self._planning.owns_planned:
            self._forget_portal(portal_name, BIND)
            return FORWARD
        message = f.build_bind(f.Bind(portal_name, statement_name, (), (), ()))
        self._put(message, BIND)
        return REPLACED

    def _forget_portal(self, name: bytes, entry: Entry) -> None:
        previous = self._state.portals.pop(name, None)
        if previous is not None:
            entry = Entry(Asked.BIND, previous_portal=previous)
        self._state.queue.append(entry)

    def _bind_pass(self, portal_name: bytes, statement: Statement) -> Done:
        state = self._state
        if statement.env is not self._planning.env():
            try:
                self._finished(lambda: self._planning.replan(statement))
            except PgsealError as error:
                return self._reject_extended(error)
            if self._job is not None:
                return HOLD
        if statement.is_described:
            if state.portals:
                self._forget_portal(portal_name, BIND)
            else:
                state.queue.append(BIND)
            return FORWARD
        previous = state.portals.get(portal_name)
        portal = Portal(portal_name, statement, batch=state.n_asked_ready + 1)
        state.portals[portal_name] = portal
        state.queue.append(Entry(Asked.BIND, portal=portal, previous_portal=previous))
        return FORWARD

    def _bind_planned(self, body: bytes, statement: Statement) -> Done:
        if statement.refusal is not None:
            return self._reject_extended(copy(statement.refusal))
        if statement.rendered is not None and statement.description is None:
            if not statement.is_describe_asked:
                self._ask_description(statement)
            return self._wait()
        try:
            if statement.is_direct and self._job is None:
                direct = self._planning.direct_portal(statement, body)
                if direct is not None:
                    self._bind_portal(direct)
                    return FORWARD
            made = self._finished(lambda: self._planning.bind(statement, f.parse_bind(body)))
        except PgsealError as error:
            return self._reject_extended(error)
        if made is None:
            return HOLD
        portal, server_message = made
        if server_message is None:
            self._bind_portal(portal)
            return FORWARD
        self._pending.append(server_message)
        self._bind_portal(portal)
        return REPLACED

    def _bind_portal(self, portal: Portal) -> None:
        state = self._state
        previous = state.portals.get(portal.name)
        portal.batch = state.n_asked_ready + 1
        state.portals[portal.name] = portal
        state.queue.append(Entry(Asked.BIND, portal=portal, previous_portal=previous))

    def _describe(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        kind = buffer[start + 5 : start + 6]
        name = buffer[start + 6 : end - 1]
        if kind == b"S":
            statement = state.statements.get(name)
            if statement is None:
                state.queue.append(DESCRIBE_STATEMENT)
            else:
                statement.is_describe_asked = True
                state.queue.append(Entry(Asked.DESCRIBE_STATEMENT, statement=statement))
            return FORWARD
        portal = state.portals.get(name)
        if portal is None:
            state.queue.append(DESCRIBE_PORTAL)
        else:
            portal.statement.is_describe_asked = True
            state.queue.append(Entry(Asked.DESCRIBE_PORTAL, portal=portal, statement=portal.statement))
        return FORWARD

    def _execute(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        state.n_executes += 1
        portal = None
        if state.portals:
            name = buffer[start + 5 : end - 5]
            portal = state.portals.get(name)
        if portal is None:
            self._counters.n_irrelevant += 1
            state.queue.append(EXECUTE)
            return FORWARD
        return self._execute_watched(buffer[start:end], portal)

    def _execute_watched(self, message: bytes, portal: Portal) -> Done:
        state = self._state
        execution = self._planning.execution(portal)
        entry = Entry(Asked.EXECUTE, statement=portal.statement, portal=portal, execution=execution)
        if execution is not None and execution.effects and self._is_env_changing(execution.effects):
            execution.has_effects = True
            state.n_pending_effects += 1
        plan = portal.statement.plan
        entry.awaits_copy = plan is not None and plan.is_copy_in
        statement = portal.statement
        if statement.is_pass and not (statement.is_described or statement.is_describe_asked):
            statement.is_describe_asked = True
            describe = Entry(Asked.DESCRIBE_PORTAL, Action.SKIP, statement=statement)
            self._put(f.build_describe_portal(portal.name), describe)
        self._put(message, entry)
        return REPLACED

    def _is_env_changing(self, effects: tuple[object, ...]) -> bool:
        for effect in effects:
            kind = effect.kind  # type: ignore[attr-defined]
            if kind in ENDINGS:
                if self._planning.settings.is_dirty or self._state.has_run_ddl:
                    return True
            elif kind not in HARMLESS:
                return True
        return False

    def _close(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        name = buffer[start + 6 : end - 1]
        if buffer[start + 5] == ord("S"):
            closed = state.statements.pop(name, None)
            if closed is not None:
                state.queue.append(Entry(Asked.CLOSE, previous_statement=closed))
                return FORWARD
        else:
            portal = state.portals.pop(name, None)
            if portal is not None:
                state.queue.append(Entry(Asked.CLOSE, previous_portal=portal))
                return FORWARD
        state.queue.append(CLOSE)
        return FORWARD

    def _sync(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.phase is Phase.COPY_IN:
            state.queue.append(MAYBE_SYNC)  # ignored, unless the copy has failed before it was read
            return FORWARD
        state.is_skipping = False
        if self._awaits_copy():
            return HOLD
        state.n_asked_ready += 1
        state.queue.append(SYNC)
        return FORWARD

    def _flush(self, buffer: bytes, start: int, end: int) -> Done:
        return REPLACED if self._state.is_skipping else FORWARD

    def _awaits_copy(self) -> bool:
        """An Execute or Query that may begin a COPY FROM STDIN is not answered yet."""
        queue = self._state.queue
        return bool(queue) and queue[-1].awaits_copy

    # --- simple query, function call, copy -----------------------------------------------------------

    def _query(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        if state.n_pending_effects:
            return self._wait()
        body = buffer[start + 5 : end]
        if body.find(b"\0") != len(body) - 1:  # the server refuses it in its own words, and gets no text
            state.n_executes += 1
            state.n_asked_ready += 1
            self._put(frame(b"Q", b"\0\0" if b"\0" in body else b"?"), QUERY)
            return REPLACED
        try:
            made = self._finished(lambda: self._planning.query(body[:-1]))
        except PgsealError as error:
            state.n_executes += 1
            return self._reject_query(error)
        if made is None:
            return HOLD
        state.n_executes += 1
        state.n_asked_ready += 1
        text, rendered = made
        if text is None:
            self._counters.n_irrelevant += 1
            state.queue.append(QUERY)
            return FORWARD
        entry = Entry(Asked.QUERY, text=text)
        if any(self._is_env_changing(e.effects) for e in text.executions):
            text.has_effects = True
            state.n_pending_effects += 1
        entry.awaits_copy = any(e.plan.is_copy_in for e in text.executions)
        if rendered is None:
            state.queue.append(entry)
            return FORWARD
        self._put(f.build_query(rendered), entry)
        return REPLACED

    def _reject_query(self, error: PgsealError) -> Done:
        self._state.n_asked_ready += 1
        number = self._planning.record_refusal(error)
        entry = Entry(Asked.QUERY, Action.SUBSTITUTE, self._planning.error_message(error))
        self._put(f.build_query(b"pgseal rejected statement %d" % number), entry)
        return REPLACED

    def _function_call(self, buffer: bytes, start: int, end: int) -> Done:
        if self._state.is_skipping:
            return REPLACED
        self._state.n_executes += 1
        self._state.n_asked_ready += 1
        self._state.queue.append(FUNCTION_CALL)
        return FORWARD

    def _copy_data(self, buffer: bytes, start: int, end: int) -> Done:
        if self._state.is_skipping:
            return REPLACED
        return HOLD if self._awaits_copy() else FORWARD

    def _copy_end(self, buffer: bytes, start: int, end: int) -> Done:
        if self._state.is_skipping:
            return REPLACED
        if self._awaits_copy():
            return HOLD
        if self._state.phase is Phase.COPY_IN:
            self._state.phase = Phase.NORMAL
        return FORWARD


def _reserved() -> ProtocolViolation:
    return ProtocolViolation("names that begin with __pgseal_ are reserved")
