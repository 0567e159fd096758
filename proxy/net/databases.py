"""What the connections of one worker share: a runtime for each database with rules, and the work behind needs.

`Database` is one of them: rules, catalog snapshot, planner, key view, counters. Sessions read it without waiting;
what they lack is fetched here, once for all who ask (`Databases.ensure`). A snapshot is replaced as a whole, with
the tables that a check refuses marked in its rules; every snapshot of the process has an epoch of its own, so
that an epoch tells the database too. One reason to change: what sessions share and how it is kept fresh.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, assert_never

import structlog

from proxy.audit.events import Event, Outcome, StatementEvent
from proxy.audit.sinks import Auditor
from proxy.errors import ConnectionFailure, InternalError, PgsealError, SchemaMismatch
from proxy.keys.keyring import Keyring
from proxy.keys.material import ActiveKeyNeed, KeyIdNeed, KeyNeed, LeaseNeed
from proxy.metrics import Counters
from proxy.net.absent import Absent
from proxy.net.news import News
from proxy.net.server import Login
from proxy.rules import Ruleset
from proxy.rules_lock import Lock
from proxy.service import catalog_reader, schema_check
from proxy.service.connection import Connection, DatabaseMissing, ServiceConnection, ServiceTarget
from proxy.service.findings import Report
from proxy.service.lock_reader import locked_relations, lowered
from proxy.service.observing import approved, read_observing, with_cells
from proxy.session.connection import Session, Splice
from proxy.session.interface import CatalogNeed, ClientConnection, Need
from proxy.session.runtime import Client, Descriptions, Fingerprints
from proxy.sql.catalog import Name, Snapshot
from proxy.sql.parts import joined, plan_in_parts
from proxy.sql.plan import NotPlanned, Planned
from proxy.sql.planner import Planner
from proxy.sql.watch import identifier

REFRESH_S: Final = 2.0
SOON_S: Final = 0.01
DDL_TAGS: Final = ("CREATE", "ALTER", "DROP")
N_SLOW_PLANNERS: Final = 1
_log = structlog.get_logger("pgseal.databases")


@dataclass(slots=True)
class Shared:
    """What the databases of a worker have in common."""

    keys: Keyring
    audit: Auditor
    counters: Counters
    fingerprint_key: bytes = field(repr=False)
    max_message: int = 256 << 20
    locks: Mapping[str, Lock] = field(default_factory=dict)
    news_folder: Path | None = None  # where workers of one host leave word for each other
    epochs: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class Database:
    """One database with rules, as `session.runtime.Runtime` wants it."""

    def __init__(self, rules: Ruleset, target: ServiceTarget, shared: Shared) -> None:
        self.rules = rules
        self.report = Report(rules.database, ())
        self.planner = Planner()
        self.descriptions = Descriptions()
        self.fingerprints = Fingerprints()
        self._shared = shared
        self._service = ServiceConnection(target)
        self.refused: Mapping[Name, str] = {}  # relation -> why its use is PS006
        self._snapshot: Snapshot | None = None
        self._fingerprint: object = None
        self._turn = asyncio.Lock()
        self._n_reads = 0  # begun
        self._had_cells: frozenset[Name] = frozenset()  # these are never under observation again

    @property
    def name(self) -> str:
        return self.rules.database

    @property
    def is_loaded(self) -> bool:
        return self._snapshot is not None

    @property
    def snapshot(self) -> Snapshot:
        assert self._snapshot is not None, "a session opens after the first load"
        return self._snapshot

    @property
    def keys(self) -> Keyring:
        return self._shared.keys

    @property
    def audit(self) -> Auditor:
        return self._shared.audit

    @property
    def counters(self) -> Counters:
        return self._shared.counters

    @property
    def fingerprint_key(self) -> bytes:
        return self._shared.fingerprint_key

    # --- the snapshot

    async def load(self) -> None:
        """The first snapshot, before the first session; later calls return at once."""
        if not self.is_loaded:
            await self.refresh()

    async def refresh(self) -> None:
        """A snapshot whose reading began after this call; all who ask meanwhile share one."""
        wanted = self._n_reads + 1
        async with self._turn:
            if self._n_reads < wanted:
                self._take(await self._service.run(lambda connection: self._read(connection, self.rules)))

    async def poll(self) -> bool:
        """A new snapshot where the catalog's fingerprint is another; True where it was."""
        found = await self._service.run(catalog_reader.fingerprint)
        if not self.is_loaded or found == self._fingerprint:
            return False
        await self.refresh()
        return True

    async def change_rules(self, rules: Ruleset) -> None:
        """Take changed rules, if every table that serves now still does. SchemaMismatch with the reasons."""
        async with self._turn:
            loaded = await self._service.run(lambda connection: self._read(connection, rules))
            worse = {name: why for name, why in loaded.rules.refused.items() if name not in self.refused}
            if worse:
                raise SchemaMismatch("; ".join(worse.values()), hint="pgseal check shows the SQL to run")
            self.rules = rules
            self._take(loaded)

    async def _read(self, connection: Connection, rules: Ruleset) -> _Loaded:
        self._n_reads += 1
        mark = await catalog_reader.fingerprint(connection)
        lock = self._shared.locks.get(rules.database)
        report = approved(await schema_check.check(connection, rules), lock, self._had_cells)
        checked = schema_check.refusing(rules, report)
        snapshot = await read_observing(connection, checked, report, next(self._shared.epochs))
        if lock is not None:
            changed = lowered(lock, await locked_relations(connection, snapshot), rules)
            checked = replace(checked, refused={**checked.refused, **_named(changed)})
        return _Loaded(checked, _marked(snapshot, checked.refused), report, mark)

    def _take(self, loaded: _Loaded) -> None:
        for name in sorted(loaded.rules.refused.keys() - self.refused.keys()):
            _log.error("table refused", table=".".join(name), reason=loaded.rules.refused[name])
        for name in sorted(self.refused.keys() - loaded.rules.refused.keys()):
            _log.info("table serves again", table=".".join(name))
        for name in sorted(loaded.report.observed() - self.report.observed()):
            _log.warning("table under observation: it passes as it is", table=".".join(name))
        self._had_cells |= with_cells(loaded.snapshot)
        self._snapshot, self.report, self._fingerprint = loaded.snapshot, loaded.report, loaded.fingerprint
        self.refused = loaded.rules.refused
        labels = [rule.label for table in loaded.rules.tables.values() for rule in table.columns.values()]
        self.counters.know_columns(labels)

    async def close(self) -> None:
        await self._service.close()


