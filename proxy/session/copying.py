"""Rows of a COPY over protected columns on their way to the server: each sealed as it comes.

A row is the unit: what the client's messages cut off is kept until the rest comes, so that only one row is ever
held. Rows leave in the format they came in, every field that is not ours as it was. The server sees nothing of a
row that is not understood: it could write it to its log.

One reason to change: how a row that is copied in becomes one with cells.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.errors import BadCopyFormat, DataError, PgsealError
from proxy.rules import Storage
from proxy.session.cells import Missing
from proxy.session.sealing import CELLS_A_STEP, Sealer, Waits
from proxy.values.base import Settings, in_utf8
from proxy.values.constants import Inputs
from proxy.values.copy_binary import Part, Tuples, build_row, split_row
from proxy.values.copy_csv import CsvFields
from proxy.values.copy_format import Dialect, Format, Header
from proxy.values.copy_lines import Lines
from proxy.values.copy_text import TextFields
from proxy.values.encodings import from_utf8, to_utf8

if TYPE_CHECKING:
    from proxy.session.statements import Execution
    from proxy.sql.copy_plan import CopyPlan
    from proxy.sql.plan import Slot

LINES_A_STEP: Final = 2000  # without cells
NO_BYTEA: Final = b"\\x?"  # what the server leaves out for a value that is none of its type
REASON: Final = b"pgseal rejected a row"


def fields_of(dialect: Dialect) -> TextFields | CsvFields:
    return CsvFields(dialect) if dialect.format is Format.CSV else TextFields(dialect)


class RowSealer:
    """Seals the protected columns of rows, whatever their format."""

    def __init__(self, plan: CopyPlan, sealer: Sealer) -> None:
        self.plan = plan
        self.column: str | None = None  # the one at hand, for errors
        self._sealer = sealer

    def seal(self, slot: Slot) -> Waits[bytes | None]:
        """The cell of a slot; asks for what it needs first."""
        while True:
            try:
                return self._sealer.one(slot)
            except Missing as missing:
                yield (missing.need,)

    def inputs(self, inputs: Inputs) -> None:
        self._sealer.inputs = inputs

    def cells(self, values: list[bytes | None], defaults: frozenset[int]) -> Waits[dict[int, bytes | None]]:
        """The cells of one row by their places: not of NULL, nor of a default that the rules do not have. None: a
        value that is none of its type, in a row that the server is to leave out."""
        found: dict[int, bytes | None] = {}
        for place in self.plan.needed:
            column = self.plan.columns[place]
            slot = column.default if place in defaults else column.slot
            if slot is None or (values[place] is None and place not in defaults):
                continue
            self.column = column.name
            try:
                found[place] = yield from self.seal(slot)
            except DataError:
                if not self.plan.skips_bad:
                    raise
                found[place] = None
        self.column = None
        return found


class LinesIn:
    """Rows in text or CSV."""

    def __init__(self, plan: CopyPlan, sealer: Sealer, settings: Settings) -> None:
        self._plan = plan
        self._dialect = plan.dialect
        self._lines = Lines(plan.dialect)
        self._fields = fields_of(plan.dialect)
        self._rows = RowSealer(plan, sealer)
        self._settings = replace(settings, client_encoding=plan.encoding)
        self._utf8 = in_utf8(self._settings)
        self._null = to_utf8(plan.dialect.null, self._settings)
        self._has_header = plan.dialect.header is not Header.NONE
        self.n_rows = 0

    @property
    def context(self) -> str:
        at = f", column {self._rows.column}" if self._rows.column is not None else ""
        return f"COPY {self._plan.relation}, line {self._lines.number}{at}"

    def push(self, chunk: bytes) -> None:
        self._lines.push(chunk)

    def close(self) -> None:
        self._lines.close()

    def next_row(self) -> Waits[bytes | None]:
        """The next row as the server gets it; None where it is not whole yet."""
        line = self._lines.next_line()
        if line is None:
            return None
        if self._has_header:
            self._has_header = False
            return self._header(line) + self._lines.ending
        raw = self._fields.split(line)
        self._check_count(len(raw))
        yield from self._seal(raw)
        self.n_rows += 1
        return self._dialect.delimiter.join(raw) + self._lines.ending

    def _check_count(self, n_found: int) -> None:
        columns = self._plan.columns
        if n_found < len(columns):
            raise BadCopyFormat(f'missing data for column "{columns[n_found].name}"')
        if n_found > len(columns):
            raise BadCopyFormat("extra data after last expected column")

    def _seal(self, raw: list[bytes]) -> Waits[None]:
        """Put cells in the place of values, and the rules' defaults behind them."""
        values: list[bytes | None] = [None] * len(raw)
        for place in self._plan.needed:
            values[place] = self._value(place, raw[place])
        self._rows.inputs(Inputs(self._utf8, params=values))
        defaults = frozenset(n for n in self._plan.needed if self._fields.is_default(raw[n]))
        cells = yield from self._rows.cells(values, defaults)
        for place, cell in cells.items():
            sealed = self._plan.columns[place].sealed
            assert sealed is not None
            raw[place] = self._written(cell, sealed.rule.storage)
        for slot in self._plan.added:
            cell = yield from self._rows.seal(slot)
            raw.append(self._written(cell, slot.column.rule.storage))

    def _value(self, place: int, raw: bytes) -> bytes | None:
        """What a field says, in UTF-8, as PostgreSQL reads it."""
        column, fields = self._plan.columns[place], self._fields
        self._rows.column = column.name
        if fields.is_default(raw):
            return None
        if fields.is_null(raw):
            return self._null if column.force_not_null else None
        value = fields.content(raw if raw.isascii() else to_utf8(raw, self._settings))
        return None if column.force_null and value == self._null else value

    def _written(self, cell: bytes | None, storage: Storage) -> bytes:
        if cell is None:
            shown = NO_BYTEA
        else:
            shown = cell if storage is Storage.TEXT else b"\\x" + cell.hex().encode()
        return self._fields.quoted(shown) if isinstance(self._fields, CsvFields) else self._fields.raw(shown)

    def _header(self, line: bytes) -> bytes:
        """Its line is never passed on, since it may be a row by mistake: the server gets names, or nothing."""
        if self._dialect.header is not Header.MATCH:
            return b""
        found = self._fields.split(line)
        names = [column.name for column in self._plan.columns]
        if len(found) != len(names):
            raise BadCopyFormat(f"wrong number of fields in header line: got {len(found)}, expected {len(names)}")
        for number, (raw, name) in enumerate(zip(found, names, strict=True), 1):
            value = None if self._fields.is_null(raw) else self._fields.content(to_utf8(raw, self._settings))
            if value != name.encode():
                got = " got null value," if value is None else ""
                raise BadCopyFormat(f'column name mismatch in header line field {number}:{got} expected "{name}"')
        encoded = (from_utf8(name.encode(), self._settings) for name in (*names, *self._plan.added_names))
        return self._dialect.delimiter.join(self._fields.raw(name) for name in encoded)


