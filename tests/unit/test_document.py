"""YAML with lines: what is taken, what is refused, and that nothing hostile gets further."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.document import MAX_FILE_SIZE, Document, parse_document, read_document, scalar
from proxy.errors import ConfigError


def parse(text: str) -> Document:
    return parse_document(text.encode(), "f.yaml")


def test_parse_nested_keys_gives_their_lines() -> None:
    """Each key and item knows its own file and line."""
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - y\n")
    assert document.root == {"a": {"b": 1, "c": ["x", "y"]}}
    assert document.at(("a", "c", 1)) == "f.yaml:5"
    assert document.at(("a", "nowhere", "deeper")) == "f.yaml:1"
    assert document.get(("a", "c", 0)) == "x"
    assert document.get(("a", "c", 9)) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"), ("yes", "yes"), ("true", True), ("1.50", "1.50"), ("007", "007"), ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"), ("-5", -5), ("~", None), ("", None), ("'5'", "5"), ("0x1f", "0x1f"),
        ("1_000", "1_000"), ('"null"', "null"), ("99999999999999999999", "99999999999999999999"),
    ],
)  # fmt: skip
def test_scalar_written_in_yaml_keeps_its_text(text: str, value: object) -> None:
    """Only canonical numbers and four words become something other than the text itself."""
    assert parse(f"a: {text}").root["a"] == value


@given(st.text())
def test_scalar_of_any_text_gives_it_back(text: str) -> None:
    """Reading a plain scalar and writing it again loses nothing."""
    value = scalar(text)
    assert value is None or isinstance(value, bool) or str(value) == text


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3: 'a' is written twice"),
        ("<<: {a: 1}", "a key must be a word"),
        ("a: !!python/object/apply:os.system [x]", "tags"),
        ("a: !mine x", "tags"),
        ("[1]", "mapping"),
        ("word", "mapping"),
        ("a: &a [*a]", "nested"),
        ("a: " + "[" * 3000, "nested too deeply"),
        (BOMB, "too many"),
        ("a: [", "f.yaml:1:"),
        ("a: \0", "not YAML"),
        ("---\na: 1\n---\nb: 2", "another document"),
        ("? [a]\n: 1", "a key must be a word"),
        ("a: *nowhere", "undefined alias"),
        ('"a\\n": 1', "cannot be printed"),
        ('a: "\\ud800"', "surrogate"),
    ],
)
def test_parse_what_is_ambiguous_or_hostile_is_refused(text: str, reason: str) -> None:
    """Duplicate keys, tags, merge keys, alias bombs and bad YAML are a ConfigError with the reason."""
    with pytest.raises(ConfigError, match=r"f\.yaml") as caught:
        parse(text)
    assert reason in caught.value.message


@given(st.binary(max_size=300))
def test_parse_any_bytes_ends_in_a_document_or_a_config_error(raw: bytes) -> None:
    """No input makes anything but the two documented outcomes."""
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_document(raw, "f").root, dict)


def test_read_missing_or_large_file_is_a_config_error(tmp_path: Path) -> None:
    """Neither a missing file nor a huge one gets as far as the YAML reader."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(tmp_path / "none.yaml")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_FILE_SIZE + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read_document(large)


def test_read_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    """A file of comments only has no keys."""
    path = tmp_path / "a.yaml"
    path.write_text("# nothing\n")
    assert read_document(path).root == {}
