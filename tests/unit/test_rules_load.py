"""Rules files: what they resolve to, every reason to refuse one, and the JSON Schema beside them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from proxy.crypto.envelope import FIXED_BLOCKS
from proxy.errors import ConfigError
from proxy.rules import Compare, Mode, OnDenied, Read, Ruleset, Scope, Storage, TenantFrom, Write
from proxy.rules_file import schema_text, write_schema
from proxy.rules_load import FIXED_PADS, load_rules

ROOT = Path(__file__).resolve().parents[2]
TENANT = "tenant: {from: fixed, name: main}\n"


def load(tmp_path: Path, text: str) -> Ruleset:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return load_rules(path, "app")["app"]


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return caught.value.message.replace(f"{tmp_path}/", "")


def table(*columns: str, top: str = TENANT, more: str = "") -> str:
    """A rules file of one table with these columns, each on a line of its own from line 6 on."""
    lines = "".join(f"      {column}\n" for column in columns)
    return f"version: 1\n{top}tables:\n  public.t:\n    columns:\n{lines}{more}"


def test_rules_table_without_schema_says_how_it_is_written(tmp_path: Path) -> None:
    """Words, not the pattern that the name does not match."""
    said = refusal(tmp_path, table("a: {type: text}").replace("public.t", "people"))
    assert said == "rules.yaml:4: tables.people: a table is written schema.table, such as public.patients"


def test_rules_wrong_indentation_says_what_to_look_at(tmp_path: Path) -> None:
    """What the YAML scanner says is in its own words; after them stands what to do."""
    said = refusal(tmp_path, table("a: {type: text}").replace("  public", "\tpublic"))
    assert said.startswith("rules.yaml:4: ")
    assert "look at the indentation" in said


def test_rules_example_resolves_to_what_it_says() -> None:
    """The example beside the schema loads, with every default resolved."""
    rules = load_rules(ROOT / "rules", "app")["app"]
    patients = rules.tables["public", "patients"]
    assert (patients.tenant.source, patients.tenant.name) == (TenantFrom.COLUMN, "hospital_id")
    assert rules.tenant is not None and rules.tenant.name == "app.tenant_id"
    ssn, email, badge = (patients.columns[name] for name in ("ssn", "email", "badge"))
    assert (ssn.search, ssn.scope, ssn.pad, ssn.context) == (True, Scope.TENANT, 16, "public.patients.ssn")
    assert (email.compare, email.scope, email.type.typmod) == (Compare.NOCASE, Scope.TABLE, 258)
    assert (badge.mode, badge.search, badge.is_comparable) == (Mode.DETERMINISTIC, False, True)
    assert patients.columns["notes"].bind == ("id",)
    assert patients.columns["notes"].pad == 64
    assert rules.role("nobody").read is Read.DENY
    assert rules.role("backup").write is Write.RAW
    assert rules.not_protected == {("archive", "patients")}


def test_rules_least_column_has_the_defaults(tmp_path: Path) -> None:
    """A column with nothing but its type is randomised bytea without search."""
    column = load(tmp_path, table("a: {type: text}")).tables["public", "t"].columns["a"]
    assert (column.mode, column.search, column.storage, column.pad) == (Mode.RANDOMISED, False, Storage.BYTEA, 16)
    assert (column.context, column.key_type, column.on_denied) == ("public.t.a", "PII_DATA", OnDenied.ERROR)
    assert (column.has_default, column.default) == (False, None)


@pytest.mark.parametrize(
    ("column", "default"),
    [
        ("{type: int4, default: 7}", b"7"),
        ("{type: 'numeric(6,2)', default: 1.5}", b"1.50"),
        ("{type: bool, default: true}", b"t"),
        ("{type: text, default: '007'}", b"007"),
        ("{type: text, default: 007}", b"007"),
        ("{type: text, default: ''}", b""),
        ("{type: date, default: 2020-02-29}", b"2020-02-29"),
        ("{type: date, default: null}", None),
    ],
)
def test_rules_default_becomes_the_display_form(tmp_path: Path, column: str, default: bytes | None) -> None:
    """A default is read as PostgreSQL reads it; a NULL default is one too."""
    rule = load(tmp_path, table(f"a: {column}")).tables["public", "t"].columns["a"]
    assert rule.has_default
    assert rule.default == default


@pytest.mark.parametrize(("type_", "pad"), [("int2", 24), ("int8", 24), ("uuid", 40), ("date", 16), ("text", 16)])
def test_rules_pad_follows_the_family(tmp_path: Path, type_: str, pad: int) -> None:
    """Families of like length have one fixed block."""
    assert load(tmp_path, table(f"a: {{type: {type_}}}")).tables["public", "t"].columns["a"].pad == pad


def test_rules_fixed_pads_are_those_of_the_envelope() -> None:
    """One table of blocks, in docs/envelope.md."""
    assert dict(FIXED_PADS) == dict(FIXED_BLOCKS)


def test_rules_pad_none_is_a_block_of_zero(tmp_path: Path) -> None:
    """The word none, not the number."""
    assert load(tmp_path, table("a: {type: text, pad: none}")).tables["public", "t"].columns["a"].pad == 0


def test_rules_deterministic_with_scope_table_keeps_the_scope(tmp_path: Path) -> None:
    """A deterministic column may be comparable across tenants; it has no token."""
    text = table("a: {type: text, mode: deterministic, search: {by: equality, scope: table}}")
    column = load(tmp_path, text).tables["public", "t"].columns["a"]
    assert (column.search, column.scope) == (False, Scope.TABLE)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("a: {type: txt}", "rules.yaml:6: public.t.a: unknown type"),
        ("a: {typ: text}", "rules.yaml:6: unknown key 'typ'; did you mean 'type'?"),
        ("a: {type: text, token_column: b}", "'token_column' is not in this version"),
        ("a: {type: text, search: range}", "'search: range' is not in this version"),
        ("a: {type: text, mask: year}", "mask: year is for date and timestamp"),
        ("a: {type: date, mask: last4}", "mask: last4 is for text and varchar; type date takes year or full"),
        ("a: {type: int4, mask: first1}", "type int4 takes full, which is shown as NULL"),
        ("a: {type: timestamptz, mask: year}", "a timestamptz is shown as NULL, by mask: full"),
        ("a: {type: text, mask: {pattern: '###'}}", "this one shows all of a value"),
        ("a: {type: text, mask: {pattern: '\u00e4#'}}", "printable ASCII"),
        ("a: {type: varchar(3), mask: {pattern: '**##'}}", "longer than varchar(3)"),
        ("a: {type: text, mask: none}", "mask"),
        ("a: {type: text, search: equal}", "search.by"),
        ("a: {type: text, search: {by: equality, scop: table}}", "did you mean 'scope'?"),
        ("a: {type: text, on_denied: null}", "in quotes"),
        ("a: {type: text, key_type: phi}", "key_type"),
        ("a: {type: text, pad: 0}", "pad"),
        ("a: {type: text, pad: 99999}", "pad"),
        ("a: {type: int4, pad: 32}", "fixed padding of 24"),
        ("a: {type: float8, search: equality}", "type float8 offers no equality"),
        ("a: {type: json, mode: deterministic}", "type json offers no equality"),
        ("a: {type: jsonb, mode: deterministic}", "write search: equality instead"),
        ("a: {type: numeric, mode: deterministic}", "as in numeric(12,2)"),
        ("a: {type: bool, search: equality}", "accept_leakage"),
        ("a: {type: bool, mode: deterministic}", "accept_leakage"),
        ("a: {type: int4, search: {by: equality, compare: nocase}}", "for text and varchar"),
        ("a: {type: text, mode: deterministic, search: {by: equality, compare: nocase}}", "does not go with"),
        ("a: {type: text, mode: deterministic, bind: [id]}", "'bind' does not go with"),
        ("a: {type: text, bind: [a]}", "'a' is protected"),
        ("a: {type: text, bind: [id, id]}", "names a column twice"),
        ("a: {type: date, default: canary}", "not a value of type date"),
        ("a: {type: int2, default: 99999}", "not a value of type int2"),
        ("a: {type: text, default: [1]}", "default"),
        ("a: text", "columns.a"),
        (f"{'x' * 64}: {{type: text}}", "columns"),
        (f"{'é' * 32}: {{type: text}}", "at most 63 bytes"),
    ],
)
def test_rules_column_that_cannot_be_is_refused(tmp_path: Path, column: str, reason: str) -> None:
    """Each refusal has its line and what to do; a default's value is not shown."""
    text = refusal(tmp_path, table(column))
    assert reason in text
    assert "canary" not in text
    assert "rules.yaml:6" in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (table("a: {type: text}", top=""), "rules.yaml:3: public.t has no tenant"),
        (table("a: {type: text}", top="tenant: {from: setting, name: tenant}\n"), "a prefix and a dot"),
        (table("a: {type: text}", top="tenant: {from: setting}\n"), "needs the key 'name'"),
        (table("a: {type: text}", top="tenant: {from: user, name: x}\n"), "takes no 'name'"),
        (table("a: {type: text}", top="tenant: {from: column, name: a}\n"), "cannot be protected itself"),
        (table("a: {type: text}", top="tenant: {from: nowhere}\n"), "tenant.from"),
        (table("a: {type: text}", top=TENANT + "on_unsupported: guess\n"), "on_unsupported"),
        (table("a: {type: text}").replace("public.t", "t"), "tables"),
        (table("a: {type: text}").replace("public.t", "pgseal.t"), "schema 'pgseal' cannot"),
        (table("a: {type: text}").replace("public.t", "pg_catalog.t"), "schema 'pg_catalog' cannot"),
        (table("a: {type: text}").replace("version: 1", "version: 2"), "version"),
        (table("a: {type: text}").replace("version: 1\n", ""), "the key 'version' is missing"),
        (table("a: {type: text}", more="roles: {x: {read: raw}}\n"), "go together"),
        (table("a: {type: text}", more="roles: {x: {read: plain, write: raw}}\n"), "go together"),
        (table("a: {type: text}", more="roles: {x: {read: plain, tenants: []}}\n"), "roles.x.tenants"),
        (table("a: {type: text}", more="roles: {x: {read: plain, cross_tenant: 1}}\n"), "cross_tenant"),
        (table("a: {type: text}", more="not_protected: [public.t]\n"), "is protected by a rule"),
        (table("a: {type: text}", more="not_protected: [x.other]\n"), "nothing to except"),
        ("version: 1\n", "the key 'tables' is missing"),
    ],
)
def test_rules_file_that_cannot_be_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """Tenants, tables, roles and versions are checked like columns."""
    assert reason in refusal(tmp_path, text)


