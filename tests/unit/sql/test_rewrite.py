"""Edits put into a text: bytes elsewhere stay, words never run together, positions map back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InternalError, ProgramLimitExceeded, Unsupported
from proxy.sql.draft import Draft
from proxy.sql.infer import finish_params
from proxy.sql.lexer import lex
from proxy.sql.plan import ClientParam, Edit, Kind, Plan, Planned, ServerParam, StatementPlan
from proxy.sql.rewrite import Rendered, render
from tests.unit.sql import catalogs
from tests.unit.sql.plans import plan


def rendered(text: str, *edits: Edit, slots: tuple[bytes, ...] = ()) -> Rendered:
    raw = text.encode()
    tokens = lex(raw)
    statement = StatementPlan(Kind.PLANNED, "SELECT", edits=edits)
    spans = tuple(zip(tokens.starts, tokens.ends, strict=True))
    return render(Planned(Plan((statement,)), raw, spans), slots)


def test_render_without_edits_is_the_text_itself() -> None:
    """Nothing to do, nothing copied, positions as they are."""
    done = rendered("SELECT 1")
    assert done.text == b"SELECT 1"
    assert done.to_client(5) == 5


def test_render_keeps_words_apart() -> None:
    """`SELECT'x'FROM` must not become `SELECT$1FROM`."""
    assert rendered("SELECT'x'FROM t", Edit(1, 1, (0,)), slots=(b"$1",)).text == b"SELECT $1 FROM t"


def test_render_takes_away_the_end_or_the_beginning_of_a_text() -> None:
    """An edit that leaves one run of the text is an edit all the same."""
    assert rendered("RETURNING ssn::text", Edit(2, 3, ())).text == b"RETURNING ssn"
    assert rendered("RETURNING ssn", Edit(0, 0, ())).text == b" ssn"
    assert rendered("ssn", Edit(0, 0, (b"other",))).text == b"other"
    assert rendered("ssn", Edit(0, 0, ())).text == b""


def test_render_of_overlapping_edits_is_an_internal_error() -> None:
    """A fault of planning never reaches the server."""
    with pytest.raises(InternalError):
        rendered("SELECT a b", Edit(1, 2, (b"x",)), Edit(2, 2, (b"y",)))


def test_insertion_stands_before_a_comment_that_follows() -> None:
    """A closing bracket behind a line comment would be lost."""
    done = rendered("SELECT a -- c", Edit(1, 0, (b"f(",)), Edit(2, 1, (b" )",)))
    assert done.text == b"SELECT f(a ) -- c"


def test_position_in_an_edit_maps_to_where_it_begins() -> None:
    """The server's caret points at the client's literal."""
    done = rendered("SELECT 'é', 'x', nope", Edit(3, 3, (0,)), slots=(b"'\\x0011'::bytea",))
    server = done.text.decode()
    assert done.to_client(server.index("'\\x") + 3) == "SELECT 'é', 'x', nope".index("'x'") + 1
    assert done.to_client(server.index("nope") + 1) == "SELECT 'é', 'x', nope".index("nope") + 1


@given(st.text(alphabet="aé '", max_size=8), st.integers(0, 60))
def test_position_map_never_leaves_the_text(name: str, position: int) -> None:
    """Any number from the server gives a position within the client's text, or itself."""
    quoted = '"' + name + 'x"'
    text = f"SELECT {quoted}, 'v' FROM t"
    done = rendered(text, Edit(3, 3, (0,)), slots=(b"$1",))
    assert done.to_client(position) <= max(len(text) + 1, position)
    for probe in (quoted, "FROM"):
        assert done.to_client(done.text.decode().index(probe) + 1) == text.index(probe) + 1


# --- parameters --------------------------------------------------------------------------------------

