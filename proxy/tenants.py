"""What a tenant's identity is, and which tenant a rule gives a session.

A tenant is the canonical text of its source's type: at most 255 bytes of UTF-8, not empty, no NUL; nothing is
trimmed or folded, so that two spellings are two tenants. One reason to change: what identifies a tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from proxy.errors import TenantUnknown
from proxy.rules import TenantFrom, TenantRule

MAX_TENANT_SIZE: Final = 255


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """What a session knows of itself: the log-in, the database, and the settings it tracks, by lower-case
    name (None: the setting's value is not known)."""

    user: str
    database: str
    settings: Mapping[str, str | None]


def canonical_tenant(raw: bytes | str) -> str:
    """The identity of a tenant given as text; TenantUnknown for what cannot be one. The text is never shown."""
    try:
        encoded = raw if isinstance(raw, bytes) else raw.encode("utf-8")
        text = encoded.decode("utf-8")
    except UnicodeError:
        raise TenantUnknown("the tenant is not valid UTF-8 text") from None
    if not text:
        raise TenantUnknown("the tenant is empty", hint="Set the tenant before using protected columns.")
    if len(encoded) > MAX_TENANT_SIZE:
        raise TenantUnknown(f"the tenant is longer than {MAX_TENANT_SIZE} bytes")
    if "\0" in text:
        raise TenantUnknown("the tenant contains a NUL character")
    return text


def session_tenant(rule: TenantRule, facts: TenantFacts) -> str | None:
    """The tenant a rule gives a session as a whole; None for a rule by column (each row has its own) and where
    an optional tenant is not set. TenantUnknown where a required one is missing."""
    match rule.source:
        case TenantFrom.COLUMN:
            return None
        case TenantFrom.FIXED:
            return canonical_tenant(rule.name)
        case TenantFrom.USER:
            return canonical_tenant(facts.user)
        case TenantFrom.DATABASE:
            return canonical_tenant(facts.database)
        case TenantFrom.SETTING:
            return _from_setting(rule, facts)
        case _:
            assert_never(rule.source)


def _from_setting(rule: TenantRule, facts: TenantFacts) -> str | None:
    value = facts.settings.get(rule.name.lower())
    if value:  # PostgreSQL shows a custom setting that was reset as the empty string
        return canonical_tenant(value)
    if not rule.required:
        return None
    raise TenantUnknown(
        f'the tenant is not known: the setting "{rule.name}" is not set in this session',
        hint=f"SET {rule.name} = '<tenant>' before using protected columns.",
    )