def test_rules_context_shared_by_columns_sealed_alike_is_taken(tmp_path: Path) -> None:
    """A JOIN over two tables needs one context; it is written on one of them."""
    text = table("a: {type: text, search: equality}") + (
        "  public.u:\n    columns:\n      b: {type: varchar(9), search: equality, context: public.t.a}\n"
    )
    assert load(tmp_path, text).tables["public", "u"].columns["b"].context == "public.t.a"


def test_rules_context_shared_by_unlike_columns_is_refused(tmp_path: Path) -> None:
    """Two columns of one context never differ in how they are sealed, and one table never uses it twice."""
    unlike = table("a: {type: text, search: equality}", "b: {type: text, context: public.t.a}") + (
        "  public.u:\n    columns:\n      b: {type: int4, key_type: X, context: public.t.a}\n"
    )
    text = refusal(tmp_path, unlike)
    assert "rules.yaml:7: public.t.b: public.t.a has the same context in the same table" in text
    assert "rules.yaml:10: public.u.b: shares its context with public.t.a, which differs in: type, search" in text


def test_rules_with_many_faults_name_all_of_them(tmp_path: Path) -> None:
    """Nothing is left for the second try."""
    text = refusal(
        tmp_path, table("a: {type: bool, search: equality}", "b: {type: txt}", "c: {type: int4, pad: 3}")
    )
    assert [line.split(":")[1] for line in text.splitlines()] == ["6", "7", "8"]


