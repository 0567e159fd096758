"""A server small enough to read: it answers as PostgreSQL would, by what a text looks like, and keeps no table.

Statements, portals, transactions, skipping to Sync, COPY FROM STDIN and malformed bodies are PostgreSQL's;
results are a look-up. One reason to change: what a conversation of the property tests needs a server for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import error as StructError

from tests.oracle import FRONTEND, Message, decode, split
from tests.unit.session.talk import (
    BOUND,
    CLOSED,
    COPY_IN,
    EMPTY,
    ID,
    NO_DATA,
    PARSED,
    SSN,
    Talk,
    columns,
    complete,
    error,
    one,
    parameters,
    ready,
    row,
)
from tests.unit.sql import worlds

Column = tuple[str, int, int, int]
Result = tuple[tuple[Column, ...], tuple[tuple[bytes | None, ...], ...]]
EXTENDED = frozenset("PBDEC")
TAGS = {"begin": "BEGIN", "commit": "COMMIT", "rollback": "ROLLBACK", "set": "SET", "insert": "INSERT 0 1"}


class Gone(Exception):
    """The server closed the connection."""


@dataclass(slots=True)
class ModelServer:
    """`answer` takes bytes and gives bytes. `results` maps the beginning of a text to columns and rows."""

    results: dict[str, Result]
    buffer: bytearray = field(default_factory=bytearray)
    statements: dict[bytes, str] = field(default_factory=dict)
    portals: dict[bytes, str] = field(default_factory=dict)
    status: str = "I"
    is_skipping: bool = False
    copy_is_extended: bool | None = None  # None: no COPY is under way
    texts: list[str] = field(default_factory=list)  # everything that was run

    def answer(self, sent: bytes) -> bytes:
        """What comes back. Raises Gone after a Terminate and where PostgreSQL drops the connection."""
        self.buffer += sent
        out: list[bytes] = []
        while len(self.buffer) >= 5:
            length = int.from_bytes(self.buffer[1:5], "big")
            if length < 4 or length > 1 << 30 or chr(self.buffer[0]) not in "BCdcfDEHFPQSXp":
                raise Gone
            raw = next(split(bytes(self.buffer)), None)
            if raw is None:
                break
            del self.buffer[: len(raw)]
            out.append(self._message(raw))
        return b"".join(out)

    def _message(self, raw: bytes) -> bytes:
        letter = chr(raw[0])
        if letter == "X":
            raise Gone
        if letter == "S":
            return self._sync()
        if self.copy_is_extended is not None:
            return self._copying(letter)
        if self.is_skipping or letter in "Hdcf":
            return b""
        try:
            message = decode(FRONTEND, raw)
        except (ValueError, IndexError, KeyError, StructError):
            return self._fail("08P01", letter)
        handler: Callable[[Message], bytes] = getattr(self, f"_{message.name.lower()}")
        return handler(message)

    def _sync(self) -> bytes:
        if self.copy_is_extended is not None:
            return b""
        self.is_skipping = False
        return self._ready()

    def _ready(self) -> bytes:
        if self.status == "I":
            self.portals.clear()
        return ready(self.status)

    def _fail(self, code: str, letter: str) -> bytes:
        if self.status == "T":
            self.status = "E"
        if letter in EXTENDED:
            self.is_skipping = True
            return error(code)
        return error(code) + self._ready()

    def _copying(self, letter: str) -> bytes:
        if letter in "dH":
            return b""
        was_extended, self.copy_is_extended = self.copy_is_extended, None
        end = complete("COPY 1") if letter == "c" else error("57014")
        if letter not in "cf":
            raise Gone
        if was_extended:
            self.is_skipping = letter == "f"
            return end
        return end + self._ready()

    # --- extended query ------------------------------------------------------------------------------

    def _parse(self, message: Message) -> bytes:
        if message.fields["name"] and message.fields["name"] in self.statements:
            return self._fail("42P05", "P")
        if b"bad" in message.sql:
            if not message.fields["name"]:
                self.statements.pop(b"", None)
            return self._fail("42601", "P")
        self.statements[message.fields["name"]] = message.sql.decode("utf-8", "replace")
        return PARSED

    def _bind(self, message: Message) -> bytes:
        text = self.statements.get(message.statement)
        if text is None:
            return self._fail("26000", "B")
        if len(message.parameters) != _n_parameters(text):
            return self._fail("08P01", "B")
        self.portals[message.portal] = text
        return BOUND

    def _describe(self, message: Message) -> bytes:
        known = self.statements if message.kind == "S" else self.portals
        text = known.get(message.fields["name"])
        if text is None:
            return self._fail("26000" if message.kind == "S" else "34000", "D")
        found = self._result(text)
        told = parameters(*[17] * _n_parameters(text)) if message.kind == "S" else b""
        return told + (columns(*found[0]) if found is not None else NO_DATA)

    def _execute(self, message: Message) -> bytes:
        text = self.portals.get(message.portal)
        if text is None:
            return self._fail("34000", "E")
        return self._run(text, "E")

    def _close(self, message: Message) -> bytes:
        known = self.statements if message.kind == "S" else self.portals
        known.pop(message.fields["name"], None)
        return CLOSED

    def _functioncall(self, message: Message) -> bytes:
        return one("FunctionCallResponse", value=b"") + self._ready()

    # --- simple query --------------------------------------------------------------------------------

    def _query(self, message: Message) -> bytes:
        self.statements.pop(b"", None)
        out = []
        text = message.sql.decode("utf-8", "replace")
        if "pgseal" in text[:7] or "bad" in text:
            return self._fail("42601", "Q")
        parts = [part.strip() for part in text.split(";")]
        for part in [p for p in parts if p] or [""]:
            found = self._result(part)
            if found is not None and self.status != "E":
                out.append(columns(*found[0]))
            out.append(self._run(part, "Q"))
            if out[-1][:1] == b"E" or self.copy_is_extended is not None:
                return b"".join(out)
        return b"".join(out) + self._ready()

    def _run(self, text: str, letter: str) -> bytes:
        self.texts.append(text)
        if not text:
            return EMPTY
        word = text.split()[0].lower()
        if self.status == "E" and word not in ("rollback", "commit"):
            return self._fail("25P02", letter)
        if word == "begin":
            self.status = "T"
        elif word in ("commit", "rollback"):
            tag = "ROLLBACK" if self.status == "E" else word.upper()
            self.status = "I"
            return complete(tag)
        elif word == "deallocate":
            self.statements = {name: known for name, known in self.statements.items() if not name}
            return complete("DEALLOCATE ALL")
        elif word == "copy":
            self.copy_is_extended = letter == "E"
            return COPY_IN
        elif word == "fail":
            return self._fail("22012", letter)
        found = self._result(text)
        rows = found[1] if found is not None else ()
        return b"".join(row(*values) for values in rows) + complete(TAGS.get(word, f"SELECT {len(rows)}"))

    def _result(self, text: str) -> Result | None:
        for beginning, found in self.results.items():
            if text.startswith(beginning):
                return found
        return ((("x", 0, 0, 25),), ((b"1",),)) if text.startswith("select") else None


def _n_parameters(text: str) -> int:
    return max((n for n in range(1, 9) if f"${n}" in text), default=0)


class Loop:
    """A session and a model server joined. Answers come cut as `cut` says, before more is said."""

    def __init__(self, talk: Talk, server: ModelServer, cut: Callable[[bytes], Iterator[bytes]]) -> None:
        self.talk = talk
        self.server = server
        self._cut = cut
        self._n_taken = len(talk.server_bytes)
        self.start = len(talk.client_bytes)
        self.is_over = False

    @property
    def heard(self) -> bytes:
        """Everything the client heard since log-in."""
        return bytes(self.talk.client_bytes[self.start :])

    def say(self, sent: bytes) -> None:
        for piece in self._cut(sent):
            if self.is_over:
                return
            self.talk.client(piece)
            self._serve()

    def _serve(self) -> None:
        while not self.is_over and len(self.talk.server_bytes) > self._n_taken:
            new = bytes(self.talk.server_bytes[self._n_taken :])
            self._n_taken += len(new)
            try:
                answer = self.server.answer(new)
            except Gone:
                self.is_over = True
                return
            for piece in self._cut(answer):
                self.talk.server(piece)
            self.is_over = self.talk.close is not None


def clinic(talk: Talk) -> ModelServer:
    """A server whose protected results hold real cells of the talk's keys."""
    cells = [b"\\x" + talk.world.cell(worlds.SSN, "1", value).hex().encode() for value in (b"123", b"456")]
    sealed = ((SSN,), ((cells[0],), (None,), (cells[1],)))
    both = ((ID, SSN), ((b"1", cells[0]), (b"2", None)))
    broken = ((("email", 20001, 4, 17),), ((b"\\x00",),))
    return ModelServer(
        {
            "select ssn from patients where id": ((SSN,), ((cells[0],),)),
            "select ssn from patients": sealed,
            "select id, ssn from patients": both,
            "select email from patients": broken,
            "select * from f()": sealed,
        }
    )