@dataclass(frozen=True, slots=True)
class _Loaded:
    rules: Ruleset
    snapshot: Snapshot
    report: Report
    fingerprint: object


def _marked(snapshot: Snapshot, refused: Mapping[Name, str]) -> Snapshot:
    """The snapshot with every refused relation marked and watched, those that no rule names included."""
    fresh = [name for name in refused if name in snapshot.relations and not snapshot.relations[name].refused]
    if not fresh:
        return snapshot
    marked = {name: replace(snapshot.relations[name], refused=refused[name]) for name in fresh}
    return replace(
        snapshot,
        relations={**snapshot.relations, **marked},
        by_oid={**snapshot.by_oid, **{relation.oid: relation for relation in marked.values()}},
        watched=snapshot.watched | {identifier(name) for _, name in fresh},
    )


def _named(changed: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    return {name: f"{name[0]}.{name[1]}: {why}" for name, why in changed.items()}


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One error of a group, pgseal's own before others."""
    known = group.subgroup(PgsealError) or group
    error = known.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _in_turns(steps: Generator[tuple[()], None, Planned]) -> Planned:
    """Others have their turn in each pause."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            made: Planned = done.value
            return made
        await asyncio.sleep(0)


class Databases:
    """The `net.server.Services` of one worker."""

    def __init__(self, rules: Mapping[str, Ruleset], target: ServiceTarget, shared: Shared) -> None:
        self.by_name = {
            name: Database(ruleset, replace(target, database=name), shared) for name, ruleset in rules.items()
        }
        self.without_rules: set[str] = set()
        self._target = target
        self._shared = shared
        self._sessions = itertools.count(1)
        self._news = News(shared.news_folder)
        self._n_changes_told = 0  # of `Counters.n_catalog_changes`
        self._is_change_due = False  # since the last news no catalog was found changed
        self._slow: ProcessPoolExecutor | None = None

    # --- sessions

    async def open(self, login: Login) -> ClientConnection:
        """A session, or a splice where the database has no rules."""
        database = self.by_name.get(login.database)
        self._shared.counters.n_connections += 1
        if database is None:
            self.without_rules.add(login.database)
            return Splice()
        try:
            await self._freshen(database)
        except DatabaseMissing:
            return Absent()
        client = Client(
            user=login.user,
            database=login.database,
            session_id=f"{os.getpid():x}-{next(self._sessions):x}",
            address=login.client_address,
            parameters=dict(login.parameters),
        )
        return Session(client, database, max_message=self._shared.max_message)

    async def _freshen(self, database: Database) -> None:
        """A snapshot is there, with what clients' DDL changed."""
        await database.load()
        if self._n_changes_told != self._shared.counters.n_catalog_changes:
            self._n_changes_told = self._shared.counters.n_catalog_changes
            self._tell_change()
        self._is_change_due |= self._news.is_new()
        if self._is_change_due and await database.poll():
            self._is_change_due = False

    def closed(self, connection: ClientConnection) -> None:
        self._shared.counters.n_connections_closed += 1
        if isinstance(connection, Session):
            self._shared.audit.write(connection.ended())

    def _tell_change(self) -> None:
        self._is_change_due = True
        self._news.tell()

    def record(self, events: Sequence[Event]) -> None:
        self._shared.audit.write(events)
        for event in events:
            if isinstance(event, StatementEvent) and event.subject.tag.startswith(DDL_TAGS):
                self._tell_change()
            if isinstance(event, StatementEvent) and event.outcome is Outcome.OBSERVED:
                self._tell_observed()

    def _tell_observed(self) -> None:
        """Each statement and reason once; every run is counted and audited."""
        for database in self.by_name.values():
            for fingerprint, error in database.fingerprints.observed.take():
                _log.warning(
                    "would be refused",
                    database=database.name,
                    sqlstate=error.sqlstate,
                    column=error.column or "",
                    reason=error.message,
                    hint=error.hint or "",
                    fingerprint=fingerprint,
                )

    # --- needs

    async def ensure(self, needs: tuple[Need, ...]) -> None:
        """Fetch all of it at once. The first pgseal error counts; keys remember their own."""
        try:
            await self._fetch(needs)
        except BaseExceptionGroup as group:
            raise _first(group) from None

    async def _fetch(self, needs: tuple[Need, ...]) -> None:
        keys: list[KeyNeed] = []
        async with asyncio.TaskGroup() as group:
            for need in needs:
                match need:
                    case ActiveKeyNeed() | KeyIdNeed() | LeaseNeed():
                        keys.append(need)
                    case NotPlanned():
                        group.create_task(self._plan(need))
                    case CatalogNeed():
                        group.create_task(self._refresh(need))
                    case _:
                        assert_never(need)
            if keys:
                group.create_task(self._shared.keys.ensure(tuple(keys)))

    async def _plan(self, need: NotPlanned) -> None:
        planner = self.by_name[need.env.snapshot.database].planner
        if self._slow is None:
            self._slow = ProcessPoolExecutor(N_SLOW_PLANNERS, multiprocessing.get_context("spawn"))
        job = planner.slow_job(need)
        try:
            parts = await asyncio.get_running_loop().run_in_executor(self._slow, plan_in_parts, job)
        except BrokenProcessPool:
            self._slow = None
            raise InternalError("the process that plans long statements ended") from None
        planner.keep(need, await _in_turns(joined(parts, need.text)))

    async def _refresh(self, need: CatalogNeed) -> None:
        for database in self.by_name.values():
            if database.is_loaded and need.database == database.name:
                await database.refresh()

    # --- life

    async def load(self) -> None:
        """Every snapshot that can be had now; a database that is away is loaded by its first session."""
        for database in self.by_name.values():
            try:
                await database.load()
            except PgsealError as error:
                _log.warning("catalog not loaded yet", database=database.name, reason=error.message)

    async def keep_fresh(self) -> None:
        """Poll the catalogs until cancelled: often for a while after a client's DDL, whose commit is not told."""
        wait_s = REFRESH_S
        while True:
            if await self._news.wait(wait_s):
                self._is_change_due = True
                wait_s = SOON_S
            wait_s = REFRESH_S if await self._poll_all() else min(wait_s * 2, REFRESH_S)

    async def _poll_all(self) -> bool:
        """True where a catalog had changed."""
        found = False
        for database in list(self.by_name.values()):
            try:
                found = await database.poll() or found
            except ConnectionFailure as error:
                _log.debug("catalog not polled", database=database.name, reason=error.message)
        if found:
            self._is_change_due = False
        return found

    async def change_rules(self, rules: Mapping[str, Ruleset]) -> None:
        """All databases or none: the first that fails leaves everything as it was."""
        before = {name: database.rules for name, database in self.by_name.items()}
        added = {
            name: Database(ruleset, replace(self._target, database=name), self._shared)
            for name, ruleset in rules.items()
            if name not in self.by_name
        }
        taken: list[str] = []
        try:
            for database in added.values():
                await database.load()
            for name in before.keys() & rules.keys():
                await self.by_name[name].change_rules(rules[name])
                taken.append(name)
        except PgsealError:
            for name in taken:
                await self.by_name[name].change_rules(before[name])
            for database in added.values():
                await database.close()
            raise
        self.by_name.update(added)

    def tables_refused(self) -> dict[str, str]:
        """`database.schema.table` -> why, for /readyz."""
        return {
            f"{database.name}.{schema}.{table}": why
            for database in self.by_name.values()
            for (schema, table), why in database.refused.items()
        }

    async def close(self) -> None:
        for database in self.by_name.values():
            await database.close()
        if self._slow is not None:
            self._slow.shutdown(wait=False, cancel_futures=True)
