"""What pgseal remembers of the key store outside the database: the highest epoch it has seen.

A store that is older than this was rolled back. docs/formats.md, "State folder". One reason to change:
the content of keystore.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.keys.files import locked, write_atomically
from proxy.keys.records import StoreTampered, is_equal

FILE: Final = "keystore.json"
_FORMAT: Final = 1
_MAX_SIZE: Final = 4096


@dataclass(frozen=True, slots=True)
class Seen:
    """A verified state of the key store."""

    realm: bytes
    epoch: int
    head_mac: bytes


class StateFolder:
    """`state:` of the configuration, made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        self._on_purpose = f"if it was restored or exchanged on purpose, remove {self._file} and start again"

    def read(self) -> Seen | None:
        """The last state seen, None at first; StoreTampered where the file cannot be read as one."""
        try:
            with self._file.open("rb") as file:
                content = json.loads(file.read(_MAX_SIZE))
            if content["format"] != _FORMAT or type(content["epoch"]) is not int:
                raise ValueError
            return Seen(bytes.fromhex(content["realm"]), content["epoch"], bytes.fromhex(content["head_mac"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise StoreTampered(
                f"{self._file} cannot be read", hint="restore it, or remove it to trust the key store as it is"
            ) from None

    def check(self, found: Seen) -> None:
        """StoreTampered where the store is another one, or older than the one seen."""
        seen = self.read()
        if seen is None:
            return
        if not is_equal(seen.realm, found.realm):
            raise StoreTampered("the key store is another installation's", hint=self._on_purpose)
        if found.epoch < seen.epoch:
            raise StoreTampered("the key store was rolled back to an earlier epoch", hint=self._on_purpose)
        if found.epoch == seen.epoch and not is_equal(seen.head_mac, found.head_mac):
            raise StoreTampered("the key store is not the one seen at this epoch", hint=self._on_purpose)

    def remember(self, found: Seen) -> None:
        """Keep the state if it is newer. Call after `check`. Several processes may share the folder."""
        self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self._file.parent):
            self._advance(found)

    def _advance(self, found: Seen) -> None:
        seen = self.read()
        if seen is not None and seen.epoch >= found.epoch:
            return
        content = {
            "format": _FORMAT,
            "realm": found.realm.hex(),
            "epoch": found.epoch,
            "head_mac": found.head_mac.hex(),
        }
        write_atomically(self._file, json.dumps(content).encode() + b"\n")
