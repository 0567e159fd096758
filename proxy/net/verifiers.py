"""SCRAM verifiers from a file, and the mock ones that unknown users meet.

One line a user, the form of PgBouncer's auth_file with verifiers only:

    "user name" "SCRAM-SHA-256$4096:salt$StoredKey:ServerKey"

A doubled quote stands for a quote; empty lines and lines that begin with ; or # are skipped. The second part is
what `SELECT rolname, rolpassword FROM pg_authid` shows. Passwords and md5 hashes are refused: this file is no
place for them. One reason to change: the file's form.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hmac import HMAC

from proxy.errors import ConfigError
from proxy.net.scram import KEY_SIZE, Verifier

_LINE = re.compile(r'"((?:[^"]|"")+)"[ \t]+"([^"]*)"[ \t]*')
_SALT_SIZE = 16


class Verifiers:
    """All verifiers of a file, read once. Unknown users get a verifier that nothing satisfies; its salt is the
    same each time and in each worker, so that asking twice does not tell a missing user from a present one."""

    def __init__(self, known: Mapping[str, Verifier]) -> None:
        self._known = dict(known)
        digest = hashlib.sha256(b"pgseal mock verifier")
        for name, verifier in sorted(self._known.items()):
            digest.update(name.encode() + b"\0" + verifier.server_key)
        self._mock_key = digest.digest()
        counts = [verifier.iterations for verifier in self._known.values()] or [4096]
        self._iterations = max(set(counts), key=lambda count: (counts.count(count), count))

    @classmethod
    def read(cls, path: Path) -> Verifiers:
        """Raises ConfigError with file and line, OSError where the file cannot be read."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise ConfigError(f"{path}: the verifier file is not UTF-8") from None
        known: dict[str, Verifier] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip()[0] in ";#":
                continue
            name, verifier = _parse_line(line.strip(), f"{path}:{number}")
            if name in known:
                raise ConfigError(f"{path}:{number}: this user has a verifier already")
            known[name] = verifier
        return cls(known)

    def get(self, user: str) -> Verifier | None:
        return self._known.get(user)

    def mock(self, user: str) -> Verifier:
        """Looks like a verifier of that user; no proof fits it."""
        mac = HMAC(self._mock_key, hashes.SHA256())
        mac.update(user.encode(errors="surrogateescape"))
        return Verifier(self._iterations, mac.finalize()[:_SALT_SIZE], bytes(KEY_SIZE), bytes(KEY_SIZE))


def _parse_line(line: str, place: str) -> tuple[str, Verifier]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ConfigError(f'{place}: not of the form "user" "SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey"')
    try:
        return match[1].replace('""', '"'), Verifier.parse(match[2])
    except ConfigError as error:
        raise ConfigError(f"{place}: {error.message}") from None
