"""Settings of a session as its statements see them: in one pipeline, in blocks, behind errors and savepoints."""

from __future__ import annotations

import pytest

from tests.oracle import Message
from tests.playbook import bind, execute, parse, query, run, sync
from tests.unit.session.talk import BOUND, NO_DATA, PARSED, Talk, complete, error, one, parameters, ready

INSERT = "insert into staff (born) values ('1990-01-01')"


def tenant_of_last_insert(talk: Talk) -> str | None:
    return next((e.tenant for e in reversed(talk.events) if e.tag == "INSERT"), None)


def inserted(talk: Talk, status: str = "I") -> str:
    """One INSERT that needs the session's tenant; gives what the client hears."""
    talk.to_client()
    talk.client(query(INSERT))
    sent = talk.messages_to_server()[-1]
    refused = sent.sql.startswith(b"pgseal")
    talk.server(error("42601") if refused else complete("INSERT 0 1"), ready(status))
    return talk.to_client()


def said(talk: Talk, text: str, tag: str, status: str = "I") -> None:
    talk.client(query(text))
    talk.server(complete(tag), ready(status))


def test_set_counts_from_its_completion() -> None:
    """Unknown before, known after."""
    talk = Talk()
    assert inserted(talk) == "E[PS002] ZI"
    said(talk, "set app.tenant_id = 'a'", "SET")
    assert inserted(talk) == "C[INSERT 0 1] ZI"
    assert tenant_of_last_insert(talk) == "a"


def test_set_that_fails_changes_nothing() -> None:
    """An error is no completion."""
    talk = Talk()
    talk.client(query("set app.tenant_id = 'a'"))
    talk.server(error("42501"), ready())
    assert inserted(talk) == "E[PS002] ZI"


def test_set_and_use_in_one_pipeline_waits_with_flush() -> None:
    """The use is not planned before the server has confirmed the setting."""
    talk = Talk()
    talk.client(run("set app.tenant_id = 'a'"), parse(INSERT, name="i"), bind(statement="i"), execute(), sync())
    first = talk.to_server()
    assert first == "P B DP E H"
    talk.server(PARSED, BOUND, NO_DATA, complete("SET"))
    assert talk.to_server() == "P DS H"
    talk.server(PARSED, parameters(17), NO_DATA)
    assert talk.to_server() == "B E S"
    talk.server(BOUND, complete("INSERT 0 1"), ready())
    assert tenant_of_last_insert(talk) == "a"


def test_set_and_use_in_one_query_take_each_others_values() -> None:
    """Each statement of a text is sealed for the tenant at its place."""
    talk = Talk()
    talk.client(query(f"set app.tenant_id = 'a'; {INSERT}; set app.tenant_id = 'b'; {INSERT}"))
    for tag in ("SET", "INSERT 0 1") * 2:
        talk.server(complete(tag))
    talk.server(ready())
    assert [e.tenant for e in talk.events] == ["a", "b"]


def test_set_config_with_a_parameter_is_believed_when_confirmed() -> None:
    """The value comes with the Bind and counts from the completion of the Execute."""
    talk = Talk()
    talk.client(parse("select set_config('app.tenant_id', $1, false)"), bind("c"), execute(), sync())
    pending = talk.to_server()
    assert "E" in pending
    talk.server(PARSED, BOUND)
    if "DP" in pending:
        talk.server(one("RowDescription", columns=[(b"set_config", 0, 0, 25, -1, -1, 0)]))
    talk.server(one("DataRow", values=[b"c"]), complete("SELECT 1"), ready())
    assert inserted(talk) == "C[INSERT 0 1] ZI"
    assert tenant_of_last_insert(talk) == "c"


@pytest.mark.parametrize("text", ["set local app.tenant_id = 'a'", "set app.tenant_id = 'a'"])
def test_rollback_takes_a_setting_back(text: str) -> None:
    """Inside the block it holds, after ROLLBACK it does not."""
    talk = Talk()
    said(talk, "begin", "BEGIN", "T")
    said(talk, text, "SET", "T")
    assert inserted(talk, "T") == "C[INSERT 0 1] ZT"
    said(talk, "rollback", "ROLLBACK")
    assert inserted(talk) == "E[PS002] ZI"


def test_commit_keeps_session_values_and_drops_local_ones() -> None:
    """SET LOCAL hides the session's value until the block ends."""
    talk = Talk()
    said(talk, "set app.tenant_id = 'a'", "SET")
    said(talk, "begin", "BEGIN", "T")
    said(talk, "set local app.tenant_id = 'b'", "SET", "T")
    inserted(talk, "T")
    assert tenant_of_last_insert(talk) == "b"
    said(talk, "commit", "COMMIT")
    inserted(talk)
    assert tenant_of_last_insert(talk) == "a"


