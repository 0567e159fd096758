"""The rules of one database: which columns are protected, how, for which tenants, and who may read.

This file owns the resolved rules (what every other package works with) and their loading from YAML.
One reason to change: the rules language (DESIGN, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from proxy.values.base import LogicalType
from proxy.values.masks import FULL, Mask


class Mode(Enum):
    RANDOMISED = "randomised"
    DETERMINISTIC = "deterministic"


class Compare(Enum):
    EXACT = "exact"
    NOCASE = "nocase"


class Scope(Enum):
    TENANT = "tenant"
    TABLE = "table"


class Storage(Enum):
    BYTEA = "bytea"
    TEXT = "text"


class OnDenied(Enum):
    ERROR = "error"
    NULL = "null"
    MASK = "mask"


class TenantFrom(Enum):
    SETTING = "setting"
    COLUMN = "column"
    FIXED = "fixed"
    DATABASE = "database"
    USER = "user"


class Isolation(Enum):
    NONE = "none"
    RLS = "rls"
    TENANT_ONLY = "tenant-only"


class Through(Enum):
    TABLE = "table"
    VIEW = "view"


class OnUnsupported(Enum):
    """OBSERVE: tables that hold no cell yet pass, and what would be refused there is reported."""

    REFUSE = "refuse"
    OBSERVE = "observe"


class Read(Enum):
    PLAIN = "plain"
    MASK = "mask"
    NULL = "null"
    DENY = "deny"
    RAW = "raw"


class Write(Enum):
    PLAIN = "plain"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class TenantRule:
    """`name` is the setting's, the column's or the fixed tenant's name; empty for database and user."""

    source: TenantFrom
    name: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """One protected column. `pad` is the block in bytes (0: none). `default` is the rule's default as
    display form, `has_default` tells a NULL default from none."""

    table: str  # 'public.patients', as written in the rules
    column: str
    type: LogicalType
    context: str
    key_type: str = "PII_DATA"
    mode: Mode = Mode.RANDOMISED
    search: bool = False
    compare: Compare = Compare.EXACT
    scope: Scope = Scope.TENANT
    storage: Storage = Storage.BYTEA
    pad: int = 16
    bind: tuple[str, ...] = ()
    on_denied: OnDenied = OnDenied.ERROR
    mask: Mask = FULL
    has_default: bool = False
    default: bytes | None = None
    accept_leakage: str = ""

    @property
    def label(self) -> str:
        """`schema.table.column`, as errors, metrics and audit events name it."""
        return f"{self.table}.{self.column}"

    @property
    def is_comparable(self) -> bool:
        """True where equality is offered: deterministic, or randomised with search."""
        return self.search or self.mode is Mode.DETERMINISTIC


@dataclass(frozen=True, slots=True)
class TableRule:
    schema: str
    name: str
    tenant: TenantRule
    columns: Mapping[str, ColumnRule]
    isolation: Isolation = Isolation.NONE
    through: Through = Through.TABLE


@dataclass(frozen=True, slots=True)
class RoleRule:
    """Rights of a proved log-in. `tenants` empty: every tenant."""

    read: Read = Read.DENY
    write: Write = Write.PLAIN
    tenants: tuple[str, ...] = ()
    cross_tenant: bool = False


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules of one database. `epoch` rises with each accepted change within a process."""

    database: str
    epoch: int
    tables: Mapping[tuple[str, str], TableRule]  # (schema, name)
    roles: Mapping[str, RoleRule]
    not_protected: frozenset[tuple[str, str]] = frozenset()
    tenant: TenantRule | None = None  # the database's own, which a table's rule may override
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)  # table -> why (PS006), by schema_check
    on_unsupported: OnUnsupported = OnUnsupported.REFUSE

    def role(self, login: str) -> RoleRule:
        """The rule of a log-in, else `default`, else deny."""
        return self.roles.get(login) or self.roles.get("default") or RoleRule()
