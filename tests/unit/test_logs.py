"""Log lines: JSON, and no secret in them by any road."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from proxy.errors import Unsupported
from proxy.logs import configure

CANARY = "canary-5f1e"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root, old = logging.getLogger(), logging.getLogger().handlers[:]
    level = root.level
    configure("debug", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = old
    root.setLevel(level)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    assert CANARY not in out.getvalue()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def fail(secret: str) -> None:
    local_copy = [secret] * 2
    raise ValueError(f"cannot read {local_copy}")


def test_log_line_is_one_json_object(out: io.StringIO) -> None:
    """Event, level, time and the fields, sorted."""
    structlog.get_logger().info("listening", port=6432)
    [line] = lines(out)
    assert (line["event"], line["level"], line["port"]) == ("listening", "info", 6432)
    assert list(line) == sorted(line)


def test_log_of_an_exception_has_frames_and_no_text_or_locals(out: io.StringIO) -> None:
    """A canary in an argument, a local and the message of an exception does not show."""
    try:
        fail(CANARY)
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed in a library")
    first, second = lines(out)
    for line in (first, second):
        assert line["error"] == "ValueError"
        assert any("test_logs.py" in frame and frame.endswith(" fail") for frame in line["frames"])
    assert second["logger"] == "library"


def test_log_of_pgseals_own_error_has_its_message(out: io.StringIO) -> None:
    """Messages of the error tree hold no values, so they may be shown."""
    try:
        raise Unsupported("ORDER BY over public.t.a is refused.")
    except Unsupported:
        structlog.get_logger().exception("refused")
    assert lines(out)[0]["error"] == "PS001 ORDER BY over public.t.a is refused."


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "client_password",
        "secret",
        "token",
        "dek",
        "kek",
        "wrapped_key",
        "value",
        "params",
        "dsn",
        "plaintext",
    ],
)
def test_log_fields_named_like_secrets_are_masked(out: io.StringIO, name: str) -> None:
    """Also inside a mapping or a list."""
    structlog.get_logger().info("x", **{name: CANARY}, inner={"a": [{name: CANARY}]})
    assert lines(out)[0][name] == "***"


def test_log_of_bytes_objects_and_connection_strings_shows_none_of_them(out: io.StringIO) -> None:
    """Other objects appear by class; a password in a connection string is cut out of any text."""

    class Holder:
        def __repr__(self) -> str:
            return CANARY

    structlog.get_logger().info(
        "x", raw=CANARY.encode(), held=Holder(), error=ValueError(CANARY), where=f"postgresql://u:{CANARY}@h/d"
    )
    [line] = lines(out)
    assert (line["raw"], line["held"], line["error"]) == ("<bytes>", "<Holder>", "ValueError")
    assert line["where"] == "postgresql://***@h/d"


def test_log_of_a_library_keeps_no_arguments_or_quotations(out: io.StringIO) -> None:
    """What a library formats into its messages may be a value."""
    logging.getLogger("library").warning("bad input %s", CANARY)
    logging.getLogger("library").warning(f"bad input '{CANARY}'")
    assert [line["event"] for line in lines(out)] == ["bad input", "bad input"]


async def test_log_of_a_task_that_failed_unseen_has_no_text(out: io.StringIO) -> None:
    """asyncio reports such a task with its exception's repr; only the words before it stay."""
    task_error = ValueError(CANARY)
    context = {"message": f"Task exception was never retrieved <{CANARY}>", "exception": task_error}
    asyncio.get_running_loop().default_exception_handler(context)
    [line] = lines(out)
    assert line["event"] == "Task exception was never retrieved"


def test_log_numbers_and_flags_stay(out: io.StringIO) -> None:
    """Key ids and counts are no secrets."""
    structlog.get_logger().info("x", key_id=7, n_rows=2, is_key=True, tenant=None)
    [line] = lines(out)
    assert (line["key_id"], line["n_rows"], line["is_key"], line["tenant"]) == (7, 2, True, None)
