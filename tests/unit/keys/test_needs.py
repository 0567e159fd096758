"""Whose key it is: the table of docs/envelope.md, "Index domains"."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import TenantUnknown
from proxy.keys.material import ActiveKeyNeed
from proxy.keys.needs import cell_need, check_need, has_token, index_need, is_tenant, may_open
from proxy.keys.records import KeyRecord, KeyStatus, Purpose
from proxy.rules import ColumnRule, Mode, Scope
from proxy.values.registry import parse_type

RULE = ColumnRule("public.t", "c", parse_type("text"), "public.t.c", key_type="PHI")
DET = replace(RULE, mode=Mode.DETERMINISTIC)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RECORD = KeyRecord(
    1, "a", "a/PHI/data/1", "PHI", Purpose.DATA, 1, KeyStatus.ACTIVE, "AES-256", "main", b"", None, NOW, NOW,
    None, None, None, None, (), (), None, None, "pgseal", "pgseal", 1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "cell", "index"),
    [
        (RULE, ("a", "data"), ("a", "index")),
        (replace(RULE, search=True), ("a", "data"), ("a", "index")),
        (replace(RULE, search=True, scope=Scope.TABLE), ("a", "data"), ("", "index")),
        (DET, ("a", "index"), ("a", "index")),
        (replace(DET, scope=Scope.TABLE), ("", "index"), ("", "index")),
    ],
)
def test_need_of_rule_names_owner_and_purpose(
    rule: ColumnRule, cell: tuple[str, str], index: tuple[str, str]
) -> None:
    """Cells and tokens by mode and scope."""
    assert cell_need(rule, "a") == ActiveKeyNeed(cell[0], "PHI", cell[1])
    assert index_need(rule, "a") == ActiveKeyNeed(index[0], "PHI", index[1])
    assert has_token(rule) == (rule.search and rule.mode is Mode.RANDOMISED)


@given(st.one_of(st.text(), st.text(min_size=120, max_size=300)))
def test_tenant_of_any_text_is_an_identity_or_refused(tenant: str) -> None:
    """1 to 255 bytes without NUL; nothing else reaches a key."""
    is_fine = "\0" not in tenant and 1 <= len(tenant.encode("utf-8", "surrogatepass")) <= 255
    is_fine = is_fine and tenant.encode("utf-8", "replace").decode() == tenant
    assert is_tenant(tenant) == is_fine
    need = ActiveKeyNeed(tenant, "PHI", "data")
    if is_fine:
        assert cell_need(RULE, tenant) == need
        check_need(need)
        return
    with pytest.raises(TenantUnknown) as caught:
        cell_need(RULE, tenant)
    assert caught.value.sqlstate == "PS002" and caught.value.column == "public.t.c"
    with pytest.raises(TenantUnknown):
        check_need(need)


def test_check_need_of_the_domain_takes_index_only() -> None:
    """The empty identity has index keys and no data keys."""
    check_need(ActiveKeyNeed("", "PHI", "index"))
    with pytest.raises(TenantUnknown):
        check_need(ActiveKeyNeed("", "PHI", "data"))


@pytest.mark.parametrize("status", KeyStatus)
def test_may_open_by_status_follows_the_document(status: KeyStatus) -> None:
    """ACTIVE, ROTATED and EXPIRED open."""
    opens = status in (KeyStatus.ACTIVE, KeyStatus.ROTATED, KeyStatus.EXPIRED)
    assert may_open(replace(RECORD, status=status), RULE) == opens


def test_may_open_of_another_purpose_or_domain_is_false() -> None:
    """Data keys open randomised cells, index keys deterministic ones of their own domain."""
    index = replace(RECORD, purpose=Purpose.INDEX)
    common = replace(index, tenant="")
    table = replace(DET, scope=Scope.TABLE)
    assert may_open(RECORD, RULE) and may_open(index, DET) and may_open(common, table)
    for record, rule in ((index, RULE), (RECORD, DET), (common, DET), (index, table), (RECORD, table)):
        assert not may_open(record, rule)
