"""Planned statements: descriptions checked, values sealed and opened, names, keys that are missing, long work."""

from __future__ import annotations

import pytest

from proxy.crypto.envelope import key_id_of
from proxy.keys.material import ActiveKeyNeed, KeyIdNeed, LeaseNeed
from proxy.session.interface import CatalogNeed
from proxy.sql.plan import NotPlanned
from tests.playbook import (
    bind,
    close_statement,
    describe_portal,
    describe_statement,
    execute,
    flush,
    parse,
    query,
    run,
    sync,
)
from tests.unit.session.memory_keys import MemoryKeys
from tests.unit.session.talk import (
    BOUND,
    CLOSED,
    ID,
    NO_DATA,
    PARSED,
    SSN,
    SUSPENDED,
    Talk,
    World,
    columns,
    complete,
    error,
    parameters,
    ready,
    row,
    values_of,
)
from tests.unit.sql import worlds

INSERT = "insert into patients (hospital_id, ssn) values (1, $1)"
SELECT = "select id, ssn from patients where hospital_id = 1 and ssn = $1"
READ = "select ssn from patients where hospital_id = 1"


def envelope(talk: Talk, display: bytes, tenant: str = "1") -> bytes:
    """A cell as the table holds it, in text form."""
    return b"\\x" + talk.world.cell(worlds.SSN, tenant, display).hex().encode()


def prepared(talk: Talk, text: str, name: str, *answer: bytes) -> None:
    talk.client(parse(text, name=name), sync())
    talk.server(PARSED, *answer, ready())
    talk.to_server()
    talk.to_client()


def test_first_use_asks_for_a_description_and_waits_with_flush() -> None:
    """The injected Describe is not shown; the Bind waits for it, and the server is told to answer."""
    talk = Talk()
    talk.client(parse(INSERT), bind("123"), execute(), sync())
    assert talk.to_server() == "P DS H"
    talk.server(PARSED, parameters(17), NO_DATA)
    sent = talk.messages_to_server()
    assert [m.letter for m in sent] == ["B", "E", "S"]
    assert sent[0].formats == [1, 1]  # the rule's default of another column is sealed too
    assert key_id_of(sent[0].parameters[0]) and b"123" not in talk.server_bytes
    talk.server(BOUND, complete("INSERT 0 1"), ready())
    assert talk.to_client() == "1 2 C[INSERT 0 1] ZI"


def test_second_session_of_the_same_plan_waits_for_nothing() -> None:
    """A description is kept with the plan: no Describe and no Flush again."""
    world = World()
    prepared(Talk(world), INSERT, "a", parameters(17), NO_DATA)
    talk = Talk(world)
    talk.client(parse(INSERT, name="b"), bind("123", statement="b"), execute(), sync())
    assert talk.to_server() == "P B E S"


def test_clients_own_description_shows_logical_types() -> None:
    """OIDs, size and typmod are those of the rule; table and attribute stay."""
    talk = Talk()
    talk.client(parse(SELECT, name="n"), describe_statement("n"), sync())
    assert talk.to_server() == "P DS DS S"
    talk.server(PARSED, parameters(17), columns(ID, SSN), parameters(17), columns(ID, SSN), ready())
    told, shown = talk.messages_to_client()[1:3]
    assert told.oids == [25]
    assert shown.columns[1] == (b"ssn", 20001, 3, 25, -1, -1, 0)


def test_rows_of_a_planned_result_are_opened_in_both_formats() -> None:
    """Text and binary cells; NULL stays NULL; plain columns are untouched."""
    talk = Talk()
    prepared(talk, SELECT, "n", parameters(17), columns(ID, SSN))
    talk.client(bind("1", statement="n"), execute(), bind("1", statement="n", results=(0, 1)), execute(), sync())
    raw = bytes.fromhex(envelope(talk, b"123").decode()[2:])
    talk.server(BOUND, row(b"7", envelope(talk, "é".encode())), row(b"8", None), complete("SELECT 2"))
    talk.server(BOUND, row(b"9", raw), complete("SELECT 1"), ready())
    assert values_of(talk.messages_to_client()) == [[b"7", "é".encode()], [b"8", None], [b"9", b"123"]]
    assert [(e.n_rows, e.n_cells_opened) for e in talk.events] == [(2, 1), (1, 1)]


