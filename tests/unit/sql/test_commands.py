"""Commands: their effects on the session, and what is refused by name."""

from __future__ import annotations

import pytest

from proxy.sql.commands import COMMANDS, DML, command
from proxy.sql.plan import Effect, EffectKind, Kind, Plan, Planned
from proxy.sql.planner import Planner
from proxy.values.constants import Const, Param
from tests.unit.sql.worlds import env


def plan(text: str, *, raw: bool = False, standard_strings: bool = True) -> Plan:
    found = Planner().plan(text.encode(), env(raw=raw, standard_strings=standard_strings), None)
    assert isinstance(found, Planned)
    return found.plan


def effects(text: str) -> tuple[Effect, ...]:
    made = plan(text)
    assert made.refusal is None
    assert made.is_pass
    return tuple(effect for statement in made.statements for effect in statement.effects)


K = EffectKind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("begin", Effect(K.BEGIN)),
        ("START TRANSACTION READ ONLY", Effect(K.BEGIN)),
        ("end", Effect(K.COMMIT)),
        ("abort", Effect(K.ROLLBACK)),
        ("savepoint a", Effect(K.SAVEPOINT, "a")),
        ("release a", Effect(K.RELEASE, "a")),
        ("rollback to a", Effect(K.ROLLBACK_TO, "a")),
        ("set app.Tenant_ID = 'x'", Effect(K.SET, "app.tenant_id", Const(b"x"))),
        ("set local app.tenant_id to 5", Effect(K.SET, "app.tenant_id", Const(b"5"), True)),
        ("set search_path = a, \"B\", 'c, d'", Effect(K.SET, "search_path", Const(b'a, "B", "c, d"'))),
        ("set datestyle = iso, mdy", Effect(K.SET, "datestyle", Const(b"iso, mdy"))),
        ("set names 'latin1'", Effect(K.SET, "client_encoding", Const(b"latin1"))),
        ("set time zone 'UTC'", Effect(K.SET, "timezone", Const(b"UTC"))),
        ("set timezone to default", Effect(K.SET, "timezone")),
        ("reset search_path", Effect(K.RESET, "search_path")),
        ("reset all", Effect(K.RESET)),
        ("set role bob", Effect(K.SET_ROLE, "bob", Const(b"bob"))),
        ("set role none", Effect(K.SET_ROLE)),
        ("reset role", Effect(K.SET_ROLE)),
        ("set session authorization 'eve'", Effect(K.SET_SESSION_AUTHORIZATION, "eve", Const(b"eve"))),
        ("discard all", Effect(K.DISCARD_ALL)),
        ("discard temp", Effect(K.DISCARD_TEMP)),
        ("prepare p as select 1 from visits", Effect(K.PREPARE, "p")),
        ("execute p(1)", Effect(K.EXECUTE, "p")),
        ("explain execute p", Effect(K.EXECUTE, "p")),
        ("deallocate p", Effect(K.DEALLOCATE, "p")),
        ("deallocate all", Effect(K.DEALLOCATE)),
        ("fetch all from c", Effect(K.FETCH, "c")),
        ("select set_config('app.tenant_id', 'h', true)", Effect(K.SET, "app.tenant_id", Const(b"h"), True)),
        ("select set_config('app.tenant_id', $1, 'f')", Effect(K.SET, "app.tenant_id", Param(0))),
        (
            "select set_config('search_path', 'x', $1)",
            Effect(K.SET, "search_path", Const(b"x"), local_value=Param(0)),
        ),
        (
            "select set_config($1::varchar, $2::varchar, $3::boolean)",
            Effect(K.SET, "", Param(1), name_value=Param(0), local_value=Param(2)),
        ),
        ("select set_config('role', 'bob', false)", Effect(K.SET_ROLE, "bob", Const(b"bob"))),
        ("drop function f()", Effect(K.DDL)),
    ],
)
def test_command_effect_on_the_session_is_told(text: str, expected: Effect) -> None:
    """One effect each, and the bytes pass."""
    assert effects(text) == (expected,)


