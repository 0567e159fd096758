"""Ten thousand broken conversations against one session each: bytes, lengths, order, duplicates, on either side.

Conversations are recorded with a model server, then spoiled. Whatever comes, a session raises nothing, says only
whole messages of the manual, ends in silence, an ErrorResponse or one FATAL, and sends no planted plaintext of a
protected literal that it took for one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tests.oracle import BACKEND, decode, split
from tests.playbook import (
    bind,
    close_statement,
    copy_data,
    copy_done,
    describe_statement,
    execute,
    flush,
    parse,
    query,
    run,
    sync,
)
from tests.unit.session.model_server import Loop, clinic
from tests.unit.session.talk import Talk, World
from tests.wire_client import whole

READ = "select ssn from patients where hospital_id = 1"
INSERT = "insert into patients (hospital_id, ssn) values (1, $1)"
RECORDED = (
    (query(READ), query("begin; select 1; commit"), query("")),
    (run(READ), sync(), run("select $1::text", "x"), sync()),
    (parse(INSERT, name="i"), describe_statement("i"), flush(), bind("v", statement="i"), execute(), sync()),
    (parse(READ, name="r"), sync(), bind(statement="r"), execute(max_rows=1), execute(), sync()),
    (parse(READ, name="r"), close_statement("r"), sync(), bind(statement="r"), execute(), sync()),
    (query("copy visits from stdin"), copy_data("1\n"), copy_data("2\n"), copy_done(), query(READ)),
    (run("copy visits from stdin"), sync(), copy_data("1\n"), copy_done(), sync()),
    (query("begin"), run("bad"), sync(), query("rollback"), query(READ)),
    (query("select email from patients where hospital_id = 1"), query("select 1")),
    (query("set app.tenant_id = 'a'"), run("insert into staff (born) values ('1990-01-01')"), sync()),
)  # fmt: skip
N_MUTATIONS = 10_000
N_PARTS = 10


@dataclass(frozen=True, slots=True)
class Spoiler:
    """One way to break a list of messages."""

    dice: random.Random

    def spoiled(self, messages: list[bytes]) -> bytes:
        """Some of them broken, dropped, doubled, moved or cut, as one stream."""
        for _ in range(self.dice.randint(1, 3)):
            messages = self._once(list(messages))
        return b"".join(messages)

    def _once(self, messages: list[bytes]) -> list[bytes]:
        messages = [message for message in messages if message]
        if not messages:
            return [self.dice.randbytes(self.dice.randint(1, 40))]
        at = self.dice.randrange(len(messages))
        match self.dice.randrange(8):
            case 0:
                messages[at] = self._flipped(messages[at])
            case 1:
                messages[at] = self._relengthened(messages[at])
            case 2:
                del messages[at]
            case 3:
                messages.insert(self.dice.randrange(len(messages) + 1), messages[at])
            case 4:
                messages.insert(self.dice.randrange(len(messages)), messages.pop(at))
            case 5:
                messages[at] = messages[at][: self.dice.randrange(len(messages[at]))]
            case 6:
                messages.insert(at, self.dice.randbytes(self.dice.randint(1, 40)))
            case _:
                messages[at] = bytes((self.dice.randrange(256),)) + messages[at][1:]
        return messages

    def _flipped(self, message: bytes) -> bytes:
        changed = bytearray(message)
        for _ in range(self.dice.randint(1, 4)):
            changed[self.dice.randrange(len(changed))] = self.dice.randrange(256)
        return bytes(changed)

    def _relengthened(self, message: bytes) -> bytes:
        length = self.dice.choice((0, 3, 4, 5, len(message) + 1, 10_001, 1 << 20, 1 << 30, (1 << 32) - 1))
        return message[:1] + length.to_bytes(4, "big") + message[5:]


def _check(talk: Talk, heard: bytes) -> None:
    """Whole messages only; a FATAL is the last."""
    found = [decode(BACKEND, raw) for raw in split(heard)]
    assert sum(len(m.raw) for m in found) == len(heard)
    fatal = [m for m in found if m.name == "ErrorResponse" and m.note("V") == "FATAL"]
    assert len(fatal) <= 1
    if talk.close is not None:
        assert found[-1] in fatal


@pytest.fixture(scope="module")
def world() -> World:
    """One for all: plans are shared, as they are between sessions."""
    return World()


@pytest.mark.parametrize("part", range(N_PARTS))
def test_mutated_client_streams_break_no_session(world: World, part: int) -> None:
    """A session with a spoiled client ends at worst itself; the next session with the same world is served."""
    dice = random.Random(part)
    spoiler = Spoiler(dice)
    for _ in range(N_MUTATIONS // N_PARTS // 2):
        talk = Talk(world)
        loop = Loop(talk, clinic(talk), whole)
        loop.say(spoiler.spoiled(list(dice.choice(RECORDED))))
        _check(talk, loop.heard)
    talk = Talk(world)
    loop = Loop(talk, clinic(talk), whole)
    loop.say(query(READ))
    assert [decode(BACKEND, raw).letter for raw in split(loop.heard)] == list("TDDDCZ")


@pytest.mark.parametrize("part", range(N_PARTS))
def test_mutated_server_streams_break_no_session(world: World, part: int) -> None:
    """A hostile or broken server: nothing is raised, and what ends the connection is said."""
    dice = random.Random(1000 + part)
    spoiler = Spoiler(dice)
    for _ in range(N_MUTATIONS // N_PARTS // 2):
        sent = b"".join(dice.choice(RECORDED))
        answers = _answers(world, sent)
        talk = Talk(world)
        talk.client(sent)
        talk.server(spoiler.spoiled(answers))
        assert talk.close is None or b"VFATAL" in talk.client_bytes[-300:]


def _answers(world: World, sent: bytes) -> list[bytes]:
    """What the model server says to a whole conversation."""
    talk = Talk(world)
    said: list[bytes] = []
    server = clinic(talk)
    listen = server.answer

    class Recorder:
        texts = server.texts

        @staticmethod
        def answer(asked: bytes) -> bytes:
            said.append(listen(asked))
            return said[-1]

    loop = Loop(talk, Recorder(), whole)  # type: ignore[arg-type]
    loop.say(sent)
    return [raw for answer in said for raw in split(answer)]
