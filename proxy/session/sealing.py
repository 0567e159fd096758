"""Slots filled: the value of each slot validated, turned into its display or equality form, sealed.

Everything a statement needs is asked for before the first cell is sealed, so that a Bind that must wait for a
key has not used a nonce. One reason to change: how a slot's bytes come about.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from proxy.crypto.envelope import to_text
from proxy.errors import PgsealError, ProgramLimitExceeded, Unsupported
from proxy.keys.material import KeyNeed, KeyView, LeaseNeed, TokenKey
from proxy.rules import ColumnRule, Compare, Mode, Scope, Storage
from proxy.session.cells import Missing
from proxy.session.interface import Need
from proxy.session.statements import Statement
from proxy.session.tenancy import SessionTenants
from proxy.sql.catalog import SealedColumn
from proxy.sql.packed import shapes
from proxy.sql.plan import Plan, Slot, StatementPlan, Use
from proxy.values import arrays
from proxy.values.base import Settings
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
    each_element,
    evaluate,
)
from proxy.values.registry import base_of, codec
from proxy.wire.frontend import Bind, building_bind

T = TypeVar("T")
Waits = Generator[tuple[Need, ...], None, T]  # yields what is needed first; () only gives others a turn
OUTSIDE: Final = b"\0outside the type\0"
CELLS_A_STEP: Final = 250
SLOTS_A_LOOK: Final = 1000  # what is only looked at, which is cheaper
TEXT_OID: Final = 25
BYTEA_OID: Final = 17


@dataclass(frozen=True, slots=True)
class Filled:
    """Of each slot by its number: its bytes (None: NULL), their format in a Bind, an array's elements. There may
    be tens of thousands, so they are bytes and numbers, which the garbage collector need not walk."""

    binary: dict[int, bytes | None] = field(default_factory=dict)
    code: dict[int, int] = field(default_factory=dict)
    items: dict[int, tuple[bytes | None, ...]] = field(default_factory=dict)


class Sealer:
    """Fills the slots of one Bind or one sub-statement. Raises Missing, DataError and refusals."""

    def __init__(self, keys: KeyView, tenants: SessionTenants, inputs: Inputs) -> None:
        self.tenants = tenants
        self.inputs = inputs
        self.n_sealed: dict[str, int] = {}
        self.key_ids: set[int] = set()
        self._keys = keys

    def fill(self, plan: Plan, numbers: Sequence[int]) -> Waits[Filled]:
        """The slots of these numbers. Yields what is needed first, or nothing where a step has done its share."""
        while needs := (yield from self._missing(_telling(plan, numbers))):
            yield needs
        done = Filled()
        n_left = CELLS_A_STEP
        for number in numbers:
            if number in done.binary:
                continue
            slot = plan.slots[number]
            if slot.is_array:
                yield from self._fill_array(slot, number, done)
                continue
            while number not in done.binary:
                try:
                    self._fill(slot, number, done)
                except Missing as missing:
                    yield (missing.need,)
                except PgsealError as error:
                    raise _named(error, slot) from None
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

    def _fill(self, slot: Slot, number: int, done: Filled) -> None:
        if slot.use is Use.TENANT:
            done.code[number] = 0
            done.binary[number] = self.tenants.of(slot.tenant, slot.column, self.inputs).encode()
        else:
            done.code[number] = 0 if slot.column.rule.storage is Storage.TEXT else 1
            done.binary[number] = self.one(slot)

    def _fill_array(self, slot: Slot, number: int, done: Filled) -> Waits[None]:
        done.code[number] = 1
        try:
            found = each_element(slot.expr, self.inputs)
        except PgsealError as error:
            raise _named(error, slot) from None
        if found is None:
            done.binary[number] = None
            return
        make = self._cell if slot.use is Use.CELL else self._token
        items: list[bytes | None] = []
        parts: list[bytes] = []
        for value in found:
            n_before = len(items)
            while len(items) == n_before:
                try:
                    items.append(None if value is None else make(slot, value))
                except Missing as missing:
                    yield (missing.need,)
                except PgsealError as error:
                    raise _named(error, slot) from None
            if len(items) % CELLS_A_STEP == 0:
                parts.append(arrays.build_items(items[-CELLS_A_STEP:]))
                yield ()
        parts.append(arrays.build_items(items[len(parts) * CELLS_A_STEP :]))
        oid = TEXT_OID if slot.column.rule.storage is Storage.TEXT else BYTEA_OID
        done.items[number] = tuple(items)
        done.binary[number] = arrays.build_head(items, oid) + b"".join(parts)

    # --- one value -----------------------------------------------------------------------------------

    def one(self, slot: Slot) -> bytes | None:
        """The physical bytes of a scalar slot (envelope, its text, or token); None for NULL."""
        value = evaluate(slot.expr, self.inputs)
        if value is None:
            return None
        return self._cell(slot, value) if slot.use is Use.CELL else self._token(slot, value)

    def _cell(self, slot: Slot, value: Value) -> bytes:
        column = slot.column
        rule = column.rule
        display = assign_value(value, base_of(rule.type) if slot.is_shown else rule.type, self.inputs.settings)
        if slot.is_shown and rule.mode is Mode.DETERMINISTIC and rule.type.typmod != -1:
            _check_one_form(slot, value, display, self.inputs.settings)
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


def _named(error: PgsealError, slot: Slot) -> PgsealError:
    """The error, with the column that the value was for."""
    error.column = error.column or slot.column.rule.label
    return error


def _display(value: Value, inputs: Inputs) -> bytes:
    """The display form of a `bind:` column's value."""
    if value.type is None:
        raise ProgramLimitExceeded("the type of a column named in bind: is not known")
    return value.content


