"""Golden traces of the extended query protocol: batches, errors, portals, prepared statements, formats.

Each conversation states what must come in the notation of `tests/playbook.py`, and what comes through the proxy
must be, message by message, the bytes PostgreSQL itself sends.
"""

from __future__ import annotations

import pytest

from tests.golden import CHUNKINGS
from tests.playbook import (
    SILENCE,
    Playbook,
    bind,
    close_portal,
    close_statement,
    describe_portal,
    describe_statement,
    execute,
    flush,
    parse,
    query,
    run,
    sync,
    terminate,
)

pytestmark = pytest.mark.wire

INT4, BYTEA_CONTEXT = 23, "\\x00"
BAD = "selec 1"
_ROWS = "SELECT id FROM t ORDER BY id"

CASES: dict[str, Playbook] = {
    # --- errors inside a batch -----------------------------------------------------------
    "batch_rolled_back_by_a_bad_parse": Playbook()
    >> parse("SELECT 1", "p1") + bind(statement="p1") + describe_portal() + execute()
    + parse(BAD, "p2") + bind(statement="p2") + execute() + sync()
    << "1 2 T D C[SELECT 1] E[42601] ZI",
    "batch_insert_before_a_bad_parse_is_undone": Playbook()
    >> run("INSERT INTO w VALUES (3, 'x')") + parse(BAD) + bind() + execute() + sync()
    << "1 2 C[INSERT 0 1] E[42601] ZI"
    >> query("SELECT count(*) FROM w WHERE id = 3")
    << "T D C[SELECT 1] ZI",
    "query_after_an_error_is_ignored_until_sync": Playbook()
    >> parse(BAD) + query("SELECT 1") << "E[42601]" << SILENCE >> sync() << "ZI",
    "function_call_after_an_error_is_ignored_until_sync": Playbook()
    >> parse(BAD) + flush() + flush() << "E[42601]" << SILENCE >> sync() << "ZI",
    "execute_of_a_missing_portal_undoes_the_insert_before_it": Playbook()
    >> run("INSERT INTO w VALUES (3, 'x')") + execute("nope") + run("SELECT 1") + sync()
    << "1 2 C[INSERT 0 1] E[34000] ZI"
    >> query("SELECT id FROM w WHERE id = 3") << "T C[SELECT 0] ZI",
    "execute_of_a_missing_portal_fails_a_block": Playbook()
    >> query("BEGIN") << "C[BEGIN] ZT" >> execute("nope") + run("SELECT 1") + sync() << "E[34000] ZE"
    >> query("COMMIT") << "C[ROLLBACK] ZI",
    "execute_of_a_missing_portal_in_a_failed_block": Playbook()
    >> query("BEGIN") << "C[BEGIN] ZT" >> query("SELECT 1/0") << "E[22012] ZE"
    >> execute("nope") + sync() << "E[34000] ZE" >> query("ROLLBACK") << "C[ROLLBACK] ZI",
    "bad_query_fails_a_block": Playbook()
    >> query("BEGIN") << "C[BEGIN] ZT" >> query("rejected statement 1") << "E[42601] ZE"
    >> query("ROLLBACK") << "C[ROLLBACK] ZI",
    "close_of_the_unnamed_statement_then_bind": Playbook()
    >> parse("SELECT 1") + sync() << "1 ZI" >> close_statement("") + execute("nope") + bind() + execute() + sync()
    << "3 E[34000] ZI" >> bind() + execute() + sync() << "E[26000] ZI",
    "commit_of_a_failed_block_is_a_rollback": Playbook()
    >> query("BEGIN") << "C[BEGIN] ZT" >> run("SELECT 1/0") + sync() << "1 E[22012] ZE"
    >> run("COMMIT") + sync() << "1 2 C[ROLLBACK] ZI",
    "statement_in_a_failed_block": Playbook()
    >> query("BEGIN; SELECT 1/0") << "C[BEGIN] E[22012] ZE" >> run("SELECT 1") + sync() << "E[25P02] ZE"
    >> query("ROLLBACK") << "C[ROLLBACK] ZI",
    # --- query and function call without sync ----------------------------------------------
    "query_in_an_open_batch_ends_it": Playbook()
    >> parse("SELECT 1") + bind() + describe_portal() + execute() + query("SELECT 2")
    << {0: "1 2 T D C T D C ZI", 18: "1 2 T D C T D C ZT"} >> sync() << "ZI",
    "query_in_an_open_batch_inside_a_block": Playbook()
    >> run("BEGIN") + query("SAVEPOINT a") << "1 2 C[BEGIN] C[SAVEPOINT] ZT" >> run("SELECT 1") + sync()
    << "1 2 D C ZT" >> query("ROLLBACK") << "C[ROLLBACK] ZI",
    # --- statements ---------------------------------------------------------------------------
    "parse_of_a_name_in_use": Playbook()
    >> parse("SELECT 1", "a") + parse("SELECT 2", "a") + sync() << "1 E[42P05] ZI",
    "close_of_unknown_names": Playbook() >> close_statement("x") + close_portal("x") + sync() << "3 3 ZI",
    "empty_query": Playbook() >> parse("") + bind() + describe_portal() + execute() + sync() << "1 2 n I ZI",
    "describe_of_a_delete": Playbook()
    >> parse("DELETE FROM t WHERE id = $1") + describe_statement() + sync() << "1 t n ZI",
    "describe_of_unknown_names": Playbook()
    >> describe_statement("x") + sync() << "E[26000] ZI" >> describe_portal("x") + sync() << "E[34000] ZI",
    "bind_of_an_unknown_statement": Playbook() >> bind(statement="x") + execute() + sync() << "E[26000] ZI",
    "unnamed_statement_outlives_sync": Playbook()
    >> parse("SELECT 1") + sync() << "1 ZI" >> bind() + execute() + sync() << "2 D C ZI"
    >> bind() + execute() + sync() << "2 D C ZI",
    "unnamed_statement_dies_by_a_query": Playbook()
    >> parse("SELECT 1") + sync() << "1 ZI" >> query("SELECT 2") << "T D C ZI"
    >> bind() + execute() + sync() << "E[26000] ZI",
    "unnamed_statement_dies_by_a_failed_parse": Playbook()
    >> parse("SELECT 1") + sync() << "1 ZI" >> parse(BAD) + sync() << "E[42601] ZI"
    >> bind() + execute() + sync() << "E[26000] ZI",
    "unnamed_statement_replaced": Playbook()
    >> parse("SELECT $1::int") + parse("SELECT 1") + bind() + describe_portal() + execute() + sync()
    << "1 1 2 T D C ZI",
    "statement_prepared_by_sql_is_bound": Playbook()
    >> query("PREPARE x AS SELECT id FROM t WHERE id = $1") << "C[PREPARE] ZI"
    >> bind("3", statement="x") + describe_portal() + execute() + sync() << "2 T D C[SELECT 1] ZI",
    "statement_parsed_is_executed_by_sql": Playbook()
    >> parse("SELECT id FROM t WHERE id = $1", "x") + sync() << "1 ZI"
    >> query("EXECUTE x(3)") << "T D C[SELECT 1] ZI",
    **{
        f"statement_parsed_dies_by_{statement.replace(' ', '_').lower()}": Playbook()
        >> parse("SELECT 1", "x") + sync() << "1 ZI" >> query(statement) << f"C[{statement}] ZI"
        >> bind(statement="x") + execute() + sync() << "E[26000] ZI"
        for statement in ("DEALLOCATE ALL", "DISCARD ALL")
    },
    "statement_parsed_dies_by_deallocate_of_its_name": Playbook()
    >> parse("SELECT 1", "x") + sync() << "1 ZI" >> run("DEALLOCATE x") + bind(statement="x") + sync()
    << "1 2 C[DEALLOCATE] E[26000] ZI",
    "statement_parsed_outlives_a_rolled_back_deallocate": Playbook()
    >> parse("SELECT 1", "x") + sync() << "1 ZI" >> query("BEGIN; DEALLOCATE x; ROLLBACK")
    << "C C C[ROLLBACK] ZI" >> bind(statement="x") + execute() + sync() << "E[26000] ZI",
    "statement_of_a_failed_batch_stays_parsed": Playbook()
    >> parse("SELECT 1", "kept") + parse(BAD) + parse("SELECT 2", "skipped") + sync() << "1 E[42601] ZI"
    >> bind(statement="kept") + execute() + sync() << "2 D C ZI"
    >> bind(statement="skipped") + sync() << "E[26000] ZI",
    "close_then_parse_again": Playbook()
    >> parse("SELECT 1", "x") + close_statement("x") + parse("SELECT 'a'", "x") + bind(statement="x")
    + describe_portal() + execute() + sync() << "1 3 1 2 T D C ZI",
    "close_in_a_burst_of_syncs": Playbook()
    >> parse("SELECT 1", "a") + parse("SELECT 1", "b") + sync() << "1 1 ZI"
    >> close_statement("a") + sync() + close_statement("b") + sync() + close_statement("c") + sync()
    + parse("SELECT 1", "d") + describe_statement("d") + sync() << "3 ZI 3 ZI 3 ZI 1 t T ZI",
    "plan_changed_under_a_statement": Playbook()
    >> parse("SELECT * FROM altered", "s1") + sync() << "1 ZI"
    >> query("ALTER TABLE altered ADD b int") << "C[ALTER TABLE] ZI"
    >> describe_statement("s1") + sync() << "t E[0A000] ZI" >> bind(statement="s1") + sync() << "E[0A000] ZI",
    "ddl_and_its_use_in_one_batch": Playbook()
    >> run("ALTER TABLE altered ADD b int DEFAULT 7") + run("SELECT a, b FROM altered") + sync()
    << "1 2 C[ALTER TABLE] 1 2 D C[SELECT 1] ZI",
    # --- portals -----------------------------------------------------------------------------
    "portal_in_pieces": Playbook()
    >> query("BEGIN") << "C[BEGIN] ZT"
    >> parse(_ROWS) + bind(portal="c") + execute("c", 3) + flush() << "1 2 D3 s"
    >> execute("c", 3) + execute("c", 100) + sync() << "D3 s D4 C[SELECT 4] ZT"
    >> execute("c", 1) + sync() << "C[SELECT 0] ZT" >> query("COMMIT") << "C ZI",
    "portal_ends_with_its_implicit_transaction": Playbook()
    >> parse(_ROWS) + bind(portal="c") + execute("c", 3) + sync() << "1 2 D3 s ZI"
    >> execute("c", 3) + sync() << "E[34000] ZI",
    "portal_without_block_flushed": Playbook()
    >> parse(_ROWS) + bind() + describe_portal() + flush() << "1 2 T" >> execute("", 4) + flush() << "D4 s"
    >> execute("", 4) + flush() << "D4 s" >> execute("", 4) + flush() << "D2 C[SELECT 2]"
    >> close_portal() + sync() << "3 ZI",
    "portal_closed_keeps_the_statement_of_its_name": Playbook()
    >> query("BEGIN") << "C ZT" >> parse(_ROWS, "n") + bind(portal="n", statement="n") + close_portal("n")
    + bind(portal="n", statement="n") + execute("n", 1) + sync() << "1 2 3 2 D s ZT"
    >> close_statement("n") + execute("n", 1) + sync() << "3 D s ZT" >> query("ROLLBACK") << "C ZI",
    "portal_name_in_use": Playbook()
    >> query("BEGIN") << "C ZT" >> parse(_ROWS) + bind(portal="n") + bind(portal="n") + sync()
    << "1 2 E[42P03] ZE" >> query("ROLLBACK") << "C ZI",
    "row_limit_on_statements_without_rows": Playbook()
    >> parse("BEGIN") + bind() + execute("", 1) + sync() << "1 2 C[BEGIN] ZT"
    >> parse("INSERT INTO w VALUES (9, 'n')") + bind() + execute("", 1) + sync() << "1 2 C[INSERT 0 1] ZT"
    >> parse("SET LOCAL work_mem = '4MB'") + bind() + execute("", 1) + sync() << "1 2 C[SET] ZT"
    >> query("COMMIT") << "C ZI",
    "portal_declared_by_sql_is_described_and_executed": Playbook()
    >> query("BEGIN; DECLARE c CURSOR FOR SELECT id, s FROM t ORDER BY id") << "C C[DECLARE CURSOR] ZT"
    >> describe_portal("c") + execute("c", 2) + sync() << "T D2 s ZT"
    >> query("FETCH 2 FROM c") << "T D2 C[FETCH 2] ZT" >> query("CLOSE c; COMMIT") << "C C ZI",
    "portal_bound_is_fetched_by_sql": Playbook()
    >> query("BEGIN") << "C ZT" >> parse(_ROWS) + bind(portal="c") + sync() << "1 2 ZT"
    >> query("FETCH 3 FROM c") << "T D3 C[FETCH 3] ZT" >> query("MOVE 2 FROM c") << "C[MOVE 2] ZT"
    >> query("CLOSE c") << "C[CLOSE CURSOR] ZT" >> execute("c") + sync() << "E[34000] ZE"
    >> query("ROLLBACK") << "C ZI",
    "cursor_declared_with_parameters": Playbook()
    >> run("BEGIN") + run('DECLARE "sc" CURSOR FOR SELECT id FROM t WHERE id > $1 ORDER BY id', "4")
    + describe_portal("sc") + sync() << "1 2 C 1 2 C T ZT"
    >> query('FETCH FORWARD 3 FROM "sc"') << "T D3 C[FETCH 3] ZT" >> query('CLOSE "sc"; COMMIT') << "C C ZI",
    "cursor_with_hold_outlives_commit": Playbook()
    >> query("BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT id FROM t; COMMIT") << "C C C ZI"
    >> execute("h", 2) + sync() << "D2 s ZI" >> query("CLOSE h") << "C ZI",
    "cursor_dies_by_rollback_to_savepoint": Playbook()
    >> query("BEGIN; SAVEPOINT a; DECLARE c CURSOR FOR SELECT 1; ROLLBACK TO a") << "C C C C ZT"
    >> query("FETCH c") << "E[34000] ZE" >> query("ROLLBACK") << "C ZI",
    # --- flush and sync ------------------------------------------------------------------------
    "nothing_before_flush": Playbook()
    >> parse("SELECT 1") + describe_statement() << SILENCE >> flush() << "1 t T" >> sync() << "ZI",
    "nothing_before_sync": Playbook()
    >> parse("SELECT 1") + describe_statement() << SILENCE >> sync() << "1 t T ZI",
    "flush_when_idle_and_while_skipping": Playbook()
    >> flush() << SILENCE >> parse(BAD) + flush() << "E[42601]" >> flush() << SILENCE >> sync() << "ZI",
    "sync_alone_and_many": Playbook() >> sync() + sync() + sync() << "ZI ZI ZI",
    "sync_then_flush": Playbook() >> run("SELECT 1") + sync() + flush() << "1 2 D C ZI",
    "several_batches_in_flight": Playbook()
    >> run("SELECT 1") + sync() + parse(BAD) + execute() + sync() + run("SELECT 2") + sync()
    << "1 2 D C ZI E[42601] ZI 1 2 D C ZI",
    "pipeline_of_many": Playbook()
    >> b"".join(run(f"INSERT INTO w VALUES ({n}, 'p')") for n in range(100, 200)) + sync()
    << "1 2 C " * 100 + "ZI",
    "batch_with_terminate_and_no_sync": Playbook()
    >> parse("SELECT 1") + bind() + execute() + terminate() << "EOF",
    "parse_describe_flush_then_bind": Playbook()
    >> parse("SELECT id FROM t WHERE id = $1") + describe_statement() + flush() << "1 t T"
    >> bind("1") + execute() + sync() << "2 D C ZI",
    # --- formats, types, parameters ------------------------------------------------------------
    "result_formats_binary_text_and_mixed": Playbook()
    >> parse("SELECT a, b, c FROM three WHERE a = 1", "s") + describe_statement("s") + sync() << "1 t T ZI"
    >> bind(statement="s", results=(1,)) + describe_portal() + execute() + sync() << "2 T D C ZI"
    >> bind(statement="s", results=(0,)) + describe_portal() + execute() + sync() << "2 T D C ZI"
    >> bind(statement="s", results=(1, 0, 1)) + describe_portal() + execute() + sync() << "2 T D C ZI",
    "result_formats_of_the_wrong_number": Playbook()
    >> parse("SELECT a, b, c FROM three") + bind(results=(0, 1)) + execute() + sync() << "1 E[08P01] ZI",
    "parameter_formats_none_one_and_each": Playbook()
    >> parse("SELECT $1::int, $2::int", "s") + sync() << "1 ZI"
    >> bind("1", "2", statement="s") + execute() + sync() << "2 D C ZI"
    >> bind(b"\0\0\0\1", b"\0\0\0\2", statement="s", formats=(1,)) + execute() + sync() << "2 D C ZI"
    >> bind("1", b"\0\0\0\2", statement="s", formats=(0, 1)) + execute() + sync() << "2 D C ZI"
    >> bind(None, b"\0\0\0\2", statement="s", formats=(0, 1)) + execute() + sync() << "2 D C ZI",
    "parameter_formats_of_the_wrong_number": Playbook()
    >> parse("SELECT $1::int, $2::int, $3::int") + bind("1", "2", "3", formats=(0, 1)) + sync()
    << "1 E[08P01] ZI",
    "parameters_of_the_wrong_number": Playbook()
    >> parse("SELECT $1::int") + bind("1", "2") + sync() << "1 E[08P01] ZI",
    "parameter_of_bad_text": Playbook()
    >> parse("SELECT $1::int") + bind("x") + execute() + sync() << "1 E[22P02] ZI",
    "parameter_declared_int_for_a_bytea_column": Playbook()
    >> parse("INSERT INTO three (c) VALUES ($1)", oids=(INT4,)) + sync() << "E[42804] ZI",
    "parameter_types_more_than_parameters": Playbook()
    >> parse("SELECT 1", oids=(INT4, INT4)) + describe_statement() + bind("1", "2") + execute() + sync()
    << "1 t T 2 D C ZI",
    "parameter_types_fewer_than_parameters": Playbook()
    >> parse("SELECT $1 + 1, $2::text", oids=(INT4,)) + describe_statement() + sync() << "1 t T ZI",
    "parameter_type_unknown": Playbook() >> parse("SELECT $1", oids=(4294967295,)) + sync() << "E[XX000] ZI",
    "parameter_description_of_a_domain": Playbook()
    >> parse("UPDATE dt SET e = $1 WHERE e = $2") + describe_statement() + sync() << "1 t n ZI",
    "row_description_flattens_domains": Playbook()
    >> parse("SELECT e, f FROM dt") + describe_statement() + sync() << "1 t T ZI",
    "row_description_of_composites_and_whole_rows": Playbook()
    >> parse("SELECT ROW(1,'a')::pair, t FROM t") + describe_statement() + sync() << "1 t T ZI",
    "row_without_columns": Playbook()
    >> query("INSERT INTO empty_row DEFAULT VALUES") << "C ZI"
    >> parse("SELECT FROM empty_row") + bind() + describe_portal() + execute() + sync() << "1 2 T D C ZI",
    "result_with_one_name_twice": Playbook()
    >> parse("SELECT id AS a, s AS a FROM t LIMIT 1") + bind() + describe_portal() + execute() + sync()
    << "1 2 T D C ZI",
    "many_parameters": Playbook()
    >> parse("SELECT " + "+".join(f"${n}::int" for n in range(1, 301))) + bind(*["1"] * 300) + execute() + sync()
    << "1 2 D C ZI",
    # --- what takes a snapshot --------------------------------------------------------------------
    "describe_before_set_transaction": Playbook()
    >> parse("SELECT 1", "s") + sync() << "1 ZI"
    >> run("BEGIN") + describe_statement("s") + run("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE") + sync()
    << "1 2 C t T 1 2 C[SET] ZT" >> query("ROLLBACK") << "C ZI",
    "parse_before_set_transaction": Playbook()
    >> run("BEGIN") + parse("SELECT id FROM t", "s") + run("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    + sync() << "1 2 C 1 1 2 E[25001] ZE" >> query("ROLLBACK") << "C ZI",
    "execute_before_vacuum_in_one_batch": Playbook()
    >> run("SELECT 1") + run("VACUUM t") + sync() << "1 2 D C 1 2 E[25001] ZI",
    "vacuum_alone": Playbook() >> run("VACUUM t") + sync() << "1 2 C[VACUUM] ZI",
    # --- much ---------------------------------------------------------------------------------
    "big_rows": Playbook()
    >> parse("SELECT id, pad FROM big ORDER BY id") + bind() + execute() + sync() << "1 2 D10 C ZI",
    "big_parameter": Playbook() >> run("SELECT length($1::text)", "y" * 300_000) + sync() << "1 2 D C ZI",
}  # fmt: skip


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("name", CASES)
def test_extended_query_through_the_proxy_is_heard_as_from_the_server(name, chunking, stage, through):
    """The conversation goes as written, and the proxy adds, loses and changes no byte of it."""
    if chunking == "bytes" and name.startswith("big_parameter"):
        chunking = "random1"
    stage.compare(name, CASES[name], through, CHUNKINGS[chunking])