def test_commit_of_a_failed_block_is_a_rollback() -> None:
    """The tag says so."""
    talk = Talk()
    said(talk, "begin", "BEGIN", "T")
    said(talk, "set app.tenant_id = 'a'", "SET", "T")
    talk.client(query("select nope"))
    talk.server(error("42703"), ready("E"))
    said(talk, "commit", "ROLLBACK")
    assert inserted(talk) == "E[PS002] ZI"


def test_rollback_to_savepoint_restores_what_held_there() -> None:
    """The savepoint stays and can be used again."""
    talk = Talk()
    said(talk, "set app.tenant_id = 'a'", "SET")
    said(talk, "begin", "BEGIN", "T")
    said(talk, "savepoint s", "SAVEPOINT", "T")
    for _ in range(2):
        said(talk, "set app.tenant_id = 'b'", "SET", "T")
        inserted(talk, "T")
        assert tenant_of_last_insert(talk) == "b"
        said(talk, "rollback to s", "ROLLBACK", "T")
        inserted(talk, "T")
        assert tenant_of_last_insert(talk) == "a"


def test_implicit_transaction_that_fails_takes_its_set_back() -> None:
    """A text with an error in it is one transaction."""
    talk = Talk()
    talk.client(query("set app.tenant_id = 'a'; select 1/0"))
    talk.server(complete("SET"), error("22012"), ready())
    assert inserted(talk) == "E[PS002] ZI"


def test_batch_that_fails_before_its_sync_takes_its_set_back() -> None:
    """The same in extended protocol."""
    talk = Talk()
    talk.client(run("set app.tenant_id = 'a'"), parse("select nope"), sync())
    talk.server(PARSED, BOUND, NO_DATA, complete("SET"))
    talk.server(error("42703"), ready())
    assert inserted(talk) == "E[PS002] ZI"


def test_set_behind_an_error_never_happened() -> None:
    """It was skipped; later statements do not wait for it."""
    talk = Talk()
    talk.client(parse("select nope"), run("set app.tenant_id = 'a'"), sync())
    talk.server(error("42703"), ready())
    assert inserted(talk) == "E[PS002] ZI"


@pytest.mark.parametrize(
    ("text", "tag"), [("reset app.tenant_id", "RESET"), ("reset all", "RESET"), ("discard all", "DISCARD ALL")]
)
def test_reset_forgets_the_tenant(text: str, tag: str) -> None:
    """What was set is unknown again."""
    talk = Talk()
    said(talk, "set app.tenant_id = 'a'", "SET")
    said(talk, text, tag)
    assert inserted(talk) == "E[PS002] ZI"


def test_tenant_given_at_log_in_is_known() -> None:
    """Start-up options are settings the client sent and the server took."""
    talk = Talk(settings={"app.tenant_id": "z"})
    assert inserted(talk) == "C[INSERT 0 1] ZI"
    assert tenant_of_last_insert(talk) == "z"


def test_strings_that_do_not_conform_refuse_watched_names_beside_a_backslash() -> None:
    """With standard_conforming_strings off a backslash may hide the end of a string."""
    talk = Talk()
    talk.server(one("ParameterStatus", name="standard_conforming_strings", value="off"))
    talk.client(query("insert into patients (hospital_id, ssn) values (1, 'a\\'')"), query("select 'b\\''"))
    assert talk.to_server() == "Q! Q"


def test_values_follow_the_settings_of_their_moment() -> None:
    """DateStyle decides how an opened date is written."""
    talk = Talk(settings={"app.tenant_id": "z"})
    talk.server(one("ParameterStatus", name="DateStyle", value="SQL, DMY"))
    rule = talk.world.snapshot.sealed_at(20010, 2)
    assert rule is not None
    talk.client(query("select born from staff"))
    cell = talk.world.cell(rule.rule, "z", b"1990-02-01")
    shown = one("RowDescription", columns=[(b"born", 20010, 2, 17, -1, -1, 0)])
    talk.server(shown, one("DataRow", values=[b"\\x" + cell.hex().encode()]), complete("SELECT 1"), ready())
    rows: list[Message] = [m for m in talk.messages_to_client() if m.name == "DataRow"]
    assert rows[0].values == [b"01/02/1990"]
