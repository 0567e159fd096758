"""The secrets of one installation of the proxy: audit root key, key of rules.lock, key of statement fingerprints.

Each is a data key that the KMS made and wrapped; `instance.json` in the state folder holds the wrapped ones and
the instance's name. Only the supervising process and the commands unwrap them. One reason to change: which
secrets an installation has beside its data keys.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proxy.errors import ConfigError
from proxy.keys.files import write_atomically
from proxy.keys.kms.base import Kms, overwrite

FILE: Final = "instance.json"
FORMAT: Final = 1
PURPOSES: Final = ("AUDIT_ROOT", "RULES_LOCK", "FINGERPRINT")


@dataclass(frozen=True, slots=True)
class Instance:
    """`name` is [a-z0-9]{8}; the keys are 32 bytes each."""

    name: str
    audit_root: bytearray = field(repr=False)
    rules_lock: bytes = field(repr=False)
    fingerprint: bytes = field(repr=False)


def context(realm: bytes, purpose: str) -> dict[str, str]:
    """What the KMS is told with a secret of this file."""
    return {"realm": realm.hex(), "domain": "instance", "key_type": purpose}


def exists(state: Path) -> bool:
    return (state / FILE).is_file()


async def create(state: Path, kms: Kms, realm: bytes) -> bool:
    """Make the secrets; False and nothing done where they exist."""
    if exists(state):
        return False
    wrapped = {}
    for purpose in PURPOSES:
        made = await kms.generate_data_key(context(realm, purpose))
        overwrite(made.plain)
        wrapped[purpose] = made.wrapped.hex()
    document = {"format": FORMAT, "name": secrets.token_hex(4), "kek_alias": kms.alias, "wrapped": wrapped}
    return _write(state, (json.dumps(document, indent=1) + "\n").encode())


def _write(state: Path, content: bytes) -> bool:
    """False where someone else was first."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        write_atomically(state / FILE, content, may_replace=False)
    except FileExistsError:
        return False
    return True


async def load(state: Path, kms: dict[str, Kms], realm: bytes) -> Instance:
    """Unwrap the secrets. ConfigError when the file is missing or not one; KeyUnavailable from the KMS."""
    path = state / FILE
    try:
        document = json.loads(path.read_bytes())
        name, alias, wrapped = document["name"], document["kek_alias"], document["wrapped"]
        sealed = [bytes.fromhex(wrapped[purpose]) for purpose in PURPOSES]
        is_known = (
            document["format"] == FORMAT
            and isinstance(name, str)
            and re.fullmatch("[a-z0-9]{1,32}", name) is not None
        )
    except OSError:
        raise ConfigError(f"{path} cannot be read", hint="pgseal init makes it, once an installation") from None
    except (ValueError, KeyError, TypeError):
        is_known = False
    if not is_known:
        raise ConfigError(f"{path} is not a file of this version", hint="restore it from its backup")
    if alias not in kms:
        raise ConfigError(f"{path} was made under kms '{alias}', which the configuration does not have")
    keys = []
    for purpose, each in zip(PURPOSES, sealed, strict=True):
        keys.append(bytes(await kms[alias].unwrap(each, context(realm, purpose))))
    return Instance(name, bytearray(keys[0]), keys[1], keys[2])
