"""COPY over protected relations: its options and columns, and the edit that names the columns.

The columns are always named in what the server gets, so that no change of the table in between can put a value
under another one. Rights, and what WHERE may say, are inference's to judge as for INSERT and SELECT.

Source: PostgreSQL manual, "COPY". One reason to change: which COPY is planned, and how.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from proxy.errors import FeatureNotSupported, PgsealError, Unsupported
from proxy.rules import Storage
from proxy.sql import queries, tenancy, writes
from proxy.sql.assignments import Written, check_view, default_of
from proxy.sql.catalog import Column, Relation, SealedColumn
from proxy.sql.context import Inference
from proxy.sql.copy_plan import CopyColumn, CopyPlan
from proxy.sql.defaults import missing_defaults
from proxy.sql.expressions import condition, infer
from proxy.sql.literals import Literals
from proxy.sql.outputs import quoted
from proxy.sql.parse import Statement, strings
from proxy.sql.plan import Edit, Kind, Slot, StatementPlan, TenantOf, Use
from proxy.sql.resolution import Resolution
from proxy.sql.scopes import Scope
from proxy.sql.spans import Node, Spans
from proxy.sql.types import Demand
from proxy.values.base import LogicalType, Settings
from proxy.values.constants import Cast, Expr, Param
from proxy.values.copy_format import EMBEDS_ASCII, Dialect, Format, Header, encoding_name
from proxy.values.encodings import from_utf8
from proxy.values.registry import type_from_oid

if TYPE_CHECKING:
    from proxy.sql.draft import Draft

CSV_MARKER_UNTIL: Final = 180000  # from this version on, backslash and dot are data in CSV
TABLES: Final = frozenset("rpf")
FORCES: Final = ("force_quote", "force_not_null", "force_null")
# What they say is the server's business alone.
PASSING: Final = frozenset({"freeze", "log_verbosity", "reject_limit"})
_SESSION: Final = TenantOf()


def reads_file(tree: Node) -> bool:
    """A file or program of the server, not the connection."""
    return "filename" in tree or bool(tree.get("is_program"))


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one COPY. `forces`: columns by the name of their option; None: all columns."""

    dialect: Dialect
    encoding: str
    forces: dict[str, frozenset[str] | None]
    skips_bad: bool

    def column(self, name: str, sealed: SealedColumn | None) -> CopyColumn:
        quote, not_null, null = (self._is_forced(option, name) for option in FORCES)
        return CopyColumn(name, sealed, force_quote=quote, force_not_null=not_null, force_null=null)

    def _is_forced(self, option: str, name: str) -> bool:
        names = self.forces.get(option, frozenset())
        return names is None or name in names


def plan_copy(statement: Statement, draft: Draft) -> StatementPlan:
    """COPY of a relation. Raises what refuses it."""
    tree = statement.tree
    spans = Spans(draft)
    ctx = Inference(draft, spans, Literals(draft, spans), infer, queries.select, writes.write)
    relation = ctx.relation(tree["relation"])
    is_in = bool(tree.get("is_from"))
    names = _names(tree, relation)
    options = read_options(tree, draft)
    copy = None
    if relation is not None and relation.sealed:
        if relation.kind not in TABLES:
            raise Unsupported(
                f'COPY of "{relation.name}", which is no table', hint="Copy the table itself, or a query."
            )
        maker = _Maker(ctx, relation, names, options, tree)
        copy = maker.rows_in() if is_in else maker.rows_out()
        _name_columns(ctx, tree, [*names, *copy.added_names])
        if all(column.sealed is None for column in copy.columns) and not copy.added:
            copy = None
    condition_of(ctx, tree, relation)
    resolution = Resolution(ctx)
    resolution.run()
    refuse_slots(draft)
    return StatementPlan(
        Kind.PLANNED,
        "COPY",
        edits=tuple(sorted(resolution.edits, key=lambda edit: (edit.first, edit.last))),
        accesses=tuple(resolution.accesses.values()),
        compared_tenants=tuple(resolution.compared_tenants),
        is_copy_in=is_in,
        is_dml=is_in,
        hides_detail=ctx.is_protected,
        copy=copy,
    )