def test_rules_folder_gives_each_database_its_file(tmp_path: Path) -> None:
    """Every YAML file of the folder counts, other files do not; a broken one does not hide another's faults."""
    (tmp_path / "a.yaml").write_text(table("a: {type: text}"))
    (tmp_path / "b.yml").write_text("database: other\n" + table("a: {type: text}"))
    (tmp_path / "schema.json").write_text("{}")
    assert set(load_rules(tmp_path, "app")) == {"app", "other"}
    (tmp_path / "c.yaml").write_text(table("a: {type: text}"))
    (tmp_path / "d.yaml").write_text("a: [")
    with pytest.raises(ConfigError) as caught:
        load_rules(tmp_path, "app")
    assert "another file has rules of database 'app'" in caught.value.message
    assert "d.yaml:1" in caught.value.message


def test_rules_folder_without_files_protects_nothing(tmp_path: Path) -> None:
    """No rules is a state, not an error; a missing path is one."""
    assert load_rules(tmp_path, "app") == {}
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rules(tmp_path / "none.yaml", "app")


def test_schema_file_is_the_one_the_code_writes(tmp_path: Path) -> None:
    """rules/schema.json is current."""
    write_schema(tmp_path / "schema.json")
    assert (ROOT / "rules/schema.json").read_text() == (tmp_path / "schema.json").read_text()


def is_accepted(text: str) -> bool:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text()))
    return validator.is_valid(yaml.safe_load(text))


def test_schema_accepts_what_loads_and_refuses_wrong_keys() -> None:
    """An editor that checks by the schema says what the loader says."""
    assert is_accepted((ROOT / "rules/clinic.yaml").read_text())
    assert is_accepted(table("a: {type: text, pad: none, search: {by: equality}, default: 5}"))
    for bad in (
        "{typ: text}",
        "{type: text, mask: x}",
        "{type: text, search: range}",
        "{type: text, pad: 0}",
        "{}",
    ):
        assert not is_accepted(table(f"a: {bad}"))
    assert not is_accepted("version: 2\ntables: {}\n")


def test_rules_masks_and_roles_that_see_them_resolve(tmp_path: Path) -> None:
    """Each form of a mask, full where none is written, and the rights that show it."""
    rules = load(
        tmp_path,
        table(
            "a: {type: text}",
            "b: {type: text, mask: last4, on_denied: mask}",
            "c: {type: varchar(11), mask: {pattern: '***-**-####'}}",
            "d: {type: date, mask: year}",
            "e: {type: int4, mask: full}",
            more='roles: {x: {read: mask}, y: {read: "null"}}\n',
        ),
    )
    columns = rules.tables["public", "t"].columns
    assert [columns[name].mask.form.value for name in "abcde"] == ["full", "last4", "pattern", "year", "full"]
    assert (columns["c"].mask.pattern, columns["b"].on_denied) == ("***-**-####", OnDenied.MASK)
    assert (rules.role("x").read, rules.role("y").read) == (Read.MASK, Read.NULL)
