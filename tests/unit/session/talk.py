"""A conversation with a session without sockets: what the client and the server say, and what left for each.

    talk = Talk()
    talk.client(parse("select 1"), sync())
    assert talk.to_server() == "P S"
    talk.server(PARSED, ready())
    assert talk.to_client() == "1 ZI"

Messages are made and read by `tests/oracle.py`. What is needed is ensured at once, unless `keys.is_stuck`.
One reason to change: what a test wants to say to a session or ask of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.audit.events import StatementEvent
from proxy.keys.material import ActiveKeyNeed, KeyIdNeed, LeaseNeed
from proxy.metrics import Counters
from proxy.rules import ColumnRule, Read, RoleRule
from proxy.session.connection import Session
from proxy.session.interface import CatalogNeed, Close, Need, Step
from proxy.session.probe import NAMES
from proxy.session.runtime import Client, Descriptions, Fingerprints
from proxy.sql.catalog import Relation, Snapshot
from proxy.sql.plan import NotPlanned
from proxy.sql.planner import Planner, plan_slowly
from tests.oracle import BACKEND, FRONTEND, Message, decode, encode, split
from tests.playbook import describe
from tests.unit.session.memory_keys import MemoryKeys
from tests.unit.sql import worlds as catalogs

STAFF = catalogs.table(20010, "public", "staff", ("id", 23), ("born", 17), rule=catalogs.STAFF)
PATIENTS_OID = 20001
MAX_MESSAGE = 1 << 20


def one(name: str, /, **fields: object) -> bytes:
    """A message of the server by its name in the manual."""
    return encode(BACKEND, name, **fields)


PARSED, BOUND, CLOSED = one("ParseComplete"), one("BindComplete"), one("CloseComplete")
NO_DATA, SUSPENDED, EMPTY = one("NoData"), one("PortalSuspended"), one("EmptyQueryResponse")
COPY_IN = one("CopyInResponse", overall=0, formats=[0, 0])
COPY_OUT = one("CopyOutResponse", overall=0, formats=[0, 0])


def ready(status: str = "I") -> bytes:
    return one("ReadyForQuery", status=status)


def complete(tag: str) -> bytes:
    return one("CommandComplete", tag=tag)


def row(*values: bytes | None) -> bytes:
    return one("DataRow", values=list(values))


def columns(*found: tuple[str, int, int, int]) -> bytes:
    """RowDescription of (name, table OID, attribute number, type OID) each."""
    return one("RowDescription", columns=[(n.encode(), t, a, o, -1, -1, 0) for n, t, a, o in found])


def parameters(*oids: int) -> bytes:
    return one("ParameterDescription", oids=list(oids))


def error(code: str, severity: str = "ERROR", **more: str) -> bytes:
    fields = [("S", severity), ("V", severity), ("C", code), ("M", "said the server"), *more.items()]
    return one("ErrorResponse", fields=[(letter, text.encode()) for letter, text in fields])


SSN = ("ssn", PATIENTS_OID, 3, 17)
ID = ("id", PATIENTS_OID, 1, 23)


@dataclass(slots=True)
class Audit:
    is_writable: bool = True


@dataclass(slots=True)
class World:
    """What the sessions of a database share (`session.runtime.Runtime`): real planner, real keys, no server."""

    snapshot: Snapshot = field(default_factory=lambda: catalogs.snapshot(STAFF))
    planner: Planner = field(default_factory=Planner)
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    audit: Audit = field(default_factory=Audit)
    counters: Counters = field(default_factory=Counters)
    descriptions: Descriptions = field(default_factory=Descriptions)
    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    fingerprint_key: bytes = bytes(32)

    def refresh(self, *more: Relation) -> None:
        """A catalog of the next epoch, with these relations too."""
        fresh = catalogs.snapshot(STAFF, *more)
        rules = self.snapshot.rules
        self.snapshot = replace(fresh, epoch=self.snapshot.epoch + 1, rules=rules)

    def ensure(self, need: Need) -> None:
        """As `net.databases.Databases` does it, without waiting."""
        match need:
            case ActiveKeyNeed() | KeyIdNeed() | LeaseNeed():
                self.keys.ensure(need)
            case NotPlanned():
                self.planner.keep(need, plan_slowly(self.planner.slow_job(need)))
            case CatalogNeed():
                self.refresh()

    def cell(self, rule: ColumnRule, tenant: str, display: bytes) -> bytes:
        """An envelope as the table holds it."""
        keys = self.keys.sealing(rule, tenant)
        tokens = self.keys.tokens(rule, tenant)
        assert keys is not None and tokens is not None
        sealed = keys.seal(display, tokens.token(display) if rule.search else None, ())
        assert isinstance(sealed, bytes)
        return sealed


ROLE = RoleRule(Read.PLAIN, cross_tenant=True)


class Talk:
    """One session after log-in. `heard_*` keep everything; `to_*` give what is new, in letters."""

    def __init__(
        self, world: World | None = None, role: RoleRule = ROLE, settings: Mapping[str, str] | None = None
    ) -> None:
        self.world = world if world is not None else World()
        rules = self.world.snapshot.rules
        if rules.roles.get("app") != role:
            self.world.snapshot = replace(self.world.snapshot, rules=replace(rules, roles={"app": role}))
        client = Client("app", "app", "1-1", parameters=dict(settings or {}))
        self.session = Session(client, self.world, max_message=MAX_MESSAGE)
        self.server_bytes = bytearray()
        self.client_bytes = bytearray()
        self.events: list[StatementEvent] = []
        self.needs: list[Need] = []
        self.n_more = 0
        self.n_steps = 0
        self.has_short_way = True
        self.n_short = 0  # requests that went it
        self.is_stuck = False  # needs stay needs
        self.is_held = False
        self.close: Close | None = None
        self._seen = [0, 0]
        self._log_in()

    def _log_in(self) -> None:
        keys = {"pid": 7, "key": b"skey"}
        self.server(one("Authentication", code=0, data=b""))
        for name, value in {"client_encoding": "UTF8", "standard_conforming_strings": "on"}.items():
            self.server(one("ParameterStatus", name=name, value=value))
        self.server(one("BackendKeyData", **keys), ready())
        assert self.to_server() == "Q"
        names = [(name, 0, 0, 25) for name in (*NAMES, "current_user")]
        values = (b'"$user", public', b"hex", b"1", b"", b"app")
        self.server(columns(*names), row(*values), complete("SELECT 1"), ready())
        assert self.to_client() == "R S[client_encoding] S[standard_conforming_strings] K ZI"

    # --- what is said --------------------------------------------------------------------------------

    def client(self, *messages: bytes) -> None:
        chunk = b"".join(messages)
        sent = self.session.request(chunk) if self.has_short_way else None
        if sent is not None:
            self.n_short += 1
            self.server_bytes += sent
            return
        self.session.client_data(chunk)
        self.pump()

    def server(self, *messages: bytes) -> None:
        chunk = b"".join(messages)
        shown = self.session.reply(chunk) if self.has_short_way else None
        if shown is not None:
            self.client_bytes += shown
            self.events += self.session.events
            self.session.events.clear()
            return
        self.session.server_data(chunk)
        self.pump()

    def pump(self) -> None:
        """Steps until nothing more can be done."""
        while True:
            step = self.session.step()
            self._take(step)
            if step.needs and not self.is_stuck:
                for need in step.needs:
                    self.world.ensure(need)
            elif not step.more:
                return

    def _take(self, step: Step) -> None:
        self.n_steps += 1
        self.server_bytes += step.to_server
        self.client_bytes += step.to_client
        self.events += step.events
        self.needs += step.needs
        self.n_more += step.more
        self.is_held = step.hold_client
        self.close = step.close or self.close

    # --- what is heard -------------------------------------------------------------------------------

    def messages_to_server(self) -> list[Message]:
        """What is new, as whole messages of the manual."""
        return self._new(0, FRONTEND, self.server_bytes)

    def messages_to_client(self) -> list[Message]:
        return self._new(1, BACKEND, self.client_bytes)

    def _new(self, side: int, table: object, heard: bytearray) -> list[Message]:
        found = [decode(table, raw) for raw in split(bytes(heard[self._seen[side] :]))]  # type: ignore[arg-type]
        self._seen[side] += sum(len(message.raw) for message in found)
        return found

    def to_server(self) -> str:
        return " ".join(map(asked, self.messages_to_server()))

    def to_client(self) -> str:
        return " ".join(map(describe, self.messages_to_client()))


def asked(message: Message) -> str:
    """A message of the client in letters; `E!` is the Execute that the server fails."""
    if message.name == "Execute" and message.portal == b"__pgseal_reject":
        return "E!"
    if message.name == "Query" and message.sql.startswith(b"pgseal"):
        return "Q!"
    if message.name in ("Describe", "Close"):
        return f"{message.letter}{message.kind}"
    return message.letter


def values_of(messages: Sequence[Message]) -> list[list[bytes | None]]:
    """The values of the rows among them."""
    return [message.values for message in messages if message.name == "DataRow"]
