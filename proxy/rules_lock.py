"""rules.lock: what was approved, and whether rules or a live schema protect less than that.

The lock holds, per database, the rules that were in force and how the protected relations stood (OIDs, kinds,
types, view definitions, triggers). It lies with the rules, in a canonical JSON form under an HMAC, whose key
the caller derives from the KMS (docs/rules-lock.md). One reason to change: what counts as lowering protection.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from pydantic import TypeAdapter, ValidationError

from proxy.errors import ConfigError
from proxy.rules import (
    ColumnRule,
    Isolation,
    Mode,
    OnDenied,
    OnUnsupported,
    Read,
    RoleRule,
    Ruleset,
    Scope,
    TableRule,
    TenantRule,
    Write,
)

LOCK_NAME: Final = "rules.lock"
VERSION: Final = 1
MAX_LOCK_SIZE: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LockedColumn:
    """A protected column as it stood. `type` is format_type's text; `pad` is pinned where deterministic."""

    name: str
    attnum: int
    type: str
    context: str
    pad: int | None = None


@dataclass(frozen=True, slots=True)
class LockedRelation:
    """A protected table, or a view, partition or child that shows one. `definition` is a view's text;
    `triggers` are pg_get_triggerdef's and pg_get_ruledef's texts, sorted."""

    schema: str
    name: str
    oid: int
    kind: str
    columns: tuple[LockedColumn, ...] = ()
    definition: str = ""
    triggers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lock:
    """What was approved for one database."""

    rules: Ruleset
    relations: tuple[LockedRelation, ...] = ()

    @property
    def database(self) -> str:
        return self.rules.database


# --- the file -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rules:
    """A Ruleset as JSON has it: mappings with one word as key."""

    database: str
    tables: tuple[TableRule, ...]
    roles: dict[str, RoleRule]
    not_protected: tuple[tuple[str, str], ...]
    tenant: TenantRule | None
    on_unsupported: OnUnsupported = OnUnsupported.REFUSE


@dataclass(frozen=True, slots=True)
class _Entry:
    rules: _Rules
    relations: tuple[LockedRelation, ...]


_ENTRIES: Final[TypeAdapter[tuple[_Entry, ...]]] = TypeAdapter(tuple[_Entry, ...])


def write_locks(path: Path, locks: Mapping[str, Lock], key: bytes) -> None:
    """Write rules.lock for all databases at once; the file is replaced as a whole."""
    body = _body(locks)
    line = body[:-1] + b',"mac":"' + _mac(key, body).hex().encode() + b'"}\n'
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with temporary.open("wb") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_locks(path: Path, key: bytes) -> dict[str, Lock]:
    """The approved locks by database; none when there is no file. ConfigError when it was not written by pgseal
    with this key."""
    try:
        with path.open("rb") as file:
            line = file.read(MAX_LOCK_SIZE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or 'unknown reason'}") from None
    marker = line.rfind(b',"mac":"')
    if (
        marker < 0
        or not line.endswith(b'"}\n')
        or not _is_authentic(key, line[:marker] + b"}", line[marker + 8 : -3])
    ):
        raise ConfigError(f"{path}: is not what pgseal approved; run pgseal check --approve after a review")
    try:
        parsed = json.loads(line[:marker] + b"}")
        entries = _ENTRIES.validate_python(parsed["databases"]) if parsed["version"] == VERSION else None
    except (ValueError, KeyError, TypeError, ValidationError, RecursionError):
        entries = None
    if entries is None:
        raise ConfigError(f"{path}: is of another version of pgseal; run pgseal check --approve")
    return {entry.rules.database: _lock(entry) for entry in entries}


def _body(locks: Mapping[str, Lock]) -> bytes:
    entries = [_entry(locks[database]) for database in sorted(locks)]
    document = {"version": VERSION, "databases": [asdict(entry) for entry in entries]}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), default=_plain).encode("ascii")


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError("not a value of a lock")


