"""What a session remembers of texts, prepared statements, portals and their executions.

An `Entry` of the reply queue holds these objects themselves, never a name to look up later.
One reason to change: what a reply has to know about the request it answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.errors import PgsealError
from proxy.rules import Read
from proxy.sql.plan import Effect, Env, Planned, StatementPlan
from proxy.wire.backend import Field
from proxy.wire.frontend import VALUES_A_STEP, Parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.rules import RoleRule
    from proxy.session.copy_out import CopyOut
    from proxy.session.openers import Opener
    from proxy.session.settings import Level
    from proxy.session.tenancy import SessionTenants
    from proxy.sql.rewrite import Rendered
    from proxy.values.base import Settings


@dataclass(frozen=True, slots=True)
class Description:
    """The server's answer to a Describe of a planned statement, checked against the plan."""

    server_oids: tuple[int, ...]
    fields: tuple[Field, ...]


@dataclass(slots=True)
class ByExecute:
    """What a Parse of EXECUTE holds: what its name meant, and the settings its values were sealed under. A cell
    goes into one row only, so that it may be bound once."""

    targets: dict[bytes, Statement | None]
    level: Level
    has_cells: bool
    is_bound: bool = False


@dataclass(slots=True)
class Statement:
    """A prepared statement as the client sent it, and its plan, which may pass and still have effects."""

    message: Parse  # the client's own
    planned: Planned
    env: Env
    rendered: Rendered | None = None  # the server's text, where it differs
    description: Description | None = None
    param_oids: Sequence[int] | None = None  # types of the client's parameters, once a Bind has asked
    server_oids: tuple[int, ...] = ()  # of a ParameterDescription whose RowDescription is still to come
    refusal: PgsealError | None = None  # plan and description disagree: it may not be bound
    is_being_replaced: bool = False  # a Parse of the same name is under way
    batch: int = 0  # number of the ReadyForQuery that ends what it was parsed in
    is_described: bool = False  # a RowDescription (or NoData) of it has been looked at
    is_describe_asked: bool = False  # a Describe of it is in the queue
    is_prepared_by_sql: bool = False
    runs: ByExecute | None = None  # an EXECUTE whose values were sealed at its Parse
    is_pass: bool = field(init=False)
    is_plain: bool = field(init=False)  # passes, and its completion changes nothing
    is_direct: bool = field(init=False)  # planned, but its Binds leave as they came
    standing: Standing | None = None
    shown: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)  # RowDescription -> epoch, what is shown

    def __post_init__(self) -> None:
        plan = self.planned.plan
        self.is_pass = plan.is_pass
        self.is_plain = self.is_pass and not (self.effects or any(s.is_copy_in for s in plan.statements))
        self.is_direct = (
            not self.is_pass
            and not plan.slots
            and not self.effects
            and len(plan.server_params)
            == len(plan.client_params)
            <= VALUES_A_STEP  # more are gone through in shares
            and all(parameter.client == n for n, parameter in enumerate(plan.server_params))
        )

    @property
    def name(self) -> bytes:
        return self.message.name

    @property
    def plan(self) -> StatementPlan | None:
        """The one statement of an extended text; None for an empty one."""
        statements = self.planned.plan.statements
        return statements[0] if statements else None

    @property
    def effects(self) -> tuple[Effect, ...]:
        plan = self.plan
        return plan.effects if plan is not None else ()


@dataclass(slots=True)
class Standing:
    """What all Binds of a statement without slots have in common, while settings and catalog stay and for a
    moment only, so that keys keep their time: its rights, and an opener for each choice of result formats."""

    version: int
    snapshot: object
    until_s: float
    grant: ReadGrant
    tenant: str | None
    openers: dict[tuple[int, ...], Opener | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadGrant:
    """Which tenants' cells a statement may open, and how the log-in sees them. `tenants` None: every tenant."""

    tenants: frozenset[str] | None = None
    error: PgsealError | None = None  # raised at the first cell, where no tenant is known
    read: Read = Read.PLAIN


@dataclass(frozen=True, slots=True)
class Cursor:
    """A SQL cursor over something protected: what each FETCH of it is, with the rights its DECLARE had."""

    plan: StatementPlan
    planned: Planned
    grant: ReadGrant
    tenant: str | None
    role: RoleRule
    is_held: bool = False


@dataclass(slots=True)
class Execution:
    """One run of one statement: what it opened and sealed, for the audit event and the metrics."""

    plan: StatementPlan
    planned: Planned
    effects: tuple[Effect, ...] = ()
    effect_values: tuple[bytes | None, ...] = ()  # the value of each SET, evaluated
    grant: ReadGrant = field(default_factory=ReadGrant)
    opener: Opener | CopyOut | None = None
    tenant: str | None = None
    tenants: SessionTenants | None = None  # at its place in the text, for the rows of a COPY
    start_s: float = 0.0
    n_sealed: int = 0
    n_rows: int = 0
    key_ids: set[int] = field(default_factory=set)
    has_effects: bool = False  # counted among the pending ones
    is_recorded: bool = False  # its audit event is made

    @property
    def is_simple(self) -> bool:
        """Its completion changes nothing and says nothing of ours."""
        return not (self.effects or self.plan.notices or self.plan.is_copy_in)


@dataclass(slots=True)
class Portal:
    """A bound portal of a statement that is planned, has effects, or has not been described yet."""

    name: bytes
    statement: Statement
    result_formats: tuple[int, ...] = ()
    batch: int = 0  # number of the ReadyForQuery that ends what it was bound in
    grant: ReadGrant = field(default_factory=ReadGrant)
    tenant: str | None = None
    effects: tuple[Effect, ...] = ()  # the plan's, with what set_config() took from parameters
    effect_values: tuple[bytes | None, ...] = ()
    opener: Opener | None = None
    n_sealed: int = 0
    key_ids: frozenset[int] = frozenset()
    level: Level | None = None  # the session's settings at its Bind (of a planned statement)
    fetched: Cursor | None = None  # of a FETCH: the cursor its rows came from
    has_fetched: bool = False  # it has run, so that they go on coming from there
    values: Settings | None = None


@dataclass(slots=True)
class Text:
    """A simple Query with something to watch: its statements, and which of them the server is at."""

    planned: Planned
    executions: list[Execution]
    rendered: Rendered | None = None
    index: int = 0
    last_copy: int = -1  # the last of them that is a COPY FROM STDIN
    has_effects: bool = False

    @property
    def current(self) -> Execution | None:
        return self.executions[self.index] if self.index < len(self.executions) else None