def test_simple_query_seals_literals_and_opens_rows() -> None:
    """Each statement of a text has its own result; texts between them stay."""
    talk = Talk()
    talk.client(query(f"begin; insert into patients (hospital_id, ssn) values (1, 'canary'); {READ}; commit"))
    (sent,) = talk.messages_to_server()
    assert b"canary" not in sent.sql and sent.sql.startswith(b"begin; insert") and b"::bytea" in sent.sql
    talk.server(complete("BEGIN"), complete("INSERT 0 1"), columns(SSN), row(envelope(talk, b"canary")))
    talk.server(complete("SELECT 1"), complete("COMMIT"), ready())
    heard = talk.messages_to_client()
    assert "".join(m.letter for m in heard) == "CCTDCCZ"
    assert values_of(heard) == [[b"canary"]]
    assert [e.tag for e in talk.events] == ["INSERT", "SELECT"]


def test_suspended_portal_opens_on_with_each_execute() -> None:
    """A row limit cuts a result, not its opening."""
    talk = Talk()
    prepared(talk, READ, "n", parameters(), columns(SSN))
    talk.client(bind(statement="n"), execute(max_rows=1), execute(max_rows=1), sync())
    talk.server(
        BOUND, row(envelope(talk, b"a")), SUSPENDED, row(envelope(talk, b"b")), complete("SELECT 2"), ready()
    )
    assert values_of(talk.messages_to_client()) == [[b"a"], [b"b"]]


@pytest.mark.parametrize(
    "described",
    [
        (ID,),
        (("id", 20001, 1, 23), ("ssn", 20001, 4, 17)),
        (("id", 20001, 3, 17), ("ssn", 20001, 3, 17)),
        (ID, ("ssn", 20001, 6, 25)),
        (ID, ("ssn", 20001, 3, 25)),
    ],
)
def test_description_that_disagrees_refuses_the_statement(described: tuple) -> None:  # type: ignore[type-arg]
    """Other columns, another protected column, a plain one, another type: never bound, never opened."""
    talk = Talk()
    talk.client(parse(SELECT, name="n"), sync())
    talk.server(PARSED, parameters(17), columns(*described), ready())
    talk.to_server()
    talk.client(bind("123", statement="n"), execute(), sync())
    assert talk.to_server().endswith("E! E S")
    talk.server(error("34000"), ready())
    assert talk.to_client().split()[-2] in ("E[PS001]", "E[PS006]")


def test_protected_column_in_a_plain_statement_is_not_shown() -> None:
    """A result that names a protected column by a way nobody planned becomes an error."""
    talk = Talk()
    talk.client(query("select * from f()"))
    talk.server(columns(SSN), row(b"\\x00"), complete("SELECT 1"), ready())
    assert talk.to_client() == "E[PS001] ZI"


def test_unknown_table_in_a_description_waits_for_a_fresh_catalog() -> None:
    """The catalog is read once for it; a table it then knows passes, in order with what follows."""
    talk = Talk()
    talk.is_stuck = True
    talk.client(query("select * from fresh"))
    talk.server(columns(("a", 31000, 1, 23)), row(b"1"), complete("SELECT 1"), ready())
    assert talk.to_client() == ""
    assert talk.needs == [CatalogNeed(1, "app")]
    talk.world.refresh(worlds.table(31000, "public", "fresh", ("a", 23)))
    talk.pump()
    assert talk.to_client() == "T D C[SELECT 1] ZI"


def test_table_nobody_knows_is_not_shown() -> None:
    """After a fresh look it is still unknown: an error, and the connection goes on."""
    talk = Talk()
    talk.client(query("select * from ghost"))
    talk.server(columns(("a", 31000, 1, 23)), row(b"1"), complete("SELECT 1"), ready())
    talk.client(query("select 1"))
    talk.server(complete("SELECT 0"), ready())
    assert talk.to_client() == "E[PS001] ZI C[SELECT 0] ZI"


def test_missing_keys_are_needed_once_and_then_used() -> None:
    """The need names tenant and purpose; what follows waits behind; nothing of the value leaves."""
    talk = Talk(World(keys=MemoryKeys(is_eager=False)))
    talk.is_stuck = True
    talk.client(query("insert into patients (hospital_id, ssn) values (1, 'canary')"), query("select 1"))
    assert talk.to_server() == ""
    assert set(talk.needs) == {ActiveKeyNeed("1", "PII_DATA", "data"), ActiveKeyNeed("1", "PII_DATA", "index")}
    talk.is_stuck = False
    for need in list(talk.needs):
        talk.world.ensure(need)
    talk.pump()
    assert any(isinstance(need, LeaseNeed) for need in talk.needs)
    assert talk.to_server() == "Q Q"
    assert b"canary" not in talk.server_bytes


