"""The client's extended query messages: Parse, Bind, Describe, Execute, Close, Sync, Flush.

No handler changes anything before it is sure to go through, since a message that must wait is tried again.
Source: PostgreSQL manual, "Extended Query". One reason to change: what one of these messages means to pgseal.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Final

from proxy.errors import PgsealError, ProtocolViolation
from proxy.session.binding import check_name
from proxy.session.cursors import fetching, is_fetch, portal_name
from proxy.session.sender import FORWARD, HOLD, REPLACED, Done, Sender
from proxy.session.state import (
    BIND,
    CLOSE,
    DESCRIBE_PORTAL,
    DESCRIBE_STATEMENT,
    EXECUTE,
    MAYBE_SYNC,
    SYNC,
    Action,
    Asked,
    Entry,
    Phase,
    State,
)
from proxy.session.statements import Execution, Portal, Statement
from proxy.wire import frontend as f

if TYPE_CHECKING:
    from proxy.session.planning import Planning

PRIVATE_PREFIX: Final = b"__pgseal_"


class Extended:
    """Handlers of one session; each gets the buffer with the message's start and end."""

    def __init__(self, state: State, planning: Planning, sender: Sender) -> None:
        self._state = state
        self._planning = planning
        self._sender = sender
        self._counters = planning.runtime.counters
        self._parse: f.Parse | None = None  # whose job is under way

    def parse(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        if state.n_pending_effects:
            return self._sender.wait()
        message, self._parse = self._parse, None
        if message is None or self._sender.job is None:
            try:
                message = f.parse_parse(buffer[start + 5 : end])
            except ProtocolViolation:  # the server says so in its own words
                state.queue.append(Entry(Asked.PARSE))
                return FORWARD
        if message.name.startswith(PRIVATE_PREFIX):
            return self._sender.reject_extended(_reserved())
        if message.name and state.is_taken(message.name):
            return self._sender.wait()
        try:
            statement = self._sender.finished(lambda: self._planning.statement(message))
        except PgsealError as error:
            if not message.name:
                self._sender.put(f.build_close_statement(b""), Entry(Asked.CLOSE, Action.SKIP))
            return self._sender.reject_extended(error)
        if statement is None:
            self._parse = message
            return HOLD
        return self._register(statement)

    def _register(self, statement: Statement) -> Done:
        state = self._state
        previous = state.statements.get(statement.name)
        statement.batch = state.n_asked_ready + 1
        entry = Entry(Asked.PARSE, statement=statement, previous_statement=previous)
        if previous is None or not statement.name:
            state.statements[statement.name] = statement
            if previous is not None:
                state.changes(statement.name)
        else:  # the server will refuse the name (42P05), or, if it has lost the old one, say that it took the new
            previous.is_being_replaced = True
        if statement.rendered is None:
            state.queue.append(entry)
            return FORWARD
        self._sender.put(f.build_parse(self._planning.server_parse(statement)), entry)
        if statement.description is None:
            self._ask_description(statement)
        return REPLACED

    def _ask_description(self, statement: Statement) -> None:
        statement.is_describe_asked = True
        entry = Entry(Asked.DESCRIBE_STATEMENT, Action.SKIP, statement=statement)
        self._sender.put(f.build_describe_statement(statement.name), entry)

    def bind(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            self._planning.asking = None
            return REPLACED
        names = f.bind_names(buffer, start + 5, end)
        if names is None:
            state.queue.append(BIND)
            return FORWARD
        portal_name, statement_name = names
        if portal_name.startswith(PRIVATE_PREFIX):  # else a stand-in's Execute could find something to run
            return self._sender.reject_extended(_reserved())
        if state.n_pending_effects:
            return self._sender.wait()
        if state.unsure and state.is_unsure(statement_name):
            return self._sender.wait()
        statement = state.statements.get(statement_name)
        if statement is None:
            return self._bind_unknown(portal_name, statement_name)
        if statement.is_being_replaced:
            return self._sender.wait()
        if statement.is_plain:
            return self._bind_pass(portal_name, statement)
        try:
            return self._bind_planned(buffer[start + 5 : end], statement)
        except PgsealError as error:
            self._planning.asking = None
            if state.is_under_way(statement.batch):  # the server may not have it at all, and says so itself then
                return self._sender.wait()
            return self._sender.reject_extended(error)

    def _bind_unknown(self, portal_name: bytes, statement_name: bytes) -> Done:
        """No statement of this name that pgseal knows: the server says so, and gets no value to keep."""
        if not self._planning.owns_planned:
            self._forget_portal(portal_name, BIND)
            return FORWARD
        message = f.build_bind(f.Bind(portal_name, statement_name, (), (), ()))
        self._sender.put(message, BIND)
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
                self._sender.finished(lambda: self._planning.replan(statement))
            except PgsealError as error:
                return self._sender.reject_extended(error)
            if self._sender.job is not None:
                return HOLD
        if statement.is_described:
            if state.portals:
                self._forget_portal(portal_name, BIND)
            else:
                state.queue.append(BIND)
            return FORWARD
        try:
            check_name(portal_name)  # what it returns is still to be looked at, under this name
        except PgsealError as error:
            return self._sender.reject_extended(error)
        previous = state.portals.get(portal_name)
        portal = Portal(portal_name, statement, batch=state.n_asked_ready + 1)
        state.portals[portal_name] = portal
        state.queue.append(Entry(Asked.BIND, portal=portal, previous_portal=previous))
        return FORWARD

    def _bind_planned(self, body: bytes, statement: Statement) -> Done:
        if statement.refusal is not None:
            raise copy(statement.refusal)
        if statement.rendered is not None and statement.description is None:
            if not statement.is_describe_asked:
                self._ask_description(statement)
            return self._sender.wait()
        if statement.is_direct and self._sender.job is None:
            direct = self._planning.direct_portal(statement, body)
            if direct is not None:
                self._bind_portal(direct)
                return FORWARD
        if self._planning.must_ask(statement.planned.plan):
            return self._sender.ask(statement.planned.plan.questions)
        made = self._sender.finished(lambda: self._planning.bind(statement, body))
        if made is None:
            return HOLD
        self._planning.asking = None
        portal, server_message = made
        if server_message is None:
            self._bind_portal(portal)
            return FORWARD
        self._sender.pending.append(server_message)
        self._bind_portal(portal)
        return REPLACED

    def _bind_portal(self, portal: Portal) -> None:
        state = self._state
        previous = state.portals.get(portal.name)
        portal.batch = state.n_asked_ready + 1
        state.portals[portal.name] = portal
        state.queue.append(Entry(Asked.BIND, portal=portal, previous_portal=previous))

    def describe(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        kind = buffer[start + 5 : start + 6]
        name = buffer[start + 6 : end - 1]
        if kind == b"S":
            if state.is_unsure(name):
                return self._sender.wait()
            statement = state.statements.get(name)
            if statement is None:
                state.queue.append(DESCRIBE_STATEMENT)
            else:
                statement.is_describe_asked = True
                state.queue.append(Entry(Asked.DESCRIBE_STATEMENT, statement=statement))
            return FORWARD
        portal = state.portals.get(name)
        if portal is None and name and state.n_pending_effects:
            return self._sender.wait()  # it may be a SQL cursor that is being declared
        if portal is None:
            fetches = portal_name(self._planning.settings, name)
            state.queue.append(Entry(Asked.DESCRIBE_PORTAL, fetches=fetches) if fetches else DESCRIBE_PORTAL)
        else:
            portal.statement.is_describe_asked = True
            state.queue.append(Entry(Asked.DESCRIBE_PORTAL, portal=portal, statement=portal.statement))
        return FORWARD

    def execute(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        portal = None
        settings = self._planning.settings
        if state.portals or state.n_pending_effects or settings.level.cursors:
            name = buffer[start + 5 : end - 5]
            portal = state.portals.get(name)
            may_change = bool(name) if portal is None else not portal.statement.is_pass
            if state.n_pending_effects and may_change:
                return self._sender.wait()
            fetches = portal_name(settings, name) if portal is None else ""
            if fetches:
                return self._execute_cursor(buffer[start:end], name, fetches)
        state.n_executes += 1
        if portal is None:
            self._counters.n_irrelevant += 1
            state.queue.append(EXECUTE)
            return FORWARD
        return self._execute_watched(buffer[start:end], portal)

    def _execute_cursor(self, message: bytes, name: bytes, cursor: str) -> Done:
        """An Execute of the portal that is a SQL cursor: a FETCH without a Parse."""
        self._state.n_executes += 1
        execution = fetching(cursor)
        self._sender.put(f.build_describe_portal(name), _looking(execution))
        self._sender.put(message, Entry(Asked.EXECUTE, execution=execution))
        return REPLACED

    def _execute_watched(self, message: bytes, portal: Portal) -> Done:
        state = self._state
        try:
            execution = self._planning.execution(portal)
        except PgsealError as error:
            return self._sender.reject_extended(error)
        entry = Entry(Asked.EXECUTE, statement=portal.statement, portal=portal, execution=execution)
        if execution is not None and execution.effects and self._sender.is_env_changing(execution.effects):
            execution.has_effects = True
            state.n_pending_effects += 1
        plan = portal.statement.plan
        entry.awaits_copy = plan is not None and plan.is_copy_in
        statement = portal.statement
        if execution is not None and is_fetch(execution, portal, self._planning.settings):
            self._sender.put(f.build_describe_portal(portal.name), _looking(execution, portal))
        elif statement.is_pass and not (statement.is_described or statement.is_describe_asked):
            statement.is_describe_asked = True
            describe = Entry(Asked.DESCRIBE_PORTAL, Action.SKIP, statement=statement)
            self._sender.put(f.build_describe_portal(portal.name), describe)
        self._sender.put(message, entry)
        return REPLACED

    def close(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.is_skipping:
            return REPLACED
        name = buffer[start + 6 : end - 1]
        if buffer[start + 5] == ord("S"):
            if state.is_unsure(name):
                return self._sender.wait()
            closed = state.statements.pop(name, None)
            if closed is not None:
                state.changes(name)
                state.queue.append(Entry(Asked.CLOSE, previous_statement=closed))
                return FORWARD
        else:
            portal = state.portals.pop(name, None)
            if portal is not None:
                state.queue.append(Entry(Asked.CLOSE, previous_portal=portal))
                return FORWARD
            fetches = portal_name(self._planning.settings, name)
            if fetches:
                state.queue.append(Entry(Asked.CLOSE, fetches=fetches))
                return FORWARD
        state.queue.append(CLOSE)
        return FORWARD

    def sync(self, buffer: bytes, start: int, end: int) -> Done:
        state = self._state
        if state.phase is Phase.COPY_IN:
            state.queue.append(MAYBE_SYNC)  # ignored, unless the copy has failed before it was read
            return FORWARD
        state.is_skipping = False
        if self._sender.awaits_copy():
            return HOLD
        state.n_asked_ready += 1
        state.queue.append(SYNC)
        return FORWARD

    def flush(self, buffer: bytes, start: int, end: int) -> Done:
        return REPLACED if self._state.is_skipping else FORWARD


def _looking(execution: Execution, portal: Portal | None = None) -> Entry:
    """A Describe of the portal that runs next: what its rows are is known only now."""
    return Entry(Asked.DESCRIBE_PORTAL, Action.SKIP, execution=execution, portal=portal)


def _reserved() -> ProtocolViolation:
    return ProtocolViolation("names that begin with __pgseal_ are reserved")
