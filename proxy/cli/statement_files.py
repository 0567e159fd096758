"""Statements out of files that others wrote: a psql script, a PostgreSQL log, a dump of pg_stat_statements.

Every reader takes lines and gives statements, one at a time, so that a file of any size streams. What a file says
is somebody's traffic: values stay in the text of a statement, which is planned and never shown; parameters of a
log are not read at all.

Form            Is known by                       Statements
------------------------------------------------------------------------------------------------------------------
csv log         23 or more fields, a date first   field 14 of the records of severity LOG; user 2, database 3
json log        an object a line                  "message", "user", "dbname"
stderr log      a line with `LOG:  `              behind it; further lines begin with a tab
csv dump        a header with `query`             that column, `calls` times
script          all else                          up to each `;` outside of quotes, comments and brackets

One reason to change: a form in which statements are written down.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.errors import ConfigError

MAX_STATEMENT_SIZE: Final = 16 * 1024 * 1024
PEEKED: Final = 2000  # lines looked at to tell the form

_SEVERITY: Final = re.compile(
    r"(?<![A-Za-z])(LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DEBUG[1-5]?|DETAIL|HINT|CONTEXT|STATEMENT|QUERY"
    r"|LOCATION|BACKTRACE):  "
)
_MESSAGE: Final = re.compile(
    r"(?:duration: [0-9.]+ ms  )?(?:(statement): |(execute)(?: fetch from)? (?:<unnamed>|[^:]{1,200}): "
    r"|(parse) (?:<unnamed>|[^:]{1,200}): )"
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} ")
_SKIPPED: Final = r"(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*+"
_NOTHING: Final = re.compile(rf"{_SKIPPED}\Z", re.DOTALL)
_COPY_DATA: Final = re.compile(_SKIPPED + r"copy\b.*\bfrom\s+stdin\b", re.IGNORECASE | re.DOTALL)
_WORD: Final = "A-Za-z0-9_$\x80-\U0010ffff"
_STOPS: Final = re.compile(
    rf"(?<![{_WORD}])[eE]'|'|\"|--|/\*|(?<![{_WORD}])\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$|[();]"
)
_ENDS: Final = {
    "'": re.compile("'"),
    '"': re.compile('"'),
    "e'": re.compile(r"'|\\(?:.|\Z)", re.DOTALL),
    "/*": re.compile(r"/\*|\*/"),
}


@dataclass(frozen=True, slots=True)
class Found:
    """One statement and how often it stands there. `is_extended`: it came by Parse, or its constants are $n.
    `user` and `database` are empty where the file does not say."""

    text: str = field(repr=False)
    n: int = 1
    is_extended: bool | None = None  # None: the text tells
    user: str = ""
    database: str = ""


def read_statements(path: Path) -> Iterator[Found]:
    """All statements of a file. ConfigError where it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            yield from statements(_bounded(file))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or 'unknown reason'}") from None


def statements(lines: Iterable[str]) -> Iterator[Found]:
    """All statements of these lines, of whatever form they are."""
    source = iter(lines)
    head = list(itertools.islice(source, PEEKED))
    rest = itertools.chain(head, source)
    match _form(head):
        case "csv log":
            yield from _of_csv_log(rest)
        case "csv dump":
            yield from _of_dump(rest)
        case "json log":
            yield from _of_json_log(rest)
        case "stderr log":
            yield from _of_stderr_log(rest)
        case _:
            yield from _of_script(rest)


def _bounded(file: io.TextIOBase) -> Iterator[str]:
    while line := file.readline(MAX_STATEMENT_SIZE + 1):
        if len(line) > MAX_STATEMENT_SIZE:
            raise ConfigError("a line is longer than 16 MiB")
        yield line


def _form(head: list[str]) -> str:
    first = next((line for line in head if line.strip()), "").removeprefix("\ufeff")
    try:
        fields = next(csv.reader([first]), [])
    except csv.Error:
        fields = []
    if len(fields) >= 12 and _DATE.match(fields[0]):
        return "csv log"
    if "query" in (name.strip().lower() for name in fields):
        return "csv dump"
    if first.startswith("{") and _json_record(first) is not None:
        return "json log"
    told = [_severity(line) is not None for line in head if line.strip() and not line.startswith("\t")][:20]
    if told and 2 * sum(told) >= len(told):
        return "stderr log"
    return "script"


# --- logs -------------------------------------------------------------------------------------------------


def _message(message: str, user: str = "", database: str = "") -> Found | None:
    """The statement of a log message. A Parse alone is known by its text, and has not run."""
    match = _MESSAGE.match(message)
    if match is None:
        return None
    return Found(
        message[match.end() :],
        n=0 if match.group(3) else 1,
        is_extended=match.group(1) is None,
        user=user,
        database=database,
    )


def _severity(line: str) -> re.Match[str] | None:
    return None if line.startswith("\t") else _SEVERITY.search(line)


