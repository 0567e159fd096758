"""The walker of documents against json.loads: cells at proven places are opened, and nothing else changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import PgsealError, SchemaMismatch
from proxy.session.nested import Cell, Items, Json, Many, Members, Place, member_name
from proxy.values.base import Settings

SETTINGS = Settings()
OPENED = "opened"

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CELL = st.sampled_from(["\\xa60b3501", "pgs1AAAA", '\\246\\v5"\\\\', ""])


@st.composite
def documents(draw: st.DrawFn, depth: int = 3) -> tuple[Place | None, Any, Any]:
    """A place, a document of its shape, and what it is once its cells are opened."""
    kind = draw(
        st.sampled_from(["cell", "plain", "null", "list", "map", "items", "members"] if depth else ["cell"])
    )
    if kind == "plain":
        value = draw(PLAIN)
        return None, value, value
    if kind in ("cell", "null"):
        return (Cell(0), draw(CELL), OPENED) if kind == "cell" else (Cell(0), None, None)
    if kind in ("list", "map"):
        cells = draw(st.lists(st.none() | CELL, max_size=4))
        opened = [None if cell is None else OPENED for cell in cells]
        if kind == "list":
            return Many(Cell(0), False), cells, opened
        names = [f'\u2028{n}"\\\n' for n in range(len(cells))]
        return Many(Cell(0), True), dict(zip(names, cells, strict=True)), dict(zip(names, opened, strict=True))
    parts = draw(st.lists(documents(depth=depth - 1), min_size=1, max_size=3))
    if kind == "items":
        return Items(tuple(part[0] for part in parts)), [part[1] for part in parts], [part[2] for part in parts]
    names = draw(st.lists(st.text(max_size=5), min_size=len(parts), max_size=len(parts), unique=True))
    members = {member_name(name): part[0] for name, part in zip(names, parts, strict=True)}
    return (
        Members(members),
        {name: part[1] for name, part in zip(names, parts, strict=True)},
        {name: part[2] for name, part in zip(names, parts, strict=True)},
    )


def _opened(root: Place, raw: bytes) -> tuple[bytes, list[bytes]]:
    walk, asked, answer = Json(root, "t.c", False, SETTINGS).opened(raw), list[bytes](), None
    try:
        while True:
            ask = walk.send(answer)
            answer = None
            if ask is not None:
                asked.append(ask[1])
                answer = json.dumps(OPENED).encode()
    except StopIteration as stop:
        return stop.value, asked


def _written(value: Any, indent: int | None) -> bytes:
    """As the server writes it: only what must be is escaped."""
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "surrogatepass")


@given(documents(), st.sampled_from([None, 1]))
def test_document_of_the_planned_shape_is_opened_at_its_cells_only(
    found: tuple[Place | None, Any, Any], indent: int | None
) -> None:
    """What comes out is what json.loads makes of it with the cells exchanged."""
    place, document, wanted = found
    raw = _written(document, indent)
    if place is None:
        place, raw, wanted = Items((None,)), b"[" + raw + b"]", [wanted]
    try:
        raw.decode()
    except UnicodeDecodeError:
        return
    shown, _ = _opened(place, raw)
    assert json.loads(shown) == wanted


@given(documents(), st.binary(max_size=6), st.integers(min_value=0, max_value=200))
def test_document_that_was_changed_is_opened_or_refused(
    found: tuple[Place | None, Any, Any], noise: bytes, at: int
) -> None:
    """Whatever the bytes are, the walk ends in a document or in an error that is listed."""
    place, document, _ = found
    raw = _written(document, None)
    raw = raw[:at] + noise + raw[at:]
    try:
        _opened(place if place is not None else Items((None,)), raw)
    except (PgsealError, ValueError, IndexError):
        return


SHAPE = Members({b'"a"': Cell(0), b'"b"': None})


@pytest.mark.parametrize(
    "raw",
    [
        b'{"b": 1}',
        b'{"a": "x", "b": 1, "c": 2}',
        b'{"a": "x", "a": "y"}',
        b'{"a": "x", "\\u0061": "y", "b": 1}',
        b'["x", 1]',
        b'{"a": "x" "b": 1}',
        b'{"a": "x", "b": 1} {}',
        b'{"a": "x", "b": [1}',
        b'{"a": {"b": "x"}, "b": 1}',
        b'"x"',
        b"12",
        b'{"a": 12, "b": 1}',
    ],
)
def test_document_of_another_shape_is_never_shown(raw: bytes) -> None:
    """Members too few, too many or twice, or something else where a cell should be."""
    with pytest.raises(SchemaMismatch):
        _opened(SHAPE, raw)


def test_member_that_is_plain_is_left_alone_whatever_it_looks_like() -> None:
    """Text like a cell, an object with a member of a cell's name, brackets within strings."""
    plain = b'{"a": "\\\\xa60b3501", "]": "}{\\"", "b": {"a": ["pgs1AAAA"]}}'
    shown, asked = _opened(SHAPE, b'{"a" : "pgs1CELL" , "b":' + plain + b"}")
    assert shown == b'{"a" : "opened" , "b":' + plain + b"}"
    assert asked == [b"pgs1CELL"]


def test_plain_member_nested_deeply_is_walked_without_recursion() -> None:
    """Depth costs no stack."""
    deep = b"[" * 200_000 + b"]" * 200_000
    assert _opened(SHAPE, b'{"a":null,"b":' + deep + b"}") == (b'{"a":null,"b":' + deep + b"}", [])
