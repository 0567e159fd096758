"""The local KEK: its wraps by the document's vectors, and the files it refuses."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigError
from proxy.keys.kms.base import KmsRefused, store_context, tenant_context
from proxy.keys.kms.local import LocalKms, create_keyfile, load_local
from tests.vectors import vectors

PAGE = vectors("formats.md")
KEK = bytes(range(32))
CONTEXT = {"realm": "00", "tenant": "a", "key_type": "PHI"}


@pytest.mark.parametrize(
    "vector", PAGE["local_wraps"], ids=lambda v: v["context"].get("tenant") or v["context"]["domain"]
)
async def test_wrap_of_vector_is_the_documents(vector: dict[str, Any]) -> None:
    """Wrapping gives the document's bytes, unwrapping the data key."""
    random = iter((bytes.fromhex(vector["dek"]), bytes.fromhex(vector["nonce"])))
    kms = LocalKms("main", bytes.fromhex(vector["kek"]), lambda _size: next(random))
    made = await kms.generate_data_key(vector["context"])
    assert made.wrapped.hex() == vector["wrapped"]
    assert await kms.unwrap(made.wrapped, vector["context"]) == made.plain == bytes.fromhex(vector["dek"])


def test_contexts_are_those_of_the_document() -> None:
    """Realm, tenant or domain, and key type: three pairs."""
    realm = bytes.fromhex(PAGE["realm"])
    assert [
        tenant_context(realm, "hospital-1", "PHI_DATA"),
        tenant_context(realm, "", "PII_DATA"),
        store_context(realm),
    ] == [vector["context"] for vector in PAGE["local_wraps"]]


@pytest.mark.parametrize(
    "other",
    [
        {},
        CONTEXT | {"tenant": "b"},
        CONTEXT | {"realm": "01"},
        CONTEXT | {"x": ""},
        {"realm": "00", "domain": "table", "key_type": "PHI"},
    ],
)
async def test_unwrap_in_another_context_is_refused(other: dict[str, str]) -> None:
    """The context is proved."""
    kms = LocalKms("main", KEK)
    made = await kms.generate_data_key(CONTEXT)
    with pytest.raises(KmsRefused):
        await kms.unwrap(made.wrapped, other)


@given(st.binary(max_size=80), st.integers(0, 61 * 8 - 1))
async def test_unwrap_of_changed_or_any_bytes_is_refused(noise: bytes, bit: int) -> None:
    """A flipped bit, bytes nobody wrapped, another KEK: one refusal."""
    kms = LocalKms("main", KEK)
    wrapped = bytearray((await kms.generate_data_key(CONTEXT)).wrapped)
    wrapped[bit // 8] ^= 1 << bit % 8
    for wrong in (bytes(wrapped), noise, b"\x01" + noise):
        with pytest.raises(KmsRefused):
            await kms.unwrap(wrong, CONTEXT)
    with pytest.raises(KmsRefused):
        await LocalKms("main", bytes(32)).unwrap((await kms.generate_data_key(CONTEXT)).wrapped, CONTEXT)


def test_keyfile_created_is_private_and_never_replaced(tmp_path: Path) -> None:
    """32 random bytes, 0600; a second call leaves them alone."""
    path = tmp_path / "keys" / "kek"
    assert create_keyfile(path)
    content = path.read_bytes()
    assert len(content) == 32 and len(set(content)) > 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not create_keyfile(path)
    assert path.read_bytes() == content and [p.name for p in path.parent.iterdir()] == ["kek"]
    load_local("main", path, server_hosts=("127.0.0.1", "::1", "localhost", "/var/run/postgresql"))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o666])
def test_keyfile_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    """Group and others have no bit on it."""
    path = tmp_path / "kek"
    path.write_bytes(KEK)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="others"):
        load_local("main", path)


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33), b"x" * 4096])
def test_keyfile_of_another_size_is_refused(tmp_path: Path, content: bytes) -> None:
    """A cut or foreign file is no KEK."""
    path = tmp_path / "kek"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="32 bytes"):
        load_local("main", path)


def test_keyfile_missing_link_or_folder_is_refused(tmp_path: Path) -> None:
    """Nothing there, a symbolic link, a folder, a pipe nobody writes."""
    (tmp_path / "kek").write_bytes(KEK)
    (tmp_path / "kek").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "kek")
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("missing", "link", "folder", "pipe"):
        with pytest.raises(ConfigError):
            load_local("main", tmp_path / name)


@pytest.mark.parametrize("host", ["db.example", "10.0.0.1", "::ffff:10.0.0.1", "localhost.example"])
def test_server_off_loopback_needs_allow_local(tmp_path: Path, host: str) -> None:
    """The local provider is no KMS for a server elsewhere, unless one says so."""
    path = tmp_path / "kek"
    create_keyfile(path)
    with pytest.raises(ConfigError, match="loopback"):
        load_local("main", path, server_hosts=("127.0.0.1", host))
    load_local("main", path, server_hosts=(host,), allow_local=True)


def git(folder: Path, *words: str) -> None:
    """Runs git in a folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, env=clean)


def test_keyfile_in_a_work_tree_must_be_ignored(tmp_path: Path) -> None:
    """Refused until .gitignore has it, and again when it is tracked all the same."""
    git(tmp_path, "init")
    path = tmp_path / ".pgseal" / "kek"
    with pytest.raises(ConfigError, match="git"):
        create_keyfile(path)
    assert not path.exists()
    (tmp_path / ".gitignore").write_text(".pgseal/\n")
    assert create_keyfile(path)
    load_local("main", path)
    git(tmp_path, "add", "--force", ".pgseal/kek")
    with pytest.raises(ConfigError, match="git"):
        load_local("main", path)


def test_repr_of_local_kms_shows_no_key() -> None:
    """Neither KEK nor data key."""
    assert KEK.hex() not in repr(LocalKms("main", KEK)) and repr(KEK)[2:-1] not in repr(LocalKms("main", KEK))
