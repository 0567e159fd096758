"""DDL under rules: what is written to the server, what is refused, what the session learns."""

from __future__ import annotations

import pytest

from proxy.sql.guard import guard_expression, guard_name
from proxy.sql.plan import EffectKind, Plan, Planned
from proxy.sql.planner import Planner
from proxy.sql.rewrite import render
from tests.unit.sql.worlds import PATIENTS, env

GUARD_OF_EMAIL = guard_name(PATIENTS.columns["email"])


def planned(text: str) -> Planned:
    found = Planner().plan(text.encode(), env(), None)
    assert isinstance(found, Planned)
    return found


def plan(text: str) -> Plan:
    return planned(text).plan


def written(text: str) -> str:
    """What the server gets, with each guard shortened to <column>."""
    found = planned(text)
    assert found.plan.refusal is None, found.plan.refusal.message
    result = bytes(render(found, []).text).decode()
    for name, rule in PATIENTS.columns.items():
        result = result.replace(f'CONSTRAINT "{guard_name(rule)}" CHECK ({guard_expression(rule)})', f"<{name}>")
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "create table patients (id int primary key, ssn varchar(11) not null, name text unique)",
            "create table patients (id int primary key, ssn bytea <ssn> not null, name text unique)",
        ),
        (
            'CREATE TABLE IF NOT EXISTS public.patients ("ssn" text, badge character varying(20) NULL) -- x',
            'CREATE TABLE IF NOT EXISTS public.patients ("ssn" bytea <ssn>, badge text <badge> NULL) -- x',
        ),
        (
            "create table patients (email varchar(75) default ''::character varying not null)",
            "create table patients (email bytea <email>  not null)",
        ),
        ("create table patients (ssn text default null)", "create table patients (ssn bytea <ssn> default null)"),
        (
            "alter table patients add ssn text, add column x int",
            "alter table patients add ssn bytea <ssn>, add column x int",
        ),
        (
            "alter table patients alter email type varchar(254) using email::varchar(254), alter id type int",
            f'alter table patients VALIDATE CONSTRAINT "{GUARD_OF_EMAIL}", alter id type int',
        ),
        (
            "ALTER TABLE ONLY public . patients ALTER ssn SET DATA TYPE varchar(5)",
            f'ALTER TABLE ONLY public . patients VALIDATE CONSTRAINT "{guard_name(PATIENTS.columns["ssn"])}"',
        ),
    ],
)
def test_ddl_ruled_column_becomes_physical(text: str, expected: str) -> None:
    """Type and guard are written in place; NOT NULL stays, the rule's own DEFAULT goes."""
    assert written(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "create table visits2 (id int references patients (id), ssn text unique default 'x')",
        "create table archive.patients (ssn text)",
        "create index on patients (name varchar_pattern_ops)",
        "create index on patients (id) where name is not null",
        "alter table patients add constraint f foreign key (id) references visits (id) deferrable",
        "alter table visits add constraint f foreign key (id) references patients (id)",
        "alter table patients add unique (name), drop column name, alter id type bigint",
        "alter table patients alter ssn drop default, alter ssn set not null, alter ssn drop not null",
        "alter table patients drop column ssn",
        "alter table patients enable row level security, disable trigger all, owner to bob",
        "alter table patients rename name to label",
        "drop table patients",
        "drop table if exists nowhere",
        "create policy p on patients using (hospital_id = 1)",
        "create function f() returns bigint language sql as 'select count(*) from patients'",
        "create view w as select id from visits",
        "create type t as enum ('a')",
        "alter table visits rename to visits3",
    ],
)
def test_ddl_over_plain_columns_passes(text: str) -> None:
    """Byte for byte, and the catalog may have changed."""
    found = plan(text)
    assert found.refusal is None
    assert found.is_pass
    assert any(effect.kind is EffectKind.DDL for effect in found.statements[0].effects)


