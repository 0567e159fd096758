"""A log-in to a ruled database that the server does not have: only the server's own refusal passes.

pgseal cannot read a catalog that is not there, and the client should hear PostgreSQL's FATAL 3D000, which comes
behind AuthenticationOk. Should the server serve after all (the database was made this very moment), the
connection ends instead: without a catalog nothing may pass. One reason to change: what such a client hears.
"""

from __future__ import annotations

from typing import Final

from proxy.audit.events import StatementEvent
from proxy.errors import ConnectionFailure
from proxy.session.interface import Close, Step
from proxy.wire.backend import error_response

_PASSED: Final = frozenset(b"RNE")  # AuthenticationOk, notices, the refusal
_MAX_SIZE: Final = 1 << 20


class Absent:
    """The `ClientConnection` of such a log-in. What the client sends goes nowhere."""

    server_key = b""
    is_idle = True

    def __init__(self) -> None:
        self._arrived = bytearray()
        self._is_closed = False
        self.events: list[StatementEvent] = []

    def request(self, chunk: bytes) -> bytes | None:
        return None

    def reply(self, chunk: bytes) -> bytes | None:
        return None

    def client_data(self, chunk: bytes) -> None:
        """Nobody is there to hear it."""

    def server_data(self, chunk: bytes) -> None:
        self._arrived += chunk

    def client_eof(self) -> None:
        """The server ends this connection by itself."""

    def server_eof(self) -> None:
        """Nothing is owed."""

    def step(self) -> Step:
        """Whole messages only, up to the first that is none of a refusal."""
        passed, arrived = bytearray(), self._arrived
        while not self._is_closed and len(arrived) >= 5:
            size = 1 + int.from_bytes(arrived[1:5], "big")
            if arrived[0] not in _PASSED or not 5 <= size <= _MAX_SIZE:
                self._is_closed = True
                error = ConnectionFailure("the database has no catalog yet; connect again", severity="FATAL")
                return Step(to_client=bytes(passed) + error_response(error), close=Close.GRACEFUL)
            if len(arrived) < size:
                break
            passed += arrived[:size]
            del arrived[:size]
        return Step(to_client=bytes(passed))
