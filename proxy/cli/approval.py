"""rules.lock for the commands: what was approved, what of the live schema lowers it, and a new approval.

One reason to change: how an installation's approval is read and written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from proxy.cli.installation import Installation, open_kms
from proxy.keys.state_folder import StateFolder
from proxy.keys.store import KeyStore
from proxy.rules import OnUnsupported, Ruleset
from proxy.rules_lock import Lock, is_weaker, read_locks, write_locks
from proxy.service import instance, schema_check
from proxy.service.connection import ServiceConnection, connected
from proxy.service.instance import Instance
from proxy.service.lock_reader import locked_relations
from proxy.service.lock_reader import lowered as lowered_relations
from proxy.service.observing import read_observing

UNTIL_APPROVED: Final = "until pgseal check --approve has said so, its tables are refused (PS006) as without it"


async def secrets_of(installation: Installation) -> Instance:
    """The installation's secrets, unwrapped; everything used for it is closed again."""
    kms = open_kms(installation.config)
    service = ServiceConnection(installation.target())
    try:
        store = KeyStore(service, StateFolder(installation.config.state), kms)
        await store.read()
        return await instance.load(installation.config.state, kms, store.realm)
    finally:
        await service.close()
        for each in kms.values():
            await each.close()


async def approve(installation: Installation) -> Path:
    """Write rules.lock from the rules and the live schema of every ruled database."""
    key = (await secrets_of(installation)).rules_lock
    locks = {name: await _live_lock(installation, name) for name in installation.rules}
    write_locks(installation.lock_path, locks, key)
    return installation.lock_path


async def _live_lock(installation: Installation, database: str) -> Lock:
    rules = installation.rules[database]
    async with connected(installation.target(database)) as connection:
        snapshot = await read_observing(connection, rules, await schema_check.check(connection, rules), 0)
        return Lock(rules, await locked_relations(connection, snapshot))


def _observes(rules: Ruleset) -> bool:
    return rules.on_unsupported is OnUnsupported.OBSERVE


def _bared(lock: Lock, live: Lock) -> list[str]:
    """Tables that were approved with cells and would be observed now."""
    if not _observes(live.rules):
        return []
    now = {(relation.schema, relation.name) for relation in live.relations}
    names = [(r.schema, r.name) for r in lock.relations if (r.schema, r.name) in live.rules.tables]
    return [f"{'.'.join(name)}: had cells, and is gone or plain" for name in names if name not in now]


async def lowered(installation: Installation) -> dict[str, tuple[str, ...]]:
    """By database, what protects less than what was approved; nothing where nothing was approved yet."""
    if not installation.lock_path.exists():
        observing = [name for name, rules in installation.rules.items() if _observes(rules)]
        return dict.fromkeys(observing, (f"on_unsupported is observe: {UNTIL_APPROVED}",))
    locks = read_locks(installation.lock_path, (await secrets_of(installation)).rules_lock)
    found: dict[str, tuple[str, ...]] = {}
    for name, rules in installation.rules.items():
        lock = locks.get(name)
        if lock is not None:
            live = await _live_lock(installation, name)
            schema = [
                f"{'.'.join(key)}: {why}" for key, why in lowered_relations(lock, live.relations, rules).items()
            ]
            found[name] = (*is_weaker(lock.rules, rules), *schema, *_bared(lock, live))
    gone = [f"the rules of database {name} are gone" for name in sorted(set(locks) - set(installation.rules))]
    return {**found, **({"": tuple(gone)} if gone else {})}
