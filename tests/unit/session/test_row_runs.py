"""Rows opened together come out as they do one by one: the same bytes, counts and errors, whatever the rows are.

The oracle is the same opener given one message at a time, which leaves it nothing to open together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.crypto.derive import Place
from proxy.crypto.envelope import to_text
from proxy.crypto.suites import RandomisedCells
from proxy.errors import CellNotOpen, NotAllowed, PgsealError, ProtocolViolation
from proxy.rules import ColumnRule, OnDenied, Storage
from proxy.session.cells import BYTES_A_STEP, ROWS_A_STEP, OpenColumn, RowOpener
from proxy.session.statements import ReadGrant
from proxy.values.base import LogicalType, Settings
from proxy.values.fast import shower
from proxy.wire.framing import build_row, frame, scan_frames, split_row
from tests.unit.session.memory_keys import REALM, CountedCells, MemoryKeys
from tests.unit.sql import worlds
from tests.unit.sql.catalogs import SealedColumn

INT = LogicalType("int4", -1, "int", 23, 1007, 4)
RULES = {
    "token": worlds.SSN,
    "plain": ColumnRule("public.t", "plain", worlds.TEXT, "public.t.plain"),
    "base64": ColumnRule("public.t", "base64", worlds.TEXT, "public.t.base64", storage=Storage.TEXT),
    "unpadded": ColumnRule("public.t", "unpadded", worlds.TEXT, "public.t.unpadded", pad=0),
    "odd": ColumnRule("public.t", "odd", worlds.TEXT, "public.t.odd", pad=5, storage=Storage.TEXT),
    "int": ColumnRule("public.t", "int", INT, "public.t.int"),
    "null": ColumnRule("public.t", "null", worlds.TEXT, "public.t.null", on_denied=OnDenied.NULL),
}
TEXTS = (b"", b"x", b"fifteen bytes..", b"sixteen bytes...", b"a longer one of 25 bytes.", b"\x80\0 ends in\0\0")
NUMBERS = (b"0", b"7", b"-12", b"2147483647")
KEYS = MemoryKeys()


@cache
def cell(name: str, tenant: str, index: int, is_binary: bool) -> bytes:
    """One of the few cells of a rule, as it stands on the wire."""
    rule = RULES[name]
    displays = NUMBERS if name == "int" else TEXTS
    display = displays[index % len(displays)]
    sealing, tokens = KEYS.sealing(rule, tenant), KEYS.tokens(rule, tenant)
    assert sealing is not None and tokens is not None
    made = sealing.seal(display, tokens.token(display) if rule.search else None, ())
    assert isinstance(made, bytes)
    if rule.storage is Storage.TEXT:
        return to_text(made)
    return made if is_binary else b"\\x" + made.hex().encode()


@dataclass(slots=True)
class Seen:
    """Everything an opener did with some bytes."""

    shown: bytes = b""
    position: int = 0
    n_rows: int = 0
    n_opened: int = 0
    used: set[int] = field(default_factory=set)
    error: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A result: the rule of its sealed column, the columns around it, and its bytes."""

    name: str
    n_front: int
    n_behind: int
    is_binary: bool
    data: bytes

    def opener(self, grant: ReadGrant | None = None) -> RowOpener:
        rule = RULES[self.name]
        show = shower(rule.type, self.is_binary, Settings())
        column = OpenColumn(SealedColumn(1, 3, rule), self.n_front, self.is_binary, show)
        return RowOpener([column], self.n_front + 1 + self.n_behind, KEYS, grant or ReadGrant())


def fed(opening: RowOpener, seen: Seen, data: bytes, position: int) -> bool:
    """One step into what was seen; False: the rows end here, or in an error."""
    try:
        opening.rows(data, position)
    except PgsealError as error:
        seen.error = (type(error).__name__, str(error))
    done = opening.partial
    seen.shown += b"".join(done.parts)
    seen.position += done.position - position
    seen.n_rows += done.n_rows
    seen.n_opened = opening.columns[0].n_opened
    seen.used = set(opening.columns[0].used)
    return seen.error is None and done.n_rows > 0


def together(case: Case, grant: ReadGrant | None = None) -> Seen:
    seen, opening = Seen(), case.opener(grant)
    while fed(opening, seen, case.data, seen.position):
        pass
    return seen


