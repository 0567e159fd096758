"""How commands speak: results on stdout, everything else on stderr, errors as clear lines, never a traceback.

Exit codes: 0 ok, 1 found something, 2 could not be done (usage, configuration, no connection). One reason to
change: how a command's outcome is shown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Coroutine
from dataclasses import asdict, is_dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from proxy.errors import ConfigError, PgsealError, sentence

T = TypeVar("T")


class Exit(IntEnum):
    OK = 0
    FOUND = 1
    FAILED = 2


def stdout() -> Console:
    """Made where it is used, so that a redirected stream is respected."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def stderr() -> Console:
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line for people, kept apart from what a script reads."""
    stderr().print(Text(text))


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def _plain(value: object) -> Any:
    """Dataclasses and enums as JSON values."""
    match value:
        case Enum():
            return value.value
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case Path():
            return str(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {name: _plain(item) for name, item in asdict(value).items()}
        case _:
            return value


def show_error(error: PgsealError) -> None:
    """One line a problem, and the hint. A configuration error names its own place."""
    code = "" if isinstance(error, ConfigError) else f"{error.sqlstate}: "
    for line in error.message.splitlines() or [""]:
        stderr().print(Text.assemble(("error: ", "bold red"), f"{code}{line}"))
    if error.hint:
        stderr().print(Text.assemble(("hint: ", "bold"), sentence(error.hint)))


def fail(message: str, hint: str | None = None) -> NoReturn:
    """End the command with exit code 2."""
    show_error(ConfigError(message, hint=hint))
    raise typer.Exit(Exit.FAILED)


def place_of(error: BaseException) -> str:
    """`file:line` where an unexpected error arose; its text may quote a value, so it is not shown."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "unknown place"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop where it is installed."""
    try:
        import uvloop  # noqa: PLC0415  (not on every platform)
    except ImportError:
        import asyncio  # noqa: PLC0415

        return asyncio.run(work)
    return uvloop.run(work)