@pytest.mark.parametrize(
    "text",
    [
        "create table patients (ssn int)",
        "create table patients (ssn text[])",
        "create table patients (email text)",
        "create table patients (email varchar(300))",
        "create table patients (ssn text unique)",
        "create table patients (ssn text primary key)",
        "create table patients (ssn text references visits)",
        "create table patients (ssn text check (ssn <> ''))",
        'create table patients (ssn text collate "C")',
        "create table patients (ssn text generated always as ('x') stored)",
        "create table patients (ssn text default 'x')",
        "create table patients (ssn text default now()::text)",
        "create table patients (email varchar(75) default 'other')",
        "create table patients (ssn text, unique (ssn))",
        "create table patients (id int, ssn text, primary key (id, ssn))",
        "create table patients (id int, ssn text, foreign key (ssn) references visits (note))",
        "create table patients (id int, ssn text, check (length(ssn) = 11))",
        "create table patients (id int, ssn text, check (patients is not null))",
        "create table patients (id int, ssn text, x text generated always as (ssn || 'x') stored)",
        "create table patients (id int, ssn text, exclude using gist (ssn with =))",
        "create table patients (ssn text) partition by list (ssn)",
        "create table patients (like visits)",
        "create table patients as select 1 as id; create table t2 (like patients)",
        "create temp table patients (id int)",
        "create table other.patients (id int)",
        "create unlogged table pg_temp.patients (id int)",
        "create view other.patients as select 1",
        "create table n (like patients including all)",
        "create table n () inherits (patients)",
        "create table n partition of patients for values in (1)",
        "create table n (p text references patients (ssn))",
        "create table n as table patients",
        "create materialized view n as select count(*) from patients",
        "create view n as select id from patients",
        "select * into n from patients",
        "create index on patients (ssn)",
        "create index on patients (lower(email))",
        "create unique index on patients (id, email)",
        "create index on patients (id) include (ssn)",
        "create index on patients (id) where ssn is null",
        "create index on patients ((patients.*::text))",
        "alter table patients alter email type varchar(300)",
        "alter table patients alter email type int using 1",
        "alter table patients alter ssn type text using upper(ssn)",
        'alter table patients alter ssn type text collate "C"',
        "alter table patients alter ssn set default 'x'",
        "alter table patients add unique (ssn)",
        "alter table patients add check (ssn <> '')",
        "alter table patients add foreign key (ssn) references visits (note)",
        "alter table visits add foreign key (note) references patients (badge)",
        "alter table patients add column z text generated always as (ssn::text) stored",
        f"alter table patients drop constraint {guard_name(PATIENTS.columns['ssn'])}",
        "alter table patients alter hospital_id type text",
        "alter table patients drop hospital_id",
        "alter table patients inherit visits",
        "alter table visits inherit patients",
        "alter table patients attach partition visits for values in (1)",
        "alter table patients alter ssn add generated always as identity",
        "alter table patients rename to p2",
        "alter table patients rename ssn to s2",
        "alter table patients rename name to ssn2; alter table patients rename ssn2 to ssn",
        "alter table patients rename hospital_id to h",
        f"alter table patients rename constraint {guard_name(PATIENTS.columns['ssn'])} to x",
        "alter table visits rename to patients",
        "alter table patients set schema archive",
        "alter table other.patients set schema public",
        "alter schema public rename to p",
        "create trigger t before insert on patients for each row execute function f()",
        "create rule r as on insert to visits do also delete from patients",
        "create policy p on patients using (ssn is not null)",
        "create policy p on visits using (exists (select 1 from patients))",
        "create statistics s on id, ssn from patients",
        "create foreign table other.patients (id int) server s",
    ],
)
def test_ddl_over_a_sealed_column_or_the_whole_relation_is_refused(text: str) -> None:
    """PS006, with a hint, before the server sees it."""
    refusal = plan(text).refusal
    assert refusal is not None
    assert (refusal.sqlstate, bool(refusal.hint)) == ("PS006", True)


def test_ddl_pattern_ops_index_is_refused_by_its_name() -> None:
    """The reason names the operator class."""
    refusal = plan("create index on patients (email varchar_pattern_ops)").refusal
    assert refusal is not None
    assert "varchar_pattern_ops" in refusal.message
    assert refusal.column == "public.patients.email"


def test_ddl_created_table_is_usable_in_the_same_text_and_told_to_the_session() -> None:
    """The overlay has the relation with OID 0, its sealed columns, and its tenant column."""
    found = plan("create table staff (id serial, born date not null); select born from staff")
    made = [effect.relation for effect in found.statements[0].effects if effect.kind is EffectKind.OVERLAY]
    ((key, relation),) = [pair for pair in made if pair is not None]
    assert relation is not None
    assert (key, relation.oid, relation.rule is not None) == (("public", "staff"), 0, True)
    assert {name: sealed.not_null for name, sealed in relation.sealed.items()} == {"born": True}
    results = found.statements[1].results
    assert results is not None
    assert results[0].column == relation.sealed["born"]


def test_ddl_dropped_table_is_gone_in_the_overlay() -> None:
    """None stands for what is no longer there."""
    found = plan("drop table public.patients, visits")
    made = [effect.relation for effect in found.statements[0].effects if effect.kind is EffectKind.OVERLAY]
    assert made == [(("public", "patients"), None), (("public", "visits"), None)]


def test_ddl_created_where_the_search_path_says() -> None:
    """The first schema that is there decides whether a rule applies."""
    found = Planner().plan(b"create table patients (ssn text)", env("nowhere", "public"), None)
    assert isinstance(found, Planned)
    assert found.plan.statements[0].edits
    refused = Planner().plan(b"create table patients (ssn text)", env("other", "public"), None)
    assert isinstance(refused, Planned)
    assert refused.plan.refusal is not None