PARAMETERS = [
    (
        "SELECT ssn FROM staff WHERE ssn = $1 AND name = $2",
        "SELECT ssn FROM staff WHERE substring(ssn from 10 for 15) = <0> AND name = $2",
        [ServerParam(slot=0, oid=17), ServerParam(client=1)],
        [ClientParam(25), ClientParam(server=1)],
    ),
    (
        "UPDATE staff SET ssn = $1 WHERE ssn = $1",
        "UPDATE staff SET ssn = <1> WHERE substring(ssn from 10 for 15) = <0>",
        [ServerParam(slot=0, oid=17), ServerParam(slot=1, oid=17)],
        [ClientParam(25)],
    ),
    (
        "INSERT INTO staff (name, ssn, level) VALUES ($1, $1, 'x')",
        "INSERT INTO staff (name, ssn, level) VALUES ($1, <0>, <1>)",
        [ServerParam(client=0, oid=25), ServerParam(slot=0, oid=17), ServerParam(slot=1, oid=17)],
        [ClientParam(25)],
    ),
    (
        "SELECT 1 FROM staff WHERE $1 IS NULL OR ssn = $1 OR $1::text IS NOT NULL",
        "SELECT 1 FROM staff WHERE <0> IS NULL OR substring(ssn from 10 for 15) = <0> OR <0> IS NOT NULL",
        [ServerParam(slot=0, oid=17)],
        [ClientParam(25)],
    ),
    (
        "SELECT 1 FROM staff WHERE ssn = ANY($1)",
        "SELECT 1 FROM staff WHERE substring(ssn from 10 for 15) = ANY(<0>)",
        [ServerParam(slot=0, oid=1001)],
        [ClientParam(1009)],
    ),
    (
        "SELECT 1 FROM staff WHERE ssn = ANY($1::varchar[])",
        "SELECT 1 FROM staff WHERE substring(ssn from 10 for 15) = ANY(<0>)",
        [ServerParam(slot=0, oid=1001)],
        [ClientParam(1015)],
    ),
    (
        "SELECT 1 FROM staff WHERE ssn = $2 || $1 AND name = $3",
        "SELECT 1 FROM staff WHERE substring(ssn from 10 for 15) = <0> AND name = $3",
        [ServerParam(slot=0, oid=17), ServerParam(slot=0, oid=17), ServerParam(client=2)],
        [ClientParam(25), ClientParam(25), ClientParam(server=2)],
    ),
    (
        "SELECT 1 FROM patients WHERE hospital_id = $2 AND dob = $1::text::date AND phone = 'x'",
        "SELECT 1 FROM patients WHERE hospital_id = $2 AND substring(dob from 10 for 15) = <0> "
        'AND substr(phone,13,20) COLLATE "C" = <1>',
        [ServerParam(slot=0, oid=17), ServerParam(client=1), ServerParam(slot=1, oid=25)],
        [ClientParam(25), ClientParam(server=1)],
    ),
    (
        "SELECT 1 FROM patients WHERE hospital_id = 'a' AND badge = $1 AND badge = ANY($2)",
        "SELECT 1 FROM patients WHERE hospital_id = 'a' AND badge = <0> AND badge = ANY(<1>)",
        [ServerParam(slot=0, oid=17), ServerParam(slot=1, oid=1001)],
        [ClientParam(25), ClientParam(1009)],  # varchar is compared as text
    ),
    (
        "UPDATE patients SET badge = $1 WHERE hospital_id = 'a' AND badge = $1",
        "UPDATE patients SET badge = <1> WHERE hospital_id = 'a' AND badge = <0>",
        [ServerParam(slot=0, oid=17), ServerParam(slot=1, oid=17)],
        [ClientParam(25)],
    ),
    (
        "UPDATE patients SET badge = $1 WHERE hospital_id = 'a'",
        "UPDATE patients SET badge = <0> WHERE hospital_id = 'a'",
        [ServerParam(slot=0, oid=17)],
        [ClientParam(1043)],
    ),
    (
        "SELECT $1, ssn FROM staff LIMIT $2",
        "SELECT $1, ssn FROM staff LIMIT $2",
        [ServerParam(client=0), ServerParam(client=1)],
        [ClientParam(server=0), ClientParam(server=1)],
    ),
]


@pytest.mark.parametrize(("sql", "becomes", "server", "client"), PARAMETERS)
def test_parameters_that_stay_keep_their_numbers(
    sql: str, becomes: str, server: list[ServerParam], client: list[ClientParam]
) -> None:
    """Slots fill what is free, then follow; the client is told the logical types."""
    outcome = plan(sql, extended=True)
    assert outcome.sql == becomes
    assert list(outcome.server_params) == server
    assert list(outcome.client_params) == client


def test_declared_parameter_types_are_kept_where_they_fit() -> None:
    """A bigint compared with an int column is still a bigint to the client."""
    outcome = plan("SELECT 1 FROM staff WHERE pin = $1 AND id = $2", extended=True, oids=(20, 23))
    assert outcome.client_params == (ClientParam(20), ClientParam(server=1))
    assert outcome.server_params == (ServerParam(slot=0, oid=17), ServerParam(client=1, oid=23))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FROM staff WHERE ssn = $1 OR name = $1",
        "SELECT $1 FROM staff WHERE ssn = $1",
        "SELECT upper($1) FROM staff WHERE ssn = $1",
        "SELECT 1 FROM staff WHERE ssn = $1 LIMIT $1",
        "SELECT 1 FROM staff WHERE ssn = $1 AND COALESCE($1, 'x') IS NULL",
        "UPDATE staff SET name = f($1) WHERE ssn = $1",
        "SELECT 1 FROM staff WHERE ssn = coalesce($1, 'x') OR $1 IS NULL",
        "SELECT 1 FROM staff WHERE ssn = $1 AND pin = $1",
    ],
)
def test_parameter_sealed_in_one_place_and_plain_in_another_is_refused(sql: str) -> None:
    """The value would go to the server in plaintext beside its own ciphertext, or under two types."""
    with pytest.raises(Unsupported):
        plan(sql, extended=True)


def test_more_parameters_than_the_protocol_has_are_refused() -> None:
    """A literal in Parse becomes a parameter of the server's."""
    text = b"SELECT 1"
    slot = plan("INSERT INTO staff (level) VALUES ('x')").slots[0]
    draft = Draft(text, lex(text), catalogs.env(), True, (), {}, slots=[slot] * 65536)
    with pytest.raises(ProgramLimitExceeded):
        finish_params(draft)
    draft.slots.pop()
    assert len(finish_params(draft)[0]) == 65535