def _of_stderr_log(lines: Iterable[str]) -> Iterator[Found]:
    """A message goes on in the lines that begin with a tab; any other line ends it."""
    parts: list[str] = []
    size = 0
    for line in itertools.chain(lines, ["LOG:  "]):
        if line.startswith("\t") and parts:
            size += len(line)
            if size <= MAX_STATEMENT_SIZE:
                parts.append(line[1:])
            continue
        if parts:
            found = _message("".join(parts).rstrip("\r\n"))
            if found is not None:
                yield found
        match = _severity(line)
        is_message = match is not None and match.group(1) == "LOG"
        parts = [line[match.end() :]] if match is not None and is_message else []
        size = len(line)


def _of_csv_log(lines: Iterable[str]) -> Iterator[Found]:
    for row in _records(lines):
        if len(row) > 13 and row[11] == "LOG":
            found = _message(row[13], row[1], row[2])
            if found is not None:
                yield found


def _of_json_log(lines: Iterable[str]) -> Iterator[Found]:
    for line in lines:
        record = _json_record(line)
        if record is not None and record.get("error_severity") == "LOG":
            user, database = record.get("user", ""), record.get("dbname", "")
            found = _message(str(record.get("message", "")), str(user), str(database))
            if found is not None:
                yield found


def _json_record(line: str) -> dict[str, object] | None:
    """A line cut off is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


# --- a dump of pg_stat_statements ---------------------------------------------------------------------------


def _of_dump(lines: Iterable[str]) -> Iterator[Found]:
    rows = _records(lines)
    names = [name.strip().lower().removeprefix("\ufeff") for name in next(rows, [])]
    query, calls = names.index("query"), names.index("calls") if "calls" in names else None
    for row in rows:
        if len(row) > query:
            yield counted(row[query], row[calls] if calls is not None and len(row) > calls else "1")


def counted(query: str, calls: object, user: str = "") -> Found:
    """A row of pg_stat_statements, whose constants are $n."""
    text = str(calls)
    return Found(query, n=int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 1, user=user)


def _records(lines: Iterable[str]) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_STATEMENT_SIZE)
    try:
        yield from csv.reader(lines)
    except csv.Error as error:
        raise ConfigError(f"the file is no CSV: {error}") from None


# --- scripts ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Splitter:
    """Where a script is: inside of what, how deep, and the statement so far."""

    inside: str = ""  # a quote, e', /* or a dollar quote; empty outside of them
    depth: int = 0  # of comments
    brackets: int = 0
    parts: list[str] = field(default_factory=list)
    size: int = 0

    def feed(self, line: str) -> Iterator[str]:
        """The statements that end in this line."""
        position = begin = 0
        while True:
            match = self._ends().search(line, position)
            if match is None or (not self.inside and match.group() == "--"):
                break
            position = match.end()
            if self.inside:
                self._leave(match.group())
            elif match.group() == ";" and not self.brackets:
                yield self._taken(line[begin : match.start()])
                begin = position
            else:
                self._enter(match.group())
        self.size += len(line)
        if self.size > MAX_STATEMENT_SIZE:
            raise ConfigError("a statement of the script is longer than 16 MiB; is a quote not closed?")
        self.parts.append(line[begin:])

    def _ends(self) -> re.Pattern[str]:
        if not self.inside:
            return _STOPS
        return _ENDS.get(self.inside) or re.compile(re.escape(self.inside))

    def _enter(self, found: str) -> None:
        match found:
            case "(":
                self.brackets += 1
            case ")":
                self.brackets = max(0, self.brackets - 1)
            case ";":
                pass
            case _:
                self.inside = found.lower() if found in ("E'", "e'") else found
                self.depth = 1

    def _leave(self, found: str) -> None:
        if found.startswith("\\"):
            return
        self.depth += 1 if found == "/*" else -1
        if self.depth == 0:
            self.inside = ""

    def _taken(self, last: str) -> str:
        text = "".join((*self.parts, last))
        self.parts, self.size = [], 0
        return text

    def rest(self) -> str:
        return self._taken("")

    @property
    def is_between(self) -> bool:
        return not self.inside and _NOTHING.match("".join(self.parts)) is not None


def _of_script(lines: Iterable[str]) -> Iterator[Found]:
    """Lines that begin with a backslash between statements are psql's; rows of COPY .. FROM stdin are data."""
    splitter, is_data = _Splitter(), False
    for line in lines:
        if is_data:
            is_data = line.rstrip("\r\n") != "\\."
            continue
        if line.startswith("\\") and splitter.is_between:
            continue
        for text in splitter.feed(line):
            if not _NOTHING.match(text):
                yield Found(text)
            is_data = _COPY_DATA.match(text) is not None
    last = splitter.rest()
    if not _NOTHING.match(last):
        yield Found(last)
