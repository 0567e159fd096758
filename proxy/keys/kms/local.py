"""The `local` provider: a KEK in a file of 32 bytes, for demonstration and development.

Refuses a file others can read, a file inside a git work tree that does not ignore it, and a server off loopback
unless `allow_local` says so. The bytes of a wrapped key stand in docs/formats.md. One reason to change: how a
local KEK is kept.
"""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.errors import ConfigError
from proxy.keys.files import write_atomically
from proxy.keys.kms.base import DEK_SIZE, Context, DataKey, KmsRefused

KEK_SIZE: Final = 32
_VERSION: Final = b"\x01"
_NONCE_SIZE: Final = 12
_WRAPPED_SIZE: Final = 1 + _NONCE_SIZE + DEK_SIZE + 16
_GIT_TIMEOUT_S: Final = 10.0
Random = Callable[[int], bytes]


def create_keyfile(path: Path) -> bool:
    """Write a new KEK, 0600, durably; False and nothing done where the file exists."""
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _refuse_git(path)
    write_atomically(path, secrets.token_bytes(KEK_SIZE), may_replace=False)
    return True


def load_local(
    alias: str, keyfile: Path, *, server_hosts: tuple[str, ...] = (), allow_local: bool = False
) -> LocalKms:
    """The provider over a key file. `server_hosts`: the PostgreSQL servers that it will serve."""
    far = [host for host in server_hosts if not _is_near(host)]
    if far and not allow_local:
        raise ConfigError(
            f"kms '{alias}': the local provider does not serve a server off loopback ({far[0]})",
            hint="use a KMS, or write allow_local: true if this is a test",
        )
    _refuse_git(keyfile)
    return LocalKms(alias, _read_private(keyfile))


def _is_near(host: str) -> bool:
    if host.startswith("/") or host in ("localhost", ""):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read_private(path: Path) -> bytes:
    """The file's 32 bytes, if nobody else can read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}", hint="pgseal init makes one") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"key file {path} is no file", hint="pgseal init makes one")
        if status.st_mode & 0o077:
            raise ConfigError(f"key file {path} can be read by others", hint=f"run: chmod 600 {path}")
        if status.st_uid not in (os.geteuid(), 0):
            raise ConfigError(f"key file {path} is another user's", hint="chown it to the one pgseal runs as")
        content = os.read(descriptor, KEK_SIZE + 1)
    finally:
        os.close(descriptor)
    if len(content) != KEK_SIZE:
        raise ConfigError(f"key file {path} does not hold {KEK_SIZE} bytes", hint="restore it from its backup")
    return content


def _refuse_git(path: Path) -> None:
    """A key in a work tree is one `git add` away from everyone."""
    folder = path.absolute().parent
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return
    command = ["git", "-C", str(folder), "check-ignore", "--quiet", path.name]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        ran = subprocess.run(command, env=clean, capture_output=True, timeout=_GIT_TIMEOUT_S, check=False)  # noqa: S603
        is_ignored = ran.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        is_ignored = False
    if not is_ignored:
        raise ConfigError(
            f"key file {path} lies in a git work tree that does not ignore it",
            hint="add it to .gitignore, or keep it elsewhere",
        )


def _associated(context: Context) -> bytes:
    words = (word.encode() for pair in sorted(context.items()) for word in pair)
    return b"pgseal/local/1" + b"".join(len(word).to_bytes(4, "big") + word for word in words)


class LocalKms:
    """AES-256-GCM under the file's KEK, the encryption context as associated data."""

    def __init__(self, alias: str, kek: bytes, random: Random = os.urandom) -> None:
        self.alias = alias
        self._aead = AESGCM(kek)
        self._random = random

    async def generate_data_key(self, context: Context) -> DataKey:
        plain = bytearray(self._random(DEK_SIZE))
        nonce = self._random(_NONCE_SIZE)
        return DataKey(plain, _VERSION + nonce + self._aead.encrypt(nonce, plain, _associated(context)))

    async def unwrap(self, wrapped: bytes, context: Context) -> bytearray:
        nonce, sealed = wrapped[1 : 1 + _NONCE_SIZE], wrapped[1 + _NONCE_SIZE :]
        if len(wrapped) != _WRAPPED_SIZE or wrapped[:1] != _VERSION:
            raise KmsRefused(f"kms '{self.alias}' did not wrap this key")
        try:
            return bytearray(self._aead.decrypt(nonce, sealed, _associated(context)))
        except InvalidTag:
            raise KmsRefused(f"kms '{self.alias}' does not unwrap this key in this context") from None

    async def check(self) -> None:
        return None

    async def close(self) -> None:
        return None
