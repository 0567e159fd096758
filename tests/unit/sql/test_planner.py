"""The planner's caches: what is shared, what is not, and long texts."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import pytest

from proxy.sql.catalog import Relation
from proxy.sql.plan import Env, NotPlanned, Overlay, Planned
from proxy.sql.planner import LARGE, SMALL, Planner, Recent, plan_slowly
from proxy.sql.rewrite import render
from proxy.values.constants import Const
from tests.unit.sql.worlds import env, snapshot


def planned(planner: Planner, text: str, world: Env, oids: tuple[int, ...] | None = None) -> Planned:
    found = planner.plan(text.encode(), world, oids)
    assert isinstance(found, Planned)
    return found


def test_planner_same_text_gives_the_same_object() -> None:
    """The first cache."""
    planner, world = Planner(), env()
    first = planned(planner, "select ssn from patients", world)
    assert planned(planner, "select ssn from patients", world) is first
    assert planned(planner, "select ssn from patients", replace(world)) is first


def test_planner_texts_of_one_template_share_a_plan_with_their_own_constants() -> None:
    """The second cache: edits are by token, slots by the number of the constant."""
    planner, world = Planner(), env()
    one = planned(planner, "select id from patients where ssn = 'a' and hospital_id = 1", world)
    two = planned(planner, "select id from patients /* trace */ where ssn = 'bb' and hospital_id = 22", world)
    assert one.plan is two.plan
    assert one.plan.refusal is None
    assert two.constants == (Const(b"bb"), Const(b"22", "int"))
    assert b"= <> and hospital_id = 22" in bytes(render(two, [b"<>"]).text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("select id, name from patients group by 1, name", "select id, name from patients group by 2, id"),
        ("select ssn, id from patients order by 2", "select ssn, id from patients order by 1"),
        ("select ssn, id::numeric(5,1) from patients", "select ssn, id::numeric(6,1) from patients"),
        ("select ssn, 'a'::regclass from patients", "select ssn, 'b'::regclass from patients"),
    ],
)
def test_planner_constants_that_are_no_values_are_not_shared(one: str, other: str) -> None:
    """Ordinals, typmods and names in casts join the key."""
    planner, world = Planner(), env()
    assert planned(planner, one, world).plan is not planned(planner, other, world).plan


def test_planner_set_config_value_joins_the_key() -> None:
    """Another setting, another effect."""
    planner, world = Planner(), env()
    for value in (b"a", b"b"):
        found = planned(planner, f"select set_config('app.tenant_id', '{value.decode()}', false)", world)
        assert found.plan.statements[0].effects[0].value == Const(value)


def test_planner_other_worlds_have_other_plans() -> None:
    """search_path, role, parameter types, settings and epochs are parts of the key."""
    planner, world = Planner(), env()
    text = "select ssn from patients where id = $1"
    first = planned(planner, text, world, (23,)).plan
    others = [
        planned(planner, text, world, (20,)).plan,
        planned(planner, text, world, None).plan,
        planned(planner, text, replace(world, search_path=("public", "x")), (23,)).plan,
        planned(planner, text, env(raw=True), (23,)).plan,
        planned(planner, text, replace(world, client_encoding="LATIN1"), (23,)).plan,
        planned(
            planner, text, replace(world, snapshot=replace(snapshot(), epoch=2), catalog_epoch=2), (23,)
        ).plan,
    ]
    assert all(other is not first for other in others)


def test_planner_overlay_is_seen_and_does_not_leak() -> None:
    """A relation of one session's open transaction exists for that Env alone."""
    planner, world = Planner(), env()
    dropped = replace(world, overlay=Overlay(((("public", "patients"), None),)))
    text = "select ssn from patients"
    before = planned(planner, text, world).plan
    assert planned(planner, text, dropped).plan is not before
    assert planned(planner, text, world).plan is before
    relation = Relation(0, "public", "fresh", "r", ())
    assert (
        planned(planner, text, replace(world, overlay=Overlay(((("public", "fresh"), relation),)))).plan
        is not before
    )


def test_planner_refusals_are_not_shared_between_texts() -> None:
    """Their positions are the text's own."""
    planner, world = Planner(), env()
    one = planned(planner, "select length(ssn), 'a' from patients", world).plan.refusal
    other = planned(planner, "/* longer */ select length(ssn), 'b' from patients", world).plan.refusal
    assert one is not None
    assert other is not None
    assert one is not other