def test_missing_key_of_a_row_is_needed_in_the_middle_of_a_result() -> None:
    """Rows before it are shown, rows behind it wait, in order."""
    talk = Talk(World(keys=MemoryKeys(is_eager=False)))
    for need in (ActiveKeyNeed("1", "PII_DATA", "data"), ActiveKeyNeed("1", "PII_DATA", "index")):
        talk.world.ensure(need)
    key_id = talk.world.keys.id_of(ActiveKeyNeed("1", "PII_DATA", "data"))
    talk.world.keys.ready.add(LeaseNeed(key_id, worlds.SSN.context))
    cell = envelope(talk, b"a")
    talk.client(query(READ))
    talk.is_stuck = True
    talk.server(columns(SSN), row(None), row(cell), complete("SELECT 2"), ready())
    assert talk.to_client() == "T D"
    assert talk.needs[-1] == KeyIdNeed(key_id)
    talk.world.ensure(talk.needs[-1])
    talk.pump()
    assert talk.to_client() == "D C[SELECT 2] ZI"


def test_many_cells_take_several_steps() -> None:
    """After 2,000 rows the loop gets a turn; the client sees one result."""
    talk = Talk()
    talk.client(query(READ))
    cell = row(envelope(talk, b"a"))
    talk.server(columns(SSN), cell * 4500, complete("SELECT 4500"), ready())
    assert talk.n_more == 2
    heard = talk.messages_to_client()
    assert values_of(heard) == [[b"a"]] * 4500 and heard[-1].name == "ReadyForQuery"


def test_many_sealed_values_take_several_steps() -> None:
    """An INSERT of many rows gives others a turn too."""
    talk = Talk()
    rows = ",".join("(1, 'canary')" for _ in range(4500))
    talk.client(query(f"insert into patients (hospital_id, ssn) values {rows}"), sync())
    assert talk.n_more >= 2
    assert talk.to_server() == "Q S" and b"canary" not in talk.server_bytes


def test_long_statement_is_planned_elsewhere() -> None:
    """A statement over 8 kB that names something watched is a need, not work of this process."""
    talk = Talk()
    talk.client(query(READ + " and name <> '" + "x" * 9000 + "'"))
    assert any(isinstance(need, NotPlanned) for need in talk.needs)
    assert talk.to_server() == "Q"


def test_unknown_statement_name_gets_no_values() -> None:
    """A Bind of a name nobody knows reaches the server without what the client wanted to store."""
    talk = Talk()
    prepared(talk, INSERT, "a", parameters(17), NO_DATA)
    talk.client(bind("canary", statement="b"), execute(), sync())
    assert talk.to_server() == "B E S"
    assert b"canary" not in talk.server_bytes
    talk.server(error("26000"), ready())
    assert talk.to_client() == "E[26000] ZI"


@pytest.mark.parametrize("text", ["deallocate a", "deallocate all", "discard all"])
def test_deallocated_statement_is_forgotten_with_its_completion(text: str) -> None:
    """SQL ends protocol statements; a later Bind gets no value to keep."""
    talk = Talk()
    prepared(talk, INSERT, "a", parameters(17), NO_DATA)
    talk.client(query(text))
    talk.server(complete(text.upper()), ready())
    talk.client(bind("canary", statement="a"), execute(), sync())
    assert talk.to_server() == "Q B E S"
    assert b"canary" not in talk.server_bytes


def test_failed_deallocate_forgets_nothing() -> None:
    """Only a completion takes effect."""
    talk = Talk()
    prepared(talk, INSERT, "a", parameters(17), NO_DATA)
    talk.client(query("deallocate all"))
    talk.server(error("57014"), ready())
    talk.to_server()
    talk.client(bind("123", statement="a"), execute(), sync())
    (first, *_) = talk.messages_to_server()
    assert len(first.parameters) == 2 and first.parameters[0] != b"123"


def test_second_parse_of_a_planned_name_waits_for_the_servers_word() -> None:
    """42P05 keeps the old statement with its plan."""
    talk = Talk()
    prepared(talk, INSERT, "a", parameters(17), NO_DATA)
    talk.client(parse("select $1::text", name="a"), sync(), bind("canary", statement="a"), execute(), sync())
    talk.server(error("42P05"), ready())
    assert b"canary" not in talk.server_bytes
    talk.server(BOUND, complete("INSERT 0 1"), ready())
    assert talk.to_client() == "E[42P05] ZI 2 C[INSERT 0 1] ZI"


