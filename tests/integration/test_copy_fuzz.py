"""COPY data with bytes changed, cut out, doubled and put in: what the twin takes is stored alike, what it refuses
is refused, and whatever happens the session stays in step and only envelopes are stored.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import pytest

from proxy.embedded import EmbeddedPostgres
from tests.integration.test_copy import (
    CSV,
    LINES,
    Ended,
    assert_sealed,
    copy_in,
    copy_out,
    cut,
    ddl,
    empty,
    rules,
)
from tests.integration.test_copy import rows as stored_rows
from tests.twins import Twins, Way, twin_databases

N: Final = 120
OPTIONS: Final = ("", "(FORMAT csv)", "(FORMAT csv, QUOTE '''', ESCAPE '\\')", "(FORMAT binary)")
ESCAPED: Final = b"1,1,'canary \\'q\\' \\\\ x',name,2001-02-03,\n2,1,'canary\nline',x,,\n3,2,canary,,,\n"
SPECIAL: Final = b"\t\n\r\\.,\"'N01x;\0\xff\xc3"
# What the twin may take, and pgseal does not: a marker behind data, and input of dates that is not followed.
MORE: Final = {"end-of-copy marker corrupt"}


@pytest.fixture(scope="module")
def twins(postgres: EmbeddedPostgres) -> Iterator[Twins]:
    """As for the other tests of COPY."""
    with twin_databases(postgres, rules(), ddl(), []) as made:
        yield made


def mutated(data: bytes, rnd: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rnd.choice((1, 1, 2, 5))):
        place = rnd.randrange(len(changed))
        match rnd.randrange(4):
            case 0:
                changed[place] = rnd.choice(SPECIAL)
            case 1:
                changed.insert(place, rnd.choice(SPECIAL))
            case 2:
                del changed[place : place + rnd.choice((1, 2, 20))]
            case _:
                changed[place:place] = changed[place : place + rnd.choice((1, 5, 30))]
        if not changed:
            return b""
    return bytes(changed)


@pytest.mark.parametrize(
    "options", ["", "(FORMAT csv)", "(FORMAT csv, QUOTE '''', ESCAPE '\\')", "(FORMAT binary)"]
)
@pytest.mark.parametrize("table", ["p_eq", "p_detx"])
def test_copy_of_mutated_data_ends_as_the_twin(twins: Twins, table: str, options: str) -> None:
    """The same rows, or an error on both sides."""
    data = {"": LINES, "(FORMAT csv)": CSV}.get(options, ESCAPED)
    if "binary" in options:
        empty(twins, table)
        copy_in(twins.plain.connection, f"COPY {table} FROM STDIN", [LINES])
        found = copy_out(twins.plain.connection, f"COPY {table} TO STDOUT {options}")
        assert isinstance(found, bytes)
        data = found
    rnd = random.Random(f"{table} {options}")
    n_stored = 0
    for number in range(N):
        changed = mutated(data, rnd)
        empty(twins, table)
        statement = f"COPY {table} FROM STDIN {options}"
        mine = copy_in(twins.proxied.connection, statement, cut(changed, number))
        theirs = copy_in(twins.plain.connection, statement, [changed])
        check(mine, theirs, changed)
        if not mine.sqlstate:
            n_stored += 1
            found, wanted = stored_rows(twins, table)
            assert found == wanted, changed
        assert_sealed(twins, table)
        assert twins.proxied.run("SELECT 1", (), Way.LITERALS)[0].tag == "SELECT 1"
    assert n_stored > 1


def check(mine: Ended, theirs: Ended, data: bytes) -> None:
    assert "canary" not in mine.message + mine.context
    if theirs.sqlstate:
        assert mine.sqlstate, (theirs, data)
    elif mine.sqlstate:
        assert mine.sqlstate.startswith("PS") or mine.message in MORE, (mine, data)
    else:
        assert mine.tag == theirs.tag, data