def _entry(lock: Lock) -> _Entry:
    rules = lock.rules
    tables = tuple(_without_values(rules.tables[name]) for name in sorted(rules.tables))
    relations = tuple(sorted(lock.relations, key=lambda relation: (relation.schema, relation.name)))
    excepted = tuple(sorted(rules.not_protected))
    written = _Rules(rules.database, tables, dict(rules.roles), excepted, rules.tenant, rules.on_unsupported)
    return _Entry(written, relations)


def _without_values(table: TableRule) -> TableRule:
    """A default is a value: the lock only says that there is one."""
    columns = {name: replace(rule, default=None) for name, rule in table.columns.items()}
    return replace(table, columns=columns)


def _lock(entry: _Entry) -> Lock:
    rules = entry.rules
    tables = {(table.schema, table.name): table for table in rules.tables}
    ruleset = Ruleset(rules.database, 0, tables, rules.roles, frozenset(rules.not_protected), rules.tenant)
    return Lock(replace(ruleset, on_unsupported=rules.on_unsupported), entry.relations)


def _mac(key: bytes, body: bytes) -> bytes:
    mac = HMAC(key, SHA256())
    mac.update(b"pgseal/rules-lock/1\0" + body)
    return mac.finalize()


def _is_authentic(key: bytes, body: bytes, mac_hex: bytes) -> bool:
    mac = HMAC(key, SHA256())
    mac.update(b"pgseal/rules-lock/1\0" + body)
    try:
        mac.verify(bytes.fromhex(mac_hex.decode("ascii")))
    except (ValueError, InvalidSignature):
        return False
    return True


# --- what lowers protection ---------------------------------------------------------------------------


def is_weaker(old: Ruleset, new: Ruleset) -> list[str]:
    """What `new` protects less, or otherwise, than `old`; empty when it may be taken while running."""
    observes = new.on_unsupported is OnUnsupported.OBSERVE and new.on_unsupported is not old.on_unsupported
    return [
        *(["on_unsupported is observe: tables without cells pass as they are"] if observes else []),
        *_weaker_tables(old, new),
        *_weaker_roles(old, new),
        *(
            f"not_protected: {'.'.join(name)} is excepted"
            for name in sorted(new.not_protected - old.not_protected)
        ),
    ]


def _weaker_tables(old: Ruleset, new: Ruleset) -> Iterator[str]:
    for name, before in sorted(old.tables.items()):
        after = new.tables.get(name)
        for column, rule in before.columns.items():
            now = after.columns.get(column) if after else None
            if now is None:
                yield f"{rule.label}: is not protected any more"
            else:
                yield from (f"{rule.label}: {what}" for what in _weaker_column(rule, now))
        if after is not None:
            yield from (f"{'.'.join(name)}: {what}" for what in _weaker_table(before, after))


def _weaker_table(before: TableRule, after: TableRule) -> Iterator[str]:
    if before.tenant != after.tenant:
        yield f"the tenant comes from {_source(after.tenant)}, it came from {_source(before.tenant)}"
    if before.isolation is not after.isolation and before.isolation is Isolation.NONE:
        yield f"isolation is declared as {after.isolation.value}"
    if before.through is not after.through:
        yield f"through is {after.through.value}"


def _source(tenant: TenantRule) -> str:
    words = f"{tenant.source.value} {tenant.name}".strip()
    return words if tenant.required else f"{words} (optional)"


