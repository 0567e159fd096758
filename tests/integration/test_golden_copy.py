"""Golden traces of COPY: in and out, simple and extended, the ways it fails, and which Sync counts.

The proxied run must be heard byte for byte as the direct one.
"""

from __future__ import annotations

import pytest

from tests.golden import CHUNKINGS
from tests.playbook import (
    SILENCE,
    Playbook,
    bind,
    copy_data,
    copy_done,
    copy_fail,
    execute,
    flush,
    parse,
    query,
    run,
    sync,
)

pytestmark = pytest.mark.wire

IN = "COPY w FROM STDIN"
GOOD, BAD = copy_data("3\tthree\n4\tfour\n"), copy_data("x\tno number\n")
_COUNT = query("SELECT count(*) FROM w")

CASES: dict[str, Playbook] = {
    # --- simple -------------------------------------------------------------------------------
    "in": Playbook() >> query(IN) << "G" >> GOOD + copy_done() << "C[COPY 2] ZI" >> _COUNT << "T D C ZI",
    "in_without_waiting": Playbook() >> query(IN) + GOOD + copy_done() << "G C[COPY 2] ZI",
    "in_of_nothing": Playbook() >> query(IN) + copy_done() << "G C[COPY 0] ZI",
    "in_rows_split_anywhere": Playbook()
    >> query("COPY w FROM STDIN (FORMAT csv)")
    + b"".join(map(copy_data, ["1", '0,"a', "\n", 'b"', "\n11", ",c\n"]))
    + copy_done() << "G C[COPY 2] ZI" >> query("SELECT * FROM w ORDER BY id") << "T D4 C ZI",
    "in_with_the_end_marker": Playbook() >> query(IN) + GOOD + copy_data("\\.\n") + copy_done()
    << "G C[COPY 2] ZI",
    "in_binary": Playbook()
    >> query("COPY w FROM STDIN (FORMAT binary)")
    + copy_data(b"PGCOPY\n\xff\r\n\0" + b"\0" * 8 + b"\0\2\0\0\0\4\0\0\0\x09\0\0\0\1z\xff\xff") + copy_done()
    << "G C[COPY 1] ZI",
    "in_bad_row": Playbook() >> query(IN) << "G" >> BAD << "E[22P02] ZI"
    >> copy_data("5\tlate\n") + copy_done() << SILENCE >> query("SELECT 1") << "T D C ZI",
    "in_bad_row_at_the_end": Playbook() >> query(IN) + GOOD + BAD + copy_done() << "G E[22P02] ZI" >> _COUNT
    << "T D C ZI",
    "in_given_up": Playbook() >> query(IN) << "G" >> GOOD + copy_fail("why not") << "E[57014] ZI" >> _COUNT
    << "T D C ZI",
    "in_of_a_missing_table": Playbook()
    >> query("COPY nope FROM STDIN") + GOOD + copy_done() << "E[42P01] ZI" >> query("SELECT 1") << "T D C ZI",
    "in_between_other_statements": Playbook()
    >> query(f"{IN}; SELECT 1; {IN}; SELECT 2") << "G" >> GOOD + copy_done() << "C T D C G"
    >> copy_data("5\tfive\n") + copy_done() << "C[COPY 1] T D C ZI",
    "in_inside_a_block": Playbook() >> query("BEGIN") << "C ZT" >> query(IN) << "G" >> GOOD + copy_done()
    << "C ZT"
    >> query(IN) << "G" >> copy_fail("x") << "E[57014] ZE" >> query("ROLLBACK") << "C ZI",
    "in_met_by_a_query": Playbook() >> query(IN) << "G" >> query("SELECT 1") << "E[08P01] E[FATAL 08P01] EOF",
    "in_with_flush_and_sync_ignored": Playbook()
    >> query(IN) << "G" >> flush() + sync() + GOOD + sync() + copy_done() << "C[COPY 2] ZI",
    "in_with_a_failing_trigger": Playbook() >> query("COPY guarded FROM STDIN") << "G" >> GOOD + copy_done()
    << "E[P0001] ZI",
    "in_of_much": Playbook()
    >> query("COPY big FROM STDIN")
    + b"".join(copy_data(f"{n}\t{'p' * 900}\n") for n in range(1000)) + copy_done() << "G C[COPY 1000] ZI",
    "out": Playbook() >> query("COPY t TO STDOUT") << "H d10 c C[COPY 10] ZI",
    "out_of_a_query_as_csv": Playbook()
    >> query("COPY (SELECT id, s FROM t WHERE id < 3 ORDER BY id) TO STDOUT (FORMAT csv, HEADER)")
    << "H d3 c C[COPY 2] ZI",
    "out_binary": Playbook() >> query("COPY t TO STDOUT (FORMAT binary)") << "H d* c C[COPY 10] ZI",
    "out_of_nothing": Playbook() >> query("COPY (SELECT 1 WHERE false) TO STDOUT") << "H c C[COPY 0] ZI",
    "out_failing_midway": Playbook()
    >> query("COPY (SELECT 10 / (5 - g) FROM generate_series(1, 10) g) TO STDOUT") << "H d4 E[22012] ZI",
    "out_between_other_statements": Playbook()
    >> query("SELECT 1; COPY t TO STDOUT; SELECT 2") << "T D C H d10 c C T D C ZI",
    "out_of_much": Playbook() >> query("COPY big TO STDOUT") << "H d10 c C ZI",
    # --- extended -----------------------------------------------------------------------------
    "extended_in": Playbook() >> run(IN) + sync() << "1 2 G" >> GOOD + copy_done() + sync() << "C[COPY 2] ZI",
    "extended_in_without_waiting": Playbook()
    >> run(IN) + sync() + GOOD + copy_done() + sync() << "1 2 G C[COPY 2] ZI" >> query("SELECT 1") << "T D C ZI",
    "extended_in_without_the_first_sync": Playbook()
    >> run(IN) + flush() << "1 2 G" >> GOOD + copy_done() + sync() << "C[COPY 2] ZI",
    "extended_in_followed_by_more": Playbook()
    >> run(IN) << "1 2 G" >> GOOD + copy_done() + run("SELECT 1") + sync() << "C[COPY 2] 1 2 D C ZI",
    "extended_in_bad_row": Playbook()
    >> run(IN) + sync() << "1 2 G" >> BAD + copy_done() + sync() << "E[22P02] ZI",
    "extended_in_bad_row_without_waiting": Playbook()
    >> run(IN) + sync() + BAD + copy_done() + sync() << "1 2 G E[22P02] ZI",
    "extended_in_given_up": Playbook()
    >> run(IN) + sync() << "1 2 G" >> copy_fail("x") + sync() << "E[57014] ZI" >> query("SELECT 1") << "T D C ZI",
    "extended_in_of_a_missing_table": Playbook()
    >> run("COPY nope FROM STDIN") + sync() << "1 2 E[42P01] ZI"
    >> copy_data("1\n") + copy_done() + sync() << "ZI",
    "extended_in_with_a_failing_trigger": Playbook()
    >> run("COPY guarded FROM STDIN") + sync() << "1 2 G E[P0001] ZI" >> GOOD + copy_done() + sync() << "ZI",
    "extended_in_inside_a_block": Playbook()
    >> query("BEGIN") << "C ZT" >> parse(IN, "c") + bind(statement="c") + execute() + flush() << "1 2 G"
    >> BAD << "E[22P02]" >> copy_done() + sync() << "ZE" >> query("ROLLBACK") << "C ZI"
    >> bind(statement="c") + execute() << "2 G" >> GOOD + copy_done() + sync() << "C ZI",
    "extended_out": Playbook() >> run("COPY t TO STDOUT") + sync() << "1 2 H d10 c C[COPY 10] ZI",
}  # fmt: skip


@pytest.mark.parametrize("chunking", CHUNKINGS)
@pytest.mark.parametrize("name", CASES)
def test_copy_through_the_proxy_is_heard_as_from_the_server(name, chunking, stage, through):
    """The conversation goes as written, and the proxy adds, loses and changes no byte of it."""
    if chunking == "bytes" and name == "in_of_much":
        chunking = "random2"
    stage.compare(name, CASES[name], through, CHUNKINGS[chunking])
