"""What the client half writes: messages for the server with their queue entries, waits and refusals.

A refusal is never answered here: something the server itself fails stands in for the message, and the entry says
what error the client sees instead, so that it comes in order and the server's state is right by construction.

One reason to change: how a message is put, held or refused.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from proxy.errors import PgsealError
from proxy.session.asking import Asking
from proxy.session.state import Action, Asked, Entry, State
from proxy.sql.plan import Effect, EffectKind, Question
from proxy.wire import frontend as f

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.session.output import Output
    from proxy.session.planning import Planning
    from proxy.session.sealing import Waits

T = TypeVar("T")

POISON_PORTAL: Final = b"__pgseal_reject"

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


class Sender:
    """Shared by the handlers of one session. `pending` is what replaces the message at hand, `job` what it waits
    for (a generator gone on with at each step)."""

    def __init__(self, state: State, planning: Planning, out: Output) -> None:
        self._state = state
        self._planning = planning
        self._out = out
        self.pending: list[bytes] = []
        self.has_flushed = False
        self.job: Waits[Any] | None = None

    def put(self, message: bytes, entry: Entry) -> None:
        self.pending.append(message)
        self._state.queue.append(entry)

    def wait(self) -> Done:
        """Hold until the server has answered what it was asked; it answers only when told to."""
        if not self.has_flushed:
            self.pending.append(f.FLUSH_MESSAGE)
            self.has_flushed = True
        return HOLD

    def ask(self, questions: Sequence[Question]) -> Done:
        """Ask the server, once, and hold until it has answered."""
        if self._planning.asking is None:
            asking = self._planning.asking = Asking(questions)
            for message, entry in asking.messages([self._planning.encode(q.text) for q in questions]):
                self.put(message, entry)
            self.has_flushed = False  # what it waited for before has been answered
        return self.wait()

    def reject_extended(self, error: PgsealError) -> Done:
        """Something the server fails stands in for the message; our error goes out in its stead."""
        entry = Entry(Asked.EXECUTE, Action.SUBSTITUTE, self._planning.error_message(error))
        self.put(f.build_execute(POISON_PORTAL), entry)
        self._planning.records.refusal(error)
        return REPLACED

    def finished(self, begin: Callable[[], Waits[T]]) -> T | None:
        """The result of a job for the message at hand, begun or gone on with; None: it needs another step."""
        job: Waits[T] = self.job if self.job is not None else begin()
        self.job = None
        try:
            needs = next(job)
        except StopIteration as done:
            result: T = done.value
            return result
        self.job = job
        if needs:
            self._out.needs.extend(needs)
        else:
            self._out.has_more = True
        return None

    def is_env_changing(self, effects: tuple[Effect, ...]) -> bool:
        for effect in effects:
            kind = effect.kind
            if kind in ENDINGS:
                state = self._state
                if self._planning.settings.is_dirty or state.has_run_ddl or state.n_pending_effects:
                    return True
            elif kind not in HARMLESS:
                return True
        return False

    def may_copy_in(self) -> bool:
        """Something that was sent may still begin a COPY FROM STDIN, and data may be for it."""
        return any(entry.awaits_copy for entry in self._state.queue)

    def awaits_copy(self) -> bool:
        """An Execute or Query that may begin a COPY FROM STDIN is not answered yet."""
        queue = self._state.queue
        return bool(queue) and queue[-1].awaits_copy
