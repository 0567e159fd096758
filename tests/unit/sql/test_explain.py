"""What `explain` tells of a plan, and that it tells no constant that is sealed."""

from __future__ import annotations

import json

from proxy.errors import Unsupported
from proxy.rules import Read
from proxy.sql.explain import explain
from proxy.sql.plan import Plan, Planned
from proxy.sql.planner import Planner
from tests.unit.sql.plans import plan
from tests.unit.sql.worlds import env


def test_explain_of_a_planned_statement_tells_edits_slots_and_results() -> None:
    """The verdict, each change, where values go, and what is opened; it prints as JSON."""
    told = explain(plan("SELECT ssn, id FROM staff WHERE ssn = 'canary' AND name = $1", extended=True).planned)
    assert told["verdict"] == "planned"
    assert "canary" not in json.dumps(told)
    statement = told["statements"][0]
    assert [edit["after"] for edit in statement["edits"]] == [
        "substring(",
        " from 10 for 15)",
        "<0: token of public.staff.ssn>",
    ]
    assert statement["edits"][2]["before"] == "<constant>"
    assert [result["treatment"] for result in statement["results"]] == ["opened", "as it is"]
    assert statement["columns"] == [{"column": "public.staff.ssn", "uses": ["read", "compared by its token"]}]
    assert told["slots"][0]["treatment"] == "the index token"
    assert told["parameters"] == [{"number": 1, "type_oid": None, "slots": [], "server": [], "plain": [1]}]


def test_explain_of_a_parameter_tells_its_type_and_places() -> None:
    """A sealed parameter shows the logical type that the client is told."""
    told = explain(
        plan("UPDATE patients SET badge = $1 WHERE hospital_id = $2 AND badge = $1", extended=True).planned
    )
    assert told["parameters"][0] == {
        "number": 1,
        "type_oid": 25,
        "slots": [0, 1],
        "server": [1, 3],
        "plain": [],
    }
    assert {slot["tenant"] for slot in told["slots"]} == {"parameter $2"}


def test_explain_of_a_copy_names_the_treatment_of_its_columns() -> None:
    """Both ways, and what a column that the list leaves out gets."""
    treatments = []
    for text in (b"COPY patients TO STDOUT", b"COPY patients (id, hospital_id, ssn) FROM STDIN"):
        planned = Planner().plan(text, env(), None)
        assert isinstance(planned, Planned)
        told = explain(planned)
        assert told["verdict"] == "planned"
        shown = told["statements"][0]["results"]
        treatments.append([result["treatment"] for result in shown if result["column"] is not None])
    assert set(treatments[0]) == {"opened"}
    assert treatments[1][0] == "sealed, row by row"
    assert set(treatments[1][1:]) <= {"added: the rule's default, sealed"}


def test_explain_of_a_refusal_gives_its_reason() -> None:
    """SQLSTATE, column, hint and position."""
    told = explain(Planned(Plan((), refusal=Unsupported("no", column="a.b.c", hint="do", position=3)), b"", ()))
    assert told["verdict"] == "refused"
    assert told["reason"] == {
        "sqlstate": "PS001",
        "message": "no",
        "column": "a.b.c",
        "hint": "do",
        "position": 3,
    }


def test_explain_of_what_passes_says_so() -> None:
    """Nothing to tell."""
    assert explain(Planned(Plan(()), b"SELECT 1", ()))["verdict"] == "pass"


def test_explain_for_a_log_in_that_sees_masks_says_what_it_sees() -> None:
    """Masked or NULL, and whether a cell is opened for it."""
    planned = plan("SELECT ssn FROM staff").planned
    seen = {
        read: explain(planned, read)["statements"][0]["results"][0]["treatment"]
        for read in (Read.PLAIN, Read.MASK, Read.NULL)
    }
    assert list(seen.values()) == ["opened", "masked, never opened,", "shown as NULL, never opened,"]


def test_explain_of_a_value_of_the_server_says_that_it_is_asked_for() -> None:
    """With its type; the slot is a cell like any other."""
    text = b"INSERT INTO patients (hospital_id, id, ssn, email) VALUES ('a', 1, now()::text, NULL)"
    found = Planner().plan(text, env(), None)
    assert isinstance(found, Planned)
    told = explain(found)
    assert told["asked"] == ["timestamptz from the server, first"]
    assert told["slots"][0]["treatment"] == "sealed as a cell"
    assert "asked" not in explain(plan("SELECT ssn FROM staff").planned)