def _weaker_column(before: ColumnRule, now: ColumnRule) -> Iterator[str]:
    if before.mode is Mode.RANDOMISED and now.mode is Mode.DETERMINISTIC:
        yield "mode is deterministic"
    if before.mode is Mode.DETERMINISTIC and now.mode is Mode.RANDOMISED:
        yield "mode is randomised: cells in the table are not"
    if now.search and not before.search:
        yield "search shows which cells are equal"
    if before.scope is Scope.TENANT and now.scope is Scope.TABLE and now.is_comparable:
        yield "scope is table: equality shows across tenants"
    if before.on_denied is not now.on_denied and now.on_denied is not OnDenied.ERROR:
        yield f"on_denied is {now.on_denied.value}"
    if before.mask != now.mask and not now.mask.is_full:
        yield f"mask is {now.mask.form.value}, it was {before.mask.form.value}"
    if now.pad < before.pad:
        yield f"pad is {now.pad}, it was {before.pad}"
    elif now.pad != before.pad and now.mode is Mode.DETERMINISTIC:
        yield "pad of a deterministic column is pinned"
    for name in ("type", "context", "key_type", "bind", "storage"):
        if getattr(before, name) != getattr(now, name):
            yield f"{name} is another"
    if now.is_comparable and before.compare is not now.compare and before.is_comparable:
        yield f"compare is {now.compare.value}"


def _weaker_roles(old: Ruleset, new: Ruleset) -> Iterator[str]:
    for login in sorted({*old.roles, *new.roles, "default"}):
        before, now = old.role(login), new.role(login)
        yield from (f"role {login}: {what}" for what in _weaker_role(before, now))


_SHOWS: Final[Mapping[Read, int]] = {Read.NULL: 1, Read.MASK: 2, Read.PLAIN: 3}


def _weaker_role(before: RoleRule, now: RoleRule) -> Iterator[str]:
    if now.read is Read.DENY and now.write is Write.PLAIN:
        return  # neither reads nor assigns: the rest does not matter
    if before.read is Read.DENY and now.read is not Read.DENY:
        yield f"may read ({now.read.value})"
    elif _SHOWS.get(before.read, 9) < _SHOWS.get(now.read, 0):
        yield f"may read more ({now.read.value}, it was {before.read.value})"
    if before.read is not Read.RAW and now.read is Read.RAW:
        yield "reads cells as they are"
    if before.read is Read.RAW and now.read in (Read.PLAIN, Read.MASK):
        yield "reads plaintext, or a part of it; it read cells"
    if before.write is Write.PLAIN and now.write is Write.RAW:
        yield "writes cells as they are"
    if before.tenants and not set(now.tenants) <= set(before.tenants):
        yield "may use more tenants"
    if before.tenants and not now.tenants:
        yield "may use every tenant"
    if now.cross_tenant and not before.cross_tenant:
        yield "may cross tenants"


def schema_changes(old: Lock, live: tuple[LockedRelation, ...]) -> list[str]:
    """How the live relations differ from the approved ones (PS006 until approved)."""
    now = {(relation.schema, relation.name): relation for relation in live}
    approved = {(relation.schema, relation.name): relation for relation in old.relations}
    changes = [
        f"{'.'.join(name)}: is new and shows protected columns" for name in sorted(now.keys() - approved.keys())
    ]
    changes += [f"{'.'.join(name)}: is gone" for name in sorted(approved.keys() - now.keys())]
    for name in sorted(now.keys() & approved.keys()):
        changes += [f"{'.'.join(name)}: {what}" for what in _relation_changes(approved[name], now[name])]
    return changes


def _relation_changes(approved: LockedRelation, now: LockedRelation) -> Iterator[str]:
    for name, text in (
        ("oid", "is another relation of that name"),
        ("kind", "is of another kind"),
        ("definition", "the view's definition is another"),
        ("triggers", "its triggers or rules are others"),
    ):
        if getattr(approved, name) != getattr(now, name):
            yield text
    columns: dict[str, Any] = {column.name: column for column in now.columns}
    for column in approved.columns:
        found = columns.pop(column.name, None)
        if found is None:
            yield f"column {column.name} is gone"
        elif found != column:
            yield f"column {column.name} stands otherwise (number, type, context or padding)"
    yield from (f"column {name} is new among the protected" for name in columns)
