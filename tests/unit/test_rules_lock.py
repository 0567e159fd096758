"""rules.lock: its form, its MAC, and what counts as protecting less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.rules import (
    ColumnRule,
    Compare,
    Isolation,
    Mode,
    OnDenied,
    OnUnsupported,
    Read,
    RoleRule,
    Ruleset,
    Scope,
    Storage,
    TableRule,
    TenantFrom,
    TenantRule,
    Through,
    Write,
)
from proxy.rules_lock import (
    Lock,
    LockedColumn,
    LockedRelation,
    is_weaker,
    read_locks,
    schema_changes,
    write_locks,
)
from proxy.values.masks import Mask, MaskForm
from proxy.values.registry import parse_type

KEY = bytes(range(32))
COLUMN = ColumnRule(
    "public.t", "a", parse_type("text"), "public.t.a", has_default=True, default=b"canary", bind=("id",)
)
TABLE = TableRule("public", "t", TenantRule(TenantFrom.SETTING, "app.tenant"), {"a": COLUMN})
RULES = Ruleset(
    "app",
    3,
    {("public", "t"): TABLE},
    {"app": RoleRule(Read.PLAIN, tenants=("a",))},
    frozenset({("x", "t")}),
    TABLE.tenant,
)
RELATION = LockedRelation(
    "public", "t", 16401, "r", (LockedColumn("a", 2, "bytea", "public.t.a"),), triggers=("CREATE TRIGGER x",)
)
LOCK = Lock(RULES, (RELATION,))


def with_column(**changes: object) -> Ruleset:
    return with_table(columns={"a": replace(COLUMN, **changes)})  # type: ignore[arg-type]


def with_table(**changes: object) -> Ruleset:
    return replace(RULES, tables={("public", "t"): replace(TABLE, **changes)})  # type: ignore[arg-type]


def with_role(**changes: object) -> Ruleset:
    return replace(RULES, roles={"app": replace(RULES.roles["app"], **changes)})  # type: ignore[arg-type]


def test_lock_written_and_read_gives_the_same_rules_without_values(tmp_path: Path) -> None:
    """Everything comes back but a default's value, which the file does not hold."""
    path = tmp_path / "rules.lock"
    write_locks(path, {"app": LOCK}, KEY)
    lock = read_locks(path, KEY)["app"]
    assert lock.relations == (RELATION,)
    assert lock.rules == replace(RULES, epoch=0, tables={("public", "t"): replace(
        TABLE, columns={"a": replace(COLUMN, default=None)})})  # fmt: skip
    assert b"canary" not in path.read_bytes()
    assert is_weaker(lock.rules, RULES) == []


def test_lock_of_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    """The form is canonical: order of databases and relations does not matter."""
    one, two = tmp_path / "1", tmp_path / "2"
    other = Lock(replace(RULES, database="other"), (replace(RELATION, name="v", kind="v"), RELATION))
    write_locks(one, {"app": LOCK, "other": other}, KEY)
    write_locks(two, {"other": replace(other, relations=other.relations[::-1]), "app": LOCK}, KEY)
    assert one.read_bytes() == two.read_bytes()


def test_lock_without_file_is_empty(tmp_path: Path) -> None:
    """Nothing was approved yet."""
    assert read_locks(tmp_path / "rules.lock", KEY) == {}


