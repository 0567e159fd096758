"""Every logical type in arrays and JSON documents, under the settings that change how values are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import pq

from proxy.embedded import EmbeddedPostgres
from tests.logical_types import BY_NAME, KINDS, Kind, rules
from tests.twins import Twins, twin_databases

SETTINGS = (
    "",
    "SET bytea_output = 'escape'; SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kolkata'",
    "SET bytea_output = 'escape'; SET extra_float_digits = -3; SET TimeZone = 'America/St_Johns'",
    "SET client_encoding = 'UTF8'; SET IntervalStyle = 'iso_8601'; SET TimeZone = 'Africa/Monrovia'",
)


@pytest.fixture(scope="module")
def twins(postgres: EmbeddedPostgres) -> Iterator[Twins]:
    """A table of each type, with all of its good values."""
    with twin_databases(postgres, rules(), [kind.ddl() for kind in KINDS], [*_rows()]) as made:
        yield made


def _rows() -> Iterator[str]:
    for kind in KINDS:
        columns = ", ".join(kind.columns)
        for number, value in enumerate((*kind.good, None)):
            literal = "NULL" if value is None else "'" + value.replace("'", "''") + "'"
            values = ", ".join([literal] * len(kind.columns))
            yield f"INSERT INTO {kind.table} (id, {columns}) VALUES ({number}, {values})"


def _statements(kind: Kind) -> Iterator[str]:
    table = kind.table
    each = ", ".join(f"array_agg({name} ORDER BY id)" for name in kind.columns)
    yield f"SELECT {each} FROM {table}"
    yield (
        f"SELECT ARRAY[rb], ARRAY[rt], ARRAY(SELECT o.rb FROM {table} o WHERE o.id = t.id)"
        f" FROM {table} t ORDER BY id"
    )
    yield f"SELECT json_agg(t ORDER BY id), jsonb_agg(t ORDER BY id) FROM {table} t"
    yield f"SELECT to_json(rb), to_jsonb(rt), to_jsonb(t), row_to_json(t, true) FROM {table} t ORDER BY id"
    yield f"SELECT jsonb_build_object('j', json_build_array(rb, id, rt)) FROM {table} ORDER BY id"
    yield f"SELECT json_object_agg(id, rb ORDER BY id), to_json(array_agg(rt ORDER BY id)) FROM {table}"


def _run(connection: psycopg.Connection[Any], text: str, result_format: int) -> Any:
    result = connection.pgconn.exec_params(text.encode(), None, result_format=result_format)
    assert result.status == pq.ExecStatus.TUPLES_OK, f"{text}: {result.error_message.decode()}"
    n = result.nfields
    columns = [(result.fname(i), result.ftype(i), result.fsize(i), result.fmod(i)) for i in range(n)]
    return columns, [[result.get_value(row, i) for i in range(n)] for row in range(result.ntuples)]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_value_of_every_type_in_arrays_and_documents_is_as_on_plain_columns(
    twins: Twins, name: str, settings: str
) -> None:
    """Byte for byte, in text and in binary, whatever bytea_output, DateStyle and TimeZone are."""
    for side in (twins.proxied, twins.plain):
        side.connection.execute("RESET ALL")
        for setting in filter(None, settings.split("; ")):
            side.connection.execute(setting.encode())
    for text in _statements(BY_NAME[name]):
        for result_format in (0, 1):
            found = _run(twins.proxied.connection, text, result_format)
            assert found == _run(twins.plain.connection, text, result_format), text


def test_document_in_another_client_encoding_is_as_on_plain_columns(twins: Twins) -> None:
    """A document is walked in UTF-8, also where the client's encoding has backslashes within characters."""
    texts = (
        "SELECT json_agg(json_build_object('日', rb, 'k', '表') ORDER BY id) FROM ty_text WHERE id < 5",
        "SELECT array_agg(rt ORDER BY id) FROM ty_text WHERE id < 5",
    )
    for encoding in ("SJIS", "LATIN1", "EUC_JP"):
        for text in texts:
            if encoding == "LATIN1":
                text = text.replace("日", "é").replace("表", "ü")
            answers = []
            for side in (twins.proxied, twins.plain):
                side.connection.execute("RESET ALL")
                side.connection.execute(f"SET client_encoding = '{encoding}'".encode())
                codec = {"SJIS": "cp932", "LATIN1": "latin1", "EUC_JP": "euc_jp"}[encoding]
                result = side.connection.pgconn.exec_(text.encode(codec))
                assert result.status == pq.ExecStatus.TUPLES_OK, result.error_message
                answers.append(result.get_value(0, 0))
                side.connection.execute("RESET client_encoding")
            assert answers[0] == answers[1]


def test_many_cells_in_one_value_come_whole_and_are_counted(twins: Twins) -> None:
    """More cells than one step opens, with rows behind them in the same result."""
    for side in (twins.proxied, twins.plain):
        side.connection.execute("RESET ALL")
    text = (
        "SELECT s, (SELECT json_agg(json_build_object('v', t.rb, 'g', g) ORDER BY g, t.id) FROM ty_int4 t,"
        " generate_series(1, 1500) g), ARRAY(SELECT t.rt FROM ty_int4 t, generate_series(1, 900) g"
        " ORDER BY g, t.id) FROM generate_series(1, 3) s"
    )
    for result_format in (0, 1):
        found = _run(twins.proxied.connection, text, result_format)
        assert found == _run(twins.plain.connection, text, result_format)
