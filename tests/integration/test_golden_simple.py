"""Golden traces of the simple query protocol: several statements, empty ones, errors, settings, where columns
come from, function calls, notices and notifications.

The proxied run must be heard byte for byte as the direct one.
"""

from __future__ import annotations

import struct

import psycopg
import pytest

from tests.golden import CHUNKINGS
from tests.playbook import (
    SILENCE,
    Playbook,
    bind,
    describe_statement,
    execute,
    function_call,
    parse,
    query,
    run,
    sync,
)

pytestmark = pytest.mark.wire

# functions of fixed OID: int4pl(int4, int4),
# lo_create(oid), lo_open(oid, int4), lowrite(int4, bytea), lo_unlink(oid)
INT4PL, LO_CREATE, LO_OPEN, LO_WRITE, LO_UNLINK = 177, 715, 952, 955, 964
LO = 77777


def _int(number: int) -> bytes:
    return struct.pack("!i", number)


CASES: dict[str, Playbook] = {
    # --- several statements ---------------------------------------------------------------------
    "several_results_then_an_error": Playbook()
    >> query("SELECT 1; SELECT id FROM t ORDER BY id; INSERT INTO w VALUES (3, 'c'); SELECT 1/0; SELECT 2")
    << "T D C T D10 C[SELECT 10] C[INSERT 0 1] E[22012] ZI"
    >> query("SELECT id FROM w WHERE id = 3") << "T C[SELECT 0] ZI",
    "several_statements_in_a_block_of_their_own": Playbook()
    >> query("BEGIN; INSERT INTO w VALUES (3, 'c'); COMMIT; SELECT 1/0") << "C C C[COMMIT] E[22012] ZI"
    >> query("DELETE FROM w WHERE id = 3") << "C[DELETE 1] ZI",
    "statement_of_four_parts_as_a_pool_resets": Playbook()
    >> query("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;")
    << "T D C C[CLOSE CURSOR ALL] C[UNLISTEN] C[RESET] ZI",
    "empty_queries": Playbook() >> query("") << "I ZI" >> query("-- c") << "I ZI" >> query(" ;; ") << "I ZI"
    >> query(";;SELECT 1;") << "T D C ZI" >> query("/* a /* b */ c */") << "I ZI",
    "syntax_error_position": Playbook() >> query("SELECT * FORM t") << "E[42601] ZI",
    "error_position_counts_characters": Playbook() >> query("SELECT 'ééé', nope") << "E[42703] ZI",
    "error_position_in_latin1": Playbook(parameters=(("client_encoding", "LATIN1"),))
    >> query("SELECT 'ééé', nope".encode("latin-1")) << "E[42703] ZI"
    >> query("SELECT 'ééé'".encode("latin-1")) << "T D C ZI",
    "bytes_that_are_no_text": Playbook() >> query(b"SELECT '\xff\xfe'") << "E[22021] ZI",
    "rows_of_nulls_empty_and_long_values": Playbook()
    >> query("SELECT NULL, '', repeat('z', 70000), 'ü'") << "T D C ZI",
    "many_rows": Playbook() >> query("SELECT g, repeat('r', g % 50) FROM generate_series(1, 3000) g")
    << "T D3000 C[SELECT 3000] ZI",
    "tags_of_commands": Playbook()
    >> query("CREATE TABLE made (a int); INSERT INTO made VALUES (1), (2)") << "C[CREATE TABLE] C[INSERT 0 2] ZI"
    >> query("UPDATE made SET a = 3; DELETE FROM made")
    << "C[UPDATE 2] C[DELETE 2] ZI"
    >> query("TRUNCATE made; DROP TABLE made; CHECKPOINT; LOCK t") << "C C C[CHECKPOINT] C[LOCK TABLE] ZI",
    "returning_and_data_modifying_with": Playbook()
    >> query("INSERT INTO w VALUES (7, 'x') RETURNING id, s AS t") << "T D C[INSERT 0 1] ZI"
    >> query("WITH d AS (DELETE FROM w RETURNING *) SELECT * FROM d ORDER BY id") << "T D3 C[SELECT 3] ZI",
    "explain_and_show": Playbook() >> query("EXPLAIN (COSTS OFF) SELECT * FROM t WHERE id = 1")
    << "T D* C[EXPLAIN] ZI"
    >> query("SHOW work_mem") << "T D C[SHOW] ZI",
    "prepared_transaction": Playbook()
    >> query("BEGIN; INSERT INTO w VALUES (8, 'g'); PREPARE TRANSACTION 'golden'") << "C C C ZI"
    >> query("ROLLBACK PREPARED 'golden'") << "C[ROLLBACK PREPARED] ZI",
    "savepoints": Playbook() >> query("BEGIN") << "C ZT" >> query("SAVEPOINT a") << "C ZT"
    >> query("SELECT 1/0") << "E[22012] ZE" >> query("ROLLBACK TO a") << "C[ROLLBACK] ZT"
    >> query("RELEASE a; COMMIT") << "C C ZI",
    "commit_outside_a_block_warns": Playbook() >> query("COMMIT") << "N[WARNING 25P01] C ZI",
    # --- settings -------------------------------------------------------------------------------
    "settings_are_reported_before_ready": Playbook()
    >> query("SET application_name = 'a'; SET TimeZone = 'Asia/Tokyo'; SELECT 1")
    << "C C T D C S S ZI" >> query("RESET ALL") << "C S S ZI",
    "setting_reported_once_for_a_pipeline": Playbook()
    >> run("SET application_name = 'a'") + run("SET application_name = 'b'") + run("SELECT 1") + sync()
    << "1 2 C 1 2 C 1 2 D C S[application_name] ZI",
    "setting_rolled_back": Playbook() >> query("BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'") << "C C S[TimeZone] ZT"
    >> query("ROLLBACK") << "C S[TimeZone] ZI",
    "search_path_is_reported_by_18": Playbook()
    >> query("SET search_path = pg_catalog") << {0: "C ZI", 18: "C S[search_path] ZI"}
    >> query("BEGIN; SET LOCAL search_path = public") << {0: "C C ZT", 18: "C C S[search_path] ZT"}
    >> query("ROLLBACK") << {0: "C ZI", 18: "C S[search_path] ZI"},
    "search_path_of_a_function_is_not_reported": Playbook() >> query("SELECT quiet_path()") << "T D C ZI",
    "role_is_not_reported": Playbook() >> query("SET ROLE pg_monitor") << "C S[is_superuser] ZI"
    >> query("RESET ROLE") << "C S[is_superuser] ZI",
    "encoding_changed_on_the_way": Playbook() >> query("SET client_encoding = 'LATIN1'")
    << "C S[client_encoding] ZI"
    >> query("SELECT 'é'".encode("latin-1")) << "T D C ZI"
    >> query("SELECT '€'::text FROM t LIMIT 0") << "T C ZI" >> query("SELECT chr(8364)") << "T E[22P05] ZI",
    "set_config_by_parameter": Playbook()
    >> run("SELECT set_config('app.x', $1, false)", "v") + sync() << "1 2 D C ZI"
    >> query("SELECT current_setting('app.x')") << "T D C ZI",
    # --- where columns come from ------------------------------------------------------------------
    "columns_of_tables_and_views": Playbook()
    >> query("SELECT id, s AS alias FROM t LIMIT 1") << "T D C ZI"
    >> query("WITH c AS (SELECT * FROM t) SELECT * FROM c LIMIT 1") << "T D C ZI"
    >> query("SELECT x.id, w.s FROM (SELECT DISTINCT id FROM t) x JOIN w USING (id) ORDER BY 1") << "T D* C ZI"
    >> query("SELECT * FROM v LIMIT 1") << "T D C ZI" >> query("TABLE w") << "T D* C ZI"
    >> query("SELECT s::text, (t).s, t FROM t LIMIT 1") << "T D C ZI",
    "columns_of_expressions": Playbook()
    >> query("SELECT id + 1, s::varchar(3), coalesce(s, ''), count(*) OVER () FROM t LIMIT 1") << "T D C ZI"
    >> query("SELECT id FROM t UNION SELECT id FROM w ORDER BY 1 LIMIT 1") << "T D C ZI"
    >> query("VALUES (1, 'a')") << "T D C ZI" >> query("SELECT (SELECT s FROM t LIMIT 1)") << "T D C ZI"
    >> query("SELECT json_agg(t) FROM t WHERE id = 1") << "T D C ZI",
    "columns_of_execute_and_fetch": Playbook()
    >> query("PREPARE p AS SELECT s FROM t LIMIT 1; EXECUTE p") << "C T D C ZI"
    >> query("BEGIN; DECLARE c CURSOR FOR SELECT s FROM t; FETCH c") << "C C T D C ZT"
    >> query("COMMIT; DEALLOCATE p") << "C C ZI",
    "temporary_table_shadows": Playbook()
    >> query("CREATE TEMP TABLE w (id int, s text); SELECT count(*) FROM w; DROP TABLE pg_temp.w")
    << "C T D C C ZI" >> query("SELECT count(*) FROM w") << "T D C ZI",
    "temporary_table_in_later_transactions": Playbook()
    >> query("CREATE TEMP TABLE mine (a serial, s text)") << "C[CREATE TABLE] ZI"
    >> parse("INSERT INTO mine (s) VALUES ($1) RETURNING *", "i") + sync() << "1 ZI"
    >> bind("k", statement="i") + execute() + sync() << "2 D C[INSERT 0 1] ZI"
    >> query("SELECT count(*) FROM mine; DROP TABLE mine") << "T D C C ZI",
    # --- notices, notifications, functions ------------------------------------------------------------
    "notification_to_oneself": Playbook() >> query("LISTEN x; NOTIFY x, 'p'") << "C[LISTEN] C[NOTIFY] A[x] ZI",
    "notification_in_a_block_comes_at_commit": Playbook()
    >> query("LISTEN x") << "C ZI" >> query("BEGIN; NOTIFY x") << "C C ZT" << SILENCE
    >> query("COMMIT") << "C A[x] ZI",
    "notices_between_rows": Playbook() >> query("SELECT chatty(3)") << "T N[NOTICE 00000] N N D3 C ZI"
    >> run("SELECT n FROM chatty(2) n") + sync() << "1 2 N N D2 C ZI",
    "notice_level_filtered": Playbook() >> query("SET client_min_messages = warning; SELECT chatty(2)")
    << "C T D2 C ZI",
    "raise_with_all_fields": Playbook()
    >> query(
        "DO $$ BEGIN RAISE EXCEPTION 'm' USING ERRCODE = 'AB123', DETAIL = 'd', HINT = 'h', COLUMN = 'c', "
        "CONSTRAINT = 'k', DATATYPE = 'y', TABLE = 't', SCHEMA = 's'; END $$"
    )
    << "E[AB123] ZI",
    "constraint_error_names_its_table": Playbook() >> query("INSERT INTO w VALUES (1, 'dup')") << "E[23505] ZI",
    "function_calls_of_large_objects": Playbook()
    >> query("BEGIN") << "C ZT"
    >> function_call(LO_CREATE, _int(LO)) << "V ZT"
    >> function_call(LO_OPEN, str(LO).encode(), b"131072", formats=(0,), result_format=0) << "V ZT"
    >> function_call(LO_WRITE, _int(0), b"\0\xffbytes") << "V ZT"
    >> query("END") << "C ZI" >> function_call(LO_UNLINK, _int(LO)) << "V ZI"
    >> function_call(LO_UNLINK, _int(LO)) << "E[42704] ZI",
    "function_call_of_a_large_object_ends_an_open_batch": Playbook()
    >> parse("SELECT 1") + function_call(LO_CREATE, _int(LO)) << {0: "1 V ZI"} >> sync() << "ZI"
    >> function_call(LO_UNLINK, _int(LO)) << "V ZI",
    "large_object_by_sql": Playbook()
    >> query("BEGIN; SELECT lo_open(lo_create(0), 131072) IS NOT NULL; ROLLBACK") << "C T D C C ZI",
    # --- sql inside sql ----------------------------------------------------------------------------------
    "nested_statements": Playbook()
    >> query("CREATE TABLE made AS SELECT * FROM t") << "C[SELECT 10] ZI"
    >> query("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) DELETE FROM made")
    << "T D* C ZI" >> query("SELECT count(*) FROM made; DROP TABLE made") << "T D C C ZI",
    "standard_conforming_strings_off": Playbook()
    >> query("SET standard_conforming_strings = off; SET escape_string_warning = off") << "C C S ZI"
    >> query(r"SELECT 'a\'b;c'") << "T D C ZI",
    "dollar_quotes_comments_and_unicode": Playbook()
    >> query("SELECT $q$;'$q$ /* ; */ -- ;\n, U&'d\\0061t', E'\\n', B'101', X'1F'") << "T D C ZI",
    "simple_between_extended": Playbook()
    >> parse("SELECT id FROM t WHERE id = $1", "s") + describe_statement("s") + sync() << "1 t T ZI"
    >> query("SELECT 2") << "T D C ZI" >> bind("2", statement="s") + execute() + sync() << "2 D C ZI",
}  # fmt: skip


