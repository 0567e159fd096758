"""Slots filled: the value of each slot validated, turned into its display or equality form, sealed.

Everything a statement needs is asked for before the first cell is sealed, so that a Bind that must wait for a
key has not used a nonce. One reason to change: how a slot's bytes come about.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from proxy.crypto.envelope import to_text
from proxy.errors import ProgramLimitExceeded
from proxy.keys.material import KeyNeed, KeyView, LeaseNeed, TokenKey
from proxy.rules import ColumnRule, Compare, Mode, Scope, Storage
from proxy.session.cells import Missing
from proxy.session.interface import Need
from proxy.session.statements import Statement
from proxy.session.tenancy import SessionTenants
from proxy.sql.catalog import SealedColumn
from proxy.sql.plan import Plan, Slot, StatementPlan, Use
from proxy.values import arrays
from proxy.values.coerce import deterministic
from proxy.values.constants import (
    ArrayOf,
    Call,
    Cast,
    Expr,
    Inputs,
    Param,
    Value,
    assign_value,
    comparable_value,
    elements,
    evaluate,
)
from proxy.values.registry import codec
from proxy.wire.frontend import Bind, build_bind

T = TypeVar("T")
Waits = Generator[tuple[Need, ...], None, T]  # yields what is needed first; () only gives others a turn
OUTSIDE: Final = b"\0outside the type\0"
CELLS_A_STEP: Final = 500
SLOTS_A_LOOK: Final = 2000  # what is looked at for keys it needs, which is cheaper


@dataclass(frozen=True, slots=True)
class Filled:
    """A slot's bytes for a Bind: `binary` with format `code`; None is NULL. `items`: an array's elements."""

    binary: bytes | None
    code: int
    items: tuple[bytes | None, ...] = ()


class Sealer:
    """Fills the slots of one Bind or one sub-statement. Raises Missing, DataError and refusals."""

    def __init__(self, keys: KeyView, tenants: SessionTenants, inputs: Inputs) -> None:
        self.tenants = tenants
        self.inputs = inputs
        self.n_sealed: dict[str, int] = {}
        self.key_ids: set[int] = set()
        self._keys = keys

    def fill(self, plan: Plan, numbers: Iterable[int]) -> Waits[dict[int, Filled]]:
        """Slot number -> its bytes. Yields what is needed first, or nothing where a step has done its share."""
        slots: dict[int, Slot] = {}
        for number in numbers:
            if number not in slots:
                slots[number] = plan.slots[number]
                if len(slots) % SLOTS_A_LOOK == 0:
                    yield ()
        while needs := (yield from self._missing(slots.values())):
            yield needs
        done: dict[int, Filled] = {}
        n_left = CELLS_A_STEP
        for number, slot in slots.items():
            while number not in done:
                try:
                    done[number] = self._filled(slot)
                except Missing as missing:
                    yield (missing.need,)
            n_left -= 1
            if n_left == 0:
                n_left = CELLS_A_STEP
                yield ()
        return done

    def _missing(self, slots: Iterable[Slot]) -> Waits[tuple[KeyNeed, ...]]:
        """Every key that will be asked for and is not there: the union over all rows and tenants."""
        needs: dict[KeyNeed, None] = {}
        seen: set[tuple[int, str, bool]] = set()
        for number, slot in enumerate(slots, 1):
            if number % SLOTS_A_LOOK == 0:
                yield ()
            if slot.use is Use.TENANT:
                continue
            rule = slot.column.rule
            tenant = self._tenant(slot)
            has_only_token = slot.use is Use.TOKEN and rule.mode is Mode.RANDOMISED
            if (id(rule), tenant, has_only_token) in seen:
                continue
            seen.add((id(rule), tenant, has_only_token))
            if has_only_token:
                if self._keys.tokens(rule, tenant) is None:
                    needs.update(dict.fromkeys(self._keys.token_needs(rule, tenant)))
                continue
            is_ready = self._keys.sealing(rule, tenant) is not None
            if rule.search and rule.mode is Mode.RANDOMISED:
                is_ready = self._keys.tokens(rule, tenant) is not None and is_ready
            if not is_ready:
                needs.update(dict.fromkeys(self._keys.sealing_needs(rule, tenant)))
        return tuple(needs)

    def _tenant(self, slot: Slot) -> str:
        """Whose keys the slot takes; "" where they are those of the domain of all tenants."""
        rule = slot.column.rule
        is_common = slot.use is Use.TOKEN or rule.mode is Mode.DETERMINISTIC
        if rule.scope is Scope.TABLE and is_common:
            return ""
        return self.tenants.of(slot.tenant, slot.column, self.inputs)

    def _filled(self, slot: Slot) -> Filled:
        if slot.use is Use.TENANT:
            return Filled(self.tenants.of(slot.tenant, slot.column, self.inputs).encode(), 0)
        is_text = slot.column.rule.storage is Storage.TEXT
        if slot.is_array:
            items = self.array(slot)
            if items is None:
                return Filled(None, 1)
            return Filled(arrays.build_binary(items, 25 if is_text else 17), 1, tuple(items))
        return Filled(self.one(slot), 0 if is_text else 1)

    # --- one value -----------------------------------------------------------------------------------

    def one(self, slot: Slot) -> bytes | None:
        """The physical bytes of a scalar slot (envelope, its text, or token); None for NULL."""
        value = evaluate(slot.expr, self.inputs)
        if value is None:
            return None
        return self._cell(slot, value) if slot.use is Use.CELL else self._token(slot, value)

    def array(self, slot: Slot) -> list[bytes | None] | None:
        """The physical bytes of each element of an array slot; None for a NULL array."""
        found = elements(slot.expr, self.inputs)
        if found is None:
            return None
        make = self._cell if slot.use is Use.CELL else self._token
        return [None if value is None else make(slot, value) for value in found]

    def _cell(self, slot: Slot, value: Value) -> bytes:
        column = slot.column
        rule = column.rule
        display = assign_value(value, rule.type, self.inputs.settings)
        tenant = self._tenant(slot)
        token = None
        if rule.search and rule.mode is Mode.RANDOMISED:
            token = self._index_token(column, tenant, display)
        cell = self._seal(column, tenant, display, token, self._bound(slot))
        self.n_sealed[rule.label] = self.n_sealed.get(rule.label, 0) + 1
        return cell

    def _token(self, slot: Slot, value: Value) -> bytes:
        column = slot.column
        rule = column.rule
        tenant = self._tenant(slot)
        form = comparable_value(value, rule.type, self.inputs.settings, nocase=rule.compare is Compare.NOCASE)
        if form is None:
            return self._outside(rule, tenant, value)
        if rule.mode is Mode.DETERMINISTIC:
            display = deterministic(form, rule.type)
            if display is None:
                return self._outside(rule, tenant, value)
            return self._seal(column, tenant, display, None, ())
        token = self._token_keys(rule, tenant).token(form)
        if rule.storage is Storage.TEXT:
            return to_text(token)
        return token

    def _outside(self, rule: ColumnRule, tenant: str, value: Value) -> bytes:
        """A value that no cell of the column can have: equal to itself, and by its first byte to no token and no
        envelope."""
        token = self._token_keys(rule, tenant).token(OUTSIDE + value.content)
        return b"!" + to_text(token) if rule.storage is Storage.TEXT else b"\0" + token

    def _index_token(self, column: SealedColumn, tenant: str, display: bytes) -> bytes:
        return self._token_keys(column.rule, tenant).token(
            codec(column.rule.type).equality(display, nocase=column.rule.compare is Compare.NOCASE)
        )

    def _seal(
        self, column: SealedColumn, tenant: str, display: bytes, token: bytes | None, bound: tuple[bytes, ...]
    ) -> bytes:
        keys = self._keys.sealing(column.rule, tenant)
        if keys is None:  # its time ended since it was asked for
            raise Missing(self._keys.sealing_needs(column.rule, tenant)[0])
        sealed = keys.seal(display, token, bound)
        if isinstance(sealed, LeaseNeed):
            raise Missing(sealed)
        self.key_ids.add(keys.key_id)
        return to_text(sealed) if column.rule.storage is Storage.TEXT else sealed

    def _token_keys(self, rule: ColumnRule, tenant: str) -> TokenKey:
        keys = self._keys.tokens(rule, tenant)
        if keys is None:
            raise Missing(self._keys.token_needs(rule, tenant)[0])
        return keys

    def _bound(self, slot: Slot) -> tuple[bytes, ...]:
        values = []
        for expr in slot.bound:
            value = evaluate(expr, self.inputs)
            if value is None:
                raise ProgramLimitExceeded("a column named in bind: is NULL", column=slot.column.rule.label)
            values.append(_display(value, self.inputs))
        return tuple(values)


def _display(value: Value, inputs: Inputs) -> bytes:
    """The display form of a `bind:` column's value."""
    if value.type is None:
        raise ProgramLimitExceeded("the type of a column named in bind: is not known")
    return value.content


