"""Whose key a column's cells and tokens take, and which key may open them: docs/envelope.md, "Index domains".

Pure. One reason to change: the rule of whose key it is.
"""

from __future__ import annotations

from typing import Final

from proxy.errors import TenantUnknown
from proxy.keys.material import ActiveKeyNeed
from proxy.keys.records import KeyRecord, Purpose
from proxy.rules import ColumnRule, Mode, Scope

MAX_TENANT: Final = 255
ALL_TENANTS: Final = ""  # the identity of what belongs to all tenants; no tenant has it
_NO_TENANT: Final = "the tenant is empty, longer than 255 bytes, or no text"


def cell_need(rule: ColumnRule, tenant: str) -> ActiveKeyNeed:
    """The key that seals a cell. TenantUnknown where the text is no tenant's identity and one is needed."""
    if rule.mode is Mode.DETERMINISTIC:
        return index_need(rule, tenant)
    return ActiveKeyNeed(_checked(tenant, rule), rule.key_type, Purpose.DATA.value)


def index_need(rule: ColumnRule, tenant: str) -> ActiveKeyNeed:
    """The key of what is compared."""
    owner = ALL_TENANTS if rule.scope is Scope.TABLE else _checked(tenant, rule)
    return ActiveKeyNeed(owner, rule.key_type, Purpose.INDEX.value)


def _checked(tenant: str, rule: ColumnRule) -> str:
    """A tenant's identity: 1 to 255 bytes that PostgreSQL takes as text."""
    if is_tenant(tenant):
        return tenant
    raise TenantUnknown(_NO_TENANT, column=rule.label, hint="set the tenant before the statement")


def is_tenant(tenant: str) -> bool:
    """True for what may be the identity of one tenant."""
    try:
        return 1 <= len(tenant.encode()) <= MAX_TENANT and "\0" not in tenant
    except UnicodeEncodeError:
        return False


def check_need(need: ActiveKeyNeed) -> None:
    """TenantUnknown where no key may ever belong to what is named."""
    is_domain = need.tenant == ALL_TENANTS and need.purpose == Purpose.INDEX.value
    if not is_domain and not is_tenant(need.tenant):
        raise TenantUnknown(_NO_TENANT)


def line_of(need: ActiveKeyNeed) -> tuple[str, str, str]:
    """`KeyRecord.line` of what is needed."""
    return (need.tenant, need.key_type, need.purpose)


def has_token(rule: ColumnRule) -> bool:
    """True where a cell carries a token."""
    return rule.search and rule.mode is Mode.RANDOMISED


def may_open(record: KeyRecord, rule: ColumnRule) -> bool:
    """May this key open a cell of this column at all? Purpose, status and domain must fit the rule."""
    if not record.can_open:
        return False
    if rule.mode is Mode.DETERMINISTIC:
        is_common = record.tenant == ALL_TENANTS
        return record.purpose is Purpose.INDEX and is_common == (rule.scope is Scope.TABLE)
    return record.purpose is Purpose.DATA