def _telling(plan: Plan, numbers: Sequence[int]) -> Iterable[Slot]:
    """The slots that tell which keys will be needed: one of each kind, where no row has a tenant of its own."""
    kinds = shapes(plan.slots)
    is_whole = kinds is not plan.slots and len(plan.statements) == 1
    if is_whole and all(slot.tenant.expr is None for slot in kinds):
        return kinds
    return map(plan.slots.__getitem__, numbers)


def placeholders(plan: Plan) -> Waits[list[bytes]]:
    """How each slot is written in a Parse: the server parameter that carries it."""
    texts = [b"NULL"] * len(plan.slots)
    for number, parameter in enumerate(plan.server_params, 1):
        if parameter.slot is not None:
            texts[parameter.slot] = b"$%d" % number
        if number % SLOTS_A_LOOK == 0:
            yield ()
    return texts


def slot_numbers(statement: StatementPlan) -> Waits[list[int]]:
    """The slots that a statement's edits write, one that is written twice also twice."""
    numbers: list[int] = []
    for n, edit in enumerate(statement.edits, 1):
        numbers.extend(part for part in edit.parts if isinstance(part, int))
        if n % SLOTS_A_LOOK == 0:
            yield ()
    return numbers


def literal(slot: Slot, number: int, filled: Filled) -> bytes:
    """How a filled slot is written in a simple Query: only characters that mean nothing else in any setting."""
    value = filled.binary[number]
    if slot.use is Use.TENANT:
        return b"'" + (value or b"").replace(b"'", b"''") + b"'::text"
    is_text = slot.column.rule.storage is Storage.TEXT
    kind = b"::text" if is_text else b"::bytea"
    if not slot.is_array:
        return _scalar(value, is_text) + kind
    if value is None:
        return b"NULL" + kind + b"[]"
    return b"ARRAY[" + b",".join(_scalar(v, is_text) for v in filled.items[number]) + b"]" + kind + b"[]"


def _scalar(value: bytes | None, is_text: bool) -> bytes:
    if value is None:
        return b"NULL"
    return b"'" + (value if is_text else b"\\x" + value.hex().encode()) + b"'"


def server_bind(statement: Statement, message: Bind, formats: Sequence[int], filled: Filled) -> Waits[bytes]:
    """The Bind that leaves for the server."""
    values: list[bytes | None] = []
    codes: list[int] = []
    for n, parameter in enumerate(statement.planned.plan.server_params, 1):
        if parameter.client is not None:
            values.append(message.values[parameter.client])
            codes.append(formats[parameter.client])
        elif parameter.slot is not None:
            values.append(filled.binary[parameter.slot])
            codes.append(filled.code[parameter.slot])
        if n % SLOTS_A_LOOK == 0:
            yield ()
    made = Bind(message.portal, message.statement, tuple(codes), values, message.result_formats)
    return (yield from building_bind(made))


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


def _check_one_form(slot: Slot, value: Value, display: bytes, settings: Settings) -> None:
    """A deterministic cell has the one form that the column's length gives it."""
    rule = slot.column.rule
    if assign_value(value, rule.type, settings) != display:
        raise Unsupported(
            f"{rule.label} is deterministic: a value of another scale cannot be shown beside it",
            column=rule.label,
            hint="write the value with the scale of the column",
        )
