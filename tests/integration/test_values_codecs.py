"""Every logical type against a real server: the same inputs, text and binary, under several settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
from psycopg import pq

from proxy.errors import PgsealError, Unsupported
from proxy.values.base import Settings
from proxy.values.registry import codec, parse_type
from tests.integration.values_inputs import Inputs

Answer = bytes | str  # wire bytes, or an SQLSTATE

PLAIN: Final = (Settings(), Settings(bytea_output="escape", extra_float_digits=0))
FLOATS: Final = (*PLAIN, Settings(extra_float_digits=-15), Settings(extra_float_digits=-3))
DATES: Final = (
    Settings(),
    Settings(date_style="SQL, DMY", time_zone="America/New_York"),
    Settings(date_style="Postgres, MDY", time_zone="Asia/Kathmandu"),
    Settings(date_style="German, DMY", time_zone="Europe/Dublin"),
    Settings(date_style="ISO, YMD", time_zone="<+03>-03"),
    Settings(date_style="Postgres, DMY", time_zone="America/St_Johns"),
    Settings(date_style="ISO, DMY", time_zone="Australia/Lord_Howe"),
)
TYPES: Final[dict[str, tuple[Settings, ...]]] = {
    **dict.fromkeys(("int2", "int4", "int8", "bool", "uuid", "bytea", "text", "varchar(5)"), PLAIN),
    **dict.fromkeys(("numeric", "numeric(5,2)", "numeric(30)", "json", "jsonb"), PLAIN),
    "float8": FLOATS,
    **dict.fromkeys(("date", "timestamp", "timestamp(2)", "timestamptz", "timestamptz(0)"), DATES),
}
N_INPUTS: Final = 120

# Codes that servers since 16 give to the same bad date in another order of checks.
LATER_SERVERS: Final = frozenset({"22007", "22008", "22009", "22023"})


@pytest.fixture
def connection(database) -> Iterator[psycopg.Connection]:
    """A direct connection in autocommit."""
    with psycopg.connect(database.dsn(), autocommit=True) as opened:
        yield opened


def apply(connection: psycopg.Connection, settings: Settings) -> None:
    """Give the server the settings a codec is told."""
    for name, value in (
        ("DateStyle", settings.date_style),
        ("TimeZone", settings.time_zone),
        ("bytea_output", settings.bytea_output),
        ("extra_float_digits", str(settings.extra_float_digits)),
    ):
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def server_answer(connection: psycopg.Connection, raw: bytes, *, oid: int, formats: tuple[int, int]) -> Answer:
    """What the server returns for one value written to a column of the type."""
    result = connection.pgconn.exec_params(
        b"INSERT INTO one (c) VALUES ($1) RETURNING c", [raw], [oid], [formats[0]], formats[1]
    )
    if result.status == pq.ExecStatus.TUPLES_OK:
        value = result.get_value(0, 0)
        assert value is not None
        return value
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    assert state is not None
    return state.decode()


def codec_answer(type_name: str, raw: bytes, settings: Settings, formats: tuple[int, int]) -> Answer:
    """What the codec makes of the same value; 'PS001' where it does not support it."""
    chosen = codec(parse_type(type_name))
    try:
        display = chosen.read_binary(raw, settings) if formats[0] else chosen.read_text(raw, settings)
    except PgsealError as error:
        return error.sqlstate
    return chosen.show_binary(display, settings) if formats[1] else chosen.show_text(display, settings)


def differences(
    connection: psycopg.Connection, type_name: str, settings: tuple[Settings, ...], *, binary: bool
) -> tuple[list[tuple[bytes, Settings, Answer, Answer]], int]:
    """Inputs on which server and codec disagree, and how many the codec did not support."""
    inputs = Inputs(20_26)
    connection.execute(f"CREATE TEMP TABLE one (c {type_name})".encode())
    oid = parse_type(type_name).oid if binary else 0
    found, n_unsupported = [], 0
    for chosen in settings:
        apply(connection, chosen)
        for number in range(N_INPUTS):
            raw = inputs.make_binary(type_name) if binary else inputs.make(type_name)
            formats = (int(binary), number % 2)
            ours = codec_answer(type_name, raw, chosen, formats)
            theirs = server_answer(connection, raw, oid=oid, formats=formats)
            if ours == Unsupported.sqlstate:
                n_unsupported += 1
            elif ours != theirs:
                found.append((raw, chosen, theirs, ours))
    return found, n_unsupported


@pytest.mark.parametrize("type_name", TYPES)
def test_codec_text_input_answers_as_the_server(connection: psycopg.Connection, type_name: str) -> None:
    """Text in, text and binary out, errors by SQLSTATE: as the server, or Unsupported for few inputs."""
    found, n_unsupported = differences(connection, type_name, TYPES[type_name], binary=False)
    if connection.info.server_version >= 160000:
        found = [case for case in found if not _is_later_difference(case[2], case[3])]
    assert not found[:5]
    assert n_unsupported < 0.25 * N_INPUTS * len(TYPES[type_name])


def _is_later_difference(theirs: Answer, ours: Answer) -> bool:
    """Two refusals with different codes, where servers since 16 check in another order."""
    return theirs in LATER_SERVERS and ours in LATER_SERVERS


@pytest.mark.parametrize("type_name", TYPES)
def test_codec_binary_input_answers_as_the_server(connection: psycopg.Connection, type_name: str) -> None:
    """Binary in, text and binary out, errors by SQLSTATE: as the server."""
    found, n_unsupported = differences(connection, type_name, TYPES[type_name], binary=True)
    assert not found[:5]
    assert n_unsupported == 0
