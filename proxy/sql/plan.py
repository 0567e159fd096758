"""What planning one text yields, as plain values: verdict, edits, slots, parameters, result columns.

A *slot* is one place where sealed bytes (or a token) go. In a simple Query its rendering is a literal
`'\\x..'::bytea`; in Parse it is a server parameter filled at every Bind. The plan is made once per template
and is immutable; `Planned` joins it with the constants and token offsets of one text.
One reason to change: what a plan has to say to `session`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from proxy.errors import PgsealError
from proxy.rules import RoleRule
from proxy.sql.catalog import Relation, SealedColumn, Snapshot
from proxy.sql.nested import Nested
from proxy.values.base import LogicalType
from proxy.values.constants import Expr

if TYPE_CHECKING:
    from proxy.sql.copy_plan import CopyPlan

# --- what planning is asked with -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Overlay:
    """Relations made, changed or dropped by this session's open transaction. None: dropped.
    The last of one name is what it is now. The OID of a relation made here is 0: the session learns it only from
    a RowDescription."""

    relations: tuple[tuple[tuple[str, str], Relation | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Env:
    """Everything a plan depends on besides the text; hashable, part of the cache key."""

    snapshot: Snapshot = field(compare=False, hash=False)
    catalog_epoch: int
    rules_epoch: int
    search_path: tuple[str, ...]  # effective, "$user" resolved, pg_temp/pg_catalog not listed unless set
    role: RoleRule
    overlay: Overlay = Overlay()
    standard_conforming_strings: bool = True
    client_encoding: str = "UTF8"


# --- slots ------------------------------------------------------------------------------------------


class Use(Enum):
    CELL = "cell"  # an envelope
    TOKEN = "token"  # an index token (a deterministic column: the whole envelope)
    TENANT = "tenant"  # the session's tenant as text, plain; `column` names whose rule decides it


@dataclass(frozen=True, slots=True)
class TenantOf:
    """Where the tenant of a slot or a read comes from. `expr` is the value of the tenant column that the
    statement itself gives (literal or parameter, of `type_oid`); None: the session's (or fixed) tenant."""

    expr: Expr | None = None
    type_oid: int = 25


@dataclass(frozen=True, slots=True)
class Slot:
    """Sealed bytes to be made from `expr` for `column`. `is_array`: expr is an array value (= ANY($1),
    unnest($1)), the slot is bytea[] (text[] with text storage)."""

    expr: Expr
    column: SealedColumn
    use: Use
    tenant: TenantOf = TenantOf()
    is_array: bool = False
    bound: tuple[Expr, ...] = ()  # the values of `bind:` columns, in the rule's order
    is_shown: bool = False  # stored nowhere, so that the column's length is none of its own


# --- edits ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace tokens first..last (ordinals within the text, comments not counted) by `parts` joined; a part is
    bytes, or an int: the number of a slot, rendered there. last == first - 1 inserts before `first`."""

    first: int
    last: int
    parts: tuple[bytes | int, ...]


# --- parameters -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerParam:
    """The server's parameter, in order. Exactly one of the two is set: `client` is the 0-based client
    parameter passed as it came; `slot` the number of the slot that fills it."""

    client: int | None = None
    slot: int | None = None
    oid: int = 0  # declared in Parse: 17 or 1001 (25, 1009 with text storage) for slots; else the client's or 0


@dataclass(frozen=True, slots=True)
class ClientParam:
    """What ParameterDescription tells the client: `oid` of the logical type, or 0: the server's answer for
    `server` (0-based server parameter that carries it)."""

    oid: int = 0
    server: int | None = None


# --- results ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column of a result, plain or a cell or with cells within.
    `type`: the type an expression over the column is shown with, where that is not the column's own."""

    column: SealedColumn | None = None
    bound: tuple[int, ...] = ()  # positions in the same result of the rule's `bind:` columns, in its order
    type: LogicalType | None = None
    nested: Nested | None = None  # cells stand within the value; `column` is None then

    @property
    def is_plain(self) -> bool:
        return self.column is None and self.nested is None


@dataclass(frozen=True, slots=True)
class Access:
    """A protected column this statement touches, for rights and audit: how it is used."""

    column: SealedColumn
    reads: bool = False
    writes: bool = False
    compares: bool = False


# --- effects of commands on the session -------------------------------------------------------------


