"""All protocol state of one client connection, and the tables that say what is legal.

Theory. The server answers in the order it was asked. Every message sent to it that will be answered enters
one queue as an `Entry` with its own snapshot of statement and portal; every reply is matched to the entry at
the head. `REPLIES` says which replies an entry may get and whether they end it; a reply the table does not
hold is the protocol error, and the connection closes. An ErrorResponse to an extended message drops the
entries behind it up to the Sync, since the server skips to there; what those entries had registered is undone.

Entries that pgseal put there itself are `SKIP` (the reply is swallowed); a message pgseal refuses is replaced
by one the server itself fails, and the entry says what error the client sees instead (`SUBSTITUTE`).

Source: PostgreSQL manual, "Message Flow". One reason to change: what a session remembers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final, TypeVar

from proxy.session.statements import Execution, Portal, Statement, Text
from proxy.wire import backend as b

if TYPE_CHECKING:
    from proxy.session.copying import CopyIn

T = TypeVar("T")


class Asked(IntEnum):
    """What a queue entry asked for."""

    START_UP = 0
    PARSE = 1
    BIND = 2
    DESCRIBE_STATEMENT = 3
    DESCRIBE_PORTAL = 4
    EXECUTE = 5
    CLOSE = 6
    SYNC = 7
    QUERY = 8
    FUNCTION_CALL = 9


class Action(Enum):
    FORWARD = "forward"  # the client asked
    SKIP = "skip"  # pgseal asked: the reply is swallowed
    SUBSTITUTE = "substitute"  # the server's error is exchanged for ours


class Next(Enum):
    STAY = "stay"
    POP = "pop"


_STAY, _POP = Next.STAY, Next.POP

REPLIES: Final[dict[Asked, dict[int, Next]]] = {
    Asked.START_UP: {
        b.AUTHENTICATION: _STAY,
        b.BACKEND_KEY_DATA: _STAY,
        b.NEGOTIATE_VERSION: _STAY,
        b.READY_FOR_QUERY: _POP,
    },
    Asked.PARSE: {b.PARSE_COMPLETE: _POP},
    Asked.BIND: {b.BIND_COMPLETE: _POP},
    Asked.DESCRIBE_STATEMENT: {b.PARAMETER_DESCRIPTION: _STAY, b.ROW_DESCRIPTION: _POP, b.NO_DATA: _POP},
    Asked.DESCRIBE_PORTAL: {b.ROW_DESCRIPTION: _POP, b.NO_DATA: _POP},
    Asked.EXECUTE: {
        b.DATA_ROW: _STAY,
        b.COMMAND_COMPLETE: _POP,
        b.EMPTY_QUERY: _POP,
        b.PORTAL_SUSPENDED: _POP,
        b.COPY_IN: _STAY,
        b.COPY_OUT: _STAY,
        b.COPY_BOTH: _STAY,
        b.COPY_DATA: _STAY,
        b.COPY_DONE: _STAY,
    },
    Asked.CLOSE: {b.CLOSE_COMPLETE: _POP},
    Asked.SYNC: {b.READY_FOR_QUERY: _POP},
    Asked.QUERY: {
        b.ROW_DESCRIPTION: _STAY,
        b.DATA_ROW: _STAY,
        b.COMMAND_COMPLETE: _STAY,
        b.EMPTY_QUERY: _STAY,
        b.COPY_IN: _STAY,
        b.COPY_OUT: _STAY,
        b.COPY_BOTH: _STAY,
        b.COPY_DATA: _STAY,
        b.COPY_DONE: _STAY,
        b.READY_FOR_QUERY: _POP,
    },
    Asked.FUNCTION_CALL: {b.FUNCTION_RESULT: _STAY, b.READY_FOR_QUERY: _POP},
}

DESCRIBES: Final = frozenset({Asked.DESCRIBE_STATEMENT, Asked.DESCRIBE_PORTAL})
ENDS_AT_READY: Final = frozenset({Asked.START_UP, Asked.SYNC, Asked.QUERY, Asked.FUNCTION_CALL})

# The head that each of these may meet, for the loop that must not look twice.
ROW_KINDS: Final = frozenset({b.DATA_ROW, b.COPY_DATA})


@dataclass(slots=True)
class Entry:
    """One expected answer. Entries without anything of their own are shared and never changed."""

    asked: Asked
    action: Action = Action.FORWARD
    error: bytes = b""  # the ErrorResponse the client sees, for SUBSTITUTE
    statement: Statement | None = None
    previous_statement: Statement | None = None  # put back when the Parse is skipped
    portal: Portal | None = None
    previous_portal: Portal | None = None  # put back when the Bind is skipped
    text: Text | None = None  # a simple Query with something to watch
    execution: Execution | None = None  # what this Execute (or sub-statement) opens and counts
    fetches: str = ""  # a Describe or Close of the portal that is this SQL cursor
    awaits_copy: bool = False  # the client's later bytes wait for the answer
    is_internal_ready: bool = False  # the Z it ends with is swallowed too
    is_maybe: bool = False  # a Sync sent while data were copied in: the server may have ignored it
    is_plain: bool = False  # shared: a reply of the right kind passes without a look


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


class Phase(Enum):
    """What the client's bytes mean."""

    NORMAL = "normal"
    COPY_IN = "copy in"
    RAW = "raw"  # CopyBoth: replication stream, spliced
    BROKEN = "broken"  # a malformed header was forwarded; the server will end the connection


