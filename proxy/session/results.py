"""What the replies of planned statements become: descriptions checked and shown with logical types, rows opened,
effects applied, events written.

One reason to change: what a reply to a planned (or effectful) statement means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.audit.events import Outcome
from proxy.errors import InternalError, NotAllowed, PgsealError, SchemaMismatch, Unsupported
from proxy.rules import Storage
from proxy.session import errors_back
from proxy.session.cells import Missing
from proxy.session.copies import CopyReplies
from proxy.session.cursors import check_rights, cursor_of
from proxy.session.interface import CatalogNeed
from proxy.session.openers import check_nested, has_sealed_result
from proxy.session.state import Action, Asked, Entry, State
from proxy.session.statements import Cursor, Description, Execution, Statement
from proxy.sql.nested import ArrayOf
from proxy.sql.packed import oids_told
from proxy.sql.plan import Kind, ResultColumn, StatementPlan
from proxy.wire import backend as b

if TYPE_CHECKING:
    from proxy.session.output import Output
    from proxy.session.planning import Planning
    from proxy.sql.catalog import SealedColumn

IDLE: Final = ord("I")
CACHED_DESCRIPTIONS: Final = 4096
SHOWN_A_STATEMENT: Final = 4  # formats differ between portals
PLAIN: Final = ResultColumn()


class Results:
    """`Replies` asks it about every reply whose head has something of ours."""

    def __init__(self, state: State, planning: Planning) -> None:
        self._state = state
        self._planning = planning
        self.copies = CopyReplies(state, planning)
        self._passed: dict[bytes, int] = {}  # RowDescription -> catalog epoch under which it was looked at

    @property
    def is_dirty(self) -> bool:
        """The open transaction has changed a tracked setting or the catalog."""
        settings = self._planning.settings
        return settings.is_dirty or settings.awaits_report

    def has_passed(self, message: bytes) -> bool:
        """This RowDescription was looked at under the present catalog."""
        return self._passed.get(message) == self._planning.snapshot.epoch

    # --- rows ----------------------------------------------------------------------------------------

    def is_plain(self, head: Entry) -> bool:
        """Rows of this head need no look."""
        if head.action is Action.SKIP:
            return False
        execution = head.execution
        if execution is None:
            if head.text is None:
                return True
            execution = head.text.current
        if execution is None or execution.opener is not None:
            return execution is None
        if has_sealed_result(execution.plan) or execution.plan.copy is not None:
            raise InternalError("rows came before their description")
        return True

    def rows(self, buffer: bytes, position: int, head: Entry, out: Output) -> tuple[int, PgsealError | None]:
        """Rows from `position` opened into `out`: the offset behind them, and why the next cannot be shown."""
        execution = head.execution if head.text is None else head.text.current
        if head.action is Action.SKIP or execution is None or execution.opener is None:
            return self._planning.probe_row(buffer, position), None
        opener = execution.opener
        error: PgsealError | None = None
        try:
            opener.rows(buffer, position)
        except Missing as missing:
            out.needs.append(missing.need)
        except PgsealError as failed:
            error = failed
        done = opener.partial
        out.to_client.extend(done.parts)
        out.has_more = out.has_more or done.has_more
        execution.n_rows += done.n_rows
        return done.position, error

    # --- descriptions --------------------------------------------------------------------------------

    def parameters(self, head: Entry, body: bytes) -> bytes | None:
        """ParameterDescription: what the client is told of its own parameters."""
        statement = head.statement
        if statement is None or statement.rendered is None:
            return None
        server_oids = statement.server_oids = b.parse_parameter_description(body)
        return b.build_parameter_description(oids_told(statement.planned.plan.client_params, server_oids))

    def description(self, head: Entry, message: bytes, out: Output) -> bytes | None:
        """A RowDescription: checked against the plan, or, where there is none, against the catalog."""
        if head.action is Action.SKIP and head.asked is Asked.QUERY:
            return None
        cursor = cursor_of(head, self._planning.settings)
        if cursor is not None:
            return self._cursor_description(cursor, head, message)
        plan = self._plan_of(head)
        if plan is None or plan.kind is not Kind.PLANNED:
            if head.execution is not None and head.portal is not None:
                head.portal.has_fetched = True
            return self._plain_description(head, message, out)
        statement = head.statement
        if statement is not None and head.action is not Action.SKIP:
            shown = self.shown(statement, message)
            if shown is not None:
                return shown
        fields = b.parse_row_description(message[5:])
        try:
            self._check(plan, fields)
        except PgsealError as error:
            self._state.is_catalog_stale = True  # the next statement is planned with what the catalog says now
            if head.statement is not None:
                head.statement.refusal = error
            raise
        if head.asked is Asked.QUERY:
            assert head.text is not None and head.text.current is not None
            execution = head.text.current
            execution.opener = self._planning.opener(plan, fields, (0,) * len(fields), execution.grant)
            return _shown(plan, fields)
        assert statement is not None
        statement.is_described = True
        if head.action is Action.SKIP:
            statement.description = Description(statement.server_oids, fields)
            self._planning.remember_description(statement)
        shown = _shown(plan, fields)
        if len(statement.shown) < SHOWN_A_STATEMENT:
            statement.shown[message] = (self._planning.snapshot.epoch, shown)
        return shown

    def _cursor_description(self, cursor: Cursor, head: Entry, message: bytes) -> bytes:
        """Of a FETCH, or of the portal that the cursor is; what runs it becomes one of the cursor's reads."""
        fields = b.parse_row_description(message[5:])
        check_rights(cursor, self._planning.role)
        self._check(cursor.plan, fields)
        execution = head.execution if head.text is None else head.text.current
        if execution is not None:
            execution.plan, execution.planned = cursor.plan, cursor.planned
            execution.grant, execution.tenant = cursor.grant, cursor.tenant
            formats = [field.format for field in fields]
            execution.opener = self._planning.opener(cursor.plan, fields, formats, cursor.grant)
            if head.portal is not None:
                head.portal.fetched, head.portal.has_fetched = cursor, True
        return _shown(cursor.plan, fields)

    def cursor_closed(self, name: str) -> None:
        """A Close of the portal that is this cursor was answered."""
        self._planning.settings.close(name)

    def no_data(self, head: Entry) -> None:
        """NoData: right only where the plan has no result columns."""
        statement = head.statement
        if statement is None:
            return
        statement.is_described = True
        plan = statement.plan
        if plan is not None and plan.kind is Kind.PLANNED:
            if plan.results:
                statement.refusal = SchemaMismatch("the server returns no rows where the plan has result columns")
                raise statement.refusal
            if head.action is Action.SKIP:
                statement.description = Description(statement.server_oids, ())
                self._planning.remember_description(statement)

    def _plan_of(self, head: Entry) -> StatementPlan | None:
        cursor = cursor_of(head, self._planning.settings)
        if cursor is not None:
            return cursor.plan
        if head.text is not None:
            current = head.text.current
            return None if current is None else current.plan
        return head.statement.plan if head.statement is not None else None

    def _plain_description(self, head: Entry, message: bytes, out: Output) -> bytes | None:
        """No column of it may be one of ours; an OID nobody knows waits for a fresh catalog."""
        if not self._planning.is_watching:
            return None
        epoch = self._planning.snapshot.epoch
        if self._passed.get(message) != epoch:
            if head.statement is not None:  # unless the look ends well
                head.statement.is_described = head.statement.is_describe_asked = False
            stale = self._look(b.parse_row_description(message[5:]))
            if stale:
                out.needs.append(CatalogNeed(epoch, self._planning.snapshot.database))
                return b""
            if len(self._passed) >= CACHED_DESCRIPTIONS:
                self._passed.clear()
            self._passed[message] = epoch
        if head.statement is not None:
            head.statement.is_described = True
        return None

    def _look(self, fields: Sequence[b.Field]) -> bool:
        """True: the catalog is too old to tell. Raises where a protected column would be shown as it is."""
        snapshot = self._planning.snapshot
        for field in fields:
            if field.table_oid == 0 or snapshot.knows(field.table_oid):
                if field.table_oid and self._sealed_at(field.table_oid, field.attnum) is not None:
                    raise Unsupported(
                        "the statement returns a protected column by a way pgseal cannot follow",
                        hint="Name the protected table in the statement itself.",
                    )
                if snapshot.is_changed(field.table_oid, field.attnum, field.type_oid):
                    if self._planning.refreshed_for(field.table_oid):
                        raise Unsupported("a column under observation is of another type, and may hold cells")
                    return True
                continue
            if self._planning.is_own_relation(field.table_oid):
                continue
            if self._planning.refreshed_for(field.table_oid):
                raise Unsupported("the statement returns columns of a relation the catalog does not know")
            return True
        return False

    def _sealed_at(self, oid: int, attnum: int) -> SealedColumn | None:
        """The protected column at a place of a relation, as the open transaction has made it so far."""
        for _, relation in reversed(self._planning.settings.overlay.relations):
            if relation is not None and relation.oid == oid:
                return relation.sealed_at(attnum)
        return self._planning.snapshot.sealed_at(oid, attnum)

    def _check(self, plan: StatementPlan, fields: Sequence[b.Field]) -> None:
        """Inference and server agree about every column, or nothing is shown."""
        results = plan.results
        if results is None:  # any number of plain columns
            results = (PLAIN,) * len(fields)
        if len(results) != len(fields):
            raise SchemaMismatch(
                "the result has other columns than the plan", hint="Reload the rules and try again."
            )
        snapshot = self._planning.snapshot
        for expected, found in zip(results, fields, strict=True):
            actual = self._sealed_at(found.table_oid, found.attnum) if found.table_oid else None
            sealed = expected.column
            if expected.nested is not None:
                check_nested(expected.nested, found)
            if actual is not None and (sealed is None or sealed.rule != actual.rule):
                raise Unsupported(
                    "the server returns another protected column than the plan says", column=actual.rule.label
                )
            if sealed is None:
                continue
            if found.table_oid and actual is None and snapshot.knows(found.table_oid):
                raise SchemaMismatch(
                    "the server returns a plain column where the plan has a protected one",
                    column=sealed.rule.label,
                )
            physical = 25 if sealed.rule.storage is Storage.TEXT else 17
            if found.type_oid != physical:
                raise SchemaMismatch(
                    "the server returns another type than the protected column has", column=sealed.rule.label
                )

    def shown(self, statement: Statement, message: bytes) -> bytes | None:
        """What a RowDescription of this statement became when it was checked under the present catalog."""
        known = statement.shown.get(message)
        return known[1] if known is not None and known[0] == self._planning.snapshot.epoch else None

    def ended(self, execution: Execution) -> None:
        """CommandComplete of an execution without effects and notices."""
        self._planning.records.finish(execution, Outcome.OK)

    # --- ends ----------------------------------------------------------------------------------------

    def complete(self, head: Entry, kind: int, body: bytes) -> tuple[str, ...]:
        """CommandComplete, EmptyQueryResponse or PortalSuspended of a watched Execute or Query; the notices that
        go before it."""
        execution = head.execution
        if head.text is not None:
            execution = head.text.current
            head.text.index += 1
        if execution is None:
            return ()
        if kind == b.COMMAND_COMPLETE:
            self._planning.effects.apply(execution, body[:-1])
        if execution.has_effects:
            execution.has_effects = False
            self._state.n_pending_effects -= 1
        self._planning.records.finish(execution, Outcome.OK)
        return execution.plan.notices if kind == b.COMMAND_COMPLETE else ()

    def failed(self, head: Entry, body: bytes) -> None:
        """The head got an ErrorResponse."""
        asking = self._planning.asking
        if asking is not None and asking.owns(head):
            asking.is_failed = True
        execution = head.execution if head.text is None else head.text.current
        if execution is not None:
            code = next((v for c, v in b.parse_error_fields(body) if c == ord("C")), b"")
            self._planning.records.finish(execution, Outcome.FAILED, code.decode("ascii", "replace"))
        if head.text is not None and head.text.has_effects:
            head.text.has_effects = False
            self._state.n_pending_effects -= 1

    def skipped(self, entry: Entry) -> None:
        if entry.execution is not None:
            self._planning.records.finish(entry.execution, Outcome.SKIPPED)

    def unshown(self, head: Entry, error: PgsealError) -> None:
        """A reply of the head cannot be shown to the client."""
        execution = head.execution if head.text is None else head.text.current
        if execution is not None:
            outcome = Outcome.DENIED if isinstance(error, NotAllowed) else Outcome.FAILED
            self._planning.records.finish(execution, outcome, error.sqlstate)

    def abandoned(self, entry: Entry) -> None:
        """The connection is gone before the server answered: what was sent may have run."""
        unknown = entry.text.executions[entry.text.index :] if entry.text is not None else [entry.execution]
        for execution in unknown:
            if execution is not None:
                self._planning.records.finish(execution, Outcome.UNKNOWN)

    def ready(self, head: Entry, status: int) -> None:
        if head.text is not None and head.text.has_effects:
            head.text.has_effects = False
            self._state.n_pending_effects -= 1
        if status == IDLE and self._state.has_run_ddl:
            self._planning.runtime.counters.n_catalog_changes += 1
        self._planning.effects.ready(status)

    def is_write(self, head: Entry) -> bool:
        """The head's statement, or another of its text, may have changed something."""
        if head.text is not None:
            return any(not _is_read(e) for e in head.text.executions)
        return head.execution is not None and not _is_read(head.execution)

    def error(self, head: Entry, message: bytes) -> bytes | None:
        """The server's error as the client sees it: positions in its own text, no ciphertext anywhere."""
        found = b.parse_error_fields(message[5:])
        source = self._source(head, found)
        if source is None:
            return None
        if errors_back.is_tenant_guard(found):
            return self._planning.error_message(errors_back.OTHER_TENANT)
        return errors_back.shown(found, source)

    def asynchronous(self, kind: int, head: Entry | None, message: bytes) -> bytes | None:
        """A ParameterStatus, a NotificationResponse, or a NoticeResponse, which is shown as an error is."""
        if kind == b.PARAMETER_STATUS:
            self._planning.settings.report(*b.parse_parameter_status(message[5:]))
        if kind != b.NOTICE_RESPONSE or head is None:
            return None
        found = b.parse_error_fields(message[5:])
        source = self._source(head, found)
        return None if source is None else errors_back.shown_notice(found, source)

    def _source(self, head: Entry, found: errors_back.Fields) -> errors_back.Source | None:
        """What the server speaks of, where something of it is protected."""
        planning, plan = self._planning, self._plan_of(head)
        if plan is None and head.text is not None:  # at the end of the text
            plan = next((e.plan for e in head.text.executions if e.plan.hides_detail), None)
        is_hidden = plan is not None and plan.hides_detail
        if not (is_hidden or (planning.is_watching and errors_back.is_of_protected(found, planning.snapshot))):
            return None
        asked = head.text if head.text is not None else head.statement
        return errors_back.Source(
            planning.snapshot,
            planning.settings.overlay,
            tuple(access.column.rule for access in plan.accesses) if plan is not None else (),
            asked.rendered if asked is not None else None,
            plan is not None and plan.tag == "COPY",
            planning.settings.values(),
        )


def _is_read(execution: Execution) -> bool:
    plan = execution.plan
    return plan.tag in ("SELECT", "VALUES", "TABLE", "SHOW", "FETCH", "COPY") and not (
        plan.is_dml or plan.is_copy_in
    )


def _shown(plan: StatementPlan, fields: Sequence[b.Field]) -> bytes:
    """The RowDescription with logical types."""
    shown = []
    results = plan.results if plan.results is not None else (PLAIN,) * len(fields)
    for expected, field in zip(results, fields, strict=True):
        if expected.column is not None:
            kind = expected.type or expected.column.rule.type
            field = replace(field, type_oid=kind.oid, type_size=kind.size, typmod=kind.typmod)
        elif isinstance(expected.nested, ArrayOf):
            kind = expected.nested.type
            field = replace(field, type_oid=kind.array_oid, typmod=kind.typmod)
        shown.append(field)
    return b.build_row_description(shown)