class EffectKind(Enum):
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback_to"
    SET = "set"  # name, value (text) or expr, is_local
    RESET = "reset"  # name, or "" for all
    SET_ROLE = "set_role"
    SET_SESSION_AUTHORIZATION = "set_session_authorization"
    DISCARD_ALL = "discard_all"
    DISCARD_TEMP = "discard_temp"
    PREPARE = "prepare"  # name; what is prepared is in the plan, where it is over something protected
    DEALLOCATE = "deallocate"  # name, or "" for all
    EXECUTE = "execute"  # name: SQL EXECUTE; refused by the session if its own planned statement has that name
    FETCH = "fetch"  # name: FETCH; refused by the session if a planned portal has that name
    DECLARE = "declare"  # name: a cursor over something protected; what its rows are is in the plan
    CLOSE = "close"  # name, or "" for all: SQL CLOSE of a cursor, which may be a portal of the protocol
    DDL = "ddl"  # the catalog may have changed
    OVERLAY = "overlay"  # the relation this DDL makes, changes or drops


NEW_CODE: Final = "code"  # name of a DDL effect that may make a name mean what it did not: functions, DO


@dataclass(frozen=True, slots=True)
class Effect:
    """Takes hold at the statement's CommandComplete."""

    kind: EffectKind
    name: str = ""
    value: Expr | None = None  # SET's new value; None with kind SET means DEFAULT
    is_local: bool = False
    name_value: Expr | None = None  # set_config() of a parameter: `name` is known at Bind
    local_value: Expr | None = None  # and so is `is_local`
    relation: tuple[tuple[str, str], Relation | None] | None = None
    is_held: bool = False  # DECLARE .. WITH HOLD


# --- statements and texts ---------------------------------------------------------------------------


class Kind(Enum):
    """What one statement is to the session."""

    PASS = "pass"  # nothing to do but to relay; may have effects
    PLANNED = "planned"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class StatementPlan:
    """One statement of a text. `returns_rows`: a RowDescription comes with the results below checked
    against it. `n_tokens` are the tokens before the next statement's, so that edits of a text never overlap."""

    kind: Kind
    tag: str  # SELECT, INSERT, ... as metrics and audit name it
    edits: Sequence[Edit] = ()
    results: tuple[ResultColumn, ...] | None = None
    accesses: tuple[Access, ...] = ()
    read_tenants: tuple[TenantOf, ...] = ()  # tenants the statement itself proves for its reads
    compared_tenants: tuple[TenantOf, ...] = ()  # tenants whose cells the statement compares
    effects: tuple[Effect, ...] = ()
    refusal: PgsealError | None = None
    is_copy_in: bool = False
    is_dml: bool = False
    notices: tuple[str, ...] = ()
    hides_detail: bool = False  # server's DETAIL/CONTEXT/HINT must be dropped (touches protected tables)
    copy: CopyPlan | None = None  # COPY whose rows hold cells
    opens: StatementPlan | None = None  # DECLARE: what each FETCH of the cursor is
    prepares: Plan | None = (
        None  # PREPARE: its one statement as a Parse would be planned, without lifted constants
    )


@dataclass(frozen=True, slots=True)
class Question:
    """An expression that the server is asked for first; the answers stand behind the text's lifted constants."""

    text: bytes = field(repr=False)
    type: LogicalType


@dataclass(frozen=True, slots=True)
class Plan:
    """All of one text. `slots` are numbered over the whole text. `server_params` and `client_params` are only
    meaningful in extended protocol (one statement)."""

    statements: tuple[StatementPlan, ...]
    slots: Sequence[Slot] = ()
    server_params: Sequence[ServerParam] = ()
    client_params: Sequence[ClientParam] = ()
    refusal: PgsealError | None = None  # the whole text is refused
    questions: tuple[Question, ...] = ()

    @property
    def is_pass(self) -> bool:
        """True where the bytes leave untouched and no reply needs a look beyond its table OIDs."""
        return self.refusal is None and all(s.kind is Kind.PASS for s in self.statements)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan joined with one text: the text, byte offsets of its tokens (start, end exclusive; comments not
    counted) and its lifted constants, which `Lifted(n)` expressions of the plan's slots refer to. A long text
    brings the `digest` of its shape (`template.shape_digest`)."""

    plan: Plan
    text: bytes = field(repr=False)
    tokens: Sequence[tuple[int, int]]
    constants: Sequence[Expr] = ()
    digest: bytes = b""


@dataclass(frozen=True, slots=True)
class NotPlanned:
    """The text is long: `planner.plan_slowly` must run in another process first (see `sql/planner.py`)."""

    text: bytes = field(repr=False)
    env: Env
    param_oids: tuple[int, ...] | None
