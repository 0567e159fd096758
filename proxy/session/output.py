"""What one step gathers for the relay. One reason to change: what a step can want done."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.audit.events import StatementEvent
from proxy.session.interface import Close, Need, Step


@dataclass(slots=True)
class Output:
    """Owned by one session, written by both halves, emptied by `take`."""

    to_server: list[bytes] = field(default_factory=list)
    to_client: list[bytes] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    events: list[StatementEvent] = field(default_factory=list)
    has_more: bool = False
    close: Close | None = None

    def take(self, *, hold_client: bool) -> Step:
        server, client = self.to_server, self.to_client
        step = Step()
        if server:
            step.to_server = server[0] if len(server) == 1 else b"".join(server)
            self.to_server = []
        if client:
            step.to_client = client[0] if len(client) == 1 else b"".join(client)
            self.to_client = []
        if self.needs:
            step.needs = tuple(self.needs)
            self.needs = []
        if self.events:
            step.events = self.events
            self.events = []
        if self.has_more:
            step.more = True
            self.has_more = False
        step.hold_client = hold_client
        step.close = self.close
        return step