@pytest.mark.parametrize(
    "text",
    [
        "listen a",
        "notify a, 'b'",
        "show all",
        "set transaction isolation level serializable",
        "lock table patients",
        "truncate patients",
        "vacuum analyze patients",
        "comment on table patients is 'x'",
        "grant select on patients to bob",
        "copy visits from stdin",
        "explain select 1 from visits",
        "declare c cursor for select 1 from visits",
        "close c",
        "move 3 in c",
        "select set_config('work_mem', note, false) from visits",
        "select set_config(name, 'view', false) from pg_settings where name = 'restrict_relation_kind'",
        "checkpoint",
        "set work_mem = '4MB'",
        "do $$ begin perform 1 from visits; end $$",
    ],
)
def test_command_that_shows_no_cell_passes(text: str) -> None:
    """Nothing protected is named, or its values stay where they are."""
    assert plan(text).is_pass


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("copy patients to '/tmp/x'", "PS001"),
        ("copy (select ssn from patients) to program 'cat'", "PS001"),
        ("copy patients from '/tmp/x'", "PS001"),
        ("declare c cursor for select set_config('app.tenant_id', 'x', true) from patients", "PS001"),
        ("explain (analyze) create table copied as select * from patients", "PS001"),
        ("prepare p as select set_config('app.tenant_id', $1, true) from patients", "PS001"),
        ("do $$ begin update patients set ssn = 'x'; end $$", "PS001"),
        ("call f('patients')", "PS001"),
        ("select query_to_xml('select 1', true, true, '')", "PS001"),
        ("select * from dblink('x', 'y') as t(a int)", "PS001"),
        ("select * from pgseal.encryption_keys", "PS001"),
        ('select * from "pgseal" . encryption_keys', "PS001"),
        ("create schema pgseal", "PS001"),
        ('drop schema U&"pgs\\0065al"', "PS001"),
        ('select U&"pgs\\0065al".f()', "PS001"),
        ('table U&"pgs\\0065al".encryption_keys', "PS001"),
        ("set search_path = pgseal", "PS001"),
        ("set search_path = public, pgseal", "PS001"),
        ("select set_config('search_path', 'a, pgseal', false)", "PS001"),
        ("grant usage on schema pgseal to bob", "PS001"),
        ("set time zone interval '1' hour", "PS001"),
        ("select set_config('app.tenant_id', note, false) from visits", "PS001"),
        ("select set_config(note, 'x', false) from visits", "PS001"),
        ("select set_config(note, 'x', $1)", "PS001"),
        ("select set_config(name, 'x', false) from pg_settings", "PS001"),
        ("select set_config(name, 'x', false) from pg_settings where name = 'app.tenant_id'", "PS001"),
        ("select set_config(name, 'x', false) from pg_settings where name <> 'work_mem'", "PS001"),
        ("select set_config(name, 'x', false) from pg_settings name where name = 'work_mem'", "PS001"),
        ("select (select set_config(name, 'x', false) from visits) from pg_settings where name = 'a'", "PS001"),
        ("select (select set_config('role', 'x', false))", "PS001"),
        ("select set_config('role', 'x', false) where false", "PS001"),
        ("select * from other.patients", "PS006"),
        ("truncate other.patients", "PS006"),
        ("set search_path = other; select * from patients", "PS001"),
        ("rollback; select * from patients", "PS001"),
        ("refresh materialized view patients", "PS001"),
        ("import foreign schema x limit to (patients) from server s into public", "PS001"),
    ],
)
def test_command_over_something_protected_is_refused_by_name(text: str, sqlstate: str) -> None:
    """The whole text, with a hint."""
    refusal = plan(text).refusal
    assert refusal is not None
    assert (refusal.sqlstate, bool(refusal.hint)) == (sqlstate, True)


def test_command_one_refused_statement_refuses_the_whole_text() -> None:
    """The server would have run the others."""
    assert plan("insert into visits values (1); copy patients to '/tmp/x'").refusal is not None


def test_command_copy_from_stdin_is_marked() -> None:
    """The session has to expect CopyInResponse."""
    assert plan("copy visits from stdin").statements[0].is_copy_in
    assert not plan("copy visits to stdout").statements[0].is_copy_in


def test_command_unknown_node_over_a_watched_name_is_refused() -> None:
    """What a later version brings opens no gap."""
    assert command("NodeOfTomorrow").is_ddl
    assert command("NodeOfTomorrow").watched.value == "refused"
    assert not set(COMMANDS) & set(DML)


def test_command_raw_role_passes_all_but_schema_pgseal() -> None:
    """Dump and restore see cells as they are."""
    for text in (
        "copy patients to stdout",
        "select * from patients",
        "select * from other.patients",
        "copy other.patients from stdin",
        "create table patients (ssn bytea)",
        "create view v as table patients",
    ):
        assert plan(text, raw=True).is_pass
    assert plan("select * from pgseal.encryption_keys", raw=True).refusal is not None
    assert plan("drop schema pgseal", raw=True).refusal is not None


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("select 'a\\'b' from visits", False),
        ("select 'a\\' from patients --'", True),
        ("select '\\' || ' patients'", True),
        ("select * from patients", False),
        ("set app.tenant_id = 'a\\'b'", False),
    ],
)
def test_command_with_backslash_strings_watched_names_anywhere_are_refused(text: str, is_refused: bool) -> None:
    """standard_conforming_strings = off changes where a string ends; without a backslash it does not."""
    assert (plan(text, standard_strings=False).refusal is not None) is is_refused


def test_command_with_backslash_strings_setting_keeps_its_value() -> None:
    """The value is what the server will see."""
    (statement,) = plan("set app.tenant_id = 'a\\'b'", standard_strings=False).statements
    assert statement.effects == (Effect(K.SET, "app.tenant_id", Const(b"a'b")),)


@pytest.mark.parametrize("text", ["select (", "selec 1 from visits", "", ";", "-- nothing"])
def test_command_syntax_error_over_nothing_watched_is_the_servers(text: str) -> None:
    """The bytes go on and PostgreSQL says what is wrong."""
    assert plan(text).is_pass


@pytest.mark.parametrize("text", ["selec 1 from patients", "select 'x from patients", "select $a$ patients"])
def test_command_syntax_error_over_something_watched_is_refused(text: str) -> None:
    """Another version's grammar might take it."""
    refusal = plan(text).refusal
    assert refusal is not None
    assert refusal.sqlstate == "PS001"


def test_command_plain_statement_in_a_planned_text_stays_plain() -> None:
    """Each statement of a text has its own verdict."""
    found = plan("select 1 from visits; select id from patients")
    assert found.statements[0].kind is Kind.PASS
    assert len(found.statements) == 2


@pytest.mark.parametrize(
    "text",
    [
        "do $$ begin delete from patients; end $$",
        "do $$ begin delete from PATIENTS; end $$",
    ],
)
def test_command_that_is_refused_names_the_relation(text: str) -> None:
    """The name stands in the statement or in its code."""
    refusal = plan(text).refusal
    assert refusal is not None
    assert '"patients"' in refusal.message
