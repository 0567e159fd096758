"""From inferred types to a plan: for each sealed class its rights, its tenant, and the edits of its leaves.

By now every expression that may be sealed is in a class with its column, and each leaf knows whether its cell or
its token is needed. One reason to change: what is written for a leaf.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import DatatypeMismatch, NotAllowed, PgsealError, TenantUnknown, Unsupported
from proxy.rules import Compare, Read, Storage
from proxy.sql import casts, tenancy
from proxy.sql.catalog import SealedColumn
from proxy.sql.context import Inference
from proxy.sql.literals import fits, is_bare, is_null, params_of, type_of_word
from proxy.sql.outputs import quoted
from proxy.sql.plan import Access, Edit, Slot, TenantOf, Use
from proxy.sql.scopes import Origin
from proxy.sql.tokens import TOKEN_OF
from proxy.sql.types import Demand, Leaf, LeafKind, Target, Var, is_deterministic, refused
from proxy.values.base import LogicalType
from proxy.values.coerce import check_assignable, check_comparable
from proxy.values.constants import Const, Expr

_ANY_CELL: Final = (b"(array_agg(", b"))[1]")
WITHOUT_PLAIN: Final = frozenset({Read.DENY, Read.MASK, Read.NULL})


def _null(column: SealedColumn, leaf: Leaf) -> bytes:
    """NULLs alone would make the branches of a CASE or a column of VALUES text."""
    if leaf.is_alone:
        return b"NULL"
    return b"NULL::" + column.rule.storage.value.encode() + (b"[]" if leaf.is_array else b"")


def _around(column: SealedColumn, leaf: Leaf) -> tuple[bytes, bytes]:
    """What is written around a column's name. Beside GROUP BY of its token, PostgreSQL takes the token for the
    key at the same level only; elsewhere any cell of the group does."""
    if is_deterministic(column):
        return b"", b""
    before, after = TOKEN_OF[column.rule.storage]
    if leaf.grouped is None:
        return (before, after) if leaf.demand is Demand.TOKEN else (b"", b"")
    one, other = _ANY_CELL
    if leaf.demand is Demand.CELL or (leaf.is_within and leaf.demand is Demand.ANY):
        return one, other + leaf.grouped
    return (before + one, other + after) if leaf.is_within else (before, after)


@dataclass(slots=True)
class Resolution:
    """`tokens` are the slots of parameters that were already made as tokens; they are used again."""

    ctx: Inference
    accesses: dict[str, Access] = field(default_factory=dict)
    read_tenants: list[TenantOf] = field(default_factory=list)
    compared_tenants: list[TenantOf] = field(default_factory=list)
    tokens: dict[tuple[object, ...], int] = field(default_factory=dict)
    edits: list[Edit] = field(default_factory=list)
    unproven: Leaf | None = None  # a cell that is shown, of no tenant that the statement proves

    def check_returning(self) -> None:
        """A write has run when its rows come back, so each cell it shows must be of a tenant known before."""
        env, leaf = self.ctx.draft.env, self.unproven
        is_one = (
            env.role.cross_tenant or len(env.role.tenants or ()) == 1 or tenancy.has_database_tenant(self.ctx)
        )
        sealed = leaf.var.find().sealed if leaf is not None else None
        if leaf is not None and sealed is not None and self.read_tenants and not is_one:
            why = "the statement proves that of other rows, but not of all that it returns"
            raise tenancy.tenant_unknown(sealed, why, leaf.location)

    def run(self) -> None:
        classes: dict[int, list[Leaf]] = defaultdict(list)
        roots: dict[int, Var] = {}
        for leaf in self.ctx.leaves:
            root = leaf.var.find()
            if root.sealed is not None:
                classes[id(root)].append(leaf)
                roots[id(root)] = root
        for key, leaves in classes.items():
            self._resolve(roots[key], leaves)
        for column in self.ctx.written:
            if self.ctx.draft.env.role.read in WITHOUT_PLAIN:
                raise self._not_allowed(column, None)
            self._note(column, writes=True)
        self._check_unresolved()
        self._check_strangers(bool(classes) or self.ctx.is_protected)
        self.edits += self.ctx.edits
        for var, last, name in self.ctx.titles:
            if var.find().sealed is not None:
                self.edits.append(Edit(last + 1, last, (b" AS " + quoted(name),)))
        for item in self.ctx.duplicates:  # inner ones come first; what stands before them stands within the outer
            before, after = item.edits(self.ctx.spans)
            self.edits = [*before, *self.edits, *after]
        if self.ctx.draft.is_extended:
            self._parameters()

    # --- one class -----------------------------------------------------------------------------------

    def _resolve(self, root: Var, leaves: list[Leaf]) -> None:
        column = root.sealed
        assert column is not None
        self._check_rights(column, root, leaves)
        self.edits += casts.shed(self.ctx, column, leaves)
        compares = root.is_compared or any(leaf.demand is Demand.TOKEN for leaf in leaves)
        proof = None
        if compares:
            self._check_comparable(root, column, leaves)
            proof = tenancy.require_one_tenant(self.ctx, column, leaves)
            if proof is not None and proof.expr is not None and proof not in self.compared_tenants:
                self.compared_tenants.append(proof)
        else:
            proof = tenancy.common_proof(self.ctx, leaves)[0]
        for target in root.targets:
            self._check_copies(column, target, leaves)
        self._note(
            column,
            reads=any(leaf.kind is LeafKind.COLUMN and leaf.demand is Demand.CELL for leaf in leaves),
            writes=bool(root.targets),
            compares=compares,
        )
        for leaf in leaves:
            if leaf.kind is LeafKind.COLUMN:
                self._column(column, leaf)
            else:
                self._constant(column, leaf, proof)

    def _note(
        self, column: SealedColumn, *, reads: bool = False, writes: bool = False, compares: bool = False
    ) -> None:
        old = self.accesses.get(column.rule.label, Access(column))
        self.accesses[column.rule.label] = Access(
            old.column, old.reads or reads, old.writes or writes, old.compares or compares
        )

    def _check_rights(self, column: SealedColumn, root: Var, leaves: list[Leaf]) -> None:
        """Who sees masks may have the cell shown, and nothing else: which values are equal is theirs, too."""
        read = self.ctx.draft.env.role.read
        if read not in WITHOUT_PLAIN:
            return
        is_shown = read is not Read.DENY and not (root.targets or root.is_compared or root.one_form)
        allowed = Demand.CELL if is_shown else Demand.ANY
        used = next((leaf for leaf in leaves if leaf.demand > allowed), None)
        if used is not None or (root.targets and not is_shown):
            raise self._not_allowed(column, (used or leaves[0]).location)

    def _not_allowed(self, column: SealedColumn, location: int | None) -> NotAllowed:
        read = self.ctx.draft.env.role.read
        return NotAllowed(
            f"this log-in may not read, compare or assign {column.rule.label}",
            column=column.rule.label,
            hint="name the columns it may read; count and IS NULL are allowed"
            if read is Read.DENY
            else "it sees the column masked, and may count it and test it for NULL",
            position=location,
        )

    def _check_comparable(self, root: Var, column: SealedColumn, leaves: list[Leaf]) -> None:
        rule, location = column.rule, leaves[0].location
        if not rule.is_comparable:
            raise refused(
                column, "equality", f"give {rule.label} `search: equality` in the rules, and re-encrypt", location
            )
        if (rule.compare is Compare.NOCASE) != root.is_folded:
            hint = "write lower(col) = lower(value)" if rule.compare is Compare.NOCASE else "write col = value"
            word = "comparing with case" if rule.compare is Compare.NOCASE else "comparing without case"
            raise refused(column, word, hint, location)
        has_two = any(leaf.has_two_demands for leaf in leaves)
        cells = any(leaf.demand is not Demand.TOKEN for leaf in leaves)
        if is_deterministic(column) or not (has_two or (root.one_form is not None and cells)):
            return
        because = root.one_form
        what = because.what if because is not None else "showing and comparing one expression"
        hint = because.hint if because is not None else "write the expression twice"
        raise refused(column, what, hint, location)

    def _check_copies(self, column: SealedColumn, target: Target, leaves: list[Leaf]) -> None:
        """A cell that is copied stays a cell of its tenant (and, with `bind`, of its row)."""
        rule = self.ctx.table_rule(column)
        for leaf in leaves:
            if leaf.kind is LeafKind.CONSTANT or tenancy.is_circular(leaf) or leaf.demand is Demand.TOKEN:
                continue
            origins = {origin for origin, _ in leaf.column.bases} if leaf.column is not None else set()
            if target.same_row in origins:
                continue
            if column.rule.bind:
                raise refused(
                    column, "copying it to another row", "it is bound to its row; assign a value", leaf.location
                )
            if (rule is not None and tenancy.is_one_tenant(self.ctx, rule)) or self._is_copied_along(
                target, leaf, origins
            ):
                continue
            raise TenantUnknown(
                f"copying {column.rule.label}: that both rows are of one tenant is not proven",
                column=column.rule.label,
                hint="copy the tenant column from the same row, or compare both tenant columns with one constant",
                position=leaf.location,
            )

    def _is_copied_along(self, target: Target, leaf: Leaf, origins: set[Origin]) -> bool:
        if target.same_as is not None and target.same_as in origins:
            return True
        proof = tenancy.prove(self.ctx, leaf)
        return (
            proof is not None and target.tenant is not None and tenancy.is_equal(self.ctx, proof, target.tenant)
        )

    # --- leaves --------------------------------------------------------------------------------------

    def _column(self, column: SealedColumn, leaf: Leaf) -> None:
        if leaf.demand is Demand.CELL:
            proof = tenancy.prove(self.ctx, leaf)
            tenants = [proof] if proof is not None else self._shown_tenants(leaf)
            if not tenants:
                self.unproven = leaf
            for tenant in tenants:
                if tenant.expr is not None and tenant not in self.read_tenants:
                    self.read_tenants.append(tenant)
        before, after = _around(column, leaf)
        if leaf.inserted is not None:
            head, tail = leaf.inserted
            self.edits.append(Edit(leaf.first, leaf.last, (head + before + leaf.name + after + tail,)))
            return
        first, last = leaf.inner
        if first > last:
            if before:
                raise refused(column, "comparing a column of *", "name the column", leaf.location)
            return
        if leaf.first > leaf.last:
            raise self._no_text(column, leaf)
        if before or leaf.first < first:
            self.edits.append(Edit(leaf.first, first - 1, (before,) if before else ()))
        if after or last < leaf.last:
            self.edits.append(Edit(last + 1, leaf.last, (after,) if after else ()))

    def _shown_tenants(self, leaf: Leaf) -> list[TenantOf]:
        bases = leaf.column.bases if leaf.column is not None else ()
        return [tenant for origin, _ in bases for tenant in self.ctx.shown_tenants.get(origin, [])]

    def _constant(self, column: SealedColumn, leaf: Leaf, proof: TenantOf | None) -> None:
        assert leaf.expr is not None
        if leaf.inserted is None and leaf.first > leaf.last:
            raise self._no_text(column, leaf)
        self._check_type(column, leaf)
        if is_null(leaf.expr):
            self.edits.append(Edit(leaf.first, leaf.last, (_null(column, leaf),)))
            return
        number = self._slot(column, leaf, proof)
        guard = next((t.guard for t in leaf.var.find().targets if t.guard is not None), None)
        parts: tuple[bytes | int, ...]
        if guard is not None:
            parts = self._guarded(column, guard, number)
            self.edits.append(Edit(leaf.first, leaf.last, parts))
        elif leaf.inserted is not None:
            before, after = leaf.inserted
            parts = (before, number, after)
            self.edits.append(Edit(leaf.first, leaf.last, tuple(p for p in parts if p != b"")))
        else:
            self.edits.append(Edit(leaf.first, leaf.last, (number,)))

    def _guarded(self, column: SealedColumn, guard: bytes, number: int) -> tuple[bytes | int, ...]:
        """The value for rows of the session's tenant; a row of another makes the statement fail (22P02)."""
        key = ("tenant", column.rule.label)
        if key not in self.tokens:
            slot = Slot(Const(None), column, Use.TENANT, tenancy.SESSION)
            self.tokens[key] = self.ctx.draft.add_slot(slot)
        cast = b"::int::text" if column.rule.storage is Storage.TEXT else b"::int::text::bytea"
        other = b"('pgseal'||coalesce(" + guard + b"::text,''))" + cast
        return (
            b"(CASE WHEN " + guard + b"::text = ",
            self.tokens[key],
            b" THEN ",
            number,
            b" ELSE " + other + b" END)",
        )

    def _no_text(self, column: SealedColumn, leaf: Leaf) -> PgsealError:
        return refused(
            column, "an expression whose text could not be told", "write it in a simpler form", leaf.location
        )

    def _check_type(self, column: SealedColumn, leaf: Leaf) -> None:
        """What PostgreSQL would not compare with, or assign to, the logical type is its error here too."""
        logical = column.rule.type
        is_known = leaf.word == "unknown" and not leaf.is_array_typed
        if not is_known and leaf.is_array_typed != leaf.is_array:
            raise DatatypeMismatch(
                f"{column.rule.label} and this value are of different types (one is an array)",
                column=column.rule.label,
                position=leaf.location,
            )
        if leaf.is_alone and (source := type_of_word(leaf.word)) is not None:
            self._check_pair(source, column, leaf)
        elif not fits(leaf.word, logical):
            raise DatatypeMismatch(
                f"{column.rule.label} is of type {logical.name} but the expression is of type {leaf.word}",
                column=column.rule.label,
                hint="write the value as a quoted string, or cast it to the column's type",
                position=leaf.location,
            )

    def _check_pair(self, source: LogicalType, column: SealedColumn, leaf: Leaf) -> None:
        """By PostgreSQL's assignment casts and its operators across types."""
        try:
            if leaf.demand is Demand.TOKEN:
                check_comparable(source, column.rule.type)
            else:
                check_assignable(source, column.rule.type)
        except PgsealError as error:
            error.column, error.position = column.rule.label, leaf.location
            raise

    def _slot(self, column: SealedColumn, leaf: Leaf, proof: TenantOf | None) -> int:
        assert leaf.expr is not None
        use = Use.TOKEN if leaf.demand is Demand.TOKEN else Use.CELL
        tenant = tenancy.written_tenant(self.ctx, column, leaf, proof)
        bound = self._bound(column, leaf) if use is Use.CELL else ()
        is_shown = use is Use.CELL and not leaf.var.find().targets
        is_wider = column.rule.type.name in ("int2", "int4") and leaf.word in ("int4", "int8")
        if is_shown and (column.rule.type.name == "bpchar" or (is_wider and leaf.word != column.rule.type.name)):
            hint = "select the column itself, and choose in the application"
            raise refused(column, "a constant of another type or length beside it", hint, leaf.location)
        slot = Slot(leaf.expr, column, use, tenant, leaf.is_array, bound, is_shown)
        key = (leaf.expr, column.rule.label, tenant, leaf.is_array)
        if use is Use.TOKEN and params_of(leaf.expr):
            if key not in self.tokens:
                self.tokens[key] = self.ctx.draft.add_slot(slot)
            return self.tokens[key]
        return self.ctx.draft.add_slot(slot)

    def _bound(self, column: SealedColumn, leaf: Leaf) -> tuple[Expr, ...]:
        if not column.rule.bind:
            return ()
        targets = leaf.var.find().targets
        bound = targets[0].bound if len(targets) == 1 else None
        if bound is None:
            raise refused(
                column,
                "a value without its row's " + ", ".join(column.rule.bind),
                "give those columns a literal or parameter (or compare them with one) in the same statement",
                leaf.location,
            )
        return bound

    # --- the whole statement -------------------------------------------------------------------------

    def _check_unresolved(self) -> None:
        """A sealed column's name that stands for nothing here: beside it may be a constant meant to be sealed."""
        for name, location in self.ctx.unresolved:
            if name in self.ctx.sealed_names:
                raise Unsupported(
                    f'"{name}" is the name of an encrypted column, and stands for none at this place',
                    hint="write the alias under which the FROM clause names the table",
                    position=location,
                )

    def _check_strangers(self, is_protected: bool) -> None:
        if is_protected and self.ctx.strangers:
            name, location = self.ctx.strangers[0]
            raise Unsupported(
                f'relation "{name}" is not known to pgseal, and the statement names a protected one',
                hint="if it was made just now, run the statement again in a second",
                position=location,
            )

    def _parameters(self) -> None:
        """A parameter sealed anywhere is sent sealed everywhere; only where it is assigned to a plain column it
        stays, since there the client asks for plaintext. Judged by tokens, so that none is missed."""
        draft = self.ctx.draft
        sealed = self._sealed_params()
        edited = {ordinal for edit in self.edits for ordinal in range(edit.first, edit.last + 1)}
        uses = {n: leaf for leaf in self._constants() for n in range(leaf.first, leaf.last + 1)}
        for ordinal, index in draft.parameters():
            if ordinal in edited:
                continue
            leaf = uses.get(ordinal)
            if index not in sealed or (leaf is not None and leaf.is_assigned_plain):
                draft.plain_params.add(index)
            elif (
                leaf is not None
                and leaf.is_null_test
                and is_bare(leaf.expr)
                and is_bare(self._expr(sealed[index]))
            ):
                self.edits.append(Edit(leaf.first, leaf.last, (sealed[index],)))
            else:
                raise self._two_ways(index, draft.slots[sealed[index]].column, ordinal)

    def _sealed_params(self) -> dict[int, int]:
        """Each sealed parameter with a slot that is NULL exactly where it is."""
        sealed: dict[int, int] = {}
        for number, slot in enumerate(self.ctx.draft.slots):
            for index in params_of(slot.expr):
                if index not in sealed or is_bare(slot.expr):
                    sealed[index] = number
        return sealed

    def _expr(self, slot: int) -> Expr:
        return self.ctx.draft.slots[slot].expr

    def _constants(self) -> list[Leaf]:
        return [leaf for leaf in self.ctx.leaves if leaf.kind is LeafKind.CONSTANT]

    def _two_ways(self, index: int, column: SealedColumn, ordinal: int) -> Unsupported:
        return Unsupported(
            f"parameter ${index + 1} is a value of {column.rule.label}, which is encrypted, and also plaintext",
            column=column.rule.label,
            hint="pass the value twice, as two parameters",
            position=self.ctx.draft.tokens.starts[ordinal],
        )