class TuplesIn:
    """Rows in binary."""

    def __init__(self, plan: CopyPlan, sealer: Sealer, settings: Settings) -> None:
        self._plan = plan
        self._tuples = Tuples(len(plan.columns))
        self._rows = RowSealer(plan, sealer)
        self._settings = settings
        self.n_rows = 0

    @property
    def context(self) -> str:
        at = f", column {self._rows.column}" if self._rows.column is not None else ""
        return f"COPY {self._plan.relation}, line {self._tuples.number}{at}"

    def push(self, chunk: bytes) -> None:
        self._tuples.push(chunk)

    def close(self) -> None:
        if not self._tuples.is_empty:
            raise BadCopyFormat("unexpected EOF in COPY data")

    def next_row(self) -> Waits[bytes | None]:
        """The next part as the server gets it; None where it is not whole yet."""
        part = self._tuples.next_part()
        if part is None:
            return None
        kind, taken = part
        if kind is not Part.ROW:
            return taken
        values = split_row(taken)
        self._rows.inputs(Inputs(self._settings, params=values, formats=(1,)))
        cells = yield from self._rows.cells(values, frozenset())
        for place, cell in cells.items():
            values[place] = cell
        for slot in self._plan.added:
            values.append((yield from self._rows.seal(slot)))
        self.n_rows += 1
        return build_row(values)


class CopyIn:
    """One COPY FROM STDIN under way."""

    def __init__(self, execution: Execution, sealer: Sealer, settings: Settings) -> None:
        plan = execution.plan.copy
        assert plan is not None
        maker = TuplesIn if plan.dialect.format is Format.BINARY else LinesIn
        self.execution = execution
        self._sealer = sealer
        self._rows = maker(plan, sealer, settings)

    def took(self) -> dict[str, int]:
        """The cells sealed since this was last asked, by column, noted for the audit event."""
        sealed, execution = self._sealer.n_sealed, self.execution
        execution.n_sealed += sum(sealed.values())
        execution.n_rows = self._rows.n_rows
        execution.key_ids |= self._sealer.key_ids
        execution.tenant = self._sealer.tenants.current
        self._sealer.n_sealed = {}
        return sealed

    def data(self, chunk: bytes) -> Waits[bytes]:
        """What the server gets for a message of the client's data. Raises what is wrong with a row."""
        try:
            self._rows.push(chunk)
            return (yield from self._whole_rows())
        except PgsealError as error:
            raise _at(error, self._rows.context) from None

    def done(self) -> Waits[bytes]:
        """The same for its end."""
        try:
            self._rows.close()
            return (yield from self._whole_rows())
        except PgsealError as error:
            raise _at(error, self._rows.context) from None

    def _whole_rows(self) -> Waits[bytes]:
        parts: list[bytes] = []
        n_looked = n_sealed = 0
        while (row := (yield from self._rows.next_row())) is not None:
            parts.append(row)
            n_looked += 1
            if n_looked >= LINES_A_STEP or sum(self._sealer.n_sealed.values()) - n_sealed >= CELLS_A_STEP:
                n_looked, n_sealed = 0, sum(self._sealer.n_sealed.values())
                yield ()
        return b"".join(parts)


def _at(error: PgsealError, context: str) -> PgsealError:
    """The error with the place in the data; errors may be shared."""
    raised = copy(error)
    raised.context = context
    return raised
