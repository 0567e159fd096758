"""One-dimensional arrays in text and binary."""

from __future__ import annotations

import struct

import pytest

from proxy.errors import PgsealError
from proxy.values.arrays import build_binary, build_text, each_in_binary, split_binary, split_text
from proxy.values.base import Settings

TEXTS: list[tuple[bytes, tuple[bytes | None, ...]]] = [
    (b"{}", ()),
    (b" { } ", ()),
    (b"{a}", (b"a",)),
    (b'{a,"b c",NULL}', (b"a", b"b c", None)),
    (b'{ a b , "NULL", null }', (b"a b", b"NULL", None)),
    (rb'{"a\"b\\c",\n,a\,b}', (b'a"b\\c', b"n", b"a,b")),
    (rb"{a\ }", (b"a ",)),
    (rb"{a\\ }", (b"a\\",)),
    (b'{""}', (b"",)),
    ("{é,\u6f22}".encode(), ("é".encode(), "\u6f22".encode())),
]


@pytest.mark.parametrize(("raw", "elements"), TEXTS)
def test_split_text_wellformed_gives_elements(raw: bytes, elements: tuple[bytes | None, ...]) -> None:
    """Quotes, escapes, blanks and NULL are read as the server reads them."""
    assert split_text(raw, Settings()) == elements


BAD_TEXTS = [
    (b"", "22P02"),
    (b"a", "22P02"),
    (b"{", "22P02"),
    (b"{a", "22P02"),
    (b"{a,}", "22P02"),
    (b"{,a}", "22P02"),
    (b"{a,,b}", "22P02"),
    (b'{"a}', "22P02"),
    (b'{"a"b}', "22P02"),
    (b'{a"b"}', "22P02"),
    (b"{a}}", "22P02"),
    (b"{a} x", "22P02"),
    (b"{a\\", "22P02"),
    (b"{{a},{b}}", "PS001"),
    (b"[1:1]={a}", "PS001"),
    (b"{\xff}", "22021"),
    (b"{" + b" " * 100_000 + b"x" + b" " * 100_000, "22P02"),
]


@pytest.mark.parametrize(("raw", "sqlstate"), BAD_TEXTS, ids=[raw[:12].hex() for raw, _ in BAD_TEXTS])
def test_split_text_malformed_has_the_servers_code(raw: bytes, sqlstate: str) -> None:
    """A malformed literal is 22P02; several dimensions are not supported."""
    with pytest.raises(PgsealError) as caught:
        split_text(raw, Settings())
    assert caught.value.sqlstate == sqlstate


@pytest.mark.parametrize("elements", [(), (b"a",), (b"", None, b"\0\xff")])
def test_build_binary_round_trip_keeps_elements(elements: tuple[bytes | None, ...]) -> None:
    """What is built is split into the same elements and element type."""
    assert split_binary(build_binary(elements, 17)) == (17, elements)


def test_build_text_bytea_and_text_quote_every_element() -> None:
    """bytea elements are written in hexadecimal, texts with quotes and backslashes escaped."""
    assert build_text((b"\x00a", None), 17) == b'{"\\\\x0061",NULL}'
    texts = (b'a"b\\c', b"NULL", b"", None)
    assert split_text(build_text(texts, 25), Settings()) == texts


ONE = struct.pack(">iiIii", 1, 0, 25, 1, 1)
BAD_BINARIES = [
    (b"", "08P01"),
    (struct.pack(">iiI", -1, 0, 25), "22P03"),
    (struct.pack(">iiI", 7, 0, 25), "54000"),
    (struct.pack(">iiI", 2, 0, 25), "PS001"),
    (struct.pack(">iiI", 1, 2, 25), "22P03"),
    (struct.pack(">iiI", 1, 0, 25), "08P01"),
    (struct.pack(">iiI", 0, 0, 25) + b"x", "22P03"),
    (ONE, "08P01"),
    (ONE + struct.pack(">i", 5) + b"abcd", "22P03"),
    (ONE + struct.pack(">i", -2), "22P03"),
    (ONE + struct.pack(">i", 1) + b"ab", "22P03"),
    (struct.pack(">iiIii", 1, 0, 25, 2**31 - 1, 1), "08P01"),
    (struct.pack(">iiIii", 1, 0, 25, -1, 1), "08P01"),
]


@pytest.mark.parametrize(("raw", "sqlstate"), BAD_BINARIES, ids=[raw.hex()[:40] for raw, _ in BAD_BINARIES])
def test_split_binary_malformed_has_a_code(raw: bytes, sqlstate: str) -> None:
    """Counts and lengths that lie never read beyond the message, nor make room for what is not there."""
    with pytest.raises(PgsealError) as caught:
        split_binary(raw)
    assert caught.value.sqlstate == sqlstate


def test_each_in_binary_malformed_element_gives_those_before_it() -> None:
    """Elements are read one by one: the count is known at once, the error comes in its place."""
    raw = build_binary((b"a", None, b"b"), 25)[:-1]
    oid, n_elements, found = each_in_binary(raw)
    assert (oid, n_elements) == (25, 3)
    assert (next(found), next(found)) == (b"a", None)
    with pytest.raises(PgsealError, match="insufficient data"):
        next(found)
