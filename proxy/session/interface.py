"""The seam between a session (sans-IO) and the relay that owns the two sockets.

The relay pushes bytes in (`client_data`, `server_data`), calls `step` until it has nothing more to do, writes
what came out, and ensures what is needed. One reason to change: what crosses that seam.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from proxy.audit.events import StatementEvent
from proxy.keys.material import KeyNeed
from proxy.sql.plan import NotPlanned


@dataclass(frozen=True, slots=True)
class CatalogNeed:
    """A fresh catalog snapshot (own DDL has run, or an OID is unknown)."""

    epoch: int  # the epoch that is not good enough any more
    database: str = ""  # read anew whatever its epoch is by now: what is missing was committed before this need


Need = KeyNeed | NotPlanned | CatalogNeed


class Close(Enum):
    """How both sockets end after what is in the step has been written."""

    GRACEFUL = "graceful"
    CANCEL = "cancel"  # as graceful, and a CancelRequest is sent to the server first


@dataclass(slots=True)
class Step:
    """What one call of `step` wants done, in this order: write both buffers, append the events, close.

    `needs` not empty: ensure them all, then call `step` again (bytes may be pushed meanwhile).
    `more`: there is work left; give the loop a turn, then call `step` again.
    `hold_client`: the session keeps unprocessed client bytes; stop reading the client until a later step
    says otherwise. `cancel`: send a CancelRequest for the running statement, keep going."""

    to_server: bytes = b""
    to_client: bytes = b""
    needs: tuple[Need, ...] = ()
    more: bool = False
    hold_client: bool = False
    cancel: bool = False
    close: Close | None = None
    events: list[StatementEvent] = field(default_factory=list)


class ClientConnection(Protocol):
    """What the relay drives: one client connection after log-in (see `session/state.py`)."""

    @property
    def server_key(self) -> bytes:
        """Body of the server's BackendKeyData (process id and secret, 8 to 260 bytes); empty until it came.
        The relay needs it for `Step.cancel`."""
        ...

    @property
    def is_idle(self) -> bool:
        """No reply is owed and the server is outside a transaction block: a graceful stop may close here."""
        ...

    @property
    def events(self) -> list[StatementEvent]:
        """What `reply` recorded; who takes them clears the list."""
        ...

    def request(self, chunk: bytes) -> bytes | None:
        """The short way for a chunk of the client: what leaves for the server at once, with nothing else to do.
        None: nothing was done; the chunk goes by `client_data` and `step`."""
        ...

    def reply(self, chunk: bytes) -> bytes | None:
        """The short way for a chunk of the server: what leaves for the client; then `events` are recorded."""
        ...

    def client_data(self, chunk: bytes) -> None: ...

    def server_data(self, chunk: bytes) -> None: ...

    def client_eof(self) -> None: ...

    def server_eof(self) -> None:
        """The server sends no more; the next step may have a last word for the client."""
        ...

    def step(self) -> Step: ...
