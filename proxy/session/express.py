"""The usual exchange in one go: Bind, Execute and Sync of a prepared statement whose Binds leave as they came,
and its whole reply.

Theory. Most traffic is one batch in one chunk, and its reply in another, with nothing else under way. What such
a batch means is settled by its statement, the settings and the catalog, and remembered as a `Lane`; then a batch
is a look-up, and its reply a walk over its frames. Nothing is decided here that `Requests` and `Replies` would
decide in another way: whatever is not exactly the usual is left to them, and a batch that is already under way
is first entered into the queue as they would have done (`land`).

One reason to change: what of the usual exchange can be settled beforehand.
"""

from __future__ import annotations

from struct import Struct, unpack
from struct import error as StructError
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, Final

from proxy.errors import PgsealError
from proxy.session.cells import DATA_ROW, Missing
from proxy.session.meter import SAMPLE_MASK
from proxy.session.requests import TAILS
from proxy.session.state import BIND, DESCRIBE_PORTAL, EXECUTE, Asked, Entry, State
from proxy.session.statements import Execution, Portal, Standing, Statement
from proxy.wire import backend as b
from proxy.wire import frontend as f
from proxy.wire.framing import LENGTH

if TYPE_CHECKING:
    from proxy.audit.events import StatementEvent, Subject
    from proxy.session.meter import Meter
    from proxy.session.openers import Opener
    from proxy.session.planning import Planning
    from proxy.session.results import Results

MAX_REQUEST: Final = 8192
MAX_LANES: Final = 1024
LEAST_REQUEST: Final = 24  # nothing shorter is a whole batch
LEAST_BIND: Final = 6  # of a Bind, what follows its names
READY: Final = {ord("I"): b"Z\0\0\0\5I", ord("T"): b"Z\0\0\0\5T"}
READY_SIZE: Final = 6
IDLE: Final = ord("I")
BOUND: Final = b"2\0\0\0\4"
NO_DATA: Final = b"n\0\0\0\4"
NOTHING: Final = (b"-", b"")  # no reply begins like this

_length_at = LENGTH.unpack_from
_int16_at = Struct(">H").unpack_from
_int32_at = Struct(">i").unpack_from


class Lane:
    """What all batches of one prepared statement have in common under these settings and this catalog."""

    __slots__ = ("name", "openers", "openings", "snapshot", "standing", "statement", "subject", "version")

    def __init__(self, statement: Statement, version: int, snapshot: object) -> None:
        self.statement = statement
        self.name = statement.name
        self.version = version
        self.snapshot = snapshot
        self.standing: Standing | None = None  # None: nothing of it is protected
        self.subject: Subject | None = None
        # By the result formats as a Bind ends with them: what they are, and the opener of the rows.
        self.openers: dict[bytes, tuple[tuple[int, ...], Opener | None]] = {}
        # By the tail of the batch: how its replies begin, up to the rows, and what the client sees of that.
        self.openings: dict[bytes, tuple[bytes, bytes]] = {}


