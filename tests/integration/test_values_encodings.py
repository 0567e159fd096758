"""client_encoding: every character of the basic plane, both ways, against a real server's conversion."""

from __future__ import annotations

import psycopg
import pytest

from proxy.errors import PgsealError, Unsupported
from proxy.values.base import Settings
from proxy.values.encodings import EAST_ASIAN, PYTHON_CODEC, from_utf8, to_utf8

CHARACTERS = [chr(code) for code in range(0x80, 0x10000) if not 0xD800 <= code < 0xE000]
BYTES = [bytes([byte]) for byte in range(0x80, 256)]
PAIRS = [bytes([first, second]) for first in range(0x80, 256) for second in range(0x30, 256)]

CONVERTERS = """
CREATE FUNCTION pg_temp.encoded(t text, e name) RETURNS bytea LANGUAGE plpgsql AS
    $$ BEGIN RETURN convert_to(t, e); EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;
CREATE FUNCTION pg_temp.decoded(b bytea, e name) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN RETURN convert_from(b, e); EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;
"""


def ours(convert: object, given: bytes, settings: Settings) -> bytes | str | None:
    """The conversion here: bytes, None where there is none, '?' where it is refused as unsettled."""
    try:
        return convert(given, settings)  # type: ignore[operator, no-any-return]
    except Unsupported:
        return "?"
    except PgsealError:
        return None


@pytest.mark.parametrize(
    "encoding", ["LATIN1", "LATIN9", "WIN1252", "WIN1251", "KOI8R", "SJIS", "EUC_JP", "BIG5"]
)
def test_encoding_every_character_converts_as_the_server_or_is_refused(database, encoding: str) -> None:
    """No character becomes another one; what differs between the tables is refused."""
    settings = Settings(client_encoding=encoding)
    candidates = BYTES + (PAIRS if encoding in EAST_ASIAN else [])
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute(CONVERTERS)
        encoded = connection.execute(
            "SELECT c, pg_temp.encoded(c, %s) FROM unnest(%s::text[]) c", (encoding, CHARACTERS)
        ).fetchall()
        decoded = connection.execute(
            "SELECT b, pg_temp.decoded(b, %s) FROM unnest(%s::bytea[]) b", (encoding, candidates)
        ).fetchall()
    for character, theirs in encoded:
        assert ours(from_utf8, character.encode(), settings) in ("?", theirs)
    for raw, theirs in decoded:
        assert ours(to_utf8, raw, settings) in ("?", None if theirs is None else theirs.encode())


def test_encoding_names_are_known_to_the_server(database) -> None:
    """The names are those the server reports in client_encoding."""
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        for name in PYTHON_CODEC:
            connection.execute("SELECT set_config('client_encoding', %s, false)", (name,))
            row = connection.pgconn.exec_(b"SHOW client_encoding").get_value(0, 0)
            assert row == name.encode()