# where anything is protected, a FunctionCall of other functions is refused; elsewhere they go like this
WITHOUT_RULES: dict[str, Playbook] = {
    "function_call": Playbook()
    >> function_call(INT4PL, _int(40), _int(2))
    << "V ZI"
    >> function_call(INT4PL, b"40", b"2", formats=(0,), result_format=0)
    << "V ZI"
    >> query("BEGIN")
    << "C ZT"
    >> function_call(INT4PL, _int(1), _int(2))
    << "V ZT"
    >> query("END")
    << "C ZI",
    "function_call_of_the_unknown": Playbook() >> function_call(4294967290, _int(1)) << "E[42883] ZI",
    "function_call_ends_an_open_batch": Playbook()
    >> parse("SELECT 1") + function_call(INT4PL, _int(40), _int(2))
    << {0: "1 V ZI"}
    >> sync()
    << "ZI",
}


def test_function_call_where_anything_is_protected_is_refused(through):
    """In its place and order; the transaction fails as it would by an error of the server's."""
    playbook = Playbook() >> query("BEGIN") << "C ZT" >> function_call(INT4PL, _int(1), _int(2)) << "E[PS001] ZE"
    (playbook >> query("ROLLBACK") << "C ZI").run(through)


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("name", CASES)
def test_simple_query_through_the_proxy_is_heard_as_from_the_server(name, chunking, stage, through):
    """The conversation goes as written, and the proxy adds, loses and changes no byte of it."""
    stage.compare(name, CASES[name], through, CHUNKINGS[chunking])


