"""What a text, a Bind or an Execute means under the session's settings of this moment.

Joins the planner (pure, shared) with what only the session knows: settings, tenant, rights, portals. Every
method is called again when it answered None (something is needed first), so none changes anything before it
is sure.

One reason to change: what of a session a plan depends on.
"""

from __future__ import annotations

import time
from copy import copy
from typing import TYPE_CHECKING, Final

from proxy.errors import (
    AuditNotWritable,
    FeatureNotSupported,
    PgsealError,
    SchemaMismatch,
    Unsupported,
)
from proxy.rules import Read, RoleRule
from proxy.session import executing
from proxy.session.asking import Asking
from proxy.session.binding import check_name, check_returning, received, sealed_bind, sealed_text
from proxy.session.effects import CATALOG_EFFECTS, Effects
from proxy.session.interface import CatalogNeed
from proxy.session.observing import observe
from proxy.session.openers import has_sealed_result, make_opener
from proxy.session.probe import read_probe
from proxy.session.records import Records
from proxy.session.sealing import SLOTS_A_LOOK, Sealer, Waits, has_parameter, placeholders
from proxy.session.settings import SessionSettings
from proxy.session.state import State
from proxy.session.statements import Execution, Portal, ReadGrant, Standing, Statement, Text
from proxy.session.tenancy import SessionTenants, has_other_tenant
from proxy.sql.packed import each_shape
from proxy.sql.plan import Env, Kind, NotPlanned, Plan, Planned, StatementPlan
from proxy.sql.rewrite import rendering
from proxy.values.constants import Expr, Inputs
from proxy.values.encodings import from_utf8, to_utf8
from proxy.wire.backend import error_response
from proxy.wire.frontend import Parse, bind_result_formats, expand_formats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.keys.material import KeyView
    from proxy.session.openers import Opener
    from proxy.session.output import Output
    from proxy.session.runtime import Client, Runtime
    from proxy.sql.catalog import Snapshot
    from proxy.wire.backend import Field

STANDING_S: Final = 1.0
RETRY_S: Final = 1.0  # a session asks for a fresh catalog before a PS006 at most this often
BYTEWISE: Final = frozenset({"UTF8", "SQL_ASCII"})  # no character of several bytes contains an ASCII byte
IDLE: Final = ord("I")
# lo_open, lo_close, loread, lowrite, lo_lseek, lo_creat, lo_tell, lo_unlink, lo_create, lo_truncate, 64-bit ones
LARGE_OBJECTS: Final = frozenset(
    oid.to_bytes(4, "big") for oid in (952, 953, 954, 955, 956, 957, 958, 964, 715, 1004, 3170, 3171, 3172)
)


