"""One serving process put together: keys, audit, databases, HTTP, the listener; and its reload.

`start_worker` is what `run` starts in each worker and what the demo and tests start in their own loop. One reason
to change: what a worker is made of.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from proxy.admin.http import HttpServer, Readiness
from proxy.audit.chain import WriterStart
from proxy.audit.events import SystemEvent
from proxy.audit.sinks import Auditor, open_auditor
from proxy.cli.installation import Installation, main_alias, open_kms
from proxy.cli.measured import MeasuredKms
from proxy.cli.reload import refuse_weaker, refuse_weaker_rules, watched_state
from proxy.config import Config, OnFailure
from proxy.errors import ConfigError, PgsealError
from proxy.keys.keyring import Keyring, KeyringOptions
from proxy.keys.kms.base import Kms
from proxy.keys.state_folder import StateFolder
from proxy.keys.store import KeyStore
from proxy.keys.upkeep import keep_fresh
from proxy.metrics import Counters, CountersCollector
from proxy.net.databases import Databases, Shared
from proxy.net.gate import Gate
from proxy.net.relay import contained
from proxy.net.server import Server, serve
from proxy.net.settings import NetSettings
from proxy.net.workers import Place
from proxy.rules import Ruleset
from proxy.rules_lock import Lock, read_locks
from proxy.service.connection import ServiceConnection
from proxy.service.instance import Instance

WATCH_S: Final = 2.0
METRICS_S: Final = 1.0
GC_THRESHOLD: Final = 20_000
METRICS_FOLDER: Final = "metrics"
_log = structlog.get_logger("pgseal.worker")


@dataclass(slots=True)
class Worker:
    """Everything a worker runs; `stack` closes it in reverse order."""

    installation: Installation
    place: Place
    server: Server
    databases: Databases
    shared: Shared
    stack: AsyncExitStack
    http: HttpServer | None = None
    jobs: list[asyncio.Task[None]] = field(default_factory=list)

    def spawn(self, job: Coroutine[Any, Any, None]) -> None:
        self.jobs.append(asyncio.create_task(contained(job)))

    async def close(self) -> None:
        for job in self.jobs:
            job.cancel()
        await asyncio.gather(*self.jobs, return_exceptions=True)
        await self.stack.aclose()

    # --- reload

    async def reload(self) -> None:
        """Read configuration and rules again. What fails, or lowers protection, changes nothing and is logged."""
        try:
            changed = self.installation.again()
            refuse_weaker(self.installation, changed)
            gate = Gate.open(NetSettings.of(changed.config))
            await self.databases.change_rules(changed.rules)
        except PgsealError as error:
            _log.error("reload refused", reason=error.message, **({"hint": error.hint} if error.hint else {}))
            self._record("config.reload_refused", error.message)
            return
        self.server.gate = gate
        self.installation = changed
        _log.info("reloaded configuration and rules")
        self._record("config.reload", "")

    def _record(self, kind: str, reason: str) -> None:
        self.shared.audit.write([SystemEvent(time.time(), kind, (("reason", reason),))])

    async def watch(self) -> None:
        """Reload when a rules file changes."""
        known = await asyncio.to_thread(watched_state, self.installation)
        while True:
            await asyncio.sleep(WATCH_S)
            found = await asyncio.to_thread(watched_state, self.installation)
            if found != known:
                known = found
                await self.reload()

    # --- what others see

    def readiness(self) -> Readiness:
        """For /readyz."""
        reasons = [
            f"database {d.name} is not reached" for d in self.databases.by_name.values() if not d.is_loaded
        ]
        if not self.shared.audit.is_writable:
            reasons.append("the audit trail cannot be written (PS007)")
        reasons += self.shared.keys.problems()
        return Readiness(
            is_ready=not reasons,
            reasons=tuple(reasons),
            databases_without_rules=tuple(sorted(self.databases.without_rules)),
            tables_refused=self.databases.tables_refused(),
            weaknesses=self.installation.weaknesses(),
        )

    def metrics(self) -> list[dict[str, Any]]:
        """Counters of this worker and of the others, which each leaves in a file."""
        folder = self.installation.config.state / METRICS_FOLDER
        own = folder / f"{self.place.index}.json"
        found = [self.own_metrics()]
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
            if path != own and path.stem.isdigit() and int(path.stem) < self.installation.config.workers:
                found += _read_metrics(path)
        return found

    def own_metrics(self) -> dict[str, Any]:
        """This worker's counters, with what keyring and auditor count themselves."""
        counters, keys, audit = self.shared.counters, self.shared.keys.stats, self.shared.audit
        counters.n_key_hits, counters.n_key_misses = keys.n_hits, keys.n_misses
        counters.n_audit_events, counters.n_audit_lost = audit.n_written, audit.n_lost
        return counters.snapshot()

    async def leave_metrics(self) -> None:
        """For the worker that serves /metrics."""
        path = self.installation.config.state / METRICS_FOLDER / f"{self.place.index}.json"
        await asyncio.to_thread(path.parent.mkdir, 0o700, True, True)
        while True:
            text = json.dumps(self.own_metrics())
            await asyncio.to_thread(_replace, path, text)
            await asyncio.sleep(METRICS_S)