def placeholders(plan: Plan) -> list[bytes]:
    """How each slot is written in a Parse: the server parameter that carries it."""
    texts = [b"NULL"] * len(plan.slots)
    for number, parameter in enumerate(plan.server_params):
        if parameter.slot is not None:
            texts[parameter.slot] = b"$%d" % (number + 1)
    return texts


def slot_numbers(statement: StatementPlan) -> Iterator[int]:
    """The slots that a statement's edits write, one that is written twice also twice."""
    return (part for edit in statement.edits for part in edit.parts if isinstance(part, int))


def literal(slot: Slot, filled: Filled) -> bytes:
    """How a filled slot is written in a simple Query: only characters that mean nothing else in any setting."""
    if slot.use is Use.TENANT:
        return b"'" + (filled.binary or b"").replace(b"'", b"''") + b"'::text"
    is_text = slot.column.rule.storage is Storage.TEXT
    kind = b"::text" if is_text else b"::bytea"
    suffix = b"[]" if slot.is_array else b""
    if filled.binary is None:
        return b"NULL" + kind + suffix
    if slot.is_array:
        return b"ARRAY[" + b",".join(_scalar(v, is_text) for v in filled.items) + b"]" + kind + suffix
    return _scalar(filled.binary, is_text) + kind


def _scalar(value: bytes | None, is_text: bool) -> bytes:
    if value is None:
        return b"NULL"
    return b"'" + (value if is_text else b"\\x" + value.hex().encode()) + b"'"


def server_bind(
    statement: Statement, message: Bind, formats: tuple[int, ...], filled: dict[int, Filled]
) -> bytes:
    """The Bind that leaves for the server."""
    values: list[bytes | None] = []
    codes: list[int] = []
    for parameter in statement.planned.plan.server_params:
        if parameter.client is not None:
            values.append(message.values[parameter.client])
            codes.append(formats[parameter.client])
        elif parameter.slot is not None:
            values.append(filled[parameter.slot].binary)
            codes.append(filled[parameter.slot].code)
    return build_bind(Bind(message.portal, message.statement, tuple(codes), values, message.result_formats))


def has_parameter(expr: Expr | None) -> bool:
    """The value of the expression changes with each Bind."""
    match expr:
        case Param():
            return True
        case Cast(arg):
            return has_parameter(arg)
        case Call(_, args) | ArrayOf(args):
            return any(map(has_parameter, args))
        case _:
            return False
