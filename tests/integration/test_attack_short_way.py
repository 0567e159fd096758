"""Conversations against the short way of usual batches, through the whole proxy, with PostgreSQL behind it.

Each batch is sent as drivers send it, in one piece, so that it goes the short way wherever it may. Nothing shown
is an envelope, each row is its own tenant's, and every statement has its event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from proxy.embedded import EmbeddedPostgres
from tests.oracle import FRONTEND, Message, encode
from tests.playbook import (
    bind,
    close_statement,
    copy_data,
    copy_done,
    describe,
    describe_portal,
    describe_statement,
    execute,
    parse,
    query,
    sync,
)
from tests.sealed import OWNER, Sealed, sealed_database
from tests.wire_client import Endpoint, WireClient, random_chunks

RULES = """
version: 1
tenant: {from: setting, name: app.tenant_id}
roles: {default: {read: deny}, app: {read: plain}}
tables:
  public.people:
    tenant: {from: fixed, name: main}
    columns:
      ssn: {type: text, search: equality}
      born: {type: date}
  public.clients:
    tenant: {from: setting, name: app.tenant_id}
    isolation: tenant-only
    columns:
      email: {type: text}
"""
SETUP = (
    "CREATE TABLE people (id int PRIMARY KEY, note text, ssn text, born date)",
    "CREATE TABLE clients (id int PRIMARY KEY, tenant text, email text)",
    "CREATE TABLE other (t text)",
    "INSERT INTO people VALUES (1, 'n', '123-45-6789', '1957-12-10'), (2, NULL, '987-65-4321', NULL)",
    "INSERT INTO people VALUES (3, 'n', NULL, NULL)",
    "INSERT INTO other VALUES ('hello')",
)
ENVELOPES = (b"\\xa60b35", b"\xa6\x0b\x35")
LONG = "n" * 63
SSN = "SELECT ssn FROM people WHERE id = 1"
EMAIL = "SELECT email FROM clients WHERE id = 1"
A, B = query("SET app.tenant_id = 'a'"), query("SET app.tenant_id = 'b'")
OTHER_TENANT = "2 T E[PS005] ZI"
MINE = "2 T D=a@a C[SELECT 1] ZI"


def brief(*values: str, name: str = "r", results: tuple[int, ...] = ()) -> bytes:
    """What drivers send that know the description."""
    return bind(*values, statement=name, results=results) + execute() + sync()


def full(*values: str, name: str = "r", results: tuple[int, ...] = ()) -> bytes:
    return bind(*values, statement=name, results=results) + describe_portal() + execute() + sync()


def prepared(text: str, name: str = "r") -> tuple[bytes, str]:
    return parse(text, name) + describe_statement(name) + sync(), "1 t T ZI"


Step = tuple[bytes, str]


@dataclass(frozen=True, slots=True)
class Attack:
    """What is sent, and what must be heard, step by step; the values are those of each row's last column."""

    name: str
    steps: tuple[Step, ...]