class Planning:
    """Owned by one session; `Requests` and `Results` ask it."""

    def __init__(self, client: Client, runtime: Runtime, state: State, out: Output) -> None:
        self.client = client
        self.settings = SessionSettings(client.user, client.parameters)
        self.records = Records(client, runtime, self.settings, out)
        self.effects = Effects(state, self.settings, self.env)
        self.owns_planned = False
        self.runtime = runtime
        self._state = state
        self._out = out
        self._env: tuple[int, object, Env] | None = None
        self._role: tuple[object, RoleRule] | None = None
        self._asked_s = -RETRY_S  # when a refusal last asked for a fresh catalog
        self._refreshed: dict[int, int] = {}  # unknown OID -> epoch that did not know it
        self._probe: bytes = b""
        self.asking: Asking | None = None  # of the message at hand

    # --- what holds now ------------------------------------------------------------------------------

    @property
    def is_watching(self) -> bool:
        """Descriptions are looked at; a role that reads cells as they are sees them so."""
        return self.role.read is not Read.RAW

    def may_call(self, oid: bytes) -> bool:
        """A FunctionCall is relayed as it is: where anything is protected, for large objects only, since other
        functions set settings (set_config) or run SQL given as text."""
        return not self.is_watching or not self.snapshot.rules.tables or oid in LARGE_OBJECTS or len(oid) < 4

    @property
    def snapshot(self) -> Snapshot:
        return self.runtime.snapshot

    @property
    def keys(self) -> KeyView:
        return self.runtime.keys

    @property
    def role(self) -> RoleRule:
        """The rights of the log-in under the rules of this moment."""
        snapshot = self.snapshot
        if self._role is None or self._role[0] is not snapshot:
            self._role = (snapshot, snapshot.rules.role(self.client.user))
        return self._role[1]

    def env(self) -> Env:
        """What planning depends on; the same object until something of it changes."""
        snapshot = self.snapshot
        cached = self._env
        if cached is not None and cached[0] == self.settings.version and cached[1] is snapshot:
            return cached[2]
        settings = self.settings
        env = Env(
            snapshot=snapshot,
            catalog_epoch=snapshot.epoch,
            rules_epoch=snapshot.rules.epoch,
            search_path=settings.search_path,
            role=self.role,
            overlay=settings.overlay,
            standard_conforming_strings=settings.standard_conforming_strings,
            client_encoding=settings.values().client_encoding,
        )
        if cached is not None and cached[2] == env and cached[1] is snapshot:
            env = cached[2]
        self._env = (settings.version, snapshot, env)
        return env

    def tenants(self) -> SessionTenants:
        return SessionTenants(self.client, self.role, self.settings.get, self.snapshot.rules)

    # --- planning ------------------------------------------------------------------------------------

    def _plan(self, text: bytes, oids: tuple[int, ...] | None) -> Waits[Planned]:
        """The plan of a text in the client's encoding; raises what refuses it."""
        utf8 = text
        invalid: PgsealError | None = None
        if not text.isascii():
            try:
                utf8 = to_utf8(text, self.settings.values())
            except PgsealError as error:
                if self.settings.values().client_encoding.upper() not in BYTEWISE:
                    raise
                invalid, utf8 = error, text.decode("latin-1").encode()
        while isinstance(planned := self.runtime.planner.plan(utf8, self.env(), oids), NotPlanned):
            yield (planned,)
        plan = planned.plan
        if invalid is not None and not (plan.is_pass and not any(s.effects for s in plan.statements)):
            raise invalid
        if self._state.is_catalog_stale and (self._state.is_code_new or not _is_timeless(plan)):
            yield (CatalogNeed(self.snapshot.epoch, self.snapshot.database),)
            self._state.is_catalog_stale = self._state.is_code_new = False
            return (yield from self._plan(text, oids))
        if plan.refusal is not None:
            if isinstance(plan.refusal, SchemaMismatch) and time.monotonic() - self._asked_s > RETRY_S:
                self._asked_s = time.monotonic()  # another session may have mended it a moment ago
                yield (CatalogNeed(self.snapshot.epoch, self.snapshot.database),)
                return (yield from self._plan(text, oids))
            raise refusal_of(plan.refusal, utf8)
        if plan.is_pass:
            return planned
        self.check_reports()
        self.check_audit()
        return planned

    def check_reports(self) -> None:
        """The server says only with ReadyForQuery what a changed DateStyle or time zone has come to, and values
        for protected columns are read and shown by it."""
        if self.settings.awaits_report:
            raise Unsupported(
                "a statement over protected columns follows a change of client_encoding, DateStyle, IntervalStyle"
                " or TimeZone in one pipeline",
                hint="Send a Sync in between.",
            )

    def check_audit(self) -> None:
        if not self.runtime.audit.is_writable:
            raise AuditNotWritable(
                "the audit trail cannot be written, so statements on protected tables are refused",
                hint="Free space on the audit disk; the proxy goes on by itself.",
            )

    def statement(self, message: Parse) -> Waits[Statement]:
        """A Parse: the statement it makes."""
        planned = yield from self._plan(message.text, message.oids)
        yield from observe(self, planned, message.oids)
        if not planned.plan.is_pass or any(s.effects for s in planned.plan.statements):
            check_name(message.name)
        run = yield from executing.with_executed(self, self._state, planned)
        if run is not planned:
            self.owns_planned = True
            return (yield from executing.sealed_execute(self, self._state, message, planned, run))
        statement = Statement(message, planned, self.env())
        if planned.plan.is_pass:
            statement.is_described = not self.is_watching
        else:
            texts = yield from placeholders(planned.plan)
            statement.rendered = yield from rendering(planned, texts)
            if len(texts) > SLOTS_A_LOOK:
                yield ()
            self.owns_planned = True
            statement.description = self.runtime.descriptions.get(planned.plan, self.snapshot.epoch)
        return statement

    def encode(self, text: bytes) -> bytes:
        return text if text.isascii() else from_utf8(text, self.settings.values())

    def server_parse(self, statement: Statement) -> Parse:
        """The Parse that leaves for the server."""
        assert statement.rendered is not None
        oids = tuple(p.oid for p in each_shape(statement.planned.plan.server_params))
        return Parse(statement.name, self.encode(statement.rendered.text), oids)

    def replan(self, statement: Statement) -> Waits[None]:
        """A statement meets other settings or another catalog: same plan, or PostgreSQL's own 0A000."""
        if statement.is_prepared_by_sql:
            planned = yield from self._plan(self.encode(statement.message.text), None)
            made = executing.prepared_by(planned, statement.name, self.encode)
            if made != (None if statement.is_pass else statement.planned.plan):
                raise FeatureNotSupported("cached plan must not change result type")
            statement.env = self.env()
            statement.is_described = statement.is_describe_asked = False
            return
        planned = yield from self._plan(statement.message.text, statement.message.oids)
        if statement.runs is not None:
            raise FeatureNotSupported("cached plan must not change result type")
        if planned.plan is not statement.planned.plan and planned.plan != statement.planned.plan:
            raise FeatureNotSupported("cached plan must not change result type")
        statement.planned = planned
        statement.env = self.env()
        if statement.is_pass and self.is_watching:  # what it returns is looked at again
            statement.is_described = statement.is_describe_asked = False

    def remember_description(self, statement: Statement) -> None:
        if statement.description is not None:
            self.runtime.descriptions.put(statement.planned.plan, self.snapshot.epoch, statement.description)

    # --- Bind ----------------------------------------------------------------------------------------

    def bind(self, statement: Statement, body: bytes) -> Waits[tuple[Portal, bytes | None]]:
        """A Bind of a planned or effectful statement: the portal and the server's Bind (None: as it came)."""
        if statement.env is not self.env():
            yield from self.replan(statement)
        came = yield from received(statement, body, self.settings.values(), self._answers())
        if statement.rendered is None:
            yield from executing.renew_prepared(self, self._state, statement.planned.plan)
            return came.portal, None
        executing.check_runs(self, self._state, statement)
        executing.check_once(statement)
        self.check_reports()
        self.check_audit()  # it may have been prepared while all was well
        came.portal.level, came.portal.values = self.settings.level, self.settings.values()
        sealer = Sealer(self.keys, self.tenants(), came.inputs)
        message = yield from sealed_bind(came, sealer)
        if statement.runs is not None:
            statement.runs.is_bound = True
        self.records.sealed(sealer)
        return came.portal, message

    def direct_portal(self, statement: Statement, body: bytes) -> Portal | None:
        """The portal of a Bind that leaves as it came, from what the statement's Binds have in common; None where
        that is not settled."""
        if statement.env is not self.env():
            return None
        standing = self.standing(statement)
        if standing is None:
            return None
        self.check_audit()
        formats = bind_result_formats(body)
        name = body[: body.index(b"\0")]
        check_name(name)
        portal = Portal(name, statement, formats, grant=standing.grant, tenant=standing.tenant)
        portal.level, portal.values = self.settings.level, self.settings.values()
        portal.opener = self.standing_opener(statement, standing, formats)
        return portal

    def standing(self, statement: Statement) -> Standing | None:
        """What all Binds of a direct statement have in common at this moment; None where it depends on each."""
        standing = statement.standing
        now_s = time.monotonic()
        if (
            standing is None
            or standing.version != self.settings.version
            or standing.snapshot is not self.snapshot
            or now_s > standing.until_s
        ):
            standing = statement.standing = self._make_standing(statement, now_s)
        return standing

    def standing_opener(
        self, statement: Statement, standing: Standing, formats: tuple[int, ...]
    ) -> Opener | None:
        """The opener that all portals of a direct statement with these result formats share."""
        if formats not in standing.openers:
            plan, description = statement.plan, statement.description
            opener = None
            if plan is not None and has_sealed_result(plan):
                assert description is not None, "a Bind waits for the description"
                codes = expand_formats(formats, len(description.fields))
                opener = self.opener(plan, description.fields, codes, standing.grant)
            standing.openers[formats] = opener
        return standing.openers[formats]

    def _make_standing(self, statement: Statement, now_s: float) -> Standing | None:
        plan = statement.plan
        assert plan is not None
        if any(has_parameter(proof.expr) for proof in (*plan.read_tenants, *plan.compared_tenants)):
            return None
        tenants = self.tenants()
        inputs = Inputs(self.settings.values(), statement.planned.constants)
        grant = tenants.grant(plan, inputs)
        check_returning(plan, grant)
        return Standing(self.settings.version, self.snapshot, now_s + STANDING_S, grant, tenants.current)

    # --- Execute and Query ---------------------------------------------------------------------------

    def execution(self, portal: Portal) -> Execution | None:
        """What an Execute of this portal will do; None where there is nothing to watch."""
        plan = portal.statement.plan
        if plan is None:
            return None
        if plan.kind is Kind.PLANNED:
            executing.check_runs(self, self._state, portal.statement)
            self._check_since_bind(portal)
        elif plan.effects:
            executing.check_collision(self, self._state, portal.statement.planned.plan)
        effects = portal.effects or plan.effects
        execution = Execution(plan, portal.statement.planned, effects, portal.effect_values, portal.grant)
        execution.tenant = portal.tenant
        execution.start_s = time.time()
        if plan.kind is Kind.PLANNED and has_sealed_result(plan):
            if portal.opener is None:
                portal.opener = self._portal_opener(portal, plan)
            execution.opener = portal.opener
        execution.n_sealed = portal.n_sealed
        execution.key_ids.update(portal.key_ids)
        portal.n_sealed = 0
        return execution

    def _check_since_bind(self, portal: Portal) -> None:
        """Values are shown under the Execute's settings; what was sealed at the Bind holds for its tenant."""
        self.check_reports()
        settings, values = self.settings, self.settings.values()
        if portal.values is not values and portal.values != values:
            portal.opener = None
            portal.values = values
        if portal.level is not settings.level and portal.level is not None:
            if has_other_tenant(self.snapshot.rules, portal.level, settings.level):
                raise Unsupported(
                    "the session's tenant has changed since the statement was bound", hint="Bind it again."
                )
            portal.level = settings.level

    def _portal_opener(self, portal: Portal, plan: StatementPlan) -> Opener | None:
        description = portal.statement.description
        assert description is not None, "a Bind waits for the description"
        formats = expand_formats(portal.result_formats, len(description.fields))
        return self.opener(plan, description.fields, formats, portal.grant)

    def opener(
        self, plan: StatementPlan, fields: Sequence[Field], formats: Sequence[int], grant: ReadGrant
    ) -> Opener | None:
        """The opener of a planned result under the settings of this moment."""
        return make_opener(plan, fields, formats, self.settings.values(), self.keys, grant)

    def must_ask(self, plan: Plan) -> bool:
        """The server has not yet answered what the message at hand needs to know."""
        return bool(plan.questions) and self._answers() == ()

    def _answers(self) -> tuple[Expr, ...]:
        return (self.asking.answers or ()) if self.asking is not None else ()

    def query(self, text: bytes) -> Waits[tuple[Text | None, bytes | None] | Plan]:
        """A simple Query: what to remember of it and the server's text (None: as it came). The plan where the
        server has to be asked first."""
        planned = yield from self._plan(text, None)
        yield from observe(self, planned, None)
        planned = yield from executing.with_executed(self, self._state, planned)
        plan = planned.plan
        if plan.is_pass and not any(s.effects or s.is_copy_in for s in plan.statements):
            return None, None
        if self.must_ask(plan):
            return plan
        return (yield from self._sealed_query(planned))

    def _sealed_query(self, planned: Planned) -> Waits[tuple[Text, bytes | None]]:
        answers = self._answers()
        constants = (*planned.constants, *answers) if answers else planned.constants
        inputs = Inputs(self.settings.values(), constants)
        text = yield from sealed_text(planned, inputs, self.tenants(), self.keys, self.records)
        if text.rendered is None:
            return text, None
        self.owns_planned = True
        return text, self.encode(text.rendered.text)

    # --- the catalog ---------------------------------------------------------------------------------

    def is_own_relation(self, oid: int) -> bool:
        """A relation nobody else can know: made in this session's open transaction."""
        return self._state.has_run_ddl and self.refreshed_for(oid)

    def refreshed_for(self, oid: int) -> bool:
        """The catalog has been read anew for this unknown OID, and still does not know it."""
        seen = self._refreshed.setdefault(oid, self.snapshot.epoch)
        return self.snapshot.epoch > seen

    # --- the probe after log-in ----------------------------------------------------------------------

    def probe_row(self, buffer: bytes, position: int) -> int:
        """Takes the answer (one DataRow) of the probe, or of what was asked, and returns the offset behind it."""
        if self.asking is not None:
            return self.asking.take(buffer, position)
        return read_probe(self.settings, buffer, position)

    # --- records -------------------------------------------------------------------------------------

    def error_message(self, error: PgsealError) -> bytes:
        """The ErrorResponse in the client's encoding."""
        settings = self.settings.values()

        def encode(text: str) -> bytes:
            try:
                return from_utf8(text.encode(), settings)
            except PgsealError:
                return text.encode("ascii", "replace")

        return error_response(error, encode)


def _is_timeless(plan: Plan) -> bool:
    """True where an older catalog gives the same plan: nothing watched is named, or only the session changes.
    (DDL over a table this session has just made passes under the catalog that does not know it yet.)"""
    return plan.is_pass and all(
        s.effects and CATALOG_EFFECTS.isdisjoint(e.kind for e in s.effects) for s in plan.statements
    )


def refusal_of(error: PgsealError, text: bytes) -> PgsealError:
    """A copy of a plan's refusal (plans are shared) with its position as the client counts."""
    raised = copy(error)
    if raised.position is not None:
        raised.character = len(text[: raised.position].decode("utf-8", "replace")) + 1
    return raised