def copy_of_query(statement: Statement, inner: StatementPlan, draft: Draft) -> StatementPlan:
    """COPY (query) TO, from the plan of the query."""
    if inner.kind is not Kind.PLANNED:
        return replace(inner, tag="COPY", is_dml=False)
    refuse_slots(draft)
    copy = None
    results = inner.results or ()
    if any(result.nested is not None for result in results):
        raise Unsupported(
            "COPY of a query whose arrays or documents hold encrypted cells", hint="Copy the columns themselves."
        )
    if any(result.nested is not None for result in results):
        raise Unsupported(
            "COPY of a query with cells inside an array or a document", hint="Use SELECT, or copy the columns."
        )
    if any(result.column is not None for result in results):
        if any(result.bound for result in results):
            raise Unsupported(
                "COPY of a query over a column with bind: in its rule", hint="Copy the table itself, or SELECT."
            )
        options = read_options(statement.tree, draft)
        if options.forces.get("force_quote"):  # the plan does not keep the names of results
            raise Unsupported(
                "FORCE_QUOTE with names, over a query", hint="Use FORCE_QUOTE *, or copy the table."
            )
        named = tuple(replace(options.column("", r.column), type=r.type) for r in results)
        needed = tuple(n for n, column in enumerate(named) if column.sealed is not None)
        copy = CopyPlan(False, "query", options.dialect, options.encoding, named, needed)
    return replace(inner, tag="COPY", results=None, copy=copy)


def refuse_slots(draft: Draft) -> None:
    """A utility statement has no parameters, and what a literal becomes is only known when it runs."""
    if draft.is_extended and draft.slots:
        slot = draft.slots[0]
        raise Unsupported(
            "COPY with a constant for a protected column in the extended protocol",
            column=slot.column.rule.label,
            hint="Send it as a simple Query.",
        )


def condition_of(ctx: Inference, tree: Node, relation: Relation | None) -> None:
    """WHERE of COPY FROM sees the row that is about to be stored."""
    if "whereClause" not in tree:
        return
    name = tree["relation"]["relname"]
    item, _ = ctx.item_of(relation, name, relation.schema if relation is not None else None)
    scope = Scope(None, [item])
    condition(ctx, tree["whereClause"], scope, "WHERE")
    tenancy.gather(ctx, tree["whereClause"], scope)


def _names(tree: Node, relation: Relation | None) -> list[str]:
    """The columns of the client's rows, in order."""
    if "attlist" in tree:
        return list(strings(tree["attlist"]))
    return [c.name for c in relation.columns if not c.is_generated] if relation is not None else []


def _name_columns(ctx: Inference, tree: Node, names: list[str]) -> None:
    """Write the list of columns where it is not what the client wrote."""
    last = ctx.spans.at(tree["relation"])
    while ctx.spans.text(last + 1) == b".":
        last += 2
    listed = b"(" + b", ".join(map(quoted, names)) + b")"
    if "attlist" not in tree:
        ctx.edits.append(Edit(last + 1, last, (b" " + listed,)))
    elif len(names) > len(tree["attlist"]):
        ctx.edits.append(Edit(last + 1, ctx.spans.partner(last + 1), (listed,)))


