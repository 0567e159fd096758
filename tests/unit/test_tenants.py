"""A tenant's identity, and which tenant a rule gives a session."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import TenantUnknown
from proxy.rules import TenantFrom, TenantRule
from proxy.tenants import TenantFacts, canonical_tenant, session_tenant


@pytest.mark.parametrize("raw", ["a", " a ", "A", "é" * 127, b"hospital-7", "x" * 255])
def test_tenant_text_is_kept_as_it_is(raw: str | bytes) -> None:
    """Nothing is trimmed or folded."""
    text = raw if isinstance(raw, str) else raw.decode()
    assert canonical_tenant(raw) == text


@pytest.mark.parametrize("raw", ["", b"", "x" * 256, "é" * 128, "a\0b", b"\xff", "\ud800"])
def test_tenant_that_cannot_be_one_is_ps002_and_not_shown(raw: str | bytes) -> None:
    """Empty, too long, NUL and broken text have no identity; the text stays out of the message."""
    with pytest.raises(TenantUnknown) as caught:
        canonical_tenant(raw)
    assert caught.value.sqlstate == "PS002"
    assert "x" * 20 not in caught.value.message


@given(st.binary(max_size=400))
def test_tenant_of_any_bytes_is_an_identity_or_ps002(raw: bytes) -> None:
    """Two different byte strings never become one tenant."""
    with contextlib.suppress(TenantUnknown):
        assert canonical_tenant(raw).encode() == raw


FACTS = TenantFacts("app", "clinic", {"app.tenant_id": "a", "app.empty": "", "app.lost": None})


@pytest.mark.parametrize(
    ("rule", "tenant"),
    [
        (TenantRule(TenantFrom.FIXED, "main"), "main"),
        (TenantRule(TenantFrom.USER), "app"),
        (TenantRule(TenantFrom.DATABASE), "clinic"),
        (TenantRule(TenantFrom.SETTING, "App.Tenant_ID"), "a"),
        (TenantRule(TenantFrom.SETTING, "app.none", required=False), None),
        (TenantRule(TenantFrom.COLUMN, "hospital_id"), None),
    ],
)
def test_session_tenant_by_each_source(rule: TenantRule, tenant: str | None) -> None:
    """Each source gives its own; a column's tenant is each row's."""
    assert session_tenant(rule, FACTS) == tenant


@pytest.mark.parametrize("name", ["app.none", "app.empty", "app.lost"])
def test_session_tenant_missing_where_required_is_ps002(name: str) -> None:
    """Not set, reset to nothing and not known are all unknown."""
    with pytest.raises(TenantUnknown, match="is not set in this session") as caught:
        session_tenant(TenantRule(TenantFrom.SETTING, name), FACTS)
    assert caught.value.hint is not None and caught.value.hint.startswith(f"SET {name}")
