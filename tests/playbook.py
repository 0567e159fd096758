"""The conversation language: `>>` is what the client sends, `<<` what must come, in order and completely.

    Playbook() >> parse("select 1") + bind() + execute() + sync() << "1 2 D C[SELECT 1] ZI"

An expectation is written in the letters of the manual's type bytes: `D3` three rows, `D*` any number, `ZT` the
transaction status, `C[SELECT 1]` the command tag, `E[34000]` the SQLSTATE, `E[FATAL 57P01]` severity and code,
`S[TimeZone]` and `A[channel]` the name, `EOF` the end. A dictionary gives one expectation from a version on.
A conversation that ends with something unsaid or unheard fails. One reason to change: tests need to say more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from tests.oracle import FRONTEND, Message, encode
from tests.wire_client import Chunking, ConnectionEnded, Endpoint, WireClient, whole

_TOKENS = re.compile(r"(?:[^\s\[]|\[[^\]]*\])+")
_TOKEN = re.compile(r"(EOF)|(.)([ITE]|\d+|\*)?(?:\[([^\]]*)\])?")


class Act(Enum):
    """What a client does that is no message."""

    HALF_CLOSE = "half close"
    SILENCE = "silence"


SILENCE, HALF_CLOSE = Act.SILENCE, Act.HALF_CLOSE
Aside = Callable[[WireClient], None]
Sent = bytes | Act | Aside
Heard = str | Act | Mapping[int, str]


class PlaybookError(AssertionError):
    """The conversation did not go as written."""


@dataclass(frozen=True, slots=True)
class Say:
    what: Sent


@dataclass(frozen=True, slots=True)
class Hear:
    what: Heard


@dataclass(frozen=True, slots=True)
class Playbook:
    """A conversation after log-in; immutable, each operator gives a longer one."""

    steps: tuple[Say | Hear, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()

    def __rshift__(self, what: Sent) -> Playbook:
        return replace(self, steps=(*self.steps, Say(what)))

    def __lshift__(self, what: Heard) -> Playbook:
        return replace(self, steps=(*self.steps, Hear(what)))

    def run(self, endpoint: Endpoint, chunking: Chunking = whole) -> list[bytes]:
        """Plays it on a new connection; returns all that was heard after log-in, key data masked."""
        with WireClient.connect(endpoint, chunking, dict(self.parameters)) as client:
            for number, step in enumerate(self.steps, start=1):
                self._play(client, step, number)
            self._finish(client)
            return [_masked(message) for message in client.heard]

    def _play(self, client: WireClient, step: Say | Hear, number: int) -> None:
        match step:
            case Say(bytes() as sent):
                client.send(sent)
            case Say(Act.HALF_CLOSE):
                client.half_close()
            case Say(aside) if callable(aside):
                aside(client)
            case Hear(Act.SILENCE):
                if not client.is_silent():
                    raise PlaybookError(f"step {number}: silence expected, {describe(client.heard[-1])} came")
            case Hear(str() as pattern):
                _expect(client, pattern, number)
            case Hear(Mapping() as by_version):
                _expect(client, by_version[max(v for v in by_version if v <= client.major)], number)
            case _:
                raise TypeError(step)

    def _finish(self, client: WireClient) -> None:
        """Says goodbye; whatever is still heard then was not expected."""
        last = self.steps[-1]
        if isinstance(last, Hear) and isinstance(last.what, str) and last.what.endswith("EOF"):
            return
        heard = len(client.heard)
        client.send(terminate())
        try:
            while True:
                client.receive()
        except ConnectionEnded:
            left = client.heard[heard:]
        if left:
            raise PlaybookError(f"left unfinished: {' '.join(map(describe, left))} was not expected")


def _expect(client: WireClient, pattern: str, number: int) -> None:
    start = len(client.heard)
    tokens = [_token(text) for text in _TOKENS.findall(pattern)]
    waiting: Message | None = None
    try:
        for ended, letter, amount, inner in tokens:
            if ended:
                _expect_end(client)
                continue
            waiting = _match(client, waiting, letter, amount, inner)
        if waiting is not None:
            raise PlaybookError("more came")
    except (PlaybookError, TimeoutError, ConnectionEnded) as error:
        came = " ".join(map(describe, client.heard[start:]))
        raise PlaybookError(f"step {number}: expected {pattern!r}, came {came!r} ({error})") from error


def _token(text: str) -> tuple[str | None, str, str | None, str | None]:
    match = _TOKEN.fullmatch(text)
    assert match is not None, f"not a token of the conversation language: {text}"
    return match.group(1), match.group(2), match.group(3), match.group(4)


def _expect_end(client: WireClient) -> None:
    try:
        message = client.receive()
    except ConnectionEnded:
        return
    raise PlaybookError(f"{describe(message)} instead of the end")


def _match(
    client: WireClient, waiting: Message | None, letter: str, amount: str | None, inner: str | None
) -> Message | None:
    """Consumes what one token stands for; returns a message read too far (after `*`)."""
    times = int(amount) if amount and amount.isdigit() else 1
    if amount == "*":
        message = waiting or client.receive()
        while message.letter == letter:
            message = client.receive()
        return message
    for _ in range(times):
        message, waiting = waiting or client.receive(), None
        wanted = f"{letter}{amount if amount and amount.isalpha() else ''}"
        if not describe(message).startswith(wanted):
            raise PlaybookError(f"{describe(message)} instead of {wanted}")
        if inner is not None and inner != _inner(message):
            raise PlaybookError(f"{describe(message)} instead of {wanted}[{inner}]")
    return None


def _inner(message: Message) -> str:
    match message.name:
        case "CommandComplete":
            return message.tag.decode()
        case "ErrorResponse" | "NoticeResponse":
            severity, code = message.note("V"), message.note("C")
            return code if severity == "ERROR" else f"{severity} {code}"
        case "ParameterStatus":
            return message.fields["name"].decode()
        case "NotificationResponse":
            return message.channel.decode()
    return ""


def describe(message: Message) -> str:
    """A message in the notation of expectations."""
    if message.name == "ReadyForQuery":
        return "Z" + message.status
    inner = _inner(message)
    return f"{message.letter}[{inner}]" if inner else message.letter


def _masked(message: Message) -> bytes:
    """The bytes of a message without what may differ between two runs: process ids."""
    if message.name == "NotificationResponse":
        return message.raw[:5] + b"\0\0\0\0" + message.raw[9:]
    return message.raw


# --- what a client says, with the defaults most tests want ----------------------------------


def query(sql: str | bytes) -> bytes:
    return encode(FRONTEND, "Query", sql=sql)


def parse(sql: str | bytes, name: str = "", oids: tuple[int, ...] = ()) -> bytes:
    return encode(FRONTEND, "Parse", name=name, sql=sql, oids=list(oids))


def bind(
    *parameters: str | bytes | None,
    portal: str = "",
    statement: str = "",
    formats: tuple[int, ...] = (),
    results: tuple[int, ...] = (),
) -> bytes:
    values = [p.encode() if isinstance(p, str) else p for p in parameters]
    return encode(
        FRONTEND,
        "Bind",
        portal=portal,
        statement=statement,
        formats=list(formats),
        parameters=values,
        result_formats=list(results),
    )


def describe_statement(name: str = "") -> bytes:
    return encode(FRONTEND, "Describe", kind="S", name=name)


def describe_portal(name: str = "") -> bytes:
    return encode(FRONTEND, "Describe", kind="P", name=name)


def execute(portal: str = "", max_rows: int = 0) -> bytes:
    return encode(FRONTEND, "Execute", portal=portal, max_rows=max_rows)


def close_statement(name: str = "") -> bytes:
    return encode(FRONTEND, "Close", kind="S", name=name)


def close_portal(name: str = "") -> bytes:
    return encode(FRONTEND, "Close", kind="P", name=name)


def sync() -> bytes:
    return encode(FRONTEND, "Sync")


def flush() -> bytes:
    return encode(FRONTEND, "Flush")


def terminate() -> bytes:
    return encode(FRONTEND, "Terminate")


def copy_data(data: str | bytes) -> bytes:
    return encode(FRONTEND, "CopyData", data=data.encode() if isinstance(data, str) else data)


def copy_done() -> bytes:
    return encode(FRONTEND, "CopyDone")


def copy_fail(reason: str) -> bytes:
    return encode(FRONTEND, "CopyFail", reason=reason)


def function_call(oid: int, *arguments: bytes, formats: tuple[int, ...] = (1,), result_format: int = 1) -> bytes:
    return encode(
        FRONTEND,
        "FunctionCall",
        oid=oid,
        formats=list(formats),
        arguments=list(arguments),
        result_format=result_format,
    )


def run(sql: str, *parameters: str | bytes | None) -> bytes:
    """Parse, Bind, Execute of the unnamed statement, without Sync."""
    return parse(sql) + bind(*parameters) + execute()