# --- columns -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Maker:
    """The columns of one COPY of a table."""

    ctx: Inference
    relation: Relation
    names: list[str]
    options: Options
    tree: Node

    def rows_out(self) -> CopyPlan:
        item, _ = self.ctx.item_of(self.relation, self.relation.name, self.relation.schema)
        scope = Scope(None, [item])
        location = self.tree["relation"].get("location", 0)
        columns = []
        for name in self.names:
            sealed = self.relation.sealed.get(name)
            column = self.options.column(name, sealed)
            if sealed is not None:
                value = self.ctx.column_value(item.named(name)[0], scope, None, location)
                value.ask(Demand.CELL)
                column = replace(column, bound=self._bound(sealed))
            columns.append(column)
        return self._plan(columns, is_in=False)

    def rows_in(self) -> CopyPlan:
        item, origin = self.ctx.item_of(self.relation, self.relation.name, self.relation.schema)
        into = Written(self.relation, item, origin)
        check_view(into)
        missing = missing_defaults(into, self.names)
        columns = [self._column_in(name) for name in self.names]
        added = tuple(self._slot(column, default_of(column)) for _, column in missing)
        self.ctx.written += [c.sealed for c in columns if c.sealed is not None]
        self.ctx.written += [column for _, column in missing]
        return replace(
            self._plan(columns, is_in=True),
            added=added,
            added_names=tuple(name for name, _ in missing),
            skips_bad=self._skips_bad(columns),
        )

    def _plan(self, columns: list[CopyColumn], *, is_in: bool) -> CopyPlan:
        bound = {place for column in columns for place in column.bound}
        tenant = self._tenant_place()
        has_sealed = any(column.sealed is not None for column in columns)
        needed = {n for n, column in enumerate(columns) if column.sealed is not None} | bound
        if is_in and tenant is not None and has_sealed:
            needed.add(tenant)
        for place in bound:
            columns[place] = replace(columns[place], type=self._type(columns[place].name))
        options = self.options
        return CopyPlan(
            is_in,
            self.relation.name,
            options.dialect,
            options.encoding,
            tuple(columns),
            tuple(sorted(needed)),
        )

    def _column_in(self, name: str) -> CopyColumn:
        sealed = self.relation.sealed.get(name)
        column = self.options.column(name, sealed)
        if sealed is None:
            return column
        slot = self._slot(sealed, Param(self.names.index(name)))
        default = None
        if sealed.rule.has_default and sealed.rule.default is not None:
            default = self._slot(sealed, default_of(sealed))
        return replace(column, slot=slot, default=default, bound=self._bound(sealed))

    def _slot(self, sealed: SealedColumn, expr: Expr) -> Slot:
        bound = tuple(Cast(Param(place), self._type(self.names[place])) for place in self._bound(sealed))
        return Slot(expr, sealed, Use.CELL, self._tenant(sealed), bound=bound)

    def _tenant_place(self) -> int | None:
        name = self.relation.tenant_column
        return self.names.index(name) if name is not None and name in self.names else None

    def _tenant(self, sealed: SealedColumn) -> TenantOf:
        """That of the row's own tenant column, or the session's. Raises TenantUnknown."""
        rule = self.ctx.table_rule(sealed)
        if rule is None or tenancy.has_session_tenant(rule):
            return _SESSION
        place = self._tenant_place()
        if place is None:
            location = self.tree["relation"].get("location", 0)
            raise tenancy.tenant_unknown(sealed, "the tenant column is not in the list of columns", location)
        return TenantOf(Param(place), self._column(self.names[place]).type_oid)

    def _bound(self, sealed: SealedColumn) -> tuple[int, ...]:
        places = []
        for name in sealed.rule.bind:
            if name not in self.names:
                raise Unsupported(
                    f"{sealed.rule.label} is bound to {name}, which is not in the list of columns",
                    column=sealed.rule.label,
                    hint=f"Copy {name} too.",
                )
            places.append(self.names.index(name))
        return tuple(places)

    def _column(self, name: str) -> Column:
        return next(column for column in self.relation.columns if column.name == name)

    def _type(self, name: str) -> LogicalType:
        column = self._column(name)
        kind = type_from_oid(column.type_oid, column.typmod)
        if kind is None:
            raise Unsupported(f'column "{name}" is named in bind: and has a type pgseal does not know')
        return kind

    def _skips_bad(self, columns: list[CopyColumn]) -> bool:
        """ON_ERROR ignore: the server is given something it leaves out itself, which text cannot be."""
        if not self.options.skips_bad:
            return False
        for column in columns:
            if column.sealed is not None and column.sealed.rule.storage is Storage.TEXT:
                raise Unsupported(
                    "ON_ERROR ignore over a protected column that is stored as text",
                    column=column.sealed.rule.label,
                    hint="Copy without it.",
                )
        return True


