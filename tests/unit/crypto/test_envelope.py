"""Header, padding, sizes and text storage."""

from __future__ import annotations

import re

import pytest

from proxy.crypto import envelope
from proxy.crypto.envelope import block_of, from_text, header, key_id_of, pad, to_text, unpad
from proxy.errors import CellNotOpen, ProgramLimitExceeded
from tests.vectors import DOCS


def test_layout_table_in_module_agrees_with_the_document() -> None:
    """Offsets and sizes of the module's table are those of docs/envelope.md."""
    row = re.compile(r"^\| (\d+) \| (\d+) \| (?:magic and version|suite|flags|key id|token)\b", re.M)
    document = row.findall((DOCS / "envelope.md").read_text())
    assert row.findall(envelope.__doc__ or "") == document
    assert [(int(o), int(s)) for o, s in document] == [(0, 3), (3, 1), (4, 1), (5, 4), (9, 15)]


def test_blocks_table_agrees_with_the_document() -> None:
    """The fixed blocks are the table of docs/envelope.md."""
    table = re.findall(r"^\| `(\w+)` \| (\d+) \|", (DOCS / "envelope.md").read_text(), re.M)
    assert {family: int(block) for family, block in table} == envelope.FIXED_BLOCKS


@pytest.mark.parametrize(
    ("family", "rule_pad", "deterministic", "block"),
    [
        ("text", 16, False, 16),
        ("text", 0, False, 0),
        ("text", 0, True, 1),
        ("int", 0, False, 24),
        ("int", 16, True, 24),
        ("jsonb", 64, False, 64),
        ("text[]", 16, False, 16),
    ],
)
def test_block_of_family_follows_table_then_rule(
    family: str, rule_pad: int, deterministic: bool, block: int
) -> None:
    """Fixed families keep their block; the others follow the rule; deterministic cells are never unpadded."""
    assert block_of(family, rule_pad, is_deterministic=deterministic) == block


@pytest.mark.parametrize(
    ("family", "longest"),
    [
        ("int", b"-9223372036854775808"),
        ("float", b"-2.2250738585072014e-308"),
        ("bool", b"f"),
        ("date", b"5874897-12-31"),
        ("timestamp", b"4714-11-24 00:00:00.123456 BC"),
        ("timestamptz", b"4714-11-24 00:00:00.123456+00 BC"),
        ("uuid", b"6b2a7f0e-5f0a-4f58-9f0e-0c9f6a1d2b3c"),
    ],
)
def test_fixed_block_holds_the_longest_value_in_one_step(family: str, longest: bytes) -> None:
    """All values of a fixed family have cells of one length."""
    block = block_of(family, 16)
    assert len(pad(longest, block)) == len(pad(b"", block)) == block


@pytest.mark.parametrize("plain", [b"", b"\x80", b"\0", b"\x80\0\0", b"a\x80", b"0123456789abcdef", b"\0" * 16])
@pytest.mark.parametrize("block", [1, 8, 16, 64])
def test_unpad_of_padded_gives_plain(plain: bytes, block: int) -> None:
    """Padding adds at least one byte, ends on a block and comes off again."""
    padded = pad(plain, block)
    assert len(padded) % block == 0
    assert 1 <= len(padded) - len(plain) <= block
    assert unpad(padded) == plain


@pytest.mark.parametrize("bad", [b"", b"\0", b"abc", b"abc\0", b"\x81\0", b"\x80a"])
def test_unpad_without_padding_gives_none(bad: bytes) -> None:
    """Bytes without 80 and zeros at their end were not padded."""
    assert unpad(bad) is None


def test_check_size_at_the_limit_passes_and_beyond_raises() -> None:
    """256 MiB pass, one byte more is 54000, naming the column."""
    block = bytes(envelope.MAX_PLAINTEXT + 1)
    envelope.check_size(block[:-1], "t.c")
    with pytest.raises(ProgramLimitExceeded) as caught:
        envelope.check_size(block, "t.c")
    assert caught.value.sqlstate == "54000" and caught.value.column == "t.c"


@pytest.mark.parametrize("key_id", [1, 7, 0xFFFFFFFF])
def test_key_id_of_header_round_trips(key_id: int) -> None:
    """The key id comes back from the shortest cell."""
    assert key_id_of(header(1, 0, key_id) + bytes(28)) == key_id


def test_base64_prefix_of_text_cells_is_pgs1() -> None:
    """The magic was chosen so that text cells begin with pgs1."""
    assert to_text(header(1, 0, 1) + bytes(28)).startswith(b"pgs1A")


@pytest.mark.parametrize("size", range(25, 40))
def test_from_text_with_set_trailing_bits_does_not_open(size: int) -> None:
    """Of all last characters only those without surplus bits are a spelling."""
    text = to_text(bytes(size))
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = 0
    for last in alphabet:
        spelled = text[:-1] + bytes([last])
        try:
            assert to_text(from_text(spelled)) == spelled
        except CellNotOpen:
            continue
        accepted += 1
    assert accepted == {0: 64, 2: 4, 3: 16}[len(text) % 4]
