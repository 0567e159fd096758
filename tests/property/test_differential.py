"""Random schemas, rules and statements: as on plain tables, or refused; never silently something else."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import SystemRandom

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from proxy.embedded import EmbeddedPostgres
from tests.random_schema import RandomTable, World, ddl, make_worlds, rows, rules
from tests.random_sql import RandomStatement, statements
from tests.twins import Outcome, Twins, Way, assert_only_envelopes, twin_databases

IS_DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SEED = int(os.environ.get("PGSEAL_TEST_SEED") or (SystemRandom().randrange(10**6) if IS_DEEP else 7))
N_WORLDS = 40 if IS_DEEP else 8
N_EXAMPLES = int(os.environ.get("PGSEAL_TEST_EXAMPLES") or (4000 if IS_DEEP else 150))
WORLDS = make_worlds(SEED, N_WORLDS)
WAYS = (Way.LITERALS, Way.TEXT)

# Different words for one thing: the types do not go together.
MISMATCH = frozenset({"42804", "42883", "42846", "42P18", "42725"})
# The one leniency: `$1 IS NULL OR col = $1` without a type for $1. IS NULL asks for no type, so that PostgreSQL
# has two types for one parameter once col gives it another; pgseal gives it the column's type from the start.
UNTYPED = frozenset({"42P08", "42P18"})
UNTYPED_FORM = re.compile(r"\(\?(\d+) IS NULL OR [\w.]+ = \?\1\)")
LEAST_WORKING = 0.35


@dataclass(slots=True, repr=False)
class Tally:
    """What became of the statements of a run. Without a repr, which would drown the example."""

    n_worked: int = 0
    n_failed: int = 0
    n_refused: int = 0
    refusals: dict[str, int] = field(default_factory=dict)


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """A run that refuses nearly everything would prove nothing."""
    counts = Tally()
    yield counts
    n_all = counts.n_worked + counts.n_failed + counts.n_refused
    told = f"{counts.n_worked} worked, {counts.n_failed} failed alike, {counts.n_refused} refused"
    if path := os.environ.get("PGSEAL_TEST_TALLY"):
        Path(path).write_text(f"{told} {sorted(counts.refusals.items())}\n")
    assert n_all == 0 or counts.n_worked / n_all > LEAST_WORKING, told


@pytest.fixture(scope="module")
def twins(postgres: EmbeddedPostgres) -> Iterator[Twins]:
    """All worlds in one database, with their rows kept to go back to."""
    with twin_databases(postgres, rules(WORLDS), [*ddl(WORLDS)], [*rows(WORLDS)]) as made:
        made.reset([name for world in WORLDS for name in world.names()])
        for side in (made.proxied, made.plain):
            assert side.run("SET app.tenant = 'a'", (), Way.LITERALS)[0].tag == "SET"
        yield made


@given(data=st.data())
@settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=not IS_DEEP,
    database=None,
)
def test_random_statements_answer_as_on_plain_tables_or_are_refused(
    twins: Twins, tally: Tally, data: st.DataObject
) -> None:
    """Each statement in turn, then all the tables."""
    world: World = data.draw(st.sampled_from(WORLDS))
    note(f"seed {SEED}: " + "; ".join(table.ddl() for table in world.tables))
    note(rules([world]))
    twins.reset(world.names())
    for _ in range(data.draw(st.integers(1, 5))):
        statement = data.draw(statements(world))
        _run(twins, tally, statement, data.draw(st.sampled_from(WAYS)))
    for table in world.tables:
        _assert_same_table(twins, table)


def _run(twins: Twins, tally: Tally, statement: RandomStatement, way: Way) -> None:
    found = twins.proxied.run(statement.sql, statement.values, way)[0]
    if found.sqlstate.startswith("PS"):
        tally.n_refused += 1
        key = str(found.error).splitlines()[0]
        tally.refusals[key] = tally.refusals.get(key, 0) + 1
        return
    wanted = _wanted(twins, statement, way, found)
    note(f"{way.value}: {statement.sql} {statement.values}")
    if wanted.sqlstate or found.sqlstate:
        tally.n_failed += 1
        _assert_same_failure(found, wanted)
        return
    tally.n_worked += 1
    mine, theirs = _shown(found), _shown(wanted)
    assert mine == theirs, f"\n  proxied {mine}\n  plain   {theirs}"


def _wanted(twins: Twins, statement: RandomStatement, way: Way, found: Outcome) -> Outcome:
    """What the twin says; where it only lacks the type of a parameter, what it says to the values themselves."""
    wanted = twins.plain.run(statement.sql, statement.values, way)[0]
    is_lenient = wanted.sqlstate in UNTYPED and found.sqlstate not in UNTYPED
    if is_lenient and way is Way.TEXT and UNTYPED_FORM.search(statement.sql):
        return twins.plain.run(statement.sql, statement.values, Way.LITERALS)[0]
    return wanted


def _shown(outcome: Outcome) -> Outcome:
    """In one order, and without typmods: PostgreSQL drops that of some expressions where pgseal tells its own;
    those of columns are compared by the matrix."""
    columns = tuple((*column[:3], 0) for column in outcome.columns)
    return replace(outcome.sorted(), columns=columns)


def _assert_same_failure(found: Outcome, wanted: Outcome) -> None:
    """Of several bad values or types in one statement pgseal may see another one first."""
    both = {found.sqlstate, wanted.sqlstate}
    are_bad_values = all(code.startswith("22") or code in MISMATCH for code in both)
    assert len(both) == 1 or are_bad_values, f"\n  proxied {found.error!r}\n  plain   {wanted.error!r}"


def _assert_same_table(twins: Twins, table: RandomTable) -> None:
    everything = f"SELECT * FROM {table.name} ORDER BY id"
    assert twins.proxied.rows(everything) == twins.plain.rows(everything)
    for storage in ("bytea", "text"):
        names = [c.name for c in table.sealed if f"storage: {storage}" in c.options]
        if names:
            assert_only_envelopes(twins, table.name, names, storage, ())