def one_by_one(case: Case, grant: ReadGrant | None = None) -> Seen:
    seen, opening = Seen(), case.opener(grant)
    while True:
        rest = case.data[seen.position :]
        length = int.from_bytes(rest[1:5], "big") if len(rest) >= 5 else len(rest)
        if not fed(opening, seen, rest[: 1 + max(length, 4)], 0):
            return seen


@st.composite
def cases(draw: st.DrawFn, names: tuple[str, ...] = tuple(RULES), tenants: str = "1") -> Case:
    """Stretches of rows with one layout each, some of them of one row only."""
    name, is_binary = draw(st.sampled_from(names)), draw(st.booleans())
    n_front, n_behind = draw(st.integers(0, 3)), draw(st.integers(0, 2))
    size = st.one_of(st.none(), st.integers(0, 5), st.sampled_from([4, 90]))
    stretch = st.tuples(
        st.lists(size, min_size=n_front + n_behind, max_size=n_front + n_behind),
        st.lists(st.one_of(st.just(1), st.none(), st.integers(0, 5)), min_size=1, max_size=2),
        st.sampled_from(tenants),
        st.sampled_from([1, 2, 23, 24, 25, 26, 90]),
    )
    rows, number = [], 0
    for sizes, indexes, tenant, n in draw(st.lists(stretch, min_size=1, max_size=4)):
        for _, index in zip(range(n), cycle(indexes), strict=False):
            number += 1
            values = [None if s is None else (b"%d." % number * s)[:s] for s in sizes]
            raw = None if index is None else cell(name, tenant, index, is_binary)
            rows.append(frame(b"D", build_row([*values[:n_front], raw, *values[n_front:]])))
    end = draw(st.sampled_from([b"", b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\5I", b"D\0\0\0", b"D\0\0\0\x0c\0\1\0"]))
    return Case(name, n_front, n_behind, is_binary, b"".join(rows) + end)


@given(cases())
def test_rows_opened_together_are_those_opened_one_by_one(case: Case) -> None:
    """Sizes, NULLs and values of every kind; the rows also are what was sealed."""
    seen = together(case)
    assert seen == one_by_one(case)
    assert seen.error is None
    frames, _ = scan_frames(case.data)
    shown, _ = scan_frames(seen.shown)
    assert len(shown) == seen.n_rows == sum(kind == ord("D") for kind, _, _ in frames)
    for (_, start, end), (_, was_start, was_end) in zip(shown, frames, strict=False):
        values, before = split_row(seen.shown[start + 5 : end]), split_row(case.data[was_start + 5 : was_end])
        assert values[: case.n_front] == before[: case.n_front]
        assert values[case.n_front + 1 :] == before[case.n_front + 1 :]
        assert (values[case.n_front] is None) == (before[case.n_front] is None)


@given(
    cases(), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3), st.data()
)
def test_changed_and_cut_rows_end_as_they_do_one_by_one(
    case: Case, changes: list[tuple[float, int]], data: st.DataObject
) -> None:
    """Any byte may be another one and the buffer may end anywhere: nothing more is shown, and the error is the
    same at the same row."""
    changed = bytearray(case.data)
    for where, value in changes:
        changed[int(where * len(changed))] = value
    cut = data.draw(st.integers(0, len(changed)))
    other = replace(case, data=bytes(changed[: cut if cut % 2 else None]))
    assert together(other) == one_by_one(other)


@given(cases(), st.integers(0, 60), st.integers(-6, 6))
def test_lengths_that_lie_end_as_they_do_one_by_one(case: Case, which: int, more: int) -> None:
    """A row that says it is longer or shorter than it is takes nothing of the rows beside it."""
    frames, _ = scan_frames(case.data)
    _, start, end = frames[which % len(frames)]
    changed = bytearray(case.data)
    changed[start + 1 : start + 5] = max(end - start - 1 + more, 0).to_bytes(4, "big")
    other = replace(case, data=bytes(changed))
    assert together(other) == one_by_one(other)


@given(cases(("token", "plain", "null", "base64"), "12"), st.sampled_from([None, frozenset("1"), frozenset()]))
def test_cells_of_other_tenants_are_denied_as_they_are_one_by_one(
    case: Case, tenants: frozenset[str] | None
) -> None:
    """Rights are asked for each key, never for the run."""
    grant = ReadGrant(tenants=tenants)
    seen = together(case, grant)
    assert seen == one_by_one(case, grant)
    assert seen.error is None or seen.error[0] == "NotAllowed"


def alike(name: str, n: int, index: int = 1, tenant: str = "1") -> list[bytes]:
    raw = cell(name, tenant, index, True)
    return [frame(b"D", build_row([n.to_bytes(4, "big"), raw, b"behind"])) for n in range(n)]


def case_of(name: str, rows: list[bytes]) -> Case:
    return Case(name, 1, 1, True, b"".join(rows))


@pytest.mark.parametrize("name", list(RULES))
def test_rows_of_one_layout_leave_in_few_pieces(name: str) -> None:
    """Rows alike are opened together (unpadded cells are not: they have no short way)."""
    case = case_of(name, alike(name, 1000))
    done = case.opener().rows(case.data, 0)
    assert done.n_rows == 1000
    assert (len(done.parts) < 40) == (name != "unpadded")


@pytest.mark.parametrize("which", [0, 1, 2, 24, 25, 26, 64, 65, 66, 500, 999])
@pytest.mark.parametrize("offset", [19, 22, 23, 27, 30, 50, -11])
def test_cell_that_does_not_open_in_a_run_leaves_the_rows_before_it(which: int, offset: int) -> None:
    """They are shown and counted, the one that does not open and those behind it are not."""
    rows = alike("token", 1000)
    bad = bytearray(rows[which])
    bad[offset] ^= 1
    case = case_of("token", [*rows[:which], bytes(bad), *rows[which + 1 :]])
    opening, seen = case.opener(), Seen()
    assert not fed(opening, seen, case.data, 0)
    assert seen.error is not None and seen.error[0] == "CellNotOpen"
    assert seen.n_rows == seen.n_opened == which
    assert seen.position == sum(map(len, rows[:which]))
    assert seen == one_by_one(case)


def test_cell_of_a_denied_tenant_ends_a_run() -> None:
    """The rows of the tenant that may be read are shown, then the error comes."""
    case = case_of("plain", alike("plain", 100) + alike("plain", 100, tenant="2"))
    opening = case.opener(ReadGrant(tenants=frozenset("1")))
    with pytest.raises(NotAllowed):
        opening.rows(case.data, 0)
    assert opening.partial.n_rows == 100


def test_step_is_bounded_in_rows_and_bytes() -> None:
    """Other connections have their turn, however alike the rows are."""
    rows = alike("plain", 3 * ROWS_A_STEP)
    case = case_of("plain", rows)
    opening, position, n_steps = case.opener(), 0, 0
    while True:
        done = opening.rows(case.data, position)
        assert done.n_rows <= 2 * ROWS_A_STEP
        assert done.position - position <= BYTES_A_STEP + len(rows[0])
        position, n_steps = done.position, n_steps + 1
        if not done.has_more:
            break
    assert position == len(case.data)
    assert n_steps >= 2


def test_key_taken_back_between_two_steps_stops_the_run() -> None:
    """The short way of a key is asked for at each step."""
    keys = MemoryKeys()
    rule = RULES["plain"]
    sealing = keys.sealing(rule, "1")
    assert isinstance(sealing, CountedCells)
    envelope = sealing.seal(b"value", None, ())
    assert isinstance(envelope, bytes)
    data = frame(b"D", build_row([envelope])) * 3 * ROWS_A_STEP
    opening = RowOpener([OpenColumn(SealedColumn(1, 3, rule), 0, True, None)], 1, keys, ReadGrant())
    first = opening.rows(data, 0)
    assert first.has_more
    place = Place(REALM, "1", rule.context, rule.type.family, rule.label)
    sealing.cells = RandomisedCells(place, bytes(32), sealing.key_id, index_version=0, pad=rule.pad)
    with pytest.raises(CellNotOpen):
        opening.rows(data, first.position)
    assert opening.partial.n_rows == 0


def test_column_count_that_changes_in_a_run_is_refused() -> None:
    """Nothing of such a row is shown."""
    rows = alike("plain", 50)
    bad = rows[30][:6] + b"\4" + rows[30][7:]
    case = case_of("plain", [*rows[:30], bad, *rows[31:]])
    opening = case.opener()
    with pytest.raises(ProtocolViolation):
        opening.rows(case.data, 0)
    assert opening.partial.n_rows == 30