@dataclass(slots=True)
class State:
    """Owned by one `Session`; `requests` and `replies` are its two halves."""

    queue: deque[Entry] = field(default_factory=deque)
    statements: dict[bytes, Statement] = field(default_factory=dict)
    portals: dict[bytes, Portal] = field(default_factory=dict)
    unsure: dict[bytes, int] = field(
        default_factory=dict
    )  # statements closed or replaced, by batch: see is_unsure
    phase: Phase = Phase.NORMAL
    status: int = ord("I")  # of the last ReadyForQuery
    is_ready: bool = False  # the first ReadyForQuery has come
    is_skipping: bool = False  # the server ignores everything up to the client's next Sync
    n_executes: int = 0  # Executes and Queries since the last ReadyForQuery, for what a failed read undoes
    n_asked_ready: int = 0  # Syncs, Queries and FunctionCalls sent
    n_ready: int = 0  # ReadyForQuery seen for them
    n_pending_effects: int = 0  # in the queue: statements whose completion changes settings or catalog
    has_run_ddl: bool = False  # in the open transaction
    has_failed: bool = False  # an ErrorResponse since the last ReadyForQuery
    is_code_new: bool = False  # own DDL made code, so that even what names nothing watched waits for that read
    copying: CopyIn | None = None  # rows to be sealed come from the client
    drops_copy: bool = False  # a COPY over protected columns has failed: what the client still sends of it
    is_catalog_stale: bool = False  # own DDL was committed: planning needs a catalog read after it

    def is_unsure(self, name: bytes) -> bool:
        """A batch before the present one closed or replaced this statement and is not answered: if the server
        skips that, the name still means what it meant before. (In the same batch what follows is skipped too.)"""
        batch = self.unsure.get(name)
        return batch is not None and self.is_under_way(batch)

    def is_taken(self, name: bytes) -> bool:
        """Whether a named statement is there to be replaced is not sure yet."""
        known = self.statements.get(name)
        return (known is not None and self.is_under_way(known.batch)) or self.is_unsure(name)

    def is_under_way(self, batch: int) -> bool:
        """Its Sync was sent and is not answered."""
        return self.n_ready < batch <= self.n_asked_ready and len(self.queue) > 0

    def changes(self, name: bytes) -> None:
        """A message of the present batch closes or replaces the statement of this name."""
        self.unsure[name] = self.n_asked_ready + 1

    def end_portals(self) -> None:
        """The transaction ended: portals bound in it are gone, those of a batch sent since are not there yet."""
        ended = self.n_ready
        if all(portal.batch <= ended for portal in self.portals.values()):
            self.portals.clear()
            return
        for name in [n for n, portal in self.portals.items() if portal.batch <= ended]:
            del self.portals[name]

    def undo(self, entry: Entry) -> None:
        """The server skipped (or failed) this message: what it registered did not happen."""
        if entry.asked is Asked.PARSE and entry.statement is not None:
            if self.statements.get(entry.statement.name) is not entry.statement:
                self._relink(entry)
            _put_back(self.statements, entry.statement.name, entry.statement, entry.previous_statement)
            if entry.previous_statement is not None:
                entry.previous_statement.is_being_replaced = False
        elif entry.asked is Asked.CLOSE:
            if entry.previous_statement is not None:
                self.settle(entry.previous_statement.name)
                self._reopen(entry.previous_statement)
            elif entry.previous_portal is not None:
                self.portals.setdefault(entry.previous_portal.name, entry.previous_portal)
        elif entry.asked is Asked.BIND and entry.portal is not None:
            _put_back(self.portals, entry.portal.name, entry.portal, entry.previous_portal)
        elif entry.asked is Asked.BIND and entry.previous_portal is not None:
            self.portals.setdefault(entry.previous_portal.name, entry.previous_portal)
        elif entry.asked in DESCRIBES and entry.statement is not None:
            entry.statement.is_describe_asked = False
        if (entry.execution is not None and entry.execution.has_effects) or (
            entry.text is not None and entry.text.has_effects
        ):
            self.n_pending_effects -= 1

    def settle(self, name: bytes) -> None:
        """The Close of this statement in the batch under way is answered or skipped."""
        if self.unsure.get(name) == self.n_ready + 1:
            del self.unsure[name]

    def _reopen(self, closed: Statement) -> None:
        """A Close was skipped: the statement is there, or is what a later Parse of its name replaces."""
        if self.statements.setdefault(closed.name, closed) is closed:
            return
        for later in self.queue:
            made = later.statement if later.asked is Asked.PARSE else None
            if made is not None and made.name == closed.name and later.previous_statement is None:
                later.previous_statement = closed
                return

    def _relink(self, entry: Entry) -> None:
        """What replaced or closed the statement of a skipped Parse did so to the one before it, if to any."""
        for later in self.queue:
            if later.previous_statement is entry.statement:
                later.previous_statement = entry.previous_statement
                return


def _put_back(table: dict[bytes, T], name: bytes, current: T, previous: T | None) -> None:
    if table.get(name) is not current:
        return
    if previous is None:
        del table[name]
    else:
        table[name] = previous
