"""Long plans on their way between processes: the same plan, in few objects."""

from __future__ import annotations

import pickle

import pytest

from proxy.sql.packed import FROM, Packed, pack
from proxy.sql.plan import NotPlanned, Plan
from proxy.sql.planner import Planner, plan_slowly
from proxy.sql.rewrite import render
from tests.unit.sql.catalogs import env
from tests.unit.sql.plans import plan

ROWS = FROM + 100


def in_rows(head: str, row: str) -> str:
    """`%d` of the row are four numbers, each its own."""
    return head + ", ".join(row % tuple(range(4 * i + 1, 4 * i + 5)) for i in range(ROWS))


TEXTS = [
    (
        in_rows(
            "INSERT INTO patients (id, hospital_id, ssn, dob) VALUES ", "(%d, 'h%d', -(%d) || 'x', '%d'::date)"
        ),
        False,
    ),
    (in_rows("INSERT INTO staff (id, name, ssn) VALUES ", "($%d, $%d, $%d::text || $%d)"), True),
    (in_rows("INSERT INTO bound (id, body) VALUES ", "(%d%d, '%d%d')"), False),
    ("SELECT id FROM staff WHERE ssn IN (" + ", ".join(f"'{n}'" for n in range(ROWS)) + ")", False),
]


@pytest.mark.parametrize(("sql", "is_extended"), TEXTS, ids=["cells", "parameters", "bound", "tokens"])
def test_packed_plan_is_the_plan(sql: str, is_extended: bool) -> None:
    """Item by item, by place and in order, also after the way between processes."""
    whole = plan(sql, extended=is_extended).planned.plan
    packed: Plan = pickle.loads(pickle.dumps(pack(whole)))
    assert packed == pack(whole)
    assert isinstance(packed.slots, Packed)
    assert tuple(packed.slots) == tuple(packed.slots[n] for n in range(len(packed.slots))) == whole.slots
    assert tuple(packed.server_params) == whole.server_params
    assert tuple(packed.client_params) == whole.client_params
    assert tuple(packed.statements[0].edits) == whole.statements[0].edits
    assert packed.statements[0].accesses == whole.statements[0].accesses


def test_packed_plan_is_small_to_take_over() -> None:
    """What arrives are a few arrays: no object a slot."""
    short, long = (len(pickle.dumps(pack(plan(text).planned.plan).slots)) for text in (TEXTS[3][0], TEXTS[2][0]))
    assert short < 40 * ROWS
    assert long < 80 * ROWS


def test_packed_sequences_are_bounded() -> None:
    """An index past the end is an IndexError, a slice a tuple."""
    slots = pack(plan(TEXTS[3][0]).planned.plan).slots
    with pytest.raises(IndexError):
        slots[len(slots)]
    assert slots[:2] == (slots[0], slots[1])


def test_long_text_from_another_process_renders_as_a_short_one() -> None:
    """Tokens, constants, slots and edits fit together."""
    text = (
        "INSERT INTO staff (id, ssn, level) VALUES " + ", ".join(f"({n}, 's{n}', 'l')" for n in range(900))
    ).encode()
    planner = Planner()
    asked = planner.plan(text, env(), None)
    assert isinstance(asked, NotPlanned)
    planned = pickle.loads(pickle.dumps(plan_slowly(planner.slow_job(asked))))
    n_slots = len(planned.plan.slots)
    assert n_slots == 1800
    sent = render(planned, [b"<%d>" % n for n in range(n_slots)])
    assert sent.text.count(b"<") == n_slots
    assert [planned.constants[3 * n + 1].text for n in (0, 899)] == [b"s0", b"s899"]
    assert sent.to_client(sent.text.decode().index("(899,") + 1) == text.decode().index("(899,") + 1