def _read_metrics(path: Path) -> Sequence[dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return [found] if isinstance(found, dict) else []


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


async def start_worker(
    installation: Installation, secrets: Instance, writer: WriterStart, place: Place
) -> Worker:
    """A serving worker. Raises ConfigError, KeyUnavailable, AuditNotWritable or OSError with the reason, with
    nothing left open."""
    async with AsyncExitStack() as stack:
        config = installation.config
        counters = Counters(_labels(installation.rules), config.kms)
        auditor = _open_audit(config, writer, stack)
        keyring, store = await _open_keys(installation, counters, auditor, stack)
        shared = Shared(
            keys=keyring,
            audit=auditor,
            counters=counters,
            fingerprint_key=secrets.fingerprint,
            max_message=config.max_message_size,
            locks=read_lock(installation, secrets),
            news_folder=config.state if config.workers > 1 else None,
        )
        databases = Databases(installation.rules, installation.target(), shared)
        stack.push_async_callback(databases.close)
        await databases.load()
        server = await serve(place.settings, databases)
        stack.push_async_callback(server.close, 0.0)
        worker = Worker(installation, place, server, databases, shared, stack)
        worker.http = await _open_http(worker, stack)
        for job in (auditor.run(), databases.keep_fresh(), keep_fresh(keyring, store), worker.watch()):
            worker.spawn(job)
        if config.workers > 1:
            worker.spawn(worker.leave_metrics())
        worker.stack = stack.pop_all()
        settle_memory()
        return worker


def settle_memory() -> None:
    """What is there now stays: the collector need not walk it again. Statements make garbage that counting
    references frees, so young objects are looked through far less often than by default."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def read_lock(installation: Installation, secrets: Instance) -> dict[str, Lock]:
    """What was approved; ConfigError where the rules now protect less."""
    locks = read_locks(installation.lock_path, secrets.rules_lock)
    for name, lock in locks.items():
        refuse_weaker_rules({name: lock.rules}, installation.rules)
    return locks


def _labels(rules: Mapping[str, Ruleset]) -> list[str]:
    tables = [table for ruleset in rules.values() for table in ruleset.tables.values()]
    return [rule.label for table in tables for rule in table.columns.values()]


def _open_audit(config: Config, writer: WriterStart, stack: AsyncExitStack) -> Auditor:
    is_blocking = config.audit.on_failure is OnFailure.BLOCK
    auditor = open_auditor(config.audit.folder, config.state, writer, is_blocking=is_blocking)
    stack.callback(auditor.close)
    auditor.write([SystemEvent(time.time(), "process.start")])
    return auditor


async def _open_keys(
    installation: Installation, counters: Counters, auditor: Auditor, stack: AsyncExitStack
) -> tuple[Keyring, KeyStore]:
    """The keyring, after a first verified read of the store; KeyUnavailable where that fails."""
    config, cache = installation.config, installation.config.key_cache
    kms: dict[str, Kms] = {alias: MeasuredKms(each, counters) for alias, each in open_kms(config).items()}
    for each in kms.values():
        stack.push_async_callback(each.close)
    service = ServiceConnection(installation.target())
    stack.push_async_callback(service.close)
    store = KeyStore(service, StateFolder(config.state), kms)
    options = KeyringOptions(
        default_kek=main_alias(config),
        ttl_s=cache.ttl_s,
        max_keys=cache.max_keys,
        stale_s=cache.stale_s,
        status_ttl_s=cache.status_ttl_s,
    )
    keyring = Keyring(store, kms, options, lambda event: auditor.write([event]))
    stack.callback(keyring.close)
    await keyring.read()
    return keyring, store


async def _open_http(worker: Worker, stack: AsyncExitStack) -> HttpServer | None:
    """In the first worker only."""
    config = worker.installation.config
    if config.http is None or worker.place.index != 0:
        return None
    http = HttpServer(config.http, CountersCollector(worker.metrics), worker.readiness)
    try:
        await http.start()
    except OSError as error:
        raise ConfigError(f"http: cannot listen on {config.http.listen}: {error.strerror}") from None
    _log.info("http listens", address=str(http.address))
    stack.push_async_callback(http.stop)
    return http
