"""The epoch outside the database."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from proxy.keys.records import StoreTampered
from proxy.keys.state_folder import FILE, Seen, StateFolder

SEEN = Seen(bytes(16), 5, bytes(32))


def test_state_without_file_believes_the_first_read(tmp_path: Path) -> None:
    """A folder that does not exist yet is made, private, at the first state."""
    state = StateFolder(tmp_path / "a" / "b")
    assert state.read() is None
    state.check(SEEN)
    state.remember(SEEN)
    assert state.read() == SEEN
    assert stat.S_IMODE((tmp_path / "a" / "b" / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [FILE]


@pytest.mark.parametrize(
    "found",
    [Seen(bytes(15) + b"x", 6, bytes(32)), Seen(bytes(16), 4, bytes(32)), Seen(bytes(16), 5, bytes(31) + b"x")],
    ids=["other-realm", "lower-epoch", "same-epoch-other-head"],
)
def test_state_of_another_or_older_store_is_refused(tmp_path: Path, found: Seen) -> None:
    """Another realm, an earlier epoch and a fork of the same epoch are not believed."""
    state = StateFolder(tmp_path)
    state.remember(SEEN)
    with pytest.raises(StoreTampered):
        state.check(found)


def test_state_of_a_newer_epoch_replaces_the_file(tmp_path: Path) -> None:
    """The file only moves forwards."""
    state, newer = StateFolder(tmp_path), Seen(bytes(16), 6, bytes(32))
    state.remember(SEEN)
    state.check(newer)
    state.remember(newer)
    state.remember(SEEN)
    assert state.read() == newer


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"format": 2}',
        b"[" * 3000,
        b'{"format": 1, "realm": 1, "epoch": 1, "head_mac": 1}',
        b'{"format": 1, "realm": "00", "epoch": "9", "head_mac": "00"}',
    ],
)
def test_state_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    """A damaged file is not the same as none."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreTampered):
        StateFolder(tmp_path).check(SEEN)