# --- options -----------------------------------------------------------------------------------------


def read_options(tree: Node, draft: Draft) -> Options:
    """The options as they shape the rows. What the server refuses, it refuses before any row."""
    env = draft.env
    given = {item["DefElem"]["defname"]: item["DefElem"].get("arg", {}) for item in tree.get("options", ())}
    unknown = given.keys() - PASSING - set(FORCES) - _SHAPING
    if unknown:
        raise Unsupported(f"the COPY option {min(unknown)} over protected columns", hint="Leave it out.")
    encoding = encoding_name(_text(given["encoding"])) if "encoding" in given else env.client_encoding
    if encoding in EMBEDS_ASCII:
        raise Unsupported(
            f'COPY of protected columns in encoding "{encoding}"', hint="SET client_encoding TO 'UTF8'."
        )
    kind = _format(given)
    is_csv = kind is Format.CSV
    quote = _one_byte(given, "quote", b'"')
    dialect = Dialect(
        kind,
        delimiter=_one_byte(given, "delimiter", b"," if is_csv else b"\t"),
        null=_encoded(_text(given["null"]) if "null" in given else ("" if is_csv else "\\N"), encoding),
        quote=quote,
        escape=_one_byte(given, "escape", quote),
        header=_header(given),
        default=_encoded(_text(given["default"]), encoding) if "default" in given else None,
        has_end_marker=bool(tree.get("is_from"))
        and (not is_csv or env.snapshot.server_version < CSV_MARKER_UNTIL),
    )
    forces = {name: _columns(given[name]) for name in FORCES if name in given}
    skips_bad = _text(given.get("on_error", {})).lower() == "ignore"
    return Options(dialect, encoding, forces, skips_bad)


_SHAPING: Final = frozenset(
    {"format", "delimiter", "null", "default", "header", "quote", "escape", "encoding", "on_error"}
)


def _text(arg: Node) -> str:
    if "TypeName" in arg:
        return strings(arg["TypeName"].get("names", []))[-1]
    return str(arg.get("String", {}).get("sval", ""))


def _encoded(text: str, encoding: str) -> bytes:
    return from_utf8(text.encode(), Settings(client_encoding=encoding))


def _format(given: dict[str, Node]) -> Format:
    word = _text(given["format"]) if "format" in given else "text"
    try:
        return Format(word)
    except ValueError:
        raise _invalid(f'COPY format "{word}" not recognized') from None


def _one_byte(given: dict[str, Node], name: str, default: bytes) -> bytes:
    if name not in given:
        return default
    raw = _text(given[name]).encode()
    if len(raw) != 1 or raw in b"\r\n\0":
        raise FeatureNotSupported(f"COPY {name} must be a single one-byte character")
    return raw


def _header(given: dict[str, Node]) -> Header:
    if "header" not in given:
        return Header.NONE
    arg = given["header"]
    if not arg:
        return Header.LINE
    if "Boolean" in arg:
        return Header.LINE if arg["Boolean"].get("boolval") else Header.NONE
    if "Integer" in arg:
        number = arg["Integer"].get("ival", 0)
        if number in (0, 1):
            return Header.LINE if number else Header.NONE
    match _text(arg).lower():
        case "match":
            return Header.MATCH
        case "true" | "on":
            return Header.LINE
        case "false" | "off":
            return Header.NONE
    raise _invalid('header requires a Boolean value or "match"')


def _columns(arg: Node) -> frozenset[str] | None:
    """None: all of them."""
    return None if "A_Star" in arg else frozenset(strings(arg.get("List", {}).get("items", [])))


def _invalid(message: str) -> PgsealError:
    return Unsupported(message, hint="Write the option as the manual of COPY says.")