def test_lock_with_any_byte_changed_is_refused(tmp_path: Path) -> None:
    """A lock not written by pgseal with this key is none."""
    path = tmp_path / "rules.lock"
    write_locks(path, {"app": LOCK}, KEY)
    line = path.read_bytes()
    for at in range(0, len(line), 7):
        path.write_bytes(line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :])
        with pytest.raises(ConfigError, match="check --approve"):
            read_locks(path, KEY)
    path.write_bytes(line)
    with pytest.raises(ConfigError, match="check --approve"):
        read_locks(path, bytes(32))
    for cut in (b"", line[:-1], line[:40], b"{}", line + line):
        path.write_bytes(cut)
        with pytest.raises(ConfigError, match="check --approve"):
            read_locks(path, KEY)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (replace(RULES, tables={}), "public.t.a: is not protected any more"),
        (with_table(columns={}), "public.t.a: is not protected any more"),
        (with_column(mode=Mode.DETERMINISTIC), "mode is deterministic"),
        (with_column(search=True), "search shows"),
        (with_column(search=True, scope=Scope.TABLE), "scope is table"),
        (with_column(on_denied=OnDenied.NULL), "on_denied is null"),
        (with_column(pad=1), "pad is 1, it was 16"),
        (with_column(mask=Mask(MaskForm.LAST4)), "mask is last4, it was full"),
        (with_column(on_denied=OnDenied.MASK), "on_denied is mask"),
        (with_column(type=parse_type("int4")), "type is another"),
        (with_column(context="x"), "context is another"),
        (with_column(key_type="X"), "key_type is another"),
        (with_column(bind=()), "bind is another"),
        (with_column(storage=Storage.TEXT), "storage is another"),
        (with_table(tenant=TenantRule(TenantFrom.FIXED, "x")), "the tenant comes from fixed x"),
        (with_table(tenant=replace(TABLE.tenant, required=False)), "(optional)"),
        (with_table(isolation=Isolation.RLS), "isolation is declared"),
        (with_table(through=Through.VIEW), "through is view"),
        (with_role(tenants=("a", "b")), "role app: may use more tenants"),
        (with_role(tenants=()), "role app: may use every tenant"),
        (with_role(cross_tenant=True), "role app: may cross tenants"),
        (with_role(read=Read.RAW, write=Write.RAW), "role app: writes cells as they are"),
        (replace(RULES, roles={**RULES.roles, "x": RoleRule(Read.PLAIN)}), "role x: may read (plain)"),
        (replace(RULES, roles={**RULES.roles, "x": RoleRule(Read.MASK)}), "role x: may read (mask)"),
        (replace(RULES, roles={**RULES.roles, "default": RoleRule(Read.RAW)}), "role default: may read (raw)"),
        (replace(RULES, not_protected=frozenset({("x", "t"), ("y", "t")})), "not_protected: y.t"),
        (replace(RULES, on_unsupported=OnUnsupported.OBSERVE), "on_unsupported is observe"),
    ],
)
def test_change_that_lowers_protection_is_named(new: Ruleset, words: str) -> None:
    """Each way to protect less is said in words."""
    assert any(words in text for text in is_weaker(RULES, new))


@pytest.mark.parametrize(
    "new",
    [
        RULES,
        replace(RULES, epoch=9),
        with_column(pad=32),
        with_column(default=b"x"),
        with_table(columns={"a": COLUMN, "b": replace(COLUMN, column="b", context="b")}),
        with_role(read=Read.DENY),
        with_role(read=Read.MASK),
        with_role(read=Read.NULL),
        replace(RULES, roles={}),
        replace(RULES, not_protected=frozenset()),
    ],
)
def test_change_that_protects_as_much_or_more_is_taken(new: Ruleset) -> None:
    """More columns, less rights and wider padding need no approval."""
    assert is_weaker(RULES, new) == []


def test_deterministic_padding_is_pinned_both_ways() -> None:
    """A wider block of a deterministic column changes what is equal."""
    old = with_column(mode=Mode.DETERMINISTIC, bind=())
    new = with_column(mode=Mode.DETERMINISTIC, bind=(), pad=32)
    assert is_weaker(old, new) == ["public.t.a: pad of a deterministic column is pinned"]


def test_compare_changed_on_a_searchable_column_is_named() -> None:
    """Tokens in the table were made by the other comparison."""
    old, new = with_column(search=True), with_column(search=True, compare=Compare.NOCASE)
    assert is_weaker(old, new) == ["public.t.a: compare is nocase"]


@pytest.mark.parametrize(
    ("live", "words"),
    [
        ((), "public.t: is gone"),
        ((RELATION, replace(RELATION, name="v", kind="v")), "public.v: is new"),
        ((replace(RELATION, oid=2),), "another relation of that name"),
        ((replace(RELATION, kind="v"),), "of another kind"),
        ((replace(RELATION, definition="SELECT"),), "definition is another"),
        ((replace(RELATION, triggers=()),), "triggers or rules are others"),
        ((replace(RELATION, columns=()),), "column a is gone"),
        ((replace(RELATION, columns=(replace(RELATION.columns[0], type="text"),)),), "column a stands otherwise"),
        (
            (replace(RELATION, columns=(*RELATION.columns, LockedColumn("b", 3, "bytea", "b"))),),
            "column b is new",
        ),
        ((RELATION,), ""),
    ],
)
def test_live_schema_that_differs_from_the_lock_is_named(live: tuple[LockedRelation, ...], words: str) -> None:
    """OIDs, kinds, definitions, triggers and columns are compared; the same is silent."""
    changes = schema_changes(LOCK, live)
    assert any(words in text for text in changes) if words else changes == []


@pytest.mark.parametrize(
    ("before", "now"), [(Read.MASK, Read.PLAIN), (Read.NULL, Read.MASK), (Read.NULL, Read.PLAIN)]
)
def test_role_that_sees_more_of_a_value_than_before_is_named(before: Read, now: Read) -> None:
    """A mask, NULL and nothing stand in this order below plaintext."""
    assert is_weaker(with_role(read=before), with_role(read=now)) == [
        f"role app: may read more ({now.value}, it was {before.value})"
    ]
    assert not is_weaker(with_role(read=now), with_role(read=before))
