"""Random walks through SET, transactions, savepoints and errors, in every protocol: the tenant that pgseal seals
a row for is always the one the server has at that moment."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.attack_world import DDL, ROLES, RULES, talkative_server
from tests.playbook import bind, close_portal, close_statement, execute, parse, query, run, sync
from tests.sealed import OWNER, Sealed, sealed_database
from tests.wire_client import Endpoint, WireClient

N_SEEDS = 80
INSERT = "INSERT INTO clients (id, email) VALUES ({0}, 'e{0}')"
STATEMENTS = (
    "SET app.tenant_id = 'a'",
    "SET SESSION app.tenant_id = 'd'",
    "SET LOCAL app.tenant_id = 'c'",
    "RESET app.tenant_id",
    "SET app.tenant_id TO DEFAULT",
    "SELECT set_config('app.tenant_id', 'a', true)",
    "SELECT set_config('app.tenant_id', 'b', false)",
    "SELECT set_config('app.tenant_id', NULL, false)",
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "COMMIT AND CHAIN",
    "ROLLBACK AND CHAIN",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SAVEPOINT t",
    "ROLLBACK TO t",
    "SELECT 1/0",
    "INSERT INTO late VALUES (1)",  # fails at COMMIT
    "RESET ALL",
    "DISCARD ALL",
    *(INSERT,) * 5,
)
SEALED_FOR = (
    "SELECT c.id, coalesce(c.tenant, ''), k.tenant FROM clients c JOIN pgseal.encryption_keys k"
    " ON k.key_id = ('x' || encode(substring(c.email from 6 for 4), 'hex'))::bit(32)::int"
)


@pytest.fixture(scope="module")
def sealed() -> Iterator[Sealed]:
    """`late` has a constraint that is looked at when the transaction ends."""
    late = ("CREATE TABLE late (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)", "INSERT INTO late VALUES (1)")
    with talkative_server() as server, sealed_database(server, RULES, [*DDL, *late], ROLES) as made:
        yield made


def _walk(client: WireClient, dice: random.Random, number: int) -> list[str]:
    """A few messages of a few statements; gives what was said, for a failure."""
    said = []
    for _ in range(dice.randint(3, 12)):
        texts = [dice.choice(STATEMENTS) for _ in range(dice.randint(1, 4))]
        texts = [text.format(number := number + 1) if text is INSERT else text for text in texts]
        said.append("; ".join(texts))
        match dice.choice(("texts", "pipeline", "portals")):
            case "texts":
                client.send(query(said[-1]))
            case "pipeline":
                client.send(b"".join(map(run, texts)) + sync())
            case _:  # all is bound before anything runs
                names = [f"x{n}" for n in range(len(texts))]
                prepared = (parse(t, n) + bind(statement=n, portal=n) for t, n in zip(texts, names, strict=True))
                client.send(b"".join(prepared) + b"".join(map(execute, names)) + sync())
                client.read_until_ready()
                client.send(b"".join(close_statement(n) + close_portal(n) for n in names) + sync())
        client.read_until_ready()
    client.send(query("COMMIT"))
    client.read_until_ready()
    return said


@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_random_walk_through_settings_seals_for_the_servers_tenant(sealed: Sealed, seed: int) -> None:
    """The row's own tenant, a default the server computes, is that of the key its cell was sealed with."""
    with WireClient.connect(Endpoint(sealed.port, sealed.name, OWNER)) as client:
        client.send(query("SET app.tenant_id = 'z'"))
        client.read_until_ready()
        said = _walk(client, random.Random(seed), seed * 1000)
    rows = sealed.stored(SEALED_FOR)
    assert [row for row in rows if row[1] != row[2]] == [], said