@pytest.mark.parametrize("path", ["direct", "through"])
def test_notification_from_another_session_arrives_while_idle(path, stage, through):
    """A listener that sends nothing hears what others notify."""

    def notify(_client: object) -> None:
        stage.admin("NOTIFY door, 'knock'")

    endpoint = stage.direct if path == "direct" else through
    playbook = (
        Playbook() >> query("LISTEN door") << "C ZI" >> notify << "A[door]" >> query("SELECT 1") << "T D C ZI"
    )
    heard = playbook.run(endpoint)
    assert heard[2].endswith(b"door\0knock\0")


@pytest.mark.parametrize("path", ["direct", "through"])
def test_error_position_is_in_characters_of_the_client_s_text(path, stage, through):
    """Three two-byte letters before the unknown name count as three."""
    endpoint = stage.direct if path == "direct" else through
    heard = (Playbook() >> query("select 'ééé', nope") << "E[42703] ZI").run(endpoint)
    assert b"P15\0" in heard[0]


@pytest.mark.parametrize("path", ["direct", "through"])
def test_columns_keep_table_oid_and_attribute(path, stage, through):
    """What tells a client which column it got is the server's word."""
    endpoint = stage.direct if path == "direct" else through
    with psycopg.connect(host=endpoint.host, port=endpoint.port, user="postgres", dbname=endpoint.database) as db:
        oid = db.execute("SELECT 't'::regclass::oid").fetchone()[0]
        result = db.execute("SELECT s, id + 1 FROM t LIMIT 1").pgresult
        assert [(result.ftable(n), result.ftablecol(n)) for n in (0, 1)] == [(oid, 2), (0, 0)]