def test_planner_passing_text_has_no_tokens() -> None:
    """Nothing is kept of what passes by the cheap test."""
    found = planned(Planner(), "select 1 from visits", env())
    assert (found.plan.is_pass, found.tokens, found.constants) == (True, (), ())


def test_planner_several_statements_in_parse_are_the_servers_error() -> None:
    """42601 comes from PostgreSQL, but a text that may hold a plaintext does not get into its log."""
    assert planned(Planner(), "do $$$$; select 1", env(), ()).plan.is_pass
    assert planned(Planner(), "select ssn from patients; select 1", env(), ()).plan.refusal is not None


@pytest.mark.parametrize(
    ("text", "is_refused"),
    [
        ("select ssn from patients where id = 0x1F", True),
        ("select ssn from patients where id = 1_0", True),
        ("select ssn from patients where id = 31", False),
        ("delete from patients returning old.id", True),
    ],
)
def test_planner_grammar_of_18_on_an_old_server_is_refused(text: str, is_refused: bool) -> None:
    """libpg_query would read what the server does not."""
    assert (planned(Planner(), text, env(version=150018)).plan.refusal is not None) is is_refused


def long_insert(n_rows: int) -> bytes:
    rows = ",".join(f"({i}, 1, 'ssn {i}')" for i in range(n_rows))
    return f"insert into patients (id, hospital_id, ssn) values {rows}".encode()


def test_planner_long_text_is_planned_in_another_process_and_kept() -> None:
    """The way a long INSERT goes; the same text, edits and constants come back."""
    planner, world, text = Planner(), env(), long_insert(300)
    assert len(text) > SMALL
    asked = planner.plan(text, world, None)
    assert isinstance(asked, NotPlanned)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(plan_slowly, planner.slow_job(asked)).result()
    planner.keep(asked, found)
    assert planner.plan(text, world, None) is found
    assert found.plan.refusal is None
    # one cell of ssn a row, and one of email, which the rule fills with its default
    assert len(found.plan.slots) == 600
    out = bytes(render(found, [b"<%d>" % n for n in range(600)]).text)
    assert b"'ssn" not in out


def test_planner_long_plain_text_passes_without_another_process() -> None:
    """Up to 64 kB the cheap test is cheap enough."""
    text = b"insert into visits values " + b",".join(b"(1, 2, 'abc')" for _ in range(2000))
    assert SMALL < len(text) < LARGE
    found = Planner().plan(text, env(), None)
    assert isinstance(found, Planned)
    assert found.plan.is_pass


def test_plan_slowly_very_long_texts_pass_or_are_refused() -> None:
    """2 MB over plain tables passes; over protected ones too many words are 54000."""
    planner, world = Planner(), env()
    plain = b"insert into visits values " + b",".join(b"(1, 2, 'abc')" for _ in range(150_000))
    words = b"select ssn from patients where id in (" + b"1," * 250_000 + b"1)"
    for text, sqlstate in ((plain, None), (words, "54000")):
        asked = planner.plan(text, world, None)
        assert isinstance(asked, NotPlanned)
        refusal = plan_slowly(planner.slow_job(asked)).plan.refusal
        assert (refusal.sqlstate if refusal is not None else None) == sqlstate


def test_plan_slowly_refusal_survives_pickling() -> None:
    """What the worker raises is what the client reads."""
    planner = Planner()
    asked = planner.plan(b"copy patients to '/tmp/x' --" + b"x" * SMALL, env(), None)
    assert isinstance(asked, NotPlanned)
    refusal = pickle.loads(pickle.dumps(plan_slowly(planner.slow_job(asked)))).plan.refusal
    assert (refusal.sqlstate, refusal.message.startswith("COPY"), bool(refusal.hint)) == ("PS001", True, True)


def test_recent_what_is_asked_for_again_survives() -> None:
    """Two generations bound the cache."""
    cache: Recent[int, int] = Recent(10)
    cache.put(0, 0)
    for number in range(1, 100):
        cache.put(number, number)
        assert cache.get(0) == 0
    assert cache.get(50) is None
