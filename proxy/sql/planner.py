"""Plans and their two caches. The first knows whole texts, the second templates.

A text that the cheap test lets pass costs one look-up and two regular expressions. A template's entry lists the
constants whose values its plans depend on; a plan is found by those values. Texts over SMALL bytes
that the cheap test stops, and all texts over LARGE bytes, are planned in another process: `Planner.plan` gives
`NotPlanned`, `slow_job` what to send there, `plan_slowly` runs there, `keep` takes what came back.
One reason to change: what a plan is cached by.
"""

from __future__ import annotations

import gc
import pickle
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Generic, TypeVar, assert_never

from proxy.rules import RoleRule
from proxy.sql.catalog import Snapshot
from proxy.sql.packed import Constants, Spans, pack
from proxy.sql.plan import Env, NotPlanned, Overlay, Plan, Planned
from proxy.sql.template import shape_digest
from proxy.sql.text_plan import PASS, Ask, Begun, Outcome, begin, finish, outcome_of
from proxy.sql.watch import Watch
from proxy.values.constants import ArrayOf, Call, Cast, Const, Expr, Lifted, Param

SMALL: Final = 4 * 1024
LARGE: Final = 64 * 1024

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A bounded cache in two generations: what is asked for again survives, at the cost of one look-up."""

    __slots__ = ("_new", "_old", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        found = self._new.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        if len(self._new) >= self._size:
            self._old = self._new
            self._new = {}
        self._new[key] = value


@dataclass(slots=True)
class _Entry:
    """The plans of one template, by the values of the constants at `pins`."""

    pins: tuple[int, ...] = ()
    plans: dict[tuple[Const, ...], Plan] = field(default_factory=dict)

    def find(self, constants: tuple[Const, ...]) -> Plan | None:
        return self.plans.get(tuple(constants[n] for n in self.pins))

    def add(self, constants: tuple[Const, ...], outcome: Outcome) -> None:
        """Plans that depend on more than before make the entry start again: each is right for its own values
        at all pins only."""
        if not outcome.pinned <= set(self.pins):
            self.pins = tuple(sorted(outcome.pinned | set(self.pins)))
            self.plans.clear()
        if len(self.plans) >= _MAX_VARIANTS:
            self.plans.clear()
        self.plans[tuple(constants[n] for n in self.pins)] = outcome.plan


_MAX_VARIANTS: Final = 64


_Oids = tuple[int, ...] | None
_WorldKey = tuple[Hashable, ...]


def _world_key(env: Env) -> _WorldKey:
    """All that a plan depends on but its text. Snapshot and overlay count by identity: whoever holds the key
    holds them too, so that no other object gets their address."""
    overlay = id(env.overlay) if env.overlay.relations else 0
    return (
        id(env.snapshot),
        overlay,
        env.catalog_epoch,
        env.rules_epoch,
        env.search_path,
        env.role,
        env.standard_conforming_strings,
        env.client_encoding,
    )


class _World:
    """What is planned under one Env."""

    __slots__ = ("env", "key", "templates", "texts", "watch")

    def __init__(self, env: Env, key: _WorldKey, watch: Watch, n_plans: int) -> None:
        self.env = env
        self.key = key
        self.watch = watch
        self.texts: Recent[tuple[bytes, _Oids], Planned] = Recent(n_plans)
        self.templates: Recent[tuple[bytes, _Oids], _Entry] = Recent(n_plans)


class Planner:
    """The plans of one process; one event loop owns it."""

    def __init__(self, n_plans: int = 500, n_worlds: int = 32) -> None:
        self._n_plans = n_plans
        self._n_worlds = n_worlds
        self._worlds: dict[_WorldKey, _World] = {}
        self._slow: Recent[tuple[bytes, _Oids], tuple[_World, Planned]] = Recent(32)
        self._blob: tuple[Snapshot, bytes] | None = None
        self._last: _World | None = None

    def plan(self, text: bytes, env: Env, param_oids: _Oids) -> Planned | NotPlanned:
        """The plan of one Query (`param_oids` None) or Parse. Never raises for bad SQL: what is refused is a
        plan with a refusal."""
        world = self._last if self._last is not None and self._last.env is env else self._world(env)
        found = world.texts.get((text, param_oids))
        if found is not None:
            return found
        if len(text) > LARGE:
            return self._kept(text, world, param_oids)
        if env.standard_conforming_strings and world.watch.passes(text):
            return Planned(PASS, text, ())
        if len(text) > SMALL:
            return self._kept(text, world, param_oids)
        planned = self._plan(text, Ask(env, param_oids, world.watch), world)
        world.texts.put((text, param_oids), planned)
        return planned

    def slow_job(self, asked: NotPlanned) -> SlowJob:
        """What another process needs for `plan_slowly`. The snapshot is pickled once."""
        snapshot = asked.env.snapshot
        if self._blob is None or self._blob[0] is not snapshot:
            self._blob = (snapshot, pickle.dumps(snapshot, pickle.HIGHEST_PROTOCOL))
        env = asked.env
        rest = (
            env.catalog_epoch,
            env.rules_epoch,
            env.search_path,
            env.role,
            env.overlay,
            env.standard_conforming_strings,
            env.client_encoding,
        )
        return SlowJob(asked.text, asked.param_oids, self._blob[1], rest)

    def keep(self, asked: NotPlanned, planned: Planned) -> None:
        """Remember what `plan_slowly` gave, so that the next `plan` of the same text finds it."""
        self._slow.put((asked.text, asked.param_oids), (self._world(asked.env), planned))

    def _kept(self, text: bytes, world: _World, param_oids: _Oids) -> Planned | NotPlanned:
        found = self._slow.get((text, param_oids))
        if found is not None and found[0] is world:
            return found[1]
        return NotPlanned(text, world.env, param_oids)

    def _world(self, env: Env) -> _World:
        key = _world_key(env)
        world = self._worlds.pop(key, None)
        if world is None:
            world = self._new_world(env, key)
        world.env = env  # equal to the one before; the newest is the likeliest to be asked with again
        self._worlds[key] = world  # at the end: the first is the one longest not asked for
        self._last = world
        return world

    def _new_world(self, env: Env, key: _WorldKey) -> _World:
        """Plans over an older catalog of the same database are not asked for again."""
        snapshot = env.snapshot
        for old in [w for w in self._worlds.values() if w.env.snapshot.database == snapshot.database]:
            if old.env.snapshot.epoch < snapshot.epoch:
                del self._worlds[old.key]
        if len(self._worlds) >= self._n_worlds:
            del self._worlds[next(iter(self._worlds))]
        return _World(env, key, Watch(snapshot.watched), self._n_plans)

    def _plan(self, text: bytes, ask: Ask, world: _World) -> Planned:
        begun = begin(text, ask)
        if isinstance(begun, Outcome):
            return _joined(text, begun)
        constants = begun.template.constants
        if begun.template.key is None:
            return _joined(text, finish(text, begun, ask))
        key = (begun.template.key, ask.param_oids)
        entry = world.templates.get(key)
        plan = entry.find(constants) if entry is not None else None
        if plan is not None:
            return Planned(plan, text, _spans(begun), constants)
        outcome = finish(text, begun, ask)
        if outcome.template.key is not None and outcome.plan.refusal is None:
            if entry is None:
                entry = _Entry()
                world.templates.put(key, entry)
            entry.add(constants, outcome)
        return _joined(text, outcome)


def _spans(begun: Begun | Outcome) -> tuple[tuple[int, int], ...]:
    return tuple(zip(begun.tokens.starts, begun.tokens.ends, strict=True))


def _joined(text: bytes, outcome: Outcome) -> Planned:
    return Planned(outcome.plan, text, _spans(outcome), outcome.template.constants)


# --- in another process -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SlowJob:
    """A picklable question. `rest` are the fields of its Env behind the snapshot."""

    text: bytes
    param_oids: _Oids
    snapshot: bytes
    rest: tuple[int, int, tuple[str, ...], RoleRule, Overlay, bool, str]


@lru_cache(maxsize=2)
def _snapshot(pickled: bytes) -> tuple[Snapshot, Watch]:
    snapshot: Snapshot = pickle.loads(pickled)  # noqa: S301 - from our own parent process, never from a socket
    return snapshot, Watch(snapshot.watched)


def plan_slowly(job: SlowJob) -> Planned:
    """The plan of a long text. Runs in a worker process; pure."""
    was_enabled = gc.isenabled()
    gc.disable()  # a long text is very many objects, all of which are needed until its plan is made
    try:
        return _plan_slowly(job)
    finally:
        if was_enabled:
            gc.enable()


def _plan_slowly(job: SlowJob) -> Planned:
    snapshot, watch = _snapshot(job.snapshot)
    env = Env(snapshot, *job.rest)
    if env.standard_conforming_strings and watch.passes(job.text):
        return Planned(PASS, job.text, ())
    outcome = outcome_of(job.text, Ask(env, job.param_oids, watch))
    constants = Constants.of(_needed(outcome))
    spans = Spans.of(outcome.tokens)
    return Planned(pack(outcome.plan), job.text, spans, constants, shape_digest(job.text, spans))


_UNUSED: Final = Const(None)


def _needed(outcome: Outcome) -> tuple[Const, ...]:
    """The constants, without those that no slot or effect refers to: a long text has very many."""
    numbers: set[int] = set()
    for slot in outcome.plan.slots:
        for value in (slot.expr, slot.tenant.expr, *slot.bound):
            _collect(value, numbers)
    for statement in outcome.plan.statements:
        for value in (*(t.expr for t in statement.read_tenants), *(e.value for e in statement.effects)):
            _collect(value, numbers)
    return tuple(c if n in numbers else _UNUSED for n, c in enumerate(outcome.template.constants))


def _collect(value: Expr | None, numbers: set[int]) -> None:
    match value:
        case Lifted(number):
            numbers.add(number)
        case Cast(arg):
            _collect(arg, numbers)
        case Call(_, args) | ArrayOf(args):
            for arg in args:
                _collect(arg, numbers)
        case Const() | Param() | None:
            pass
        case _:
            assert_never(value)