ATTACKS = (
    Attack(
        "a tenant set, reset and discarded between two runs of one statement",
        (
            (A, "C[SET] ZI"),
            (parse(EMAIL, "r") + sync(), "1 ZI"),
            *((full(), MINE),) * 3,
            (B, "C[SET] ZI"),
            *((full(), OTHER_TENANT),) * 2,
            (A, "C[SET] ZI"),
            (full(), MINE),
            (query("RESET app.tenant_id"), "C[RESET] ZI"),
            (full(), "2 T E[PS002] ZI"),
            (A + full(), "C[SET] ZI"),
            (b"", MINE),
            (query("RESET ALL"), "C[RESET] ZI"),
            (full(), "2 T E[PS002] ZI"),
            (query("DISCARD ALL"), "C[DISCARD ALL] ZI"),
            (full(), "E[26000] ZI"),
        ),
    ),
    Attack(
        "a tenant that ends with its transaction or savepoint",
        (
            (A, "C[SET] ZI"),
            (parse(EMAIL, "r") + sync(), "1 ZI"),
            *((full(), MINE),) * 2,
            (query("BEGIN"), "C[BEGIN] ZT"),
            (query("SET LOCAL app.tenant_id = 'b'"), "C[SET] ZT"),
            (full(), "2 T E[PS005] ZE"),
            (query("ROLLBACK"), "C[ROLLBACK] ZI"),
            (full(), MINE),
            (query("BEGIN; SAVEPOINT s"), "C[BEGIN] C[SAVEPOINT] ZT"),
            (full(), MINE.replace("ZI", "ZT")),
            (B, "C[SET] ZT"),
            (full(), "2 T E[PS005] ZE"),
            (query("ROLLBACK TO s"), "C[ROLLBACK] ZT"),
            *((full(), MINE.replace("ZI", "ZT")),) * 2,
            (B, "C[SET] ZT"),
            (query("COMMIT"), "C[COMMIT] ZI"),
            (full(), OTHER_TENANT),
        ),
    ),
    Attack(
        "a tenant set by a prepared statement that itself looks like a usual batch",
        (
            (A, "C[SET] ZI"),
            (parse(EMAIL, "r") + parse("SET app.tenant_id = 'b'", "s") + sync(), "1 1 ZI"),
            (parse("SELECT set_config('app.tenant_id', $1, false)", "c") + sync(), "1 ZI"),
            (full(), MINE),
            *((brief(name="s"), "2 C[SET] ZI"),) * 2,
            (full(), OTHER_TENANT),
            (brief("a", name="c"), "2 D=a C[SELECT 1] ZI"),
            (full(), MINE),
            (brief("b", name="c"), "2 D=b C[SELECT 1] ZI"),
            (full(), OTHER_TENANT),
        ),
    ),
    Attack(
        "a portal that a failed Bind did not replace, kept alive by a savepoint",
        (
            prepared(SSN.replace("= 1", "< 3 ORDER BY id")),
            prepared("SELECT t FROM other WHERE t = $1", "p"),
            (parse("SAVEPOINT s", "s") + parse("ROLLBACK TO s", "b") + parse("BEGIN", "x") + sync(), "1 1 1 ZI"),
            (bind(portal="x", statement="x") + execute("x") + sync(), "2 C[BEGIN] ZT"),
            (bind("x", portal="q", statement="p") + execute("q") + sync(), "2 C[SELECT 0] ZT"),
            (bind(statement="r") + execute("", 1) + sync(), "2 D=123-45-6789 s ZT"),
            (bind(portal="s", statement="s") + execute("s") + sync(), "2 C[SAVEPOINT] ZT"),
            (brief(name="p"), "E[08P01] ZE"),
            (bind(portal="b", statement="b") + execute("b") + sync(), "2 C[ROLLBACK] ZT"),
            (execute() + sync(), "D=987-65-4321 C[SELECT 1] ZT"),
        ),
    ),
    Attack(
        "names that the server cuts to one",
        (
            (parse(SSN, LONG + "a") + sync(), "E[PS001] ZI"),
            *((brief(name=LONG + end), "E[26000] ZI") for end in ("a", "b", "")),
            (parse(SSN, LONG) + sync(), "E[PS001] ZI"),
            (query("BEGIN"), "C[BEGIN] ZT"),
            (
                parse(SSN, "r") + bind(portal=LONG + "a", statement="r") + execute(LONG + "b") + sync(),
                "1 E[PS001] ZE",
            ),
        ),
    ),
    Attack(
        "a name closed and made again under another of its long names gets no plaintext",
        (
            prepared("SELECT t FROM other WHERE t = $1", LONG + "a"),
            *((brief("x", name=LONG + "a"), "2 C[SELECT 0] ZI"),) * 2,
            (close_statement(LONG + "b") + sync(), "3 ZI"),
            (parse("UPDATE people SET ssn = $1 WHERE id = 3", LONG + "b") + sync(), "E[PS001] ZI"),
            (brief("555-55-5555", name=LONG + "a"), "E[26000] ZI"),
        ),
    ),
    Attack(
        "a name that is another in the client's encoding than in the text",
        (
            (query("SET client_encoding = 'LATIN1'"), "C[SET] S[client_encoding] ZI"),
            (
                encode(FRONTEND, "Parse", name=b"\xe9", sql=f"{SSN} UNION ALL {SSN}", oids=[]) + sync(),
                "E[PS001] ZI",
            ),
            (encode(FRONTEND, "Query", sql=b'EXECUTE "\xe9"'), "E[26000] ZI"),
        ),
    ),
    Attack(
        "result formats of every form",
        (
            (parse("SELECT id, ssn FROM people WHERE id < 2", "r") + sync(), "1 ZI"),
            *((full(results=f), "2 T D=123-45-6789 C[SELECT 1] ZI") for f in ((), (0,), (1,), (0, 1), (1, 0))),
            *((full(results=f), "E[08P01] ZI") for f in ((0, 1, 0), (2,), (0, 2), (-1,))),
            (full(), "2 T D=123-45-6789 C[SELECT 1] ZI"),
        ),
    ),
    Attack(
        "the unnamed statement parsed again, badly and well",
        (
            (parse(SSN) + sync(), "1 ZI"),
            *((full(name=""), "2 T D=123-45-6789 C[SELECT 1] ZI"),) * 2,
            (parse("SELECT t FROM other") + sync(), "1 ZI"),
            *((full(name=""), "2 T D=hello C[SELECT 1] ZI"),) * 2,
            (parse("SELECT nope FROM nope") + sync(), "E[42P01] ZI"),
            (brief(name=""), "E[26000] ZI"),
            (parse(SSN.replace("1", "2")) + sync(), "1 ZI"),
            (brief(name=""), "2 D=987-65-4321 C[SELECT 1] ZI"),
            (query("SELECT 1"), "T D=1 C[SELECT 1] ZI"),
            (full(name=""), "E[26000] ZI"),
        ),
    ),
    Attack(
        "a name that SQL deallocates and prepares with another meaning",
        (
            prepared(SSN),
            *((full(), "2 T D=123-45-6789 C[SELECT 1] ZI"),) * 2,
            (query("DEALLOCATE r"), "C[DEALLOCATE] ZI"),
            (full(), "E[26000] ZI"),
            (query("PREPARE r AS SELECT t FROM other"), "C[PREPARE] ZI"),
            (full(), "2 T D=hello C[SELECT 1] ZI"),
            *((brief(), "2 D=hello C[SELECT 1] ZI"),) * 2,
            (query("DEALLOCATE ALL"), "C[DEALLOCATE ALL] ZI"),
            prepared(SSN),
            (
                full() + close_statement("r") + parse("SELECT t FROM other", "r") + sync() + full(),
                "2 T D=123-45-6789 C[SELECT 1] ZI",
            ),
            (b"", "3 1 ZI"),
            (b"", "2 T D=hello C[SELECT 1] ZI"),
            *((brief(), "2 D=hello C[SELECT 1] ZI"),) * 2,
        ),
    ),
    Attack(
        "a DateStyle set between runs, in a block and in the pipeline",
        (
            prepared("SELECT born FROM people WHERE id = 1"),
            *((full(), "2 T D=1957-12-10 C[SELECT 1] ZI"),) * 2,
            (query("SET DateStyle = 'SQL, DMY'"), "C[SET] S[DateStyle] ZI"),
            (full(), "2 T D=10/12/1957 C[SELECT 1] ZI"),
            (query("BEGIN; SET LOCAL DateStyle = 'German'"), "C[BEGIN] C[SET] S[DateStyle] ZT"),
            (full(), "2 T D=10.12.1957 C[SELECT 1] ZT"),
            (query("ROLLBACK"), "C[ROLLBACK] S[DateStyle] ZI"),
            (full(), "2 T D=10/12/1957 C[SELECT 1] ZI"),
        ),
    ),
    Attack(
        "a COPY prepared once and run twice, its Sync sent with it",
        (
            (parse("COPY other FROM STDIN", "c") + describe_statement("c") + sync(), "1 t n ZI"),
            *((brief(name="c") + copy_data("x\n") + copy_done() + sync(), "2 G C[COPY 1] ZI"),) * 3,
            (query("DELETE FROM other WHERE t = 'x'"), "C[DELETE 3] ZI"),
        ),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def sealed(postgres: EmbeddedPostgres) -> Iterator[Sealed]:
    with sealed_database(postgres, RULES, SETUP) as found:
        with found.connect() as client:
            for tenant, number in (("a", 1), ("b", 2)):
                client.execute(f"SET app.tenant_id = '{tenant}'".encode())
                client.execute(f"INSERT INTO clients VALUES ({number}, '{tenant}', '{tenant}@{tenant}')".encode())
        yield found


def _heard(messages: list[Message]) -> str:
    return " ".join(
        f"D={_text(message.values[-1])}" if message.name == "DataRow" else describe(message)
        for message in messages
    )


def _text(value: bytes | None) -> str:
    return "NULL" if value is None else value.decode("latin-1")


@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_on_the_short_way_is_answered_as_written(sealed: Sealed, attack: Attack, is_cut: bool) -> None:
    """The same whether batches come whole, and go the short way, or in pieces, and never do."""
    endpoint = Endpoint(sealed.port, sealed.name, OWNER)
    client = WireClient.connect(endpoint, random_chunks(3)) if is_cut else WireClient.connect(endpoint)
    with client:
        for sent, answer in attack.steps:
            client.send(sent)
            messages = client.read_until_ready()
            rows = b"".join(message.raw for message in messages if message.name == "DataRow")
            assert not any(envelope in rows for envelope in ENVELOPES), sent
            assert _heard(messages) == answer, sent
    assert sealed.stored("SELECT ssn FROM people WHERE id = 3") == [(None,)]


def test_tenant_of_the_startup_options_decides_until_it_is_set(sealed: Sealed) -> None:
    """`-c app.tenant_id=b` is another tenant than the row's; RESET comes back to it."""
    options = {"options": "-c app.tenant_id=b"}
    with WireClient.connect(Endpoint(sealed.port, sealed.name, OWNER), parameters=options) as client:
        for sent, answer in (
            (parse(EMAIL, "r") + sync(), "1 ZI"),
            *((full(), OTHER_TENANT),) * 2,
            (A, "C[SET] ZI"),
            *((full(), MINE),) * 2,
            (query("RESET app.tenant_id"), "C[RESET] ZI"),
            (full(), OTHER_TENANT),
        ):
            client.send(sent)
            assert _heard(client.read_until_ready()) == answer


def test_table_renamed_into_a_plain_one_is_not_shown_behind_a_refusal(sealed: Sealed) -> None:
    """Once a description has told of it, the statement is not run again without one."""
    with sealed.direct() as admin, WireClient.connect(Endpoint(sealed.port, sealed.name, OWNER)) as client:
        admin.execute("CREATE TABLE swapped (id int, b bytea)")
        admin.execute("GRANT ALL ON swapped TO app")
        client.send(parse("SELECT b FROM swapped", "r") + describe_statement("r") + sync())
        assert _heard(client.read_until_ready()) == "1 t T ZI"
        for _ in range(2):
            client.send(full())
            assert _heard(client.read_until_ready()) == "2 T C[SELECT 0] ZI"
        admin.execute("ALTER TABLE swapped RENAME TO gone")
        admin.execute("ALTER TABLE people RENAME TO swapped")
        admin.execute("ALTER TABLE swapped RENAME ssn TO b")
        try:
            for batch in (full(), brief(), full(), brief()):
                client.send(batch)
                messages = client.read_until_ready()
                assert not [m for m in messages if m.name == "DataRow"]
        finally:
            admin.execute("ALTER TABLE swapped RENAME b TO ssn")
            admin.execute("ALTER TABLE swapped RENAME TO people")


def _n_events(sealed: Sealed) -> int:
    """Statement events in the files, once all that was gathered is there."""
    sealed.run(_flushed(sealed))
    lines = [line for path in (sealed.folder / "audit").glob("*.jsonl") for line in path.read_text().splitlines()]
    return sum(event["kind"] == "statement" for line in lines for event in json.loads(line)["events"])


async def _flushed(sealed: Sealed) -> None:
    sealed.worker.shared.audit.flush()


def test_client_that_leaves_in_the_middle_of_short_batches_leaves_an_event_for_each(sealed: Sealed) -> None:
    """By reset, by half-close and by close: what was sent is recorded, whatever became of it."""
    endpoint = Endpoint(sealed.port, sealed.name, OWNER)
    before = _n_events(sealed)
    for leave in (WireClient.reset, WireClient.half_close, WireClient.close):
        with WireClient.connect(endpoint) as client:
            client.send(parse("SELECT ssn, pg_sleep($1::float8) FROM people WHERE id = 1", "r") + sync())
            client.read_until_ready()
            client.send(full("0"))
            client.read_until_ready()
            client.send(full("0.05"))
            client.is_silent(0.02)
            leave(client)
            if leave is WireClient.half_close:
                assert _heard(client.read_until_ready()) == "2 T D= C[SELECT 1] ZI"
    sealed.run(_idle(sealed))
    assert _n_events(sealed) == before + 6


async def _idle(sealed: Sealed) -> None:
    """All connections are gone."""
    async with asyncio.timeout(10):
        while sealed.worker.server._relays:  # noqa: ASYNC110  the server tells nobody
            await asyncio.sleep(0.01)


def test_results_of_many_rows_and_columns_are_each_their_own(sealed: Sealed) -> None:
    """Runs with NULLs between, values behind and before, two sealed columns: each as it was written."""
    text = "SELECT g, ssn, born, g FROM people, generate_series(1, 5000) g ORDER BY g, id"
    shown = {1: ("123-45-6789", "1957-12-10"), 2: ("987-65-4321", None), 0: (None, None)}
    with sealed.connect() as client:
        rows = client.execute(text, prepare=True, binary=False).fetchall()
        again = client.execute(text, prepare=True).fetchall()
    assert rows == again and len(rows) == 15000
    for number, (first, ssn, born, last) in enumerate(rows, 1):
        assert first == last == (number + 2) // 3
        assert (ssn, None if born is None else str(born)) == shown[number % 3]