def test_unnamed_statement_is_replaced_by_each_parse() -> None:
    """The old plan goes with the new text, also where the new one needs no rewriting."""
    talk = Talk()
    talk.client(run(INSERT, "canary"), sync())
    talk.server(PARSED, parameters(17), NO_DATA)
    talk.server(BOUND, complete("INSERT 0 1"), ready())
    talk.to_server()
    talk.client(run("select $1::text", "plain"), sync())
    sent = talk.messages_to_server()
    assert sent[1].parameters == [b"plain"]


def test_closed_statement_comes_back_when_its_close_is_skipped() -> None:
    """A Close behind an error did not happen."""
    talk = Talk()
    prepared(talk, INSERT, "a", parameters(17), NO_DATA)
    talk.client(parse("select nope"), close_statement("a"), sync(), flush())
    talk.server(error("42703"), ready())
    talk.to_server()
    talk.client(bind("canary", statement="a"), execute(), sync())
    assert b"canary" not in talk.server_bytes
    assert len(talk.messages_to_server()[0].parameters) == 2


def test_name_of_a_skipped_parse_is_free_again() -> None:
    """What the server never took is not known; its Bind carries no value."""
    talk = Talk()
    prepared(talk, INSERT, "a", parameters(17), NO_DATA)
    talk.client(parse("select nope"), parse(INSERT, name="b"), sync())
    talk.server(error("42703"), ready())
    talk.to_server()
    talk.client(bind("canary", statement="b"), execute(), sync())
    assert b"canary" not in talk.server_bytes
    assert talk.messages_to_server()[0].parameters == []


def test_plan_of_another_catalog_is_made_anew_or_refused_as_postgresql_does() -> None:
    """The same text with the same roles goes on; another result is 0A000."""
    talk = Talk()
    prepared(talk, INSERT, "a", parameters(17), NO_DATA)
    talk.world.refresh()
    talk.client(bind("123", statement="a"), execute(), sync())
    sent = talk.messages_to_server()
    assert [m.letter for m in sent][-3:] == ["B", "E", "S"] and b"123" not in talk.server_bytes
    talk.server(BOUND, complete("INSERT 0 1"), ready())
    prepared(talk, "select name from patients", "p", parameters(), columns(("name", 20001, 6, 25)))


def test_server_error_hides_details_and_moves_its_position() -> None:
    """DETAIL of a protected statement is dropped, a hint that names columns is not; a position counts in the
    client's own text."""
    talk = Talk()
    text = "insert into patients (hospital_id, ssn) values (1, 'canary') returning nope"
    talk.client(query(text))
    (sent,) = talk.messages_to_server()
    at = sent.sql.decode().index("nope") + 1
    talk.server(error("42703", P=str(at), D="Key (ssn)=(\\xa60b) exists", W="context", H="hint"), ready())
    (told, _) = talk.messages_to_client()
    found = dict(told.fields["fields"])
    assert found["P"] == str(text.index("nope") + 1).encode()
    assert (found["H"], {"D", "W"} & set(found)) == (b"hint", set())


def test_unique_violation_names_its_columns_only() -> None:
    """23505 keeps the column, loses the value."""
    talk = Talk()
    talk.client(query("insert into patients (hospital_id, ssn) values (1, 'canary')"))
    talk.server(error("23505", D="Key (ssn)=(\\xa60b35) already exists."), ready())
    assert dict(talk.messages_to_client()[0].fields["fields"])["D"] == b"Key (ssn) already exists."


def test_servers_own_class_ps_becomes_an_internal_error() -> None:
    """A function in the server cannot speak for pgseal."""
    talk = Talk()
    talk.client(query(READ))
    talk.server(error("PS004"), ready())
    assert talk.to_client() == "E[XX000] ZI"


def test_describe_of_a_portal_shows_logical_types() -> None:
    """Formats are those of the Bind."""
    talk = Talk()
    prepared(talk, READ, "n", parameters(), columns(SSN))
    talk.client(bind(statement="n"), describe_portal(), execute(), sync())
    talk.server(BOUND, columns(SSN), complete("SELECT 0"), ready())
    assert talk.messages_to_client()[1].columns[0][3] == 25


def test_close_of_a_planned_statement_is_answered_once() -> None:
    """The client's own Close, and no reply more."""
    talk = Talk()
    prepared(talk, READ, "n", parameters(), columns(SSN))
    talk.client(close_statement("n"), sync())
    talk.server(CLOSED, ready())
    assert talk.to_client() == "3 ZI"