class Express:
    """Owned by one session. `is_open`: nothing is under way, so that the next chunk may be a usual batch."""

    def __init__(self, state: State, planning: Planning, results: Results, meter: Meter) -> None:
        self.is_open = False
        self.events: list[StatementEvent] = []  # of the last reply; who takes them clears the list
        self._state = state
        self._planning = planning
        self._settings = planning.settings
        self._runtime = planning.runtime
        self._records = planning.records
        self._results = results
        self._meter = meter
        self._counters = planning.runtime.counters
        self._lanes: dict[bytes, Lane] = {}  # by portal and statement, as a Bind names them
        self._n_requests = 0
        # The batch that is under way: its lane, tail, formats, opener and start.
        self._lane: Lane | None = None
        self._tail = b""
        self._opener: Opener | None = None
        self._formats: tuple[int, ...] = ()
        self._start_s = 0.0
        self._replaced: Portal | None = None  # what a plain batch replaces, unless its Bind fails
        self._left: Lane | None = None  # in a transaction block: whose portal is still there

    @property
    def is_under_way(self) -> bool:
        return self._lane is not None

    # --- the request ---------------------------------------------------------------------------------

    def request(self, chunk: bytes) -> bytes | None:
        """A usual batch, whole: what leaves for the server. None: it is not, and nothing was done."""
        size = len(chunk)
        if not self.is_open or not LEAST_REQUEST <= size <= MAX_REQUEST or chunk[0] != f.BIND:
            return None
        self._n_requests += 1
        arrived_s = 0.0 if self._n_requests & SAMPLE_MASK else perf_counter()
        end = 1 + _length_at(chunk, 1)[0]
        names_end = chunk.find(b"\0", 6) + 1
        tail = chunk[end:]
        if tail not in TAILS or end < names_end + LEAST_BIND:
            return None
        lane = self._lane_of(chunk[5:names_end])
        if lane is None:
            return None
        if self._left is not None:
            self._keep_left()
        replaced = None
        if lane.standing is not None:
            if not self._may_open(lane, lane.standing, chunk, names_end, end):
                return None
        elif self._state.portals:
            replaced = self._state.portals.pop(b"", None)
        self.is_open = False
        self._lane, self._tail, self._replaced = lane, tail, replaced
        self._counters.n_client_in += size
        self._counters.n_server_out += size
        if arrived_s:
            self._meter.sample_request(arrived_s)
        return chunk

    def _lane_of(self, names: bytes) -> Lane | None:
        """The lane of this portal and statement under the settings and the catalog of this moment."""
        snapshot = self._runtime.snapshot
        lane = self._lanes.get(names)
        if (
            lane is not None
            and lane.version == self._settings.version
            and lane.snapshot is snapshot
            and self._state.statements.get(lane.name) is lane.statement
            and lane.statement.refusal is None
        ):
            return lane
        made = self._make_lane(names, snapshot)
        if made is not None:
            if len(self._lanes) > len(self._state.statements):
                self._forget_closed()
            if len(self._lanes) >= MAX_LANES:
                self._lanes.clear()
            self._lanes[names] = made
        elif lane is not None:
            del self._lanes[names]
        return made

    def _forget_closed(self) -> None:
        """Lanes of statements that are not there any more, whose texts may be long."""
        known = self._state.statements
        gone = [names for names, lane in self._lanes.items() if known.get(lane.name) is not lane.statement]
        for names in gone:
            del self._lanes[names]

    def _make_lane(self, names: bytes, snapshot: object) -> Lane | None:
        statement = self._state.statements.get(names[1:-1])
        if names[0] or statement is None or not (statement.is_plain or statement.is_direct):
            return None
        if statement.is_being_replaced or statement.refusal is not None:
            return None
        if statement.env is not self._planning.env():
            return None
        lane = Lane(statement, self._settings.version, snapshot)
        if statement.is_plain:
            return lane if statement.is_described else None
        plan = statement.plan
        if plan is None or plan.notices or plan.is_copy_in or plan.copy or statement.description is None:
            return None
        try:
            standing = self._planning.standing(statement)
        except PgsealError:  # said in full by the handler of the Bind
            return None
        if standing is None:
            return None
        lane.standing = standing
        execution = Execution(plan, statement.planned, grant=standing.grant, tenant=standing.tenant)
        lane.subject = self._records.subject(execution)
        return lane

    def _may_open(self, lane: Lane, standing: Standing, chunk: bytes, position: int, end: int) -> bool:
        """The audit trail can be written, the rights still stand, and there is an opener for the result formats
        of this Bind."""
        if not self._runtime.audit.is_writable:
            return False
        if monotonic() > standing.until_s:
            self._lanes.pop(chunk[5:position], None)
            return False
        try:
            position += 2 + 2 * _int16_at(chunk, position)[0]
            count = _int16_at(chunk, position)[0]
            position += 2
            while count:
                size = _int32_at(chunk, position)[0]
                position += 4 + size if size > 0 else 4
                count -= 1
        except StructError:
            return False
        raw = chunk[position:end]
        known = lane.openers.get(raw)
        if known is None:
            known = self._learn_formats(lane.statement, standing, raw)
            if known is None:
                return False
            lane.openers[raw] = known
        self._formats, self._opener = known
        self._start_s = time()
        return True

    def _learn_formats(
        self, statement: Statement, standing: Standing, raw: bytes
    ) -> tuple[tuple[int, ...], Opener | None] | None:
        """The result formats as a Bind ends with them; None where the server will not take them."""
        assert statement.description is not None
        count = len(raw) // 2 - 1
        if count not in (0, 1, len(statement.description.fields)) or len(raw) % 2:
            return None
        n_formats, *formats = unpack(f">{count + 1}H", raw)
        if n_formats != count or any(code > 1 for code in formats):
            return None
        return tuple(formats), self._planning.standing_opener(statement, standing, tuple(formats))

    # --- the reply -----------------------------------------------------------------------------------

    def reply(self, chunk: bytes) -> bytes | None:
        """The whole reply to the batch under way: what the client sees. None: it is something else."""
        lane = self._lane
        if lane is None:
            return None
        meter = self._meter
        arrived_s = perf_counter() if meter.is_sampling else 0.0
        try:
            shown = self._shown(lane, chunk)
        except (IndexError, StructError, Missing, PgsealError):  # said in full by the handlers of the replies
            shown = None
        if shown is None:
            self._lanes.pop(b"\0" + lane.name + b"\0", None)  # what the reply shows may change what it means
            if lane.standing is not None and self._opener is not None:
                _forget(self._opener)
            return None
        self._lane = None
        self.is_open = True
        self._counters.n_server_in += len(chunk)
        self._counters.n_client_out += len(shown)
        if arrived_s:
            meter.sample_reply(arrived_s)
        return shown

    def _shown(self, lane: Lane, chunk: bytes) -> bytes | None:
        last = len(chunk) - READY_SIZE
        status = self._state.status
        if chunk[last:] != READY[status] or lane.snapshot is not self._runtime.snapshot:
            return None
        opening, shown = lane.openings.get(self._tail, NOTHING)
        if not chunk.startswith(opening):
            learned = self._learn_opening(lane, chunk)
            if learned is None:
                return None
            opening, shown = lane.openings[self._tail] = learned
        position = len(opening)
        opener = self._opener
        if lane.standing is None or opener is None:
            while chunk[position] == DATA_ROW:
                position += 1 + _length_at(chunk, position + 1)[0]
            if chunk[position] != b.COMMAND_COMPLETE or position + 1 + _length_at(chunk, position + 1)[0] != last:
                return None
            if lane.standing is None:
                self._counters.n_irrelevant += 1
                return chunk
            self._record(lane, 0, 0, ())
            return shown + chunk[len(opening) :]
        found = opener.one(chunk, position)
        if found is not None:
            row, position, key_id = found
            if chunk[position] != b.COMMAND_COMPLETE or position + 1 + _length_at(chunk, position + 1)[0] != last:
                return None
            self._counters.count_opened(opener.columns[0].label, 1)
            self._record(lane, 1, 1, (key_id,))
            return shown + row + chunk[position:]
        done = opener.rows(chunk, position)
        position = done.position
        if chunk[position] != b.COMMAND_COMPLETE or position + 1 + _length_at(chunk, position + 1)[0] != last:
            return None
        n_opened, key_ids = self._records.opened(opener)
        self._record(lane, done.n_rows, n_opened, tuple(sorted(key_ids)))
        return shown + b"".join(done.parts) + chunk[position:]

    def _record(self, lane: Lane, n_rows: int, n_opened: int, key_ids: tuple[int, ...]) -> None:
        assert lane.subject is not None
        self.events.append(self._records.usual(lane.subject, self._start_s, n_rows, n_opened, key_ids))
        if self._state.status != IDLE:
            self._left = lane

    def _learn_opening(self, lane: Lane, chunk: bytes) -> tuple[bytes, bytes] | None:
        """BindComplete and what was described, where both are already known to be right."""
        if not chunk.startswith(BOUND):
            return None
        if self._tail[0] != f.DESCRIBE:
            return BOUND, BOUND
        message = chunk[5 : 6 + _length_at(chunk, 6)[0]]
        statement = lane.statement
        if lane.standing is None:
            has_passed = message == NO_DATA or self._results.has_passed(message)
            is_known = message[0] == b.ROW_DESCRIPTION and not self._planning.is_watching
            return (BOUND + message, BOUND + message) if has_passed or is_known else None
        if message == NO_DATA:
            plan = statement.plan
            return (BOUND + message, BOUND + message) if plan is not None and not plan.results else None
        shown = self._results.shown(statement, message)
        return (BOUND + message, BOUND + shown) if shown is not None else None

    # --- back to the usual ways ----------------------------------------------------------------------

    def land(self) -> None:
        """Something else comes: the batch under way enters the queue, or a portal that is left the portals."""
        self.is_open = False
        lane, self._lane = self._lane, None
        state = self._state
        if lane is None:
            self._keep_left()
            return
        state.n_executes += 1
        if lane.standing is None:
            self._counters.n_irrelevant += 1
            replaced = self._replaced
            state.queue.append(BIND if replaced is None else Entry(Asked.BIND, previous_portal=replaced))
            described = Entry(Asked.DESCRIBE_PORTAL, statement=lane.statement)
            state.queue.extend(described if entry is DESCRIBE_PORTAL else entry for entry in TAILS[self._tail])
        else:
            portal = self._portal(lane, lane.standing)
            portal.batch += 1
            self._queue(lane.statement, portal)
        state.n_asked_ready += 1

    def _keep_left(self) -> None:
        """The portal of the batch before, in an open block, is there for whoever names it."""
        left, self._left = self._left, None
        if left is not None and left.standing is not None:
            self._state.portals[b""] = self._portal(left, left.standing)

    def _portal(self, lane: Lane, standing: Standing) -> Portal:
        """The unnamed portal as a Bind makes it."""
        portal = Portal(b"", lane.statement, self._formats, grant=standing.grant, tenant=standing.tenant)
        portal.level, portal.values = self._settings.level, self._settings.values()
        portal.opener = self._opener
        portal.batch = self._state.n_asked_ready
        return portal

    def _queue(self, statement: Statement, portal: Portal) -> None:
        """The entries of Bind, Describe, Execute and Sync."""
        state = self._state
        previous = state.portals.get(b"")
        state.portals[b""] = portal
        state.queue.append(Entry(Asked.BIND, portal=portal, previous_portal=previous))
        for entry in TAILS[self._tail]:
            if entry is DESCRIBE_PORTAL:
                statement.is_describe_asked = True
                entry = Entry(Asked.DESCRIBE_PORTAL, portal=portal, statement=statement)
            elif entry is EXECUTE:
                execution = self._planning.execution(portal)
                assert execution is not None
                execution.start_s = self._start_s
                entry = Entry(Asked.EXECUTE, statement=statement, portal=portal, execution=execution)
            state.queue.append(entry)


def _forget(opener: Opener) -> None:
    """What it opened is opened again, and counted then."""
    for column in opener.columns:
        column.n_opened = 0
        column.used.clear()
