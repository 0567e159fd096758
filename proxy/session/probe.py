"""The one question pgseal asks in the client's session: the settings a server does not report.

Asked by a simple Query between log-in and the first ReadyForQuery the client sees; at that moment there is
nothing it could disturb, and a walsender answers it too. One reason to change: what is asked.
"""

from __future__ import annotations

from typing import Final

from proxy.session.settings import SessionSettings
from proxy.wire.framing import LENGTH, split_row

NAMES: Final = ("search_path", "bytea_output", "extra_float_digits", "application_name")
PROBE: Final = (
    "SELECT "
    + ", ".join(f"pg_catalog.current_setting('{name}')" for name in NAMES)
    + ", current_user::pg_catalog.text"
).encode()


def read_probe(settings: SessionSettings, buffer: bytes, position: int) -> int:
    """Takes the one DataRow at `position`; returns the offset behind it."""
    end: int = position + 1 + LENGTH.unpack_from(buffer, position + 1)[0]
    values = [(value or b"").decode("utf-8", "replace") for value in split_row(buffer[position + 5 : end])]
    settings.load(dict(zip(NAMES, values[:-1], strict=True)), values[-1])
    return end
